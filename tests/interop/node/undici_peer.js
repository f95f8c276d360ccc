// The npm package "undici" as a client over HTTP/2, begun as: SCRIPT [--stream] client URL [--sockets=N]. With --stream
// it uses WebSocketStream, else WebSocket. tests/interop/peers.py says what a peer does; a rejection is told as
// {"failed": true}, since undici shows no more of it. N WebSockets are opened on one connection.
"use strict";

const diagnostics = require("node:diagnostics_channel");
const fs = require("node:fs");
const { Agent, WebSocket, WebSocketStream, ping, setGlobalDispatcher } = require("undici");

const { HEADER, PROTOCOLS, countOf, lastPart, say } = require("./behaviour.js");

const headers = Object.fromEntries([HEADER]);
const handshakes = new Map(); // of each WebSocket the headers of the answer

diagnostics.subscribe("undici:websocket:open", ({ websocket, handshakeResponse }) =>
  handshakes.set(websocket, handshakeResponse.headers),
);

function beginSocket(websocket, scenario) {
  switch (scenario) {
    case "hello":
      // The open event comes before the channel's message.
      queueMicrotask(() => {
        const header = handshakes.get(websocket)["x-test"];
        websocket.send(JSON.stringify({ protocol: websocket.protocol, header }));
      });
      break;
    case "ping":
      diagnostics.subscribe("undici:websocket:pong", ({ payload }) => websocket.send("pong: " + payload));
      ping(websocket, Buffer.from("are you there"));
      break;
    case "big":
      websocket.send("x".repeat(2000));
      break;
    case "close":
      websocket.close(4001, "the peer says goodbye");
      break;
    case "bye":
      websocket.close(1000);
      break;
  }
}

function openSocket(url) {
  const websocket = new WebSocket(url, { protocols: PROTOCOLS, headers });
  let opened = false;
  websocket.binaryType = "arraybuffer";
  websocket.onopen = () => {
    opened = true;
    beginSocket(websocket, lastPart(url));
  };
  websocket.onmessage = ({ data }) => websocket.send(data);
  websocket.onerror = () => opened || say({ failed: true });
  websocket.onclose = ({ code, reason }) => opened && say({ code, reason });
}

async function beginStream(stream, writer, protocol, scenario) {
  switch (scenario) {
    case "hello":
      await writer.write(JSON.stringify({ protocol }));
      break;
    case "big":
      await writer.write("x".repeat(2000));
      break;
    case "close":
      stream.close({ closeCode: 4001, reason: "the peer says goodbye" });
      break;
    case "bye":
      stream.close({ closeCode: 1000 });
      break;
  }
}

async function openStream(url) {
  const stream = new WebSocketStream(url, { protocols: PROTOCOLS }); // it takes no headers
  stream.closed.catch(() => {}); // asked for again below
  let opened;
  try {
    opened = await stream.opened;
  } catch {
    say({ failed: true });
    return;
  }
  const writer = opened.writable.getWriter();
  writer.closed.catch(() => {});
  try {
    await beginStream(stream, writer, opened.protocol, lastPart(url));
    for await (const message of opened.readable) await writer.write(message);
  } catch {
    // its end, which "closed" tells
  }
  const { closeCode, reason } = await stream.closed.catch((error) => error);
  say({ code: closeCode, reason });
}

const rest = process.argv.slice(2);
const [url] = rest.slice(rest.indexOf("client") + 1);
const connect = { ca: fs.readFileSync(process.env.TLS_AUTHORITY) };
// One connection, so that it is HTTP/2 which carries several WebSockets.
setGlobalDispatcher(new Agent({ allowH2: true, connections: 1, connect }));
for (let index = 0; index < countOf(rest); index++) {
  if (rest.includes("--stream")) openStream(url);
  else openSocket(url);
}
