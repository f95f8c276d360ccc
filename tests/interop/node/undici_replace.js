// The npm package "undici" over HTTP/2, begun as: SCRIPT client URL --sockets=N. It opens N WebSockets on one connection;
// then, N times, it closes the oldest and opens another at once. It says {"refused": ..., "lost": ...}, how many were.
"use strict";

const fs = require("node:fs");
const { Agent, WebSocket, setGlobalDispatcher } = require("undici");

const { countOf, say } = require("./behaviour.js");

const url = process.argv[3];
const count = countOf(process.argv);
const connect = { ca: fs.readFileSync(process.env.TLS_AUTHORITY) };
setGlobalDispatcher(new Agent({ allowH2: true, connections: 1, connect }));

let lost = 0;

function open() {
  return new Promise((resolve, reject) => {
    const websocket = new WebSocket(url);
    websocket.onopen = () => resolve(websocket);
    websocket.onerror = reject;
    websocket.onclose = () => lost++;
  });
}

function close(websocket) {
  return new Promise((resolve) => {
    websocket.onclose = resolve;
    websocket.close(1000);
  });
}

async function run() {
  const websockets = await Promise.all(Array.from({ length: count }, open));
  let refused = 0;
  for (let round = 0; round < count; round++) {
    await close(websockets.shift());
    try {
      websockets.push(await open());
    } catch {
      refused++;
    }
  }
  say({ refused, lost });
}

run();
