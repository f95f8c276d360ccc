// A client of Node.js' http2 that never ends its own side of a stream, begun as: SCRIPT client URL. It opens a WebSocket,
// closes it with 1000, and says {"answer": the Close that came, in hex, "reset": the code of RST_STREAM} when Node.js
// tells that the stream has closed.
"use strict";

const fs = require("node:fs");
const http2 = require("node:http2");

const { say } = require("./behaviour.js");

const url = new URL(process.argv[3]);
const origin = `https://${url.host}`;
const session = http2.connect(origin, { ca: fs.readFileSync(process.env.TLS_AUTHORITY) });
session.on("remoteSettings", () => {
  const stream = session.request(
    { ":method": "CONNECT", ":protocol": "websocket", ":path": url.pathname, "sec-websocket-version": "13" },
    { endStream: false },
  );
  const chunks = [];
  stream.on("response", () => stream.write(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]))); // a mask of zeros
  stream.on("data", (chunk) => chunks.push(chunk));
  stream.on("close", () => say({ answer: Buffer.concat(chunks).toString("hex"), reset: stream.rstCode }));
});
