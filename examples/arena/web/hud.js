// Owns the texts around the picture: score, players, ping, the largest, what is told and asked.

export class Hud {
  #score;
  #players;
  #ping;
  #top;
  #banner;
  #dialog;
  #told;
  #again;
  #answer = () => {};

  /** @param {Document} page */
  constructor(page) {
    this.#score = page.querySelector("#score span");
    this.#players = page.querySelector("#players");
    this.#ping = page.querySelector("#ping");
    this.#top = page.querySelector("#top ol");
    this.#banner = page.querySelector("#banner");
    this.#dialog = page.querySelector("#dialog");
    this.#told = page.querySelector("#told");
    this.#again = page.querySelector("#again");
    this.#again.addEventListener("click", () => this.hide());
  }

  show(scene, session, name) {
    say(this.#score, scene.score);
    say(this.#players, scene.players);
    say(this.#ping, session?.rttMs === undefined ? "–" : Math.max(1, Math.round(session.rttMs)));
    const places = scene.top.map((place) => `${place.score} ${place.name}`).join("\n");
    if (this.#top.dataset.places === places) return;
    this.#top.dataset.places = places;
    this.#top.replaceChildren(...scene.top.map((place) => row(place, name)));
  }

  /** Says how the connection is; nothing when it is well. */
  banner(text) {
    this.#banner.hidden = text === "";
    say(this.#banner, text);
  }

  /** Asks for a click, and waits for it, or for `hide`. */
  ask(text, button) {
    this.#answer();
    say(this.#told, text);
    say(this.#again, button);
    this.#dialog.hidden = false;
    this.#again.focus();
    return new Promise((resolve) => (this.#answer = resolve));
  }

  hide() {
    this.#dialog.hidden = true;
    this.#answer();
  }
}

/** Only what has changed: the page is laid out anew for each. */
function say(element, text) {
  const said = String(text);
  if (element.textContent !== said) element.textContent = said;
}

function row(place, mine) {
  const [item, name, score] = ["li", "span", "b"].map((tag) => document.createElement(tag));
  name.textContent = place.name;
  score.textContent = place.score;
  if (place.name === mine) item.className = "mine";
  item.append(name, score);
  return item;
}
