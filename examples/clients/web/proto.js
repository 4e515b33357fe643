// Owns protobuf: reads and writes messages by the tables of messages.js. Leaves frames to
// frames.js.
//
// A message is a plain object with names in lowerCamelCase. 64-bit numbers are read as Numbers
// while those are exact (up to 2^53 - 1), beyond that as BigInts, and written from either. Bytes
// are Uint8Arrays, a map is a Map (written from a plain object, too), an enum is its number.
// What may be unset and is, is not there; what may not has its default. Of a oneof set one.

import { messages } from "./messages.js";

const DEPTH_MAX = 100;
const VARINT = 0, EIGHT_BYTES = 1, SIZED = 2, FOUR_BYTES = 5;
const WIRE_TYPES = {
  int32: VARINT, int64: VARINT, uint32: VARINT, uint64: VARINT, sint32: VARINT, sint64: VARINT,
  bool: VARINT, enum: VARINT, fixed64: EIGHT_BYTES, sfixed64: EIGHT_BYTES, double: EIGHT_BYTES,
  fixed32: FOUR_BYTES, sfixed32: FOUR_BYTES, float: FOUR_BYTES,
};

const toUtf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** What came is not the message that it says to be, or what should go is not one. */
export class ProtoError extends Error {}

/** Whether a message of this name is known here. */
export function knows(name) {
  return Object.hasOwn(messages, name);
}

/**
 * A message as bytes.
 * @template {keyof import("./messages.js").Messages} N
 * @param {N} name
 * @param {Partial<import("./messages.js").Messages[N]>} message
 * @returns {Uint8Array}
 */
export function encode(name, message = {}) {
  const out = [];
  writeMessage(out, name, message);
  return Uint8Array.from(out);
}

/**
 * Bytes as a message.
 * @template {keyof import("./messages.js").Messages} N
 * @param {N} name
 * @param {Uint8Array} bytes
 * @returns {import("./messages.js").Messages[N]}
 */
export function decode(name, bytes) {
  return readMessage(new Reader(bytes), name, 0);
}

function fieldsOf(name) {
  if (!knows(name)) throw new ProtoError(`${name} is no message that is known here`);
  return messages[name];
}

// === Writing ===

function writeMessage(out, name, message) {
  const fields = fieldsOf(name);
  for (const key of Object.keys(message)) {
    if (!fields.some((field) => field[1] === key)) {
      throw new ProtoError(`${name} has no field ${key}`);
    }
  }
  for (const [number, key, often, type, ofMap] of fields) {
    const value = message[key];
    try {
      writeField(out, number, often, type, ofMap, value);
    } catch (error) {
      throw new ProtoError(`${name}.${key}: ${error.message}`);
    }
  }
}

function writeField(out, number, often, type, ofMap, value) {
  if (value === undefined || value === null) {
    if (often === "required") throw new ProtoError("it is missing");
  } else if (often === "map") {
    for (const [key, one] of value instanceof Map ? value : Object.entries(value)) {
      const entry = [];
      writeTagged(entry, 1, type, key);
      writeTagged(entry, 2, ofMap, one);
      writeTag(out, number, SIZED);
      writeSized(out, entry);
    }
  } else if (often === "many") {
    for (const one of value) writeTagged(out, number, type, one);
  } else if (often === "packed") {
    if (value.length === 0) return;
    const all = [];
    for (const one of value) writeValue(all, type, one);
    writeTag(out, number, SIZED);
    writeSized(out, all);
  } else if (often !== "one" || !isDefault(value)) {
    writeTagged(out, number, type, value);
  }
}

function isDefault(value) {
  return Object.is(value, 0) || value === 0n || value === false || value.length === 0;
}

function writeTagged(out, number, type, value) {
  writeTag(out, number, WIRE_TYPES[type] ?? SIZED);
  writeValue(out, type, value);
}

function writeTag(out, number, wire) {
  writeVarint(out, number * 8 + wire);
}

function writeSized(out, bytes) {
  writeVarint(out, bytes.length);
  for (const byte of bytes) out.push(byte);
}

/** A number of 0 to 2^53 - 1, or a BigInt of 64 bits. */
function writeVarint(out, value) {
  if (typeof value === "bigint") {
    let rest = BigInt.asUintN(64, value);
    for (; rest > 127n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
    out.push(Number(rest));
    return;
  }
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) out.push((rest % 128) | 128);
  out.push(rest);
}

function writeValue(out, type, value) {
  switch (type) {
    case "int32":
    case "enum": {
      const n = whole(value, -(2 ** 31), 2 ** 31 - 1);
      return writeVarint(out, n < 0 ? BigInt(n) : n);
    }
    case "uint32":
      return writeVarint(out, whole(value, 0, 2 ** 32 - 1));
    case "sint32": {
      const n = whole(value, -(2 ** 31), 2 ** 31 - 1);
      return writeVarint(out, ((n << 1) ^ (n >> 31)) >>> 0);
    }
    case "int64":
      return writeVarint(out, big(value, true));
    case "uint64":
      return writeVarint(out, big(value, false));
    case "sint64": {
      const n = big(value, true);
      return writeVarint(out, (n << 1n) ^ (n >> 63n));
    }
    case "bool":
      return out.push(value ? 1 : 0);
    case "string":
      return writeSized(out, toUtf8.encode(expect(value, typeof value === "string", "no text")));
    case "bytes":
      return writeSized(out, expect(value, value instanceof Uint8Array, "no Uint8Array"));
    case "fixed32":
      return writeView(out, 4, (v) => v.setUint32(0, whole(value, 0, 2 ** 32 - 1), true));
    case "sfixed32":
      return writeView(out, 4, (v) => v.setInt32(0, whole(value, -(2 ** 31), 2 ** 31 - 1), true));
    case "float":
      return writeView(out, 4, (v) => v.setFloat32(0, number(value), true));
    case "double":
      return writeView(out, 8, (v) => v.setFloat64(0, number(value), true));
    case "fixed64":
      return writeView(out, 8, (v) => v.setBigUint64(0, big(value, false), true));
    case "sfixed64":
      return writeView(out, 8, (v) => v.setBigInt64(0, big(value, true), true));
    default: {
      const inner = [];
      writeMessage(inner, type, expect(value, typeof value === "object", "no object"));
      return writeSized(out, inner);
    }
  }
}

function writeView(out, bytes, set) {
  const view = new DataView(new ArrayBuffer(bytes));
  set(view);
  for (let at = 0; at < bytes; at++) out.push(view.getUint8(at));
}

function expect(value, holds, what) {
  if (!holds) throw new ProtoError(`${String(value)} is ${what}`);
  return value;
}

function number(value) {
  return expect(value, typeof value === "number", "no number");
}

function whole(value, least, most) {
  const fits = Number.isInteger(value) && value >= least && value <= most;
  return expect(value, fits, `no whole number from ${least} to ${most}`);
}

function big(value, signed) {
  const whole = typeof value === "bigint" || Number.isSafeInteger(value);
  const n = BigInt(expect(value, whole, "no BigInt, and no Number that is exact"));
  const fits = n === (signed ? BigInt.asIntN(64, n) : BigInt.asUintN(64, n));
  return expect(n, fits, `beyond 64 bits${signed ? "" : ", or negative"}`);
}

// === Reading ===

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  get ended() {
    return this.at >= this.bytes.length;
  }

  /** Where the next `size` bytes begin; they are passed over. */
  take(size) {
    const from = this.at;
    if (size > this.bytes.length - from) throw new ProtoError("the message ends too early");
    this.at += size;
    return from;
  }

  sized() {
    const size = Number(this.varint());
    const from = this.take(size);
    return this.bytes.subarray(from, from + size);
  }

  /** A Number below 2^49, else a BigInt. */
  varint() {
    let value = 0;
    for (let scale = 1; scale < 2 ** 49; scale *= 128) {
      const byte = this.bytes[this.take(1)];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    let long = BigInt(value);
    for (let shift = 49n; shift < 70n; shift += 7n) {
      const byte = this.bytes[this.take(1)];
      long |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, long);
    }
    throw new ProtoError("a number has more than 64 bits");
  }

  skip(wire) {
    if (wire === VARINT) this.varint();
    else if (wire === EIGHT_BYTES) this.take(8);
    else if (wire === SIZED) this.sized();
    else if (wire === FOUR_BYTES) this.take(4);
    else throw new ProtoError(`wire type ${wire}`);
  }
}

function readMessage(reader, name, depth) {
  if (depth > DEPTH_MAX) throw new ProtoError("messages within messages, too deep");
  const message = {};
  const fields = fieldsOf(name);
  for (const [, key, often, type] of fields) {
    if (often === "map") message[key] = new Map();
    else if (often === "many" || often === "packed") message[key] = [];
    else if (often === "one" || often === "required") {
      const value = defaultOf(type);
      if (value !== undefined) message[key] = value;
    }
  }
  while (!reader.ended) {
    const tag = Number(reader.varint());
    const wire = tag % 8;
    const field = fields.find((known) => known[0] === Math.floor(tag / 8));
    if (field === undefined || !readField(reader, wire, message, field, depth)) reader.skip(wire);
  }
  return message;
}

/** Whether it could be read: it is passed over when its wire type is another's. */
function readField(reader, wire, message, [, key, often, type, ofMap], depth) {
  const expected = often === "map" ? SIZED : WIRE_TYPES[type] ?? SIZED;
  if (often === "map") {
    if (wire !== SIZED) return false;
    const [one, value] = readEntry(new Reader(reader.sized()), type, ofMap, depth);
    message[key].set(one, value);
  } else if (often === "many" || often === "packed") {
    if (wire === SIZED && expected !== SIZED) {
      const all = new Reader(reader.sized());
      while (!all.ended) message[key].push(readValue(all, type, depth));
    } else if (wire === expected) {
      message[key].push(readValue(reader, type, depth));
    } else {
      return false;
    }
  } else if (wire === expected) {
    message[key] = readValue(reader, type, depth);
  } else {
    return false;
  }
  return true;
}

function readEntry(reader, keyType, valueType, depth) {
  let key = defaultOf(keyType);
  let value = defaultOf(valueType) ?? readMessage(new Reader(new Uint8Array()), valueType, depth);
  while (!reader.ended) {
    const tag = Number(reader.varint());
    const type = tag >> 3 === 1 ? keyType : tag >> 3 === 2 ? valueType : undefined;
    if (type === undefined || (WIRE_TYPES[type] ?? SIZED) !== tag % 8) reader.skip(tag % 8);
    else if (tag >> 3 === 1) key = readValue(reader, type, depth);
    else value = readValue(reader, type, depth);
  }
  return [key, value];
}

/** undefined for a message. */
function defaultOf(type) {
  if (type === "string") return "";
  if (type === "bytes") return new Uint8Array();
  if (type === "bool") return false;
  return type in WIRE_TYPES ? 0 : undefined;
}

function readValue(reader, type, depth) {
  const { view } = reader;
  switch (type) {
    case "int32":
    case "enum":
      return Number(BigInt.asIntN(32, BigInt(reader.varint())));
    case "uint32":
      return low(reader.varint());
    case "sint32": {
      const n = low(reader.varint());
      return (n >>> 1) ^ -(n & 1);
    }
    case "int64":
      return narrow(BigInt.asIntN(64, BigInt(reader.varint())));
    case "uint64":
      return narrow(reader.varint());
    case "sint64": {
      const n = BigInt(reader.varint());
      return narrow((n >> 1n) ^ -(n & 1n));
    }
    case "bool":
      return Number(reader.varint()) !== 0;
    case "string":
      return text(reader.sized());
    case "bytes":
      return reader.sized().slice();
    case "fixed32":
      return view.getUint32(reader.take(4), true);
    case "sfixed32":
      return view.getInt32(reader.take(4), true);
    case "float":
      return view.getFloat32(reader.take(4), true);
    case "double":
      return view.getFloat64(reader.take(8), true);
    case "fixed64":
      return narrow(view.getBigUint64(reader.take(8), true));
    case "sfixed64":
      return narrow(view.getBigInt64(reader.take(8), true));
    default:
      return readMessage(new Reader(reader.sized()), type, depth + 1);
  }
}

/** The lower 32 bits. */
function low(n) {
  return typeof n === "bigint" ? Number(BigInt.asUintN(32, n)) : n % 2 ** 32;
}

function narrow(n) {
  const exact = Number(n);
  return Number.isSafeInteger(exact) ? exact : n;
}

function text(bytes) {
  try {
    return fromUtf8.decode(bytes);
  } catch {
    throw new ProtoError("a text is not UTF-8");
  }
}
