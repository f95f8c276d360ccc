// The npm package "ws" as a peer; tests/interop/peers.py says what a peer does.
"use strict";

const http = require("node:http");
const { WebSocket, WebSocketServer } = require("ws");

const PROTOCOLS = ["chat.v2", "chat.v1"];
const HEADER = ["X-Test", "from the peer"];

function say(facts) {
  process.stdout.write(JSON.stringify(facts) + "\n");
}

function begin(websocket, scenario, header) {
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

function behave(websocket, scenario, header) {
  websocket.on("message", (message, binary) => websocket.send(message, { binary }));
  websocket.on("close", (code, reason) => say({ code, reason: reason.toString() }));
  websocket.on("error", (error) => console.error(error.message));
  begin(websocket, scenario, header);
}

function serve(perMessageDeflate) {
  const server = http.createServer();
  const handleProtocols = (offered) => (offered.has(PROTOCOLS[1]) ? PROTOCOLS[1] : false);
  const websockets = new WebSocketServer({ noServer: true, perMessageDeflate, handleProtocols });
  websockets.on("headers", (headers) => headers.push(HEADER.join(": ")));
  server.on("upgrade", (request, socket, head) => {
    if (request.url === "/reject") {
      socket.end(`HTTP/1.1 403 Forbidden\r\n${HEADER.join(": ")}\r\nContent-Length: 6\r\n\r\nno way`);
      return;
    }
    websockets.handleUpgrade(request, socket, head, (websocket) =>
      behave(websocket, request.url.slice(1), request.headers["x-test"]),
    );
  });
  server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
}

function connect(url, perMessageDeflate) {
  const websocket = new WebSocket(url, PROTOCOLS, { perMessageDeflate, headers: Object.fromEntries([HEADER]) });
  let header;
  websocket.on("upgrade", (response) => {
    header = response.headers["x-test"];
  });
  websocket.on("open", () => behave(websocket, url.slice(url.lastIndexOf("/") + 1), header));
  websocket.on("unexpected-response", async (request, response) => {
    let body = "";
    for await (const chunk of response) body += chunk;
    say({ status: response.statusCode, header: response.headers["x-test"], body });
  });
}

const [role, ...rest] = process.argv.slice(2);
// A threshold of 0: short messages are compressed too.
const perMessageDeflate = rest.includes("--plain") ? false : { threshold: 0 };
if (role === "server") serve(perMessageDeflate);
else connect(rest[0], perMessageDeflate);
