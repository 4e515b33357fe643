// Owns what the tests do with the clients of npm: `node client.cjs PACKAGE MODE URL PASSWORD` takes
// one of them through every way in that it has, and prints a line for each. It is run in the folder
// that the packages are installed in.
'use strict';

const [name, mode, url, password] = process.argv.slice(2);
const { hostname: host, port } = new URL(url);
const load = require('node:module').createRequire(`${process.cwd()}/`);

// The clients talk a lot; what is printed is ours.
const print = console.log;
console.log = () => {};

// What a browser has, for the bundle for browsers in gamerpc 7.
globalThis.WebSocket ??= load('ws');
globalThis.XMLHttpRequest ??= load('xmlhttprequest-ssl').XMLHttpRequest;

const toolkit = load(name);
const version = name.split('-')[1];
const generation = Number(version.split('.')[0]);
const DEADLINE = 20_000;

let made = 0;
// Phones, names and devices that nobody has used.
const fresh = () => String(10_000_000 + ((process.pid * 1000 + ++made) % 90_000_000));

function expect(condition, what) {
  if (!condition) throw new Error(what);
}

async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took too long`)), DEADLINE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

const open = [];

// === gamerpc ===

function gamerpc() {
  const remote = new toolkit.gameconn({
    UrlHead: 'http', webserver: { host, port: Number(port), authPort: Number(port) },
  });
  open.push(remote);
  return remote.setmode(mode);
}

const has = (remote, status) => remote.status.check(toolkit.CommStatus[status]);

async function until(condition, what) {
  const end = Date.now() + DEADLINE;
  while (!condition()) {
    expect(Date.now() < end, `${what} did not come`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// What it may do once it is in, and that a token of nobody's may not.
async function goesOn(remote) {
  const { id, token } = remote.userInfo;
  expect(id > 0 && token, `an id and a token: ${JSON.stringify(remote.userInfo)}`);
  const echo = await within(remote.fetching({ func: 'test.echo' }), 'test.echo');
  expect(echo.code === 0, `test.echo: ${JSON.stringify(echo)}`);
  remote.userInfo.token = 'nonsense';
  const refused = await within(remote.fetching({ func: 'test.echo' }), 'test.echo');
  expect(refused.code === 9006, `a token of nobody's: ${JSON.stringify(refused)}`);
  remote.userInfo.token = token;
  return id;
}

const ways = {
  // Step by step, with the signature of a page.
  async document() {
    const openid = `360.${fresh()}`;
    const remote = gamerpc().setUserInfo({ domain: 'CoreOfWallet', openid });
    const located = await within(remote.fetching({ func: LOCATE }), 'locating');
    expect(located.code === 0 && located.data.newbie, `locating: ${JSON.stringify(located)}`);
    remote.locate(located.data.ip, located.data.port);
    const auth = await remote.getRequest({ id: openid, thirdUrl: 'auth360.html' });
    expect(auth.sign && auth.code === undefined, `a bare signature: ${JSON.stringify(auth)}`);
    const login = async (shown) => {
      remote.setUserInfo({ auth: shown });
      return within(remote.fetching({ func: '1000' }), 'login');
    };
    const refused = await login({ ...auth, plat_user_id: 'another' });
    expect(refused.code === 9006, `a forged signature: ${JSON.stringify(refused)}`);
    const { code, data } = await login(auth);
    expect(code === 0 && data.openid === openid, `login: ${code}`);
    Object.assign(remote.userInfo, data);
    return goesOn(remote);
  },

  // Without a proof: the id of a device.
  async device() {
    const remote = gamerpc().setUserInfo({ domain: 'official', openid: `device-${fresh()}` });
    const { code, data } = await within(remote.fetching({ func: LOGIN }), 'login');
    expect(code === 0, `login: ${code}`);
    Object.assign(remote.userInfo, data);
    return goesOn(remote);
  },

  // With the code that a phone was sent.
  async auth2step() {
    const remote = gamerpc();
    const address = fresh();
    const openid = generation >= 7 ? `auth2step.${address}` : address;
    const said = { domain: 'auth2step', openid, addrType: 'phone', address };
    expect(await within(remote.login(said), 'signature') === true, 'a signature');
    expect(!has(remote, 'logined'), 'a code is asked for');
    const told = await remote.fetching({ func: 'auth2step.getKey', address });
    expect(told.code === 0 && /^\d{6}$/.test(told.data), `the code: ${JSON.stringify(told)}`);
    const wrong = told.data === '123456' ? '654321' : '123456';
    const refused = await within(remote.setSign(wrong).login(), 'login with a wrong code');
    expect(refused === false && !has(remote, 'logined'), 'a wrong code is refused');
    remote.events.emit('authcode', told.data);
    await until(() => has(remote, 'logined'), 'the login with the code');
    return goesOn(remote);
  },

  async authpwd() {
    const username = `anna${fresh()}`;
    await register(username);
    const openid = generation >= 7 ? `authpwd.${username}` : username;
    const said = { domain: 'authpwd', openid, openkey: 'wrong-horse-1' };
    const stranger = await within(gamerpc().login(said), 'login');
    expect(stranger === false, 'a wrong password is refused');
    const remote = gamerpc();
    const known = await within(remote.login({ ...said, openkey: password }), 'login');
    expect(known === true, 'the password is taken');
    return goesOn(remote);
  },

  async authwx() {
    const said = { domain: 'authwx', openid: 'authwx', openkey: `key-${fresh()}` };
    const remote = gamerpc();
    expect(await within(remote.login(said), 'login') === true, 'the key is taken');
    const { openkey } = remote.userInfo;
    const again = await within(remote.fetching({ func: LOGIN }), 'login');
    expect(openkey && again.code === 9006, `a key twice: ${JSON.stringify(again)}`);
    return goesOn(remote);
  },

  // The name and password of an account, without being located.
  async official() {
    const username = `anna${fresh()}`;
    await register(username);
    const said = { domain: 'official', openid: `official.${username}`, openkey: 'wrong-horse-1' };
    expect(await within(gamerpc().login(said), 'login') === false, 'a wrong password');
    const remote = gamerpc();
    expect(await within(remote.login({ ...said, openkey: password }), 'login') === true, 'login');
    return goesOn(remote);
  },

  // Who signs in on another socket takes the place of the first.
  async twice() {
    const said = { domain: 'official', openid: `official.device-${fresh()}` };
    const [first, second] = [gamerpc(), gamerpc()];
    const told = [];
    first.watch((info) => told.push(info));
    let gone = false;
    for (const remote of [first, second]) {
      remote.setUserInfo(said);
      const { code, data } = await within(remote.fetching({ func: LOGIN }), 'login');
      expect(code === 0, `login: ${code}`);
      Object.assign(remote.userInfo, data);
      if (remote === first) first.socket.once('disconnect', () => { gone = true; });
    }
    await until(() => gone && told.length === 1, 'the notice');
    expect(told[0].code === 2005, `the notice: ${JSON.stringify(told[0])}`);
    return goesOn(second);
  },
};

const LOCATE = generation >= 5 ? 'lb.getServerInfo' : 'config.getServerInfo';
const LOGIN = generation >= 2 ? 'login.UserLogin' : '1000';

async function register(username) {
  const body = new URLSearchParams({ username, password });
  const answer = await (await fetch(`${url}/v1/account/registry`, { method: 'POST', body })).json();
  expect(answer.code === 0, `registry: ${JSON.stringify(answer)}`);
}

// === gamegoldtoolkit ===

function gold(auth) {
  const remote = new toolkit.gameconn(mode, {
    UrlHead: 'http', webserver: { host, port: Number(port) }, auth,
  });
  open.push(remote);
  return remote;
}

async function goldLogin(remote) {
  const answer = await within(remote.login(), 'login');
  expect(answer?.code === 0, `login: ${JSON.stringify(answer)}`);
  return goesOn(remote);
}

const goldWays = {
  async 360() {
    const openid = fresh();
    const id = await goldLogin(gold({ domain: '360.IOS', openid }));
    const stranger = gold({ domain: '360.IOS', openid });
    const auth = await stranger.getRequest({ id: openid, authControl: 'auth360.html' });
    const oemInfo = { domain: '360.IOS', auth: { ...auth, plat_user_id: 'another' } };
    const refused = await within(stranger.fetching({ func: '1000', oemInfo }), 'login');
    expect(refused.code === 9006, `a forged signature: ${JSON.stringify(refused)}`);
    return id;
  },

  async tx() {
    const said = { domain: 'tx.IOS', openid: fresh(), pf: 'wanba_ts' };
    const stranger = gold({ ...said, openkey: 'stolen' });
    const refused = await within(stranger.login(), 'login');
    expect(refused.code === 9006, `a key of nobody's: ${JSON.stringify(refused)}`);
    return goldLogin(gold({ ...said, openkey: 'good' }));
  },

  async admin() {
    const said = { domain: 'admin.IOS', openid: `root${fresh()}` };
    const stranger = await within(gold({ ...said, openkey: 'wrong' }).login(), 'login');
    expect(stranger?.code !== 0, 'a wrong secret is refused');
    const remote = gold({ ...said, openkey: process.env.ADMIN_SECRET });
    const answer = await within(remote.login(), 'login');
    expect(answer?.code === 0, `login: ${JSON.stringify(answer)}`);
    return remote.userInfo.id;
  },
};

// === what is run ===

// gamerpc 2.2.2 leaves out signatures and codes, whatever it is told to send; 1.7.12 knows neither
// passwords nor who is located nowhere.
const BY_GENERATION = {
  1: ['document', 'device', 'auth2step', 'authwx'],
  2: ['device', 'authpwd', 'authwx', 'official'],
  5: ['document', 'device', 'auth2step', 'authpwd', 'authwx', 'official'],
};

async function main() {
  const rpc = name.startsWith('gamerpc');
  const has = rpc ? (BY_GENERATION[generation] ?? BY_GENERATION[5]) : Object.keys(goldWays);
  const runs = rpc && mode === 'webSocket' ? [...has, 'twice'] : has;
  for (const way of runs) {
    try {
      const id = await (rpc ? ways : goldWays)[way]();
      print(`${name} ${mode} ${way}: account ${id}`);
    } catch (error) {
      throw new Error(`${name} ${mode} ${way}: ${error.stack}`);
    } finally {
      for (const remote of open.splice(0)) remote.close();
    }
  }
}

main().then(() => process.exit(0), (error) => {
  console.error(error.message);
  process.exit(1);
});
