// Owns what is known of the arena, and where everything is at a moment between two views. Leaves
// the wire to the kit, pixels to draw.js.

// How far behind the server's clock is drawn: two ticks, so that there is a later view to move to.
const BEHIND_MS = 100;
const VIEWS_MAX = 12;
const NAMES_MAX = 2048;
// What moved farther between two views was not moved but put there.
const LEAP = 300;

/** @typedef {import("../../clients/web/messages.js").arena_View} View */

export class Scene {
  #views = [];
  #names = new Map();
  // Server's clock minus this page's, as the quickest view of late has shown it.
  #ahead = null;

  constructor() {
    this.clear();
  }

  /** Forgets what was seen: another room begins. */
  clear() {
    this.#views = [];
    this.#names.clear();
    this.#ahead = null;
    this.field = null;
    this.views = 0;
    this.score = 0;
    this.players = 0;
    this.top = [];
    // What is drawn stands where it last was until a view comes.
    this.drawn = { balls: [], food: [], eye: { x: 0, y: 0, radius: 20 } };
  }

  /** The number of one's own ball; 0 until it is known. */
  get me() {
    return this.field?.me ?? 0;
  }

  /** @param {View} view */
  see(view, nowMs) {
    this.views += 1;
    this.score = view.score;
    this.players = view.players;
    const ahead = Number(view.st) - nowMs;
    // A late view says less than an early one, but clocks drift.
    this.#ahead = this.#ahead === null ? ahead : Math.max(ahead, this.#ahead - 1);
    const last = this.#views.at(-1);
    if (last !== undefined && Number(view.tick) <= Number(last.tick)) this.#views = [];
    const balls = new Map(view.balls.map((ball) => [ball.id, ball]));
    this.#views.push({ tick: view.tick, st: Number(view.st), balls, food: view.food });
    if (this.#views.length > VIEWS_MAX) this.#views.shift();
  }

  learn(names) {
    for (const { id, name } of names) {
      this.#names.delete(id);
      this.#names.set(id, name);
      if (this.#names.size > NAMES_MAX) this.#names.delete(this.#names.keys().next().value);
    }
  }

  /** Where everything is now; what is drawn is kept as `drawn`. */
  at(nowMs) {
    if (this.#views.length === 0) return this.drawn;
    const at = nowMs + this.#ahead - BEHIND_MS;
    let later = this.#views.findIndex((view) => view.st > at);
    if (later < 0) later = this.#views.length - 1;
    const to = this.#views[later];
    const from = this.#views[Math.max(0, later - 1)];
    const span = to.st - from.st;
    const part = span > 0 ? Math.min(1, Math.max(0, (at - from.st) / span)) : 1;
    const balls = [...to.balls.values()].map((ball) => this.#between(from, ball, part));
    balls.sort((one, other) => one.radius - other.radius);
    const mine = balls.find((ball) => ball.id === this.me);
    const { x, y, radius } = mine ?? this.drawn.eye;
    this.drawn = { balls, food: to.food, eye: { x, y, radius } };
    return this.drawn;
  }

  #between(from, ball, part) {
    const { id, x, y, radius, robot } = ball;
    const drawn = { id, x, y, radius, robot, name: this.#names.get(id) ?? "" };
    const before = from.balls.get(id);
    if (before === undefined || Math.hypot(x - before.x, y - before.y) > LEAP) return drawn;
    const mix = (one, other) => one + (other - one) * part;
    drawn.x = mix(before.x, x);
    drawn.y = mix(before.y, y);
    drawn.radius = mix(before.radius, radius);
    return drawn;
  }
}
