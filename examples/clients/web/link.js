// Owns one connection to a gate: a WebSocket as a carrier of frames. Leaves what frames mean, and
// what becomes of a session when it breaks, to session.js.

import { Decoder } from "./frames.js";

export class Link {
  #socket;
  #decoder = new Decoder();
  // What came before anybody follows.
  #early = [];
  #onFirst = () => {};
  #onFrame = null;
  #onEnd = null;
  #ended = null;

  /** @param {string} gate such as `ws://127.0.0.1:18080/ws` */
  constructor(gate) {
    const url = new URL(gate);
    // Frames from the first message on: a gate greets nobody who says so.
    url.searchParams.set("codec", "frame");
    this.#socket = new WebSocket(url);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onmessage = ({ data }) => this.#heard(data);
    this.#socket.onclose = () => this.fail(new Error("the gate has closed the connection"));
  }

  /** Sends as soon as it is connected. */
  sendFirst(bytes) {
    this.#socket.onopen = () => this.send(bytes);
  }

  /** Sends; when the connection is broken its end says so. */
  send(bytes) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(bytes);
  }

  /** The first frame: its name and payload. */
  first(timeoutMs) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.fail(new Error("no answer in time")), timeoutMs);
      this.#onFirst = () => {
        if (this.#early.length === 0 && this.#ended === null) return;
        clearTimeout(timer);
        this.#onFirst = () => {};
        if (this.#early.length > 0) resolve(this.#early.shift());
        else reject(this.#ended);
      };
      this.#onFirst();
    });
  }

  /** From now on each frame goes there, what came before first; and its end, once. */
  follow(onFrame, onEnd) {
    this.#onFrame = onFrame;
    this.#onEnd = onEnd;
    this.#deliver();
    if (this.#ended !== null) onEnd(this.#ended);
  }

  /** Ends it for a reason. */
  fail(why) {
    if (this.#ended !== null) return;
    this.#ended = why;
    this.cut();
    this.#onFirst();
    this.#onEnd?.(why);
  }

  /** Ends it, and tells nobody. */
  cut() {
    this.#ended ??= new Error("cut");
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }

  #heard(data) {
    try {
      // A text can only come from something else than a gate: frames were asked for.
      if (typeof data === "string") throw new Error("a text came where frames were expected");
      this.#early.push(...this.#decoder.feed(new Uint8Array(data)));
    } catch (error) {
      return this.fail(error);
    }
    this.#onFirst();
    this.#deliver();
  }

  #deliver() {
    while (this.#onFrame !== null && this.#early.length > 0 && this.#ended === null) {
      const [api, payload] = this.#early.shift();
      try {
        this.#onFrame(api, payload);
      } catch (error) {
        // A kick, or what cannot be understood.
        this.fail(error);
      }
    }
  }
}
