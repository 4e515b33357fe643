// An echo as users of pinus write one: a master, a connector for TCP, and a backend if asked for.
// `node server.js ROLE ANNOUNCE [MASTER]`: says in the file ANNOUNCE where the master listens,
// or, of the connector, where clients do.
const fs = require("fs");
const net = require("net");
// The template loads it too, before all else.
require("reflect-metadata");
const { pinus } = require("pinus");

const [role, announce, master] = process.argv.slice(2);

async function freePort() {
  const probe = net.createServer();
  await new Promise((done) => probe.listen(0, "127.0.0.1", done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  return port;
}

function say(address) {
  fs.writeFileSync(`${announce}.part`, JSON.stringify({ gate_tcp: address }));
  fs.renameSync(`${announce}.part`, announce);
}

// Pinus reads what it is from its arguments.
function tell(args) {
  process.argv.splice(2, Infinity, "env=production", "mode=stand-alone", ...args);
}

async function main() {
  const [port, clientPort] = [await freePort(), await freePort()];
  const server = [`id=${role}-1`, `serverType=${role}`, "host=127.0.0.1", `port=${port}`];
  const frontend = ["frontend=true", "clientHost=127.0.0.1", `clientPort=${clientPort}`];
  tell(role === "master" ? [] : role === "connector" ? [...server, ...frontend] : server);
  const app = pinus.createApp();
  const masterPort = role === "master" ? port : Number(master.split(":")[1]);
  app.getMaster().port = masterPort;
  // No heartbeats: they would be work that the others do not have.
  app.set("connectorConfig", { connector: pinus.connectors.hybridconnector, setNoDelay: true });
  app.start((error) => {
    if (error) throw error;
    say(`127.0.0.1:${role === "connector" ? clientPort : masterPort}`);
  });
}

main();
