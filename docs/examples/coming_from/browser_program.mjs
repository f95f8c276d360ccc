// A client as a browser, Node.js or undici has it: node browser_program.mjs ws://127.0.0.1:8765/
const ws = new WebSocket(process.argv[2], ["chat"]);
ws.onopen = () => {
  console.log(ws.protocol);
  ws.send("hello");
};
ws.onmessage = ({ data }) => {
  console.log(data);
  ws.send("bye");
};
ws.onclose = ({ code, reason }) => console.log(code, reason);
