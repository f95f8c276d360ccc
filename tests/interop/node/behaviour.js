// What the peers on Node.js do on a connection, with the WebSocket of "ws"; tests/interop/peers.py says it.
"use strict";

const PROTOCOLS = ["chat.v2", "chat.v1"];
const HEADER = ["X-Test", "from the peer"];

function say(facts) {
  process.stdout.write(JSON.stringify(facts) + "\n");
}

function begin(websocket, scenario, header, where) {
  switch (scenario) {
    case "hello":
      websocket.send(JSON.stringify({ protocol: websocket.protocol, header }));
      break;
    case "fragments":
      websocket.send("déjà", { fin: false });
      websocket.send("", { fin: false });
      websocket.send(" vu €5 ", { fin: false });
      websocket.send("\u{1F600}", { fin: true });
      websocket.send(Uint8Array.from({ length: 100 }, (_, index) => index), { fin: false });
      websocket.send(Uint8Array.from({ length: 156 }, (_, index) => index + 100), { fin: true });
      break;
    case "where":
      websocket.send(JSON.stringify(where));
      break;
    case "ping":
      websocket.once("pong", (payload) => websocket.send("pong: " + payload));
      websocket.ping("are you there");
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

// The last says which of its connections it is, where a peer counts them.
function behave(websocket, scenario, header, where = {}) {
  websocket.on("message", (message, binary) => websocket.send(message, { binary }));
  websocket.on("close", (code, reason) => say({ code, reason: reason.toString() }));
  websocket.on("error", (error) => console.error(error.message));
  begin(websocket, scenario, header, where);
}

function chooseProtocol(offered) {
  return offered.has(PROTOCOLS[1]) ? PROTOCOLS[1] : false;
}

function lastPart(url) {
  return url.slice(url.lastIndexOf("/") + 1);
}

function countOf(rest) {
  const option = rest.find((argument) => argument.startsWith("--sockets="));
  return option ? Number(option.split("=")[1]) : 1;
}

// How it is begun: SCRIPT server [--plain], SCRIPT client URL [--plain] [--sockets=N].
function main(serve, connect) {
  const [role, ...rest] = process.argv.slice(2);
  // A threshold of 0: short messages are compressed too.
  const perMessageDeflate = rest.includes("--plain") ? false : { threshold: 0 };
  if (role === "server") serve(perMessageDeflate);
  else connect(rest[0], perMessageDeflate, countOf(rest));
}

module.exports = { HEADER, PROTOCOLS, behave, chooseProtocol, countOf, lastPart, main, say };
