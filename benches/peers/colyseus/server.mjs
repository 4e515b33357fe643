// An echo as users of colyseus write one: rooms of a hundred, no state, one message.
// `node server.mjs ANNOUNCE`: says in that file where it listens.
import fs from "node:fs";
import { Room, Server } from "@colyseus/core";
import { WebSocketTransport } from "@colyseus/ws-transport";

class Echo extends Room {
  maxClients = 100;

  onCreate() {
    this.onMessage("echo", (client, data) => client.send("echo", data));
  }
}

const transport = new WebSocketTransport();
const server = new Server({ transport, greet: false });
server.define("echo", Echo);
await server.listen(0, "127.0.0.1");
const announce = process.argv[2];
const { port } = transport.server.address();
fs.writeFileSync(`${announce}.part`, JSON.stringify({ gate_tcp: `127.0.0.1:${port}` }));
fs.renameSync(`${announce}.part`, announce);
