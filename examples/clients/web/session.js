// Owns the session: it outlives its connections, as docs/CLIENTS.md says. Nothing is lost, nothing
// is done twice, all is in order. Leaves payloads to proto.js, frames and sockets to link.js.

import { Link } from "./link.js";
import { FrameError, frame } from "./frames.js";
import { ProtoError, decode, encode, knows } from "./proto.js";

const PING_EVERY_MS = 5_000;
const SILENCE_MAX_MS = 15_000;
const LOOK_EVERY_MS = 1_000;
// What came without the server being told: it keeps 68 KiB for a client that never tells.
const UNTOLD_BYTES_MAX = 64 * 1024;
const UNTOLD_FRAMES_MAX = 256;
// At a resume they go out at once, and a gate takes a burst of 200. From the half on it is asked
// what it has.
const KEPT_FRAMES_MAX = 128;
// What waits for a place among those. Beyond: refused as busy.
const UNSENT_FRAMES_MAX = 1024;
const TRY_TIMEOUT_MS = 5_000;
const PAUSE_MIN_MS = 100;
const PAUSE_MAX_MS = 5_000;

// What a code in a kick, or in the answer to a resume, makes of the session.
const RESUME_CODES = new Set([1, 101, 1001, 1002, 1003, 1007, 2007, 2008]);
const DRAINING = 2007;
const BUSY = 1002;

const KICK = "msg.Kick.Res";
const ERROR = "msg.Error.Res";

/** A request was refused, by a code of the server or of the game. */
export class Refused extends Error {
  constructor(code, message) {
    super(`${message} (code ${code})`);
    this.code = code;
  }
}

/** The session cannot go on. What had no answer is unknown. `code` says why, if a server did. */
export class SessionOver extends Error {
  constructor(text, code) {
    super(text);
    this.code = code;
  }
}

/** Whether a frame is in the counts that a resume compares. */
function counts(api) {
  return api !== KICK && !api.startsWith("msg.Ping.") && !api.startsWith("msg.Resume.");
}

/** The name of the answer to a request. */
function answerTo(api) {
  return api.replace(/Req$/, "Res");
}

/**
 * A signed-in client. Made by `signIn`; ended by `logout` or `close`.
 *
 * It tells of itself by events: `open` (the connection stands, at first and after each resume),
 * `away` (it broke; the session is getting back), `over` (with a SessionOver as `detail`).
 */
export class Session extends EventTarget {
  #gates;
  #link = null;
  #received = 0;
  #forgotten = 0;
  #kept = [];
  #unsent = [];
  #waiting = [];
  #handlers = new Map();
  #resumeToken = new Uint8Array();
  #resumeWindowMs = 0;
  #untoldBytes = 0;
  #untoldFrames = 0;
  // By performance.now(); 0: no ping is under way.
  #askedAt = 0;
  #heardAt = 0;
  #toldAt = 0;
  #timer = 0;
  #over = null;
  #wake = () => {};

  constructor(gates) {
    super();
    this.#gates = [...new Set(gates)];
    /** Of the account: `msg.Login.Res.user`. */
    this.user = undefined;
    this.sessionId = "";
    /** How often it got back to a gate. */
    this.resumes = 0;
    /** How long the last ping took, in ms; undefined before the first. */
    this.rttMs = undefined;
  }

  /**
   * Signs in at the first of the gates that answers, with a token of the account center. Throws
   * Refused, or an Error when no gate answers.
   * @param {{token: string, gates: string[], deviceId?: string, platform?: string}} how
   * @returns {Promise<Session>}
   */
  static async signIn({ token, gates, deviceId = "", platform = "web" }) {
    const session = new Session(gates);
    let last = new Error("no gate was named");
    for (const gate of [...session.#gates]) {
      let begun;
      try {
        begun = await begin(gate, "msg.Login.Req", { token, deviceId, platform });
      } catch (error) {
        last = error;
        continue;
      }
      const { link, api, answer } = begun;
      if (answer.code !== 0) {
        link.cut();
        throw new Refused(answer.code, api === ERROR ? answer.message : "the sign-in is refused");
      }
      session.#prefer(gate);
      session.user = answer.user;
      session.sessionId = answer.sessionId ?? "";
      session.#resumeToken = answer.resumeToken ?? new Uint8Array();
      session.#resumeWindowMs = (answer.resumeWindowS ?? 0) * 1000;
      session.#timer = setInterval(() => session.#look(), LOOK_EVERY_MS);
      session.#stands(link);
      session.#tell();
      return session;
    }
    throw last;
  }

  // === Talking ===

  /**
   * Asks, and waits for the answer, across connections. Throws Refused, SessionOver.
   * @template {keyof import("./messages.js").Requests} A
   * @param {A} api
   * @param {Partial<import("./messages.js").Requests[A]>} [fields]
   * @returns {Promise<import("./messages.js").Answers[A]>}
   */
  request(api, fields = {}) {
    return new Promise((resolve, reject) => this.#send(api, fields, { api, resolve, reject }));
  }

  /**
   * Sends what gets no answer: an input. Throws SessionOver.
   * @template {keyof import("./messages.js").Messages} N
   * @param {N} api
   * @param {Partial<import("./messages.js").Messages[N]>} [fields]
   */
  tell(api, fields = {}) {
    this.#send(api, fields, null);
  }

  /**
   * Has a function called with each message of this name that nobody asked for; one a name.
   * @template {keyof import("./messages.js").Messages} N
   * @param {N} api
   * @param {(message: import("./messages.js").Messages[N]) => void} handler
   */
  on(api, handler) {
    if (!knows(api)) throw new ProtoError(`${api} is no message that is known here`);
    this.#handlers.set(api, handler);
    return this;
  }

  /** Whether a connection stands. */
  get connected() {
    return this.#link !== null;
  }

  /** The SessionOver that ended it; null while it lives. */
  get over() {
    return this.#over;
  }

  /** Ends the session for good. */
  async logout() {
    await this.request("msg.Logout.Req", { account: this.user.account });
    this.close();
  }

  /** Leaves. Without a logout the session waits for its window, and nobody resumes it. */
  close() {
    this.#end(new SessionOver("closed by this client"));
  }

  /** Breaks the connection, as a bad network does; the session gets back by itself. */
  cut() {
    this.#link?.fail(new Error("cut by this client"));
  }

  /** Tries to get back at once instead of after its pause: the network is there again. */
  wake() {
    this.#wake();
  }

  #send(api, fields, waits) {
    if (this.#over !== null) throw this.#over;
    if (this.#unsent.length >= UNSENT_FRAMES_MAX) {
      throw new Refused(BUSY, "too much waits to be sent");
    }
    this.#unsent.push(frame(api, encode(api, fields)));
    if (waits !== null) this.#waiting.push(waits);
    this.#flush();
  }

  /** Moves what waits to what is kept, as far as there is place, and sends it. */
  #flush() {
    // While it is getting back nothing new goes out: what is kept goes first.
    if (this.#link === null) return;
    while (this.#unsent.length > 0 && this.#kept.length < KEPT_FRAMES_MAX) {
      const next = this.#unsent.shift();
      this.#kept.push(next);
      this.#link.send(next);
    }
    // One is enough, however many wait: it counts in the gate's rate.
    if (this.#kept.length >= KEPT_FRAMES_MAX / 2 && this.#askedAt === 0) this.#tell();
  }

  // === Living ===

  /** From now on this is the connection. */
  #stands(link) {
    this.#link = link;
    this.#heardAt = performance.now();
    this.#askedAt = 0;
    link.follow(
      (api, payload) => this.#take(api, payload),
      (why) => this.#broke(link, why),
    );
    this.dispatchEvent(new Event("open"));
  }

  #broke(link, why) {
    if (this.#link !== link) return;
    this.#link = null;
    if (why instanceof SessionOver) {
      this.#end(why);
    } else if (this.#over === null) {
      this.dispatchEvent(new Event("away"));
      this.#getBack().catch((error) => this.#end(error));
    }
  }

  /** Nothing will come any more: whoever waits is told. */
  #end(why) {
    if (this.#over !== null) return;
    const over = why instanceof SessionOver ? why : new SessionOver(`a bug here: ${why}`);
    this.#over = over;
    clearInterval(this.#timer);
    this.#link?.cut();
    this.#link = null;
    this.#wake();
    for (const { reject } of this.#waiting.splice(0)) reject(over);
    this.#unsent.length = 0;
    this.dispatchEvent(new CustomEvent("over", { detail: over }));
  }

  /** Counts a frame and makes its effect ours, in one step; what it throws ends the connection. */
  #take(api, payload) {
    this.#heardAt = performance.now();
    if (counts(api)) {
      this.#received += 1;
      this.#untoldFrames += 1;
      this.#untoldBytes += api.length + payload.length + 4;
    }
    if (knows(api)) this.#understand(api, decode(api, payload));
    const late = this.#heardAt - this.#toldAt > PING_EVERY_MS && this.#askedAt === 0;
    const much =
      this.#untoldBytes >= UNTOLD_BYTES_MAX || this.#untoldFrames >= UNTOLD_FRAMES_MAX;
    if (late || much) this.#tell();
  }

  #understand(api, message) {
    const [first] = this.#waiting;
    if (api === "msg.Ping.Res") {
      this.#askedAt = 0;
      this.rttMs = performance.now() - Number(message.ct);
      this.#forget(message.received);
    } else if (api === KICK) {
      this.#kicked(message);
    } else if (api === ERROR && message.api === "") {
      throw new SessionOver(`${message.message} (code ${message.code})`, message.code);
    } else if (first !== undefined && api === ERROR && message.api === first.api) {
      this.#waiting.shift().reject(new Refused(message.code, message.message));
    } else if (first !== undefined && api === answerTo(first.api)) {
      this.#waiting.shift().resolve(message);
    } else {
      try {
        this.#handlers.get(api)?.(message);
      } catch (error) {
        // A mistake in a page is no reason to break its connection.
        reportError(error);
      }
    }
  }

  #kicked({ code, reason }) {
    if (!RESUME_CODES.has(code)) throw new SessionOver(`${reason} (code ${code})`, code);
    // The others first.
    if (code === DRAINING) this.#gates.push(this.#gates.shift());
    throw new Error(`${reason} (code ${code})`);
  }

  /** Frees what the server has. */
  #forget(received) {
    const known = Math.max(0, Math.min(Number(received) - this.#forgotten, this.#kept.length));
    this.#kept.splice(0, known);
    this.#forgotten += known;
    this.#flush();
  }

  #look() {
    const now = performance.now();
    const silent = now - Math.max(this.#askedAt, this.#heardAt) > SILENCE_MAX_MS;
    if (this.#askedAt > 0 && silent) {
      this.#link?.fail(new Error("nothing comes any more"));
    } else if (now - this.#toldAt > PING_EVERY_MS) {
      this.#tell();
    }
  }

  /** Pings, which tells the server what has come. */
  #tell() {
    if (this.#link === null) return;
    const now = performance.now();
    this.#toldAt = now;
    this.#askedAt ||= now;
    this.#untoldBytes = this.#untoldFrames = 0;
    const ping = { ct: Math.round(now), received: this.#received };
    this.#link.send(frame("msg.Ping.Req", encode("msg.Ping.Req", ping)));
  }

  // === Getting back ===

  #prefer(gate) {
    this.#gates = [gate, ...this.#gates.filter((other) => other !== gate)];
  }

  async #getBack() {
    if (this.#resumeToken.length === 0) {
      throw new SessionOver("the connection broke, and the gate offers no resume");
    }
    const until = performance.now() + this.#resumeWindowMs;
    let pauseMs = PAUSE_MIN_MS;
    while (performance.now() < until && this.#over === null) {
      for (const gate of [...this.#gates]) {
        if (this.#over !== null) return;
        if (await this.#resumeAt(gate)) return this.#prefer(gate);
      }
      await this.#pause(pauseMs * (0.5 + Math.random() / 2));
      pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS);
    }
    throw new SessionOver("no gate took the session back within its window");
  }

  /** Whether the session stands again. */
  async #resumeAt(gate) {
    const ask = { resumeToken: this.#resumeToken, received: this.#received };
    let begun;
    try {
      begun = await begin(gate, "msg.Resume.Req", ask);
    } catch {
      return false;
    }
    const { link, api, answer } = begun;
    if (this.#over !== null || answer.code !== 0) {
      link.cut();
      if (this.#over !== null || RESUME_CODES.has(answer.code)) return false;
      const why = api === ERROR ? answer.message : "the gate does not take the session back";
      throw new SessionOver(`${why} (code ${answer.code})`, answer.code);
    }
    this.#resumeToken = answer.resumeToken;
    this.resumes += 1;
    // Before anything new: nothing else runs between these.
    const known = Math.max(0, Number(answer.received) - this.#forgotten);
    this.#kept.splice(0, known);
    this.#forgotten = Math.max(this.#forgotten, Number(answer.received));
    for (const kept of this.#kept) link.send(kept);
    this.#stands(link);
    this.#tell();
    this.#flush();
    return true;
  }

  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Connects, sends the first message and waits for its answer. */
async function begin(gate, ask, fields) {
  const link = new Link(gate);
  try {
    link.sendFirst(frame(ask, encode(ask, fields)));
    const [api, payload] = await link.first(TRY_TIMEOUT_MS);
    if (!knows(api)) throw new FrameError(`${api} is not known here`);
    const answer = decode(api, payload);
    if (api === KICK) throw new Error(`${answer.reason} (code ${answer.code})`);
    if (api !== ERROR && api !== answerTo(ask)) {
      throw new FrameError(`${api} came instead of an answer to ${ask}`);
    }
    return { link, api, answer };
  } catch (error) {
    link.cut();
    throw error;
  }
}
