// The npm package "ws" as a peer; tests/interop/peers.py says what a peer does.
"use strict";

const http = require("node:http");
const { WebSocket, WebSocketServer } = require("ws");

const { HEADER, PROTOCOLS, behave, chooseProtocol, lastPart, main, say } = require("./behaviour.js");

function serve(perMessageDeflate) {
  const server = http.createServer();
  const websockets = new WebSocketServer({ noServer: true, perMessageDeflate, handleProtocols: chooseProtocol });
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
  websocket.on("open", () => behave(websocket, lastPart(url), header));
  websocket.on("unexpected-response", async (request, response) => {
    let body = "";
    for await (const chunk of response) body += chunk;
    say({ status: response.statusCode, header: response.headers["x-test"], body });
  });
}

main(serve, connect);
