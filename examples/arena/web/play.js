// Owns the game in a page: signs in as a guest, enters an arena, steers, and begins again whatever
// breaks. Leaves the session to the kit, the picture to draw.js, the texts around it to hud.js.

import { Refused, Session, decode, front, guest } from "/play/kit/bastide.js";
import { Picture } from "./draw.js";
import { Hud } from "./hud.js";
import { Scene } from "./scene.js";
import { Helm } from "./steer.js";

const ENTERING = "entering the arena …";
const STEER_EVERY_MS = 50;
const PAUSE_MIN_MS = 500;
const PAUSE_MAX_MS = 10_000;
// Views without a ball of one's own, after which one was eaten: whoever comes back was not told.
const BALL_LESS_VIEWS = 20;
const ALREADY_IN_ROOM = 3005;
// The outcome of what was asked is unknown: asking again with the same id gives the same room.
const DEADLINE = 1003;
// Signed in elsewhere, removed, banned: who wants to go on says so.
const STOPS = new Map([
  [2005, "You play in another window."],
  [2006, "You were removed."],
  [209, "This account is banned."],
]);

const query = new URLSearchParams(location.search);
const scene = new Scene();
const canvas = document.getElementById("field");
const picture = new Picture(canvas);
const helm = new Helm(canvas);
const hud = new Hud(document);

let session = null;
let state = "connecting";
let roomId = "";
let name = "";
// The session that is taking a seat; one that is over may still believe so.
let entering = null;
// It was eaten, and has not come in again.
let dead = false;
let ballLess = 0;
let steered = { dx: 0, dy: 0 };

function becomes(next, text = "") {
  state = next;
  hud.banner(text);
}

/** What is kept of this browser from one visit to the next; not where it keeps nothing. */
function kept(key, fresh) {
  try {
    const value = localStorage.getItem(key) ?? fresh();
    localStorage.setItem(key, value);
    return value;
  } catch {
    return fresh();
  }
}

/** Keeps the room, for whoever loads the page anew sits in it still. */
function sits(id) {
  roomId = id;
  try {
    localStorage.setItem("arena.room", id);
  } catch {
    // Then it is told 3005 until its seat is given up.
  }
}

/** Random digits of base 16, also where a page is not served over TLS. */
function random(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return [...values].map((value) => value.toString(16).padStart(2, "0")).join("");
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms * (0.5 + Math.random() / 2)));
}

// === Signing in ===

/** Plays for ever: each turn is a session, from its sign-in to its end. */
async function live() {
  const deviceId = kept("arena.device", () => `web-${random(16)}`);
  roomId = kept("arena.room", () => "");
  name = query.get("name") ?? kept("arena.name", () => `guest ${random(2)}`);
  let pauseMs = PAUSE_MIN_MS;
  for (;;) {
    try {
      const over = await turn(deviceId, () => (pauseMs = PAUSE_MIN_MS));
      if (STOPS.has(over.code)) {
        becomes("stopped");
        await hud.ask(STOPS.get(over.code), "Play here");
        continue;
      }
    } catch (error) {
      console.warn(error);
      const wait = error.retryAfterS * 1000;
      if (wait > pauseMs) pauseMs = wait;
    }
    becomes("connecting", "connecting …");
    await pause(pauseMs);
    pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS);
  }
}

/** One session; the SessionOver that ended it. */
async function turn(deviceId, stands) {
  const { accounts, gates } = await front();
  const { token } = await guest(accounts, deviceId);
  const signedIn = await Session.signIn({ token, gates, deviceId });
  stands();
  session = signedIn;
  const over = new Promise((resolve) => {
    signedIn.addEventListener("over", ({ detail }) => resolve(detail));
  });
  signedIn.addEventListener("away", () => becomes("reconnecting", "reconnecting …"));
  signedIn.addEventListener("open", () => {
    // Whoever was away stands still.
    steered = { dx: 0, dy: 0 };
    if (entering !== null) becomes("entering", ENTERING);
    else becomes(dead ? "eaten" : "playing");
  });
  listen(signedIn);
  enter(signedIn);
  return signedIn.over ?? over;
}

// === In the arena ===

function listen(session) {
  session
    .on("arena.View", (view) => {
      scene.see(view, performance.now());
      const here = scene.me === 0 || view.balls.some(({ id }) => id === scene.me);
      ballLess = here ? 0 : ballLess + 1;
      if (ballLess >= BALL_LESS_VIEWS && !dead) eaten(session, "", view.score);
    })
    .on("arena.Names", ({ names }) => scene.learn(names))
    .on("arena.Top", ({ places }) => (scene.top = places))
    .on("arena.Eaten", ({ by, score }) => eaten(session, by, score))
    .on("msg.RoomClosed", (closed) => {
      if (closed.roomId === roomId) enter(session);
    });
}

/** Takes a seat in some arena; again until it has one or the session is over. */
async function enter(session) {
  if (entering === session) return;
  entering = session;
  becomes("entering", ENTERING);
  let pauseMs = PAUSE_MIN_MS;
  let requestId = random(16);
  while (session.over === null) {
    try {
      await takeSeat(session, requestId);
      if (entering !== session) return;
      entering = null;
      dead = false;
      ballLess = 0;
      hud.hide();
      if (session.connected) becomes("playing");
      return;
    } catch (error) {
      if (session.over !== null) break;
      console.warn(error);
      if (error.code !== DEADLINE) requestId = random(16);
      // It sits somewhere, from before this page was loaded: up, and again.
      if (error.code === ALREADY_IN_ROOM) await leave(session);
    }
    await pause(pauseMs);
    pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS);
  }
  if (entering === session) entering = null;
}

async function takeSeat(session, requestId) {
  const options = {};
  if (query.has("robots")) options.robots = query.get("robots");
  const wanted = query.get("room") ?? "";
  const ask = { kind: "arena", roomId: wanted, requestId, options };
  const entered = await session.request("msg.EnterRoom.Req", ask);
  if (entered.code !== 0) throw new Refused(entered.code, "no room");
  scene.clear();
  const joined = await session.request("msg.JoinRoom.Req", { ticket: entered.ticket, name });
  if (joined.code !== 0) throw new Refused(joined.code, "no seat");
  sits(joined.roomId);
  scene.field = decode("arena.Field", joined.state);
  steered = { dx: 0, dy: 0 };
}

async function leave(session) {
  try {
    await session.request("msg.LeaveRoom.Req", { roomId });
  } catch (error) {
    console.warn(error);
  }
}

async function eaten(session, by, score) {
  if (dead || entering !== null) return;
  dead = true;
  becomes("eaten");
  await hud.ask(`Eaten by ${by || "somebody"} with ${score} points.`, "Play again");
  // It may be in another room by now, or in none.
  if (!dead || session.over !== null) return;
  try {
    await session.request("arena.Respawn.Req");
    dead = false;
    ballLess = 0;
    if (state === "eaten") becomes("playing");
  } catch (error) {
    console.warn(error);
    dead = false;
    if (session.over === null) enter(session);
  }
}

/** Tells where to go, when that has changed; what was said to a broken connection would be late. */
function steer() {
  const { dx, dy } = helm.heading;
  const news = dx !== steered.dx || dy !== steered.dy;
  if (state !== "playing" || !session?.connected || !news) return;
  steered = { dx, dy };
  session.tell("arena.Steer", steered);
}

function frame() {
  picture.draw(scene, performance.now());
  requestAnimationFrame(frame);
}

addEventListener("online", () => session?.wake());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) session?.wake();
});
setInterval(steer, STEER_EVERY_MS);
setInterval(() => hud.show(scene, session, name), 250);
requestAnimationFrame(frame);

/** What is on the screen, for tests and for whoever is curious. */
globalThis.arena = {
  scene,
  get state() { return state; },
  get session() { return session; },
  get name() { return name; },
  get roomId() { return roomId; },
  get me() { return scene.drawn.balls.find((ball) => ball.id === scene.me) ?? null; },
};

live();
