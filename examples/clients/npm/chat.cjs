// Owns what a page does that speaks JSON over a WebSocket: `node chat.cjs GATE ACCOUNTS USERNAME
// PASSWORD` signs in by name, by token, by name after a refused token, and by a refreshed token. It is
// run in the folder that the packages are installed in.
'use strict';

const [gate, accounts, username, password] = process.argv.slice(2);
const load = require('node:module').createRequire(`${process.cwd()}/`);
// A browser has one; this is as a browser's.
const WebSocket = globalThis.WebSocket ?? load('ws');

const DEADLINE = 20_000;

class Chat {
  #heard = [];
  #waiting = [];

  open(query, opened) {
    this.socket = new WebSocket(gate + query);
    this.socket.onopen = opened;
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      const next = this.#waiting.shift();
      if (next) next(message);
      else this.#heard.push(message);
    };
    return this;
  }

  withToken(token) {
    return this.open(`?token=${encodeURIComponent(token)}`, null);
  }

  // Says who it is on open, whether it has been greeted or not.
  byName(known) {
    return this.open('', () => this.login(known));
  }

  login(known = password) {
    const body = { username, password: known };
    const said = { cmd_id: 1001, from_uid: username, device_id: 'web_1', platform: 'web', body };
    this.socket.send(JSON.stringify(said));
  }

  async next(code, text) {
    const message = await new Promise((resolve, reject) => {
      if (this.#heard.length > 0) resolve(this.#heard.shift());
      else this.#waiting.push(resolve);
      setTimeout(() => reject(new Error(`no ${code}: ${text}`)), DEADLINE).unref();
    });
    // What is pushed to a player is not for this page.
    if (message.api) return this.next(code, text);
    const said = message.code === 200 ? message.body.message : message.err_msg;
    if (message.code !== code || !said.includes(text)) {
      throw new Error(`not ${code} ${text}: ${JSON.stringify(message)}`);
    }
    return message;
  }

  close() {
    this.socket.close();
  }
}

async function main() {
  const named = new Chat().byName();
  await named.next(200, 'Connected successfully. Please login or provide token.');
  const { body: tokens } = await named.next(200, 'Login successful');
  named.close();
  console.log('by name');

  const known = new Chat().withToken(tokens.access_token);
  const { body } = await known.next(200, 'Connected and authenticated successfully');
  if (!/^session_\d+$/.test(body.session_id)) throw new Error(`a session: ${body.session_id}`);
  known.close();
  console.log('by token');

  const refused = new Chat().withToken('no+token/of=ours %');
  await refused.next(401, 'Token authentication failed. Please login.');
  refused.login('wrong-horse-1');
  await refused.next(400, '');
  refused.login();
  await refused.next(200, 'Login successful');
  refused.close();
  console.log('by name after a refused token, on the same socket');

  // Its tokens live for a moment.
  const { exp } = JSON.parse(atob(tokens.access_token.split('.')[1]));
  await new Promise((over) => setTimeout(over, exp * 1000 - Date.now() + 1100));
  const late = new Chat().withToken(tokens.access_token);
  await late.next(401, 'token expired');
  late.close();
  const refreshed = await (await fetch(`${accounts}/api/refresh-token`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ refresh_token: tokens.refresh_token }),
  })).json();
  if (refreshed.code !== 200) throw new Error(`a refresh: ${JSON.stringify(refreshed)}`);
  const again = new Chat().withToken(refreshed.body.access_token);
  await again.next(200, 'Connected and authenticated successfully');
  again.close();
  console.log('by a refreshed token');
}

main().then(() => process.exit(0), (error) => {
  console.error(error.stack);
  process.exit(1);
});
