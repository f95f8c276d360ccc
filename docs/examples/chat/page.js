"use strict";

// Seconds to wait before the next attempt: random, below a limit that doubles, so that not everyone comes back at once.
const FIRST_DELAY = 0.5;
const LONGEST_DELAY = 30;
const KEPT = 500; // messages on the page

const element = (id) => document.getElementById(id);
let socket = null;
let failures = 0;
let name = "";
let room = "";

function show(who, text, kind = "") {
  const item = document.createElement("li");
  const author = document.createElement("b");
  // Never innerHTML: what people write is no markup.
  author.textContent = who;
  item.append(author, document.createTextNode(text));
  item.className = `${kind} ${who === name ? "mine" : ""}`.trim();
  const list = element("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(item);
  while (list.children.length > KEPT) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function setState(text, open) {
  element("state").textContent = text;
  element("state").className = open ? "open" : "away";
  element("say").querySelector("button").disabled = !open;
}

const take = {
  welcome({ server, history }) {
    failures = 0;
    element("messages").replaceChildren();
    for (const { who, text } of history) show(who, text);
    setState(`connected to process ${server.process} over HTTP/${server.http}`, true);
  },
  people({ people }) {
    element("people").replaceChildren(...people.map((who) => {
      const item = document.createElement("li");
      item.textContent = who;
      return item;
    }));
  },
  said({ who, text }) {
    show(who, text);
  },
  unsent({ text }) {
    show("not sent", text, "unsent");
  },
};

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/rooms/${room}?name=${encodeURIComponent(name)}`);
  socket.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    take[event.kind](event);
  };
  socket.onclose = ({ code }) => {
    const delay = Math.random() * Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** failures);
    failures += 1;
    setState(`closed (${code}); again in ${delay.toFixed(1)} s`, false);
    setTimeout(connect, 1000 * delay);
  };
}

element("enter").onsubmit = (event) => {
  event.preventDefault();
  name = element("name").value.trim();
  room = element("room").value;
  if (!name) return;
  element("title").textContent = `#${room}`;
  element("enter").hidden = true;
  element("chat").hidden = false;
  element("text").focus();
  setState("connecting", false);
  connect();
};

element("say").onsubmit = (event) => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN) return; // what is written stays in its field
  socket.send(element("text").value);
  element("text").value = "";
};
