// The http2 module of Node.js as a peer (RFC 8441), its frames by the npm package "ws"; tests/interop/peers.py says what
// a peer does. Scenarios of its own:
//
// * goaway: GOAWAY first, which leaves the streams that there are; shutdown: that after Close 1001 on each of them;
// * reset: RST_STREAM INTERNAL_ERROR in place of the echo; vanish: the whole connection is gone at once;
// * half: END_STREAM in place of the echo, with no Close;
// * refuse: RST_STREAM REFUSED_STREAM for the request, on the first connection only.
//
// A client with --sockets=N opens N WebSockets on one connection; of these the first does reset, vanish or half.
// SETTING=off keeps ENABLE_CONNECT_PROTOCOL out of a server's SETTINGS.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const http2 = require("node:http2");
const { Duplex } = require("node:stream");
const { WebSocket, WebSocketServer } = require("ws");

const { HEADER, PROTOCOLS, behave, chooseProtocol, lastPart, main, say } = require("./behaviour.js");

const { NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR, NGHTTP2_REFUSED_STREAM } = http2.constants;
const KEY = "dGhlIHNhbXBsZSBub25jZQ=="; // "ws" wants one
// What HTTP/2 does without, or says otherwise (RFC 8441 section 5).
const LEFT_OUT = new Set(["host", "connection", "upgrade", "sec-websocket-key", "sec-websocket-accept"]);

function nameOf(line) {
  return line.slice(0, line.indexOf(":"));
}

// What "ws" takes for the connection of an HTTP/1.1 handshake: the head that it writes is handed over, then its bytes
// are those of a stream.
class Bridge extends Duplex {
  constructor(onHead) {
    super();
    this.onHead = onHead;
    this.stream = null;
  }

  carry(stream) {
    this.stream = stream;
    stream.on("data", (chunk) => {
      if (!this.push(chunk)) stream.pause();
    });
    stream.on("end", () => this.push(null));
    stream.on("aborted", () => this.destroy());
    stream.on("error", () => this.destroy());
    stream.on("close", () => stream.readableEnded || this.destroy());
  }

  _read() {
    if (this.stream) this.stream.resume();
  }

  _write(chunk, encoding, done) {
    if (this.onHead === null) {
      this.stream.write(chunk, encoding, done);
      return;
    }
    const [first, ...lines] = chunk.toString("latin1").trimEnd().split("\r\n"); // "ws" writes it in one piece
    const fields = lines.map((line) => [nameOf(line).toLowerCase(), line.slice(nameOf(line).length + 1).trim()]);
    const key = Object.fromEntries(fields)["sec-websocket-key"];
    const onHead = this.onHead;
    this.onHead = null;
    onHead(first, Object.fromEntries(fields.filter(([name]) => !LEFT_OUT.has(name))), key);
    done();
  }

  _final(done) {
    if (this.stream && !this.stream.destroyed) this.stream.end(done);
    else done();
  }

  _destroy(error, done) {
    const ended = this.writableFinished && this.readableEnded;
    if (this.stream && !ended) this.stream.close(NGHTTP2_CANCEL);
    done(error);
  }
}

function breakOff(stream, scenario) {
  switch (scenario) {
    case "reset":
      stream.close(NGHTTP2_INTERNAL_ERROR);
      break;
    case "half":
      stream.end();
      break;
    case "vanish":
      stream.session.destroy();
      break;
  }
}

// ---------------------------------------------------------------------------------------------------------- server

const connections = new Map(); // of each session its number and its WebSockets

function shutDown(websocket, { session }, scenario, facts) {
  switch (scenario) {
    case "goaway":
      session.close();
      websocket.send("going away");
      break;
    case "shutdown":
      for (const each of facts.websockets) each.close(1001, "restarting");
      session.close();
      break;
  }
}

function accept(websockets, stream, headers) {
  const scenario = lastPart(headers[":path"]);
  const facts = connections.get(stream.session);
  if (scenario === "refuse" && facts.number === 1) {
    stream.close(NGHTTP2_REFUSED_STREAM);
    return;
  }
  if (scenario === "reject") {
    stream.respond({ ":status": 403, [HEADER[0].toLowerCase()]: HEADER[1] });
    stream.end("no way");
    return;
  }
  const bridge = new Bridge((first, answered) => {
    const status = Number(first.split(" ")[1]);
    stream.respond({ ":status": status === 101 ? 200 : status, ...answered });
  });
  const upgrade = { upgrade: "websocket", connection: "Upgrade", "sec-websocket-key": KEY };
  const request = { method: "GET", url: headers[":path"], headers: { ...headers, ...upgrade }, socket: bridge };
  websockets.handleUpgrade(request, bridge, Buffer.alloc(0), (websocket) => {
    bridge.carry(stream);
    facts.websockets.add(websocket);
    websocket.on("close", () => facts.websockets.delete(websocket));
    const where = { connection: facts.number, streams: facts.websockets.size };
    behave(websocket, scenario, headers["x-test"], where);
    shutDown(websocket, stream, scenario, facts);
    breakOff(stream, scenario);
  });
}

function serve(perMessageDeflate) {
  const identity = fs.readFileSync(process.env.TLS_IDENTITY);
  const server = http2.createSecureServer({
    key: identity,
    cert: identity,
    allowHTTP1: process.env.SETTING === "off",
    settings: { enableConnectProtocol: process.env.SETTING !== "off" },
  });
  const websockets = new WebSocketServer({ noServer: true, perMessageDeflate, handleProtocols: chooseProtocol });
  websockets.on("headers", (headers) => headers.push(HEADER.join(": ")));
  server.on("session", (session) => {
    connections.set(session, { number: connections.size + 1, websockets: new Set() });
    session.on("error", () => {}); // the client's end is no news
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    if (headers[":method"] === "CONNECT" && headers[":protocol"] === "websocket") accept(websockets, stream, headers);
    else stream.respond({ ":status": 405 }, { endStream: true });
  });
  server.on("upgrade", (request, socket, head) => {
    websockets.handleUpgrade(request, socket, head, (websocket) =>
      behave(websocket, lastPart(request.url), request.headers["x-test"]),
    );
  });
  server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
}

// ---------------------------------------------------------------------------------------------------------- client

function answerOfHttp1(headers, key) {
  const accept = crypto.createHash("sha1").update(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
  const fields = Object.entries(headers).filter(([name]) => !name.startsWith(":") && !LEFT_OUT.has(name));
  const upgrade = [["Upgrade", "websocket"], ["Connection", "Upgrade"], ["Sec-WebSocket-Accept", accept]];
  const lines = [...upgrade, ...fields].map((field) => field.join(": "));
  return ["HTTP/1.1 101 Switching Protocols", ...lines, "", ""].join("\r\n");
}

function open(session, url, perMessageDeflate, scenario) {
  let header;
  const bridge = new Bridge((first, asked, key) => {
    const { host, pathname } = new URL(url);
    const method = { ":method": "CONNECT", ":protocol": "websocket" };
    const target = { ":scheme": "https", ":authority": host, ":path": pathname };
    const stream = session.request({ ...method, ...target, ...asked }, { endStream: false });
    stream.on("error", () => {});
    stream.on("response", (headers) => {
      const status = headers[":status"];
      if (status !== 200) {
        let text = "";
        stream.on("data", (chunk) => (text += chunk));
        stream.on("end", () => say({ status, header: headers["x-test"], body: text }));
        return;
      }
      header = headers["x-test"];
      bridge.carry(stream);
      bridge.push(answerOfHttp1(headers, key));
    });
  });
  const websocket = new WebSocket(url.replace(/^wss/, "ws"), PROTOCOLS, {
    createConnection: () => bridge,
    headers: Object.fromEntries([HEADER]),
    perMessageDeflate,
  });
  websocket.on("error", (error) => console.error(error.message));
  websocket.on("open", () => {
    behave(websocket, lastPart(url), header);
    breakOff(bridge.stream, scenario);
  });
}

function connect(url, perMessageDeflate, count) {
  const session = http2.connect(url.replace(/^wss/, "https"), { ca: fs.readFileSync(process.env.TLS_AUTHORITY) });
  session.on("error", (error) => console.error(error.message));
  session.on("goaway", (code) => code === NGHTTP2_NO_ERROR || console.error(`GOAWAY ${code}`));
  session.once("remoteSettings", ({ enableConnectProtocol }) => {
    if (!enableConnectProtocol) throw new Error("the server does not offer RFC 8441");
    for (let index = 0; index < count; index++) open(session, url, perMessageDeflate, index ? "" : lastPart(url));
  });
}

main(serve, connect);
