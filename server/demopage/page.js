"use strict";

// How much is kept: lines on the page, characters shown of one line, and
// characters of a line that has not ended yet.
const maxLines = 500;
const maxShown = 8192;
const maxPartial = 1 << 20;

// How long what has no end of line waits for the rest of it.
const partialWait = 300; // ms

const meaning = {
  1000: "the conversation is over",
  1001: "the server is stopping",
  1002: "protocol error",
  1003: "a kind of data that is not accepted",
  1005: "without a code",
  1007: "text that is not UTF-8",
  1008: "not allowed",
  1009: "a message that is too big",
  1011: "the backend failed",
  1012: "the server restarts",
  1013: "the server is busy",
};

const $ = (id) => document.getElementById(id);
const [state, path, token, connect, log, empty, counts, text, send, error] =
  ["state", "path", "token", "connect", "log", "empty", "counts", "text", "send", "error"].map($);
const list = log.querySelector("ol");
const routes = [...document.querySelectorAll(".route")];

let socket = null; // from Connect until it is closed
let opened = false;
let started = 0; // when socket was made
let unanswered = []; // what was sent: {at, id}, oldest first
let sentLines = 0;
let receivedLines = 0;

// Connection

// target is the address of the route in the field; null where it is none of
// this server's.
function target() {
  const value = path.value.trim();
  if (!value.startsWith("/")) return null;
  let url;
  try {
    url = new URL(value, location.origin);
  } catch {
    return null;
  }
  if (url.origin !== location.origin) return null;
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return url;
}

function setState(name, words) {
  state.dataset.state = name;
  state.textContent = words;
  const idle = socket === null;
  connect.textContent = idle ? "Connect" : name === "connecting" ? "Cancel" : "Disconnect";
  connect.classList.toggle("undo", !idle);
  send.disabled = name !== "open";
  path.disabled = token.disabled = !idle;
  for (const route of routes) route.disabled = !idle;
}

function markRoute() {
  for (const route of routes) route.setAttribute("aria-pressed", String(route.textContent === path.value.trim()));
}

function open() {
  const url = target();
  if (!url) {
    note("The route has to be a path on this server, such as /json.", true);
    path.focus();
    return;
  }
  // A browser cannot set fields of the handshake: the token travels as a
  // subprotocol beside a real one, which is what the server answers.
  const secret = token.value.trim();
  try {
    socket = secret ? new WebSocket(url, ["binary", "adit.token." + secret]) : new WebSocket(url);
  } catch (e) {
    note(secret ? "This token has characters that no token has." : e.message, true);
    return;
  }
  opened = false;
  started = performance.now();
  unanswered = [];
  const lines = splitter(received);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    opened = true;
    setState("open", "Connected");
    note("Connected to " + url.href, false, performance.now() - started);
    text.focus();
  };
  socket.onmessage = (event) => lines.add(event.data);
  socket.onclose = (event) => {
    lines.end();
    closed(event);
  };
  setState("connecting", "Connecting…");
}

function closed(event) {
  socket = null;
  if (!opened) {
    setState("failed", "Not connected");
    note("No connection. The path, the token or the backend may be at fault: a browser is not told which.", true);
    return;
  }
  if (event.code === 1006) {
    setState("failed", "Connection lost");
    note("The connection was lost: it ended without a closing handshake (1006).", true);
    return;
  }
  const clean = event.code === 1000 || event.code === 1001 || event.code === 1005;
  let words = `Closed: ${event.code}`;
  if (meaning[event.code]) words += `, ${meaning[event.code]}`;
  if (event.reason) words += ` (“${event.reason}”)`;
  setState(clean ? "idle" : "failed", `Closed, ${event.code}`);
  note(words, !clean);
}

// Lines

// splitter makes lines of what arrives, which may be cut anywhere. It passes
// on whether a line is the rest of one of which a part was passed on before;
// the end alone is no such rest.
function splitter(line) {
  const decoder = new TextDecoder();
  let rest = "";
  let begun = false;
  let timer = 0;
  const pass = (part, at, aside) => {
    if (part !== "" || !begun) line(part, at, begun, aside);
  };
  const flush = (at, aside) => {
    clearTimeout(timer);
    if (rest === "") return;
    pass(rest, at, aside);
    rest = "";
    begun = true;
  };
  return {
    add(data) {
      const at = performance.now();
      clearTimeout(timer);
      rest += typeof data === "string" ? data : decoder.decode(data, { stream: true });
      const parts = rest.split("\n");
      rest = parts.pop();
      for (const part of parts) {
        pass(part.endsWith("\r") ? part.slice(0, -1) : part, at);
        begun = false;
      }
      if (rest.length > maxPartial) flush(at, "a long line goes on");
      else if (rest !== "") timer = setTimeout(flush, partialWait, at, "without an end of line");
    },
    end() {
      flush(performance.now(), "cut off by the end");
    },
  };
}

// The rest of a line is no other answer.
function received(line, at, goesOn, aside) {
  receivedLines++;
  show({ kind: "received", text: line, at, took: goesOn ? undefined : answerTime(line, at), aside });
}

// answerTime is how long the request waited that this line answers: the one
// with the same id where both have one, else the oldest.
function answerTime(line, at) {
  if (unanswered.length === 0) return undefined;
  const id = idOf(line);
  let i = id === undefined ? -1 : unanswered.findIndex((request) => request.id === id);
  if (i < 0) i = 0;
  return at - unanswered.splice(i, 1)[0].at;
}

// idOf is the "id" of a JSON object, as JSON-RPC and its like have it.
function idOf(line) {
  if (line.length > maxShown) return undefined;
  try {
    const value = JSON.parse(line);
    return value && typeof value.id !== "object" ? value.id : undefined;
  } catch {
    return undefined;
  }
}

// Sending

const history = [];
let recalled = 0; // index in history; its length: none

function complain(words) {
  error.textContent = words;
  text.setAttribute("aria-invalid", String(words !== ""));
}

// problem says what is wrong with the JSON in the field, "" for nothing.
function problem() {
  if (text.value.trim() === "") return "Write a JSON value first.";
  try {
    JSON.parse(text.value);
    return "";
  } catch (e) {
    return "Not JSON: " + e.message.replace(/^JSON\.parse: /, "");
  }
}

function transmit() {
  const words = problem();
  complain(words);
  if (words !== "" || !socket || socket.readyState !== WebSocket.OPEN) {
    text.focus();
    return;
  }
  // As it was typed, on one line. Between the tokens a line end is white
  // space, and within them there is none.
  const line = text.value.trim().replace(/[\r\n]+/g, " ");
  unanswered.push({ at: performance.now(), id: idOf(line) });
  if (unanswered.length > maxLines) unanswered.shift();
  socket.send(line + "\n");
  sentLines++;
  show({ kind: "sent", text: line });
  if (history[history.length - 1] !== text.value) history.push(text.value);
  if (history.length > 100) history.shift();
  recalled = history.length;
  text.value = "";
  text.focus();
}

function recall(by) {
  const i = recalled + by;
  if (i < 0 || i > history.length) return false;
  recalled = i;
  text.value = history[i] ?? "";
  complain("");
  return true;
}

// Messages

let waiting = []; // entries that are not on the page yet
const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
});

function note(words, bad, took) {
  show({ kind: bad ? "note bad" : "note", text: words, took });
}

function show(entry) {
  entry.when = new Date(Date.now() - (entry.at === undefined ? 0 : performance.now() - entry.at));
  waiting.push(entry);
  if (waiting.length === 1) setTimeout(render, 16);
  if (waiting.length > maxLines) waiting.shift();
}

function render() {
  list.append(...waiting.map(item));
  waiting = [];
  while (list.childElementCount > maxLines) list.firstElementChild.remove();
  empty.hidden = true;
  counts.textContent = sentLines + receivedLines > 0 ? `${sentLines} sent, ${receivedLines} received` : "";
  if (follow) log.scrollTop = log.scrollHeight;
}

// The log shows the newest entry, unless someone has scrolled back to read.
let follow = true;
log.addEventListener("scroll", () => {
  follow = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});
new ResizeObserver(() => {
  if (follow) log.scrollTop = log.scrollHeight;
}).observe(log);

function element(name, className, words) {
  const e = document.createElement(name);
  if (className) e.className = className;
  if (words !== undefined) e.textContent = words;
  return e;
}

function item(entry) {
  const li = element("li", entry.kind);
  const time = element("time", "", clock.format(entry.when));
  time.dateTime = entry.when.toISOString();
  const way = element("span", "way");
  const spoken = { sent: ["→", "Sent: "], received: ["←", "Received: "] }[entry.kind];
  if (spoken) {
    const arrow = element("span", "", spoken[0]);
    arrow.setAttribute("aria-hidden", "true");
    way.append(arrow, element("span", "unseen", spoken[1]));
  }
  const words = element(spoken ? "code" : "span", "words", entry.text.slice(0, maxShown));
  if (entry.text.length > maxShown) {
    words.append(element("span", "aside", `and ${(entry.text.length - maxShown).toLocaleString()} characters more`));
  }
  if (entry.aside) words.append(element("span", "aside", entry.aside));
  li.append(time, way, words);
  if (entry.took !== undefined) li.append(element("span", "took", duration(entry.took)));
  return li;
}

function duration(ms) {
  if (ms < 1) return "< 1 ms";
  if (ms < 100) return `${ms.toFixed(1)} ms`;
  if (ms < 10000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(1)} s`;
}

// Events

$("connection").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!socket) {
    open();
  } else {
    if (opened) setState("closing", "Closing…");
    socket.close(1000);
  }
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  transmit();
});

text.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const plain = !event.shiftKey && !event.altKey && !event.ctrlKey && !event.metaKey;
  if (event.key === "Enter" && (plain || event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    transmit();
  } else if (plain && event.key === "ArrowUp" && !text.value.slice(0, text.selectionStart).includes("\n")) {
    if (recall(-1)) event.preventDefault();
  } else if (plain && event.key === "ArrowDown" && !text.value.slice(text.selectionEnd).includes("\n")) {
    if (recall(1)) event.preventDefault();
  }
});

// A fault that was shown goes away as soon as it is mended.
text.addEventListener("input", () => {
  recalled = history.length;
  if (error.textContent !== "") complain(text.value.trim() === "" ? "" : problem());
});

path.addEventListener("input", markRoute);

for (const route of routes) {
  route.addEventListener("click", () => {
    path.value = route.textContent;
    markRoute();
    connect.focus();
  });
}

$("clear").addEventListener("click", () => {
  list.replaceChildren();
  sentLines = receivedLines = 0;
  counts.textContent = "";
  empty.hidden = false;
});

// #/json in the address chooses the route.
let chosen = location.hash.slice(1);
try {
  chosen = decodeURIComponent(chosen);
} catch {
  // As it is, then.
}
path.value = chosen.startsWith("/") ? chosen : routes[0]?.textContent ?? "/";
markRoute();
