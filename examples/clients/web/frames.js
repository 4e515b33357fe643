// Owns the frame: size, name and payload, cut out of a stream of bytes and put into one. Leaves
// what a payload says to proto.js.

export const FRAME_BYTES_MAX = 65_537;
const NAME_BYTES_MAX = 128;
const NAME = /^[A-Za-z0-9_.]+$/;

/** What came is no frame, or what should go does not fit into one. */
export class FrameError extends Error {}

/**
 * One frame: the size of what follows, the size of the name, the name, the payload.
 * @param {string} api
 * @param {Uint8Array} payload
 */
export function frame(api, payload) {
  if (!NAME.test(api) || api.length > NAME_BYTES_MAX) {
    throw new FrameError(`${api} is not the name of a message`);
  }
  const size = 2 + api.length + payload.length;
  if (size > FRAME_BYTES_MAX - 2) {
    throw new FrameError(`${api} has ${payload.length} bytes: more than a frame holds`);
  }
  const bytes = new Uint8Array(2 + size);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, size, true);
  view.setUint16(2, api.length, true);
  for (let at = 0; at < api.length; at++) bytes[4 + at] = api.charCodeAt(at);
  bytes.set(payload, 4 + api.length);
  return bytes;
}

/** Cuts frames out of bytes, in whatever pieces those come. */
export class Decoder {
  #rest = new Uint8Array();

  /**
   * The frames that are whole now: name and payload of each.
   * @param {Uint8Array} data
   * @returns {Array<[string, Uint8Array]>}
   */
  feed(data) {
    let bytes = data;
    if (this.#rest.length > 0) {
      bytes = new Uint8Array(this.#rest.length + data.length);
      bytes.set(this.#rest);
      bytes.set(data, this.#rest.length);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const frames = [];
    let start = 0;
    while (bytes.length - start >= 4) {
      const size = view.getUint16(start, true);
      const nameSize = view.getUint16(start + 2, true);
      if (size < 3 || nameSize < 1 || nameSize > Math.min(size - 2, NAME_BYTES_MAX)) {
        throw new FrameError(`a frame of ${size} bytes with a name of ${nameSize}`);
      }
      if (bytes.length - start < 2 + size) break;
      const body = start + 4 + nameSize;
      const name = String.fromCharCode(...bytes.subarray(start + 4, body));
      if (!NAME.test(name)) {
        throw new FrameError("the name of a frame has a byte that no name has");
      }
      frames.push([name, bytes.subarray(body, start + 2 + size)]);
      start += 2 + size;
    }
    this.#rest = bytes.slice(start);
    return frames;
  }
}
