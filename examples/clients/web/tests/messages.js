// Owns what is asked of proto.js and frames.js, in a browser: each of the bytes that prost wrote is
// read, and written again as it was.
async ({ kit, known }) => {
  const { Decoder, decode, encode, frame } = await import(kit);
  const wrong = [];
  const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const bytes = (text) => Uint8Array.from(text.match(/../g) ?? [], (two) => parseInt(two, 16));
  const plain = (value) => {
    if (typeof value === "bigint") return `${value}n`;
    if (value instanceof Uint8Array) return hex(value);
    if (value instanceof Map) return Object.fromEntries([...value].map(([k, v]) => [k, plain(v)]));
    if (Array.isArray(value)) return value.map(plain);
    if (typeof value !== "object") return value;
    return Object.fromEntries(Object.keys(value).sort().map((key) => [key, plain(value[key])]));
  };
  const holds = (what, is, ought) => {
    const [one, other] = [is, ought].map((value) => JSON.stringify(plain(value)));
    if (one !== other) wrong.push(`${what}: ${one} instead of ${other}`);
  };
  const throws = (what, work, words) => {
    try {
      work();
      wrong.push(`${what} is let through`);
    } catch (error) {
      if (!error.message.includes(words)) wrong.push(`${what}: ${error.message}`);
    }
  };

  for (const { name, encoded, fields } of known) {
    const message = decode(name, bytes(encoded));
    holds(name, message, fields);
    holds(`${name} again`, hex(encode(name, message)), encoded);
  }

  // By hand, from the rules of protobuf.
  holds("steer", hex(encode("arena.Steer", { dx: -100, dy: 100 })), "08c70110c801");
  holds("steer", decode("arena.Steer", bytes("08c70110c801")), { dx: -100, dy: 100 });
  holds("a default takes no bytes", hex(encode("arena.Steer", { dx: 0 })), "");
  const view = { tick: 300, st: -1, food: [1, 300], balls: [{ id: 7, robot: true }] };
  const written = "08ac0210ffffffffffffffffff011a04080728012203" + "01ac02";
  holds("view", hex(encode("arena.View", view)), written);
  holds("numbers that are not packed", decode("arena.View", bytes("2001" + "20ac02")).food, [1, 300]);
  holds("a field of tomorrow", decode("arena.Steer", bytes("0802" + "7a0161" + "7d01020304")).dx, 1);
  const far = 2n ** 63n - 1n;
  const ping = decode("msg.Ping.Req", encode("msg.Ping.Req", { ct: far, received: 2 ** 53 - 1 }));
  holds("beyond 2^53", ping, { ct: `${far}n`, received: 2 ** 53 - 1 });
  const options = new Map([["a", "1"]]);
  holds("a Map is written as an object is", hex(encode("msg.EnterRoom.Req", { options })),
    hex(encode("msg.EnterRoom.Req", { options: { a: "1" } })));

  throws("a missing field", () => encode("msg.Login.Req", {}), "msg.Login.Req.token: it is missing");
  throws("an unknown field", () => encode("arena.Steer", { x: 1 }), "has no field x");
  throws("an unknown message", () => encode("arena.Stear", {}), "no message that is known");
  throws("a fraction", () => encode("arena.Steer", { dx: 0.5 }), "no whole number");
  throws("2^63", () => encode("msg.Ping.Req", { ct: 2n ** 63n }), "beyond 64 bits");
  throws("half a message", () => decode("arena.View", bytes("1a0508")), "ends too early");
  throws("11 bytes of a number", () => decode("arena.View", bytes("08" + "ff".repeat(11))), "64 bits");
  throws("no UTF-8", () => decode("arena.Eaten", bytes("0a01ff")), "UTF-8");

  const framed = frame("msg.Echo.Req", bytes("0807"));
  holds("a frame", hex(framed), "10000c006d73672e4563686f2e5265710807");
  const decoder = new Decoder();
  const heard = [];
  for (const byte of [...framed, ...framed]) heard.push(...decoder.feed(Uint8Array.of(byte)));
  holds("byte by byte", heard, [["msg.Echo.Req", "0807"], ["msg.Echo.Req", "0807"]]);
  holds("both at once", new Decoder().feed(Uint8Array.of(...framed, ...framed)).length, 2);
  throws("no frame", () => new Decoder().feed(bytes("02000000")), "a frame of 2 bytes");
  throws("no name", () => frame("msg Echo", new Uint8Array()), "not the name");
  throws("too much", () => frame("msg.Echo.Req", new Uint8Array(65_530)), "more than a frame");
  return wrong;
}
