// Owns the pixels: one picture of a scene. Leaves what is where to scene.js.

const GROUND = "#0d1117";
const OUTSIDE = "#05070a";
const LINES = "#1c2430";
const EDGE = "#e5534b";
const INK = "#f0f3f6";
const GRID = 100;
// The server shows so much around a ball of this radius; the picture's longer side is within it.
const SIGHT = 450;
const SIGHT_PER_RADIUS = 5;

export class Picture {
  #canvas;
  #context;
  #sight = SIGHT;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
  }

  /** @param {import("./scene.js").Scene} scene */
  draw(scene, nowMs) {
    const { balls, food, eye } = scene.at(nowMs);
    const { width, height } = this.#fit();
    const context = this.#context;
    // The zoom follows slowly: growing is seen, and nothing jumps.
    this.#sight += (SIGHT + SIGHT_PER_RADIUS * eye.radius - this.#sight) * 0.1;
    const scale = Math.max(width, height) / 2 / this.#sight;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = scene.field === null ? GROUND : OUTSIDE;
    context.fillRect(0, 0, width, height);
    context.setTransform(
      scale, 0, 0, scale,
      width / 2 - eye.x * scale, height / 2 - eye.y * scale,
    );
    if (scene.field !== null) this.#ground(scene.field, eye, width / scale, height / scale);
    for (let at = 0; at + 1 < food.length; at += 2) this.#food(food[at], food[at + 1]);
    for (const ball of balls) this.#ball(ball, ball.id === scene.me, scale);
  }

  /** The canvas has as many pixels as the screen shows of it. */
  #fit() {
    const canvas = this.#canvas;
    const ratio = Math.min(globalThis.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    return { width, height };
  }

  #ground(field, eye, wide, high) {
    const context = this.#context;
    context.fillStyle = GROUND;
    context.fillRect(0, 0, field.width, field.height);
    context.beginPath();
    const [left, right] = [Math.max(0, eye.x - wide / 2), Math.min(field.width, eye.x + wide / 2)];
    const [up, down] = [Math.max(0, eye.y - high / 2), Math.min(field.height, eye.y + high / 2)];
    for (let x = Math.ceil(left / GRID) * GRID; x <= right; x += GRID) {
      context.moveTo(x, up);
      context.lineTo(x, down);
    }
    for (let y = Math.ceil(up / GRID) * GRID; y <= down; y += GRID) {
      context.moveTo(left, y);
      context.lineTo(right, y);
    }
    context.strokeStyle = LINES;
    context.lineWidth = 1.5;
    context.stroke();
    context.strokeStyle = EDGE;
    context.lineWidth = 6;
    context.strokeRect(-3, -3, field.width + 6, field.height + 6);
  }

  #food(x, y) {
    const context = this.#context;
    context.fillStyle = `hsl(${(x * 7 + y * 13) % 360} 75% 65%)`;
    context.beginPath();
    context.arc(x, y, 5, 0, 2 * Math.PI);
    context.fill();
  }

  #ball({ id, x, y, radius, robot, name }, mine, scale) {
    const context = this.#context;
    const hue = (id * 137) % 360;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = robot ? `hsl(${hue} 25% 45%)` : `hsl(${hue} 75% 50%)`;
    context.fill();
    context.lineWidth = Math.max(2, radius / 10);
    context.strokeStyle = mine ? INK : robot ? `hsl(${hue} 20% 65%)` : `hsl(${hue} 85% 75%)`;
    context.stroke();
    if (name === "") return;
    // At least 12 pixels high on the screen, however small the ball.
    const size = Math.max(radius * 0.5, (12 * (globalThis.devicePixelRatio || 1)) / scale);
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = size / 5;
    context.strokeStyle = GROUND;
    context.strokeText(name, x, y);
    context.fillStyle = INK;
    context.fillText(name, x, y);
  }
}
