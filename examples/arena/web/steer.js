// Owns where the player wants to go: mouse, finger and keys as one direction. Leaves telling the
// server to play.js.

const FULL = 100;
const KEYS = {
  ArrowLeft: [-1, 0], KeyA: [-1, 0],
  ArrowRight: [1, 0], KeyD: [1, 0],
  ArrowUp: [0, -1], KeyW: [0, -1],
  ArrowDown: [0, 1], KeyS: [0, 1],
};

export class Helm {
  #pressed = new Set();
  #pointer = { dx: 0, dy: 0 };

  /** @param {HTMLElement} surface whose middle is the player */
  constructor(surface) {
    const follow = (event) => {
      this.#pressed.clear();
      this.#pointer = towards(surface, event);
    };
    surface.addEventListener("pointermove", follow);
    surface.addEventListener("pointerdown", (event) => {
      surface.setPointerCapture(event.pointerId);
      follow(event);
    });
    addEventListener("keydown", (event) => {
      if (!(event.code in KEYS) || event.ctrlKey || event.altKey || event.metaKey) return;
      this.#pressed.add(event.code);
      event.preventDefault();
    });
    addEventListener("keyup", (event) => {
      // Whoever lets the last key go stops, wherever the mouse is.
      if (this.#pressed.delete(event.code) && this.#pressed.size === 0) {
        this.#pointer = { dx: 0, dy: 0 };
      }
    });
    addEventListener("blur", () => this.#pressed.clear());
  }

  /** The direction, -100 to 100 each. */
  get heading() {
    if (this.#pressed.size === 0) return this.#pointer;
    let [dx, dy] = [0, 0];
    for (const key of this.#pressed) {
      dx += KEYS[key][0];
      dy += KEYS[key][1];
    }
    return scaled(dx, dy, 1);
  }
}

/** Full speed from a quarter of the shorter side on. */
function towards(surface, { clientX, clientY }) {
  const { left, top, width, height } = surface.getBoundingClientRect();
  const [dx, dy] = [clientX - left - width / 2, clientY - top - height / 2];
  return scaled(dx, dy, Math.min(width, height) / 4);
}

function scaled(dx, dy, full) {
  const length = Math.max(full, Math.hypot(dx, dy)) || 1;
  const part = (d) => Math.round((d / length) * FULL) || 0;
  return { dx: part(dx), dy: part(dy) };
}
