// Owns an arena that does what a test says: the page's next session asks it instead of a server.
// `globalThis.mock` has what was asked, and `push` for what nobody asked for.
async () => {
  const { Refused, Session, encode } = await import("/play/kit/bastide.js");
  const handlers = new Map();
  const asked = [];
  const state = encode("arena.Field", { width: 4000, height: 4000, ticksPerS: 20, me: 1 });
  const mock = { asked, sits: true, alive: true, push: (api, fields) => void handlers.get(api)(fields) };
  Session.prototype.on = function (api, handler) {
    handlers.set(api, handler);
    return this;
  };
  Session.prototype.tell = () => {};
  Session.prototype.request = async (api) => {
    asked.push(api);
    if (api === "msg.LeaveRoom.Req") mock.sits = false;
    if (api === "msg.JoinRoom.Req" && mock.sits) throw new Refused(3005, "it sits in a room");
    if (api === "arena.Respawn.Req") mock.alive = true;
    return { code: 0, roomId: "r", ticket: new Uint8Array(16), state };
  };
  let tick = 0;
  setInterval(() => {
    tick += 1;
    const me = { id: 1, x: 500, y: 500, radius: 20, robot: false };
    const eater = { id: 2, x: 560, y: 540, radius: 60, robot: true };
    const balls = mock.alive ? [me, eater] : [eater];
    const food = [450, 450, 520, 430, 480, 600];
    const view = { tick, st: Date.now(), balls, food, score: 144, players: 13 };
    if (handlers.has("arena.View")) mock.push("arena.View", view);
  }, 50);
  globalThis.mock = mock;
  arena.session.close();
}
