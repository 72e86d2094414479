"use strict";

// Limits: lines on the page, characters shown of one line, and characters kept of
// a line without an end.
const maxLines = 500;
const maxShown = 8192;
const maxPartial = 1 << 20;

// How long a line without an end waits for the rest of it, in milliseconds.
const partialWait = 300;

const meaning = {
  1000: "normal closure",
  1001: "the server is stopping",
  1002: "protocol error",
  1003: "unsupported type of data",
  1005: "no status code",
  1007: "the text is not UTF-8",
  1008: "not allowed",
  1009: "the message is too big",
  1011: "the backend failed",
  1012: "the server is restarting",
  1013: "the server is busy",
};

const $ = (id) => document.getElementById(id);
const [state, path, token, connect, log, empty, counts, text, send, error] =
  ["state", "path", "token", "connect", "log", "empty", "counts", "text", "send", "error"].map($);
const list = log.querySelector("ol");
const routes = [...document.querySelectorAll(".route")];

let socket = null; // null: not connected
let opened = false;
let started = 0; // when socket was created
let unanswered = []; // sent requests: {at, id}, oldest first
let sentLines = 0;
let receivedLines = 0;

// Connection

// target returns the URL of the route in the field; null if it is not a path of
// this server.
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
  // A browser cannot set headers of the handshake: the token is sent as a
  // subprotocol, and the server chooses the other one.
  const secret = token.value.trim();
  try {
    socket = secret ? new WebSocket(url, ["binary", "adit.token." + secret]) : new WebSocket(url);
  } catch (e) {
    note(secret ? "The token has characters that are not allowed in a token." : e.message, true);
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
    note("Connection failed. Check the path, the token and the backend: browsers do not report which one failed.", true);
    return;
  }
  if (event.code === 1006) {
    setState("failed", "Connection lost");
    note("Connection lost: it ended without a closing handshake (1006).", true);
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

// splitter splits the received data, which may be cut anywhere, into lines. It
// tells line whether a part continues an earlier part of the same line; an empty
// continuation is dropped.
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
      if (rest.length > maxPartial) flush(at, "the line continues");
      else if (rest !== "") timer = setTimeout(flush, partialWait, at, "no end of line");
    },
    end() {
      flush(performance.now(), "cut off by the close");
    },
  };
}

// received shows a line. The continuation of a line is not another answer.
function received(line, at, continued, aside) {
  receivedLines++;
  show({ kind: "received", text: line, at, took: continued ? undefined : answerTime(line, at), aside });
}

// answerTime returns how long the request that this line answers has waited: the
// request with the same id if both have one, otherwise the oldest.
function answerTime(line, at) {
  if (unanswered.length === 0) return undefined;
  const id = idOf(line);
  let i = id === undefined ? -1 : unanswered.findIndex((request) => request.id === id);
  if (i < 0) i = 0;
  return at - unanswered.splice(i, 1)[0].at;
}

// idOf returns the "id" of a JSON object, as in JSON-RPC.
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
let recalled = 0; // index in history; history.length: none

function complain(words) {
  error.textContent = words;
  text.setAttribute("aria-invalid", String(words !== ""));
}

// problem returns what is wrong with the JSON in the field; "" if nothing is.
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
  // On one line: between the tokens of JSON a line end is white space, and inside
  // them there are none.
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

let waiting = []; // entries not yet on the page
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

// The log follows the newest entry unless the user has scrolled back.
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

// An error message disappears as soon as the input is valid.
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

// #/json in the page's URL selects the route.
let chosen = location.hash.slice(1);
try {
  chosen = decodeURIComponent(chosen);
} catch {
  // Malformed escapes are taken literally.
}
path.value = chosen.startsWith("/") ? chosen : routes[0]?.textContent ?? "/";
markRoute();
