
"use strict";

const interval = 1000; // ms between two requests, longer if responses are slow
const maxSamples = 90; // per sparkline
const minSamples = 30; // that fill a sparkline; fewer start at its right end
const maxRows = 100; // sessions shown

const $ = (id) => document.getElementById(id);

// element creates an element. Its text is never parsed as HTML, because names,
// addresses and reasons come from other machines.
function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function setText(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// Numbers

function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let i = 0;
  while (n >= 999.5 && i < units.length - 1) { n /= 1000; i++; }
  return (i === 0 || n >= 99.5 ? Math.round(n) : n.toFixed(1)) + " " + units[i];
}

const rate = (n) => (n < 0.5 ? "0 B" : bytes(n)) + "/s";
const count = (n) => n.toLocaleString("en");

function milliseconds(seconds) {
  const ms = seconds * 1000;
  if (ms <= 0) return "–";
  if (ms >= 9999.5) return (ms / 1000).toFixed(0) + " s";
  return (ms < 9.95 ? ms.toFixed(1) : ms.toFixed(0)) + " ms";
}

function duration(ms) {
  let s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  const m = Math.floor(s / 60);
  if (m < 1440) return Math.floor(m / 60) + " h " + (m % 60) + " min";
  return Math.floor(m / 1440) + " d " + (Math.floor(m / 60) % 24) + " h";
}

// Flow computes the rates of two counters and keeps their recent history.
class Flow {
  in = 0; // bytes per second
  out = 0;
  history = []; // of [in, out]
  add(received, sent, at) {
    if (this.at !== undefined && at > this.at) {
      const seconds = (at - this.at) / 1000;
      this.in = Math.max(0, received - this.received) / seconds;
      this.out = Math.max(0, sent - this.sent) / seconds;
      this.history.push([this.in, this.out]);
      if (this.history.length > maxSamples) this.history.shift();
    }
    [this.received, this.sent, this.at] = [received, sent, at];
    return this;
  }
}

// Spark draws the history of a flow, the newest sample at the right end. With
// two directions, received is above the base line and sent below it.
class Spark {
  constructor(label, directions) {
    const ns = "http://www.w3.org/2000/svg";
    this.svg = document.createElementNS(ns, "svg");
    this.svg.setAttribute("class", "spark");
    this.svg.setAttribute("viewBox", "0 0 120 32");
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", label);
    const base = document.createElementNS(ns, "path");
    base.setAttribute("class", "base");
    this.base = directions.length > 1 ? 16 : 31.5;
    base.setAttribute("d", `M0 ${this.base}L120 ${this.base}`);
    this.svg.append(base);
    this.lines = directions.map((name) => ["area", ""].map((kind) => {
      const path = document.createElementNS(ns, "path");
      path.setAttribute("class", name + " " + kind);
      this.svg.append(path);
      return path;
    }));
    this.pick = directions.map((name) => (name === "in" ? 0 : 1));
  }
  draw(flow) {
    const h = flow.history;
    let top = 1;
    for (const sample of h) for (const k of this.pick) top = Math.max(top, sample[k]);
    this.lines.forEach(([area, line], i) => {
      if (h.length === 0) return;
      const step = 120 / (Math.max(h.length, minSamples) - 1);
      const x = (j) => (120 - (h.length - 1 - j) * step).toFixed(1);
      const height = i === 0 ? 1 - this.base : 31 - this.base;
      const y = (v) => (this.base + height * v / top).toFixed(1);
      const points = h.map((s, j) => x(j) + " " + y(s[this.pick[i]]));
      if (h.length === 1) points.unshift("118 " + y(h[0][this.pick[i]]));
      const d = "M" + points.join("L");
      line.setAttribute("d", d);
      area.setAttribute("d", `${d}L120 ${this.base}L${points[0].split(" ")[0]} ${this.base}Z`);
    });
  }
}

const flows = new Map(); // of Flow, by session, route or "all"
const seen = new Set(); // keys of flows in the current document
function flow(key, received, sent, at) {
  seen.add(key);
  if (!flows.has(key)) flows.set(key, new Flow());
  return flows.get(key).add(received, sent, at);
}

// A column has a title, a function make that builds its cell, and a function
// fill that shows an item in the cell.

const textCell = (className, get) => ({ className, make: () => undefined, fill: (cell, item) => setText(cell, get(item)) });

const twoLines = (get, sub) => ({
  className: "wide",
  make: (cell) => { cell.append(element("span", "strong"), element("span", "sub")); },
  fill: (cell, item) => { setText(cell.children[0], get(item)); setText(cell.children[1], sub(item)); },
});

const throughput = {
  className: "wide",
  make: (cell) => {
    const box = element("div", "rate");
    const spark = new Spark("recent throughput", ["in", "out"]);
    box.append(spark.svg, element("span", "in"), element("span", "out"));
    cell.append(box);
    return spark;
  },
  fill: (cell, item, spark) => {
    spark.draw(item.flow);
    const [, received, sent] = cell.firstChild.children;
    const known = item.flow.history.length > 0;
    setText(received, known ? "↓ " + rate(item.flow.in) : "");
    setText(sent, known ? "↑ " + rate(item.flow.out) : "");
  },
};

class Table {
  constructor(section, columns) {
    this.columns = columns;
    this.body = section.querySelector("tbody");
    this.rows = new Map();
    const head = element("tr");
    for (const c of columns) {
      const th = element("th", c.className === "num" ? "num" : "", c.title);
      th.scope = "col";
      head.append(th);
    }
    section.querySelector("thead").replaceChildren(head);
  }
  show(items) {
    const rows = new Map();
    items.forEach((item, i) => {
      const row = this.rows.get(item.key) ?? this.make();
      rows.set(item.key, row);
      this.columns.forEach((c, k) => c.fill(row.cells[k], item, row.parts[k]));
      if (this.body.children[i] !== row.tr) this.body.insertBefore(row.tr, this.body.children[i] ?? null);
    });
    for (const [key, row] of this.rows) if (!rows.has(key)) row.tr.remove();
    this.rows = rows;
  }
  make() {
    const row = { tr: element("tr"), cells: [], parts: [] };
    for (const c of this.columns) {
      const cell = element("td", c.className);
      if (c.short) cell.dataset.name = c.short;
      row.parts.push(c.make(cell));
      row.cells.push(cell);
      row.tr.append(cell);
    }
    return row;
  }
}

const column = (title, cell, short) => ({ title, short, ...cell });

// Tile shows one number with a note and, with a direction, a sparkline.
class Tile {
  constructor(name, direction) {
    this.box = element("div", direction ? "tile wide" : "tile");
    this.value = element("span", "value");
    this.note = element("span", "note");
    this.box.append(element("span", "name", name), this.value, this.note);
    if (direction) {
      this.spark = new Spark("recent " + name, [direction]);
      this.box.append(this.spark.svg);
    }
    $("tiles").append(this.box);
  }
  show(value, note, flow) {
    setText(this.value, value);
    setText(this.note, note);
    if (flow) this.spark.draw(flow);
  }
}

// The tables and tiles, built from the first document, which tells whether this
// is a server or a client.
let view = null;

function build(d) {
  const server = d.role === "server";
  const age = (s) => duration(since(s.opened));
  view = {
    sessions: new Table($("sessions"), [
      server ? column("User", twoLines((s) => s.user, (s) => s.address)) : column("Server", twoLines((s) => s.server, (s) => s.address)),
      column("Streams", textCell("num", (s) => count(s.streams)), "streams"),
      column("Throughput", throughput),
      column("RTT", textCell("num", (s) => (s.connected ? milliseconds(s.rtt_seconds) : "disconnected")), "RTT"),
      column("Resumes", textCell("num", (s) => count(s.resumes)), "resumes"),
      column("Received", textCell("num", (s) => bytes(s.received_bytes)), "received"),
      column("Sent", textCell("num", (s) => bytes(s.sent_bytes)), "sent"),
      column("Age", textCell("num", age), "age"),
    ]),
    streams: new Table($("streams"), [
      column(server ? "User" : "Server", textCell("wide strong", (s) => s.owner)),
      column("Target", textCell("wide", (s) => s.target)),
      column("Received", textCell("num", (s) => bytes(s.received_bytes)), "received"),
      column("Sent", textCell("num", (s) => bytes(s.sent_bytes)), "sent"),
      column("Age", textCell("num", age), "age"),
    ]),
    tiles: {
      sessions: new Tile("Sessions"),
      streams: new Tile("Streams"),
      rtt: new Tile("RTT, median"),
      resumes: new Tile("Resumes"),
      in: new Tile("Received", "in"),
      out: new Tile("Sent", "out"),
    },
  };
  if (server) {
    view.routes = new Table($("routes"), [
      column("Route", twoLines((r) => r.route, (r) => (r.users.length ? "for " + r.users.join(", ") : "no authentication"))),
      column("Backends", textCell("wide", (r) => r.backends.map((b) => b.name + failure(b)).join(", "))),
      column("Connections", textCell("num", (r) => count(r.connections)), "connections"),
      column("Throughput", throughput),
      column("Opened", textCell("num", (r) => count(r.connections_opened)), "opened"),
      column("Refused", textCell("num", (r) => count(sum(r.connections_refused))), "refused"),
    ]);
  } else {
    view.forwards = new Table($("forwards"), [
      column("Local address", textCell("wide strong", (f) => f.listen)),
      column("Target", textCell("wide", (f) => f.target)),
      column("Connections", textCell("num", (f) => count(f.connections)), "connections"),
      column("Opened", textCell("num", (f) => count(f.connections_opened)), "opened"),
      column("Refused", textCell("num", (f) => count(sum(f.connections_refused))), "refused"),
    ]);
  }
  setText($("title"), "adit " + d.role);
  document.title = "adit " + d.role;
}

// failure describes the last failure of a backend.
const failure = (b) => (b.last_failed ? ` (failed ${duration(since(b.last_failed))} ago: ${b.last_failure})` : "");

const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

let now = 0; // time of the current document, in ms
const since = (time) => now - Date.parse(time);

function show(d) {
  if (!view) build(d);
  now = Date.parse(d.time);
  seen.clear();
  showState(d);
  for (const s of d.sessions) {
    s.key = s.id;
    s.flow = flow("session " + s.id, s.received_bytes, s.sent_bytes, now);
  }
  showSessions(d);
  showStreams(d);
  showTiles(d);
  if (d.routes) {
    for (const r of d.routes) {
      r.key = r.route;
      r.flow = flow("route " + r.route, r.received_bytes, r.sent_bytes, now);
    }
    $("routes").hidden = d.routes.length === 0;
    view.routes.show(d.routes);
  }
  if (d.forwards) {
    for (const f of d.forwards) f.key = f.listen;
    $("forwards").hidden = false;
    view.forwards.show(d.forwards);
  }
  showTrouble(d);
  showFacts(d);
  for (const key of flows.keys()) if (!seen.has(key)) flows.delete(key);
}

function setState(name, words) {
  $("state").dataset.state = name;
  setText($("state"), words);
}

function showState(d) {
  if (d.draining) setState("wait", "Draining");
  else if (d.ready) setState("good", d.role === "client" ? "Link up" : "Ready");
  else setState("bad", d.role === "client" ? "No link" : "Not ready");
  const reason = d.role === "client" && d.link.error ? d.link.error : d.reason;
  $("reason").hidden = d.ready || !reason;
  setText($("reason"), reason);
  const from = d.role === "client" ? d.link.server : d.listeners.map((l) => l.address).join(", ");
  setText($("about"), from);
}

function showSessions(d) {
  const wanted = $("find").value.trim().toLowerCase();
  const name = (s) => s.user ?? s.server;
  let list = d.sessions.filter((s) => (name(s) + " " + s.address).toLowerCase().includes(wanted));
  const orders = {
    busy: (a, b) => busy(b) - busy(a) || b.streams - a.streams,
    new: (a, b) => Date.parse(b.opened) - Date.parse(a.opened),
    old: (a, b) => Date.parse(a.opened) - Date.parse(b.opened),
    name: (a, b) => name(a).localeCompare(name(b)),
  };
  list.sort(orders[$("order").value]);
  const found = list.length;
  list = list.slice(0, maxRows);
  view.sessions.show(list);
  const total = d.sessions.length;
  for (const tool of $("sessions").querySelectorAll(".tool")) tool.hidden = total < 2 && wanted === "";
  setText($("sessions-count"), found > list.length ? count(list.length) + " of " + count(found) + " shown" :
    found < total ? count(found) + " of " + count(total) : "");
  setText($("sessions").querySelector(".empty"), total === 0 ? "No sessions." : found === 0 ? "No session matches." : "");
}

// showStreams shows the streams with the most bytes first.
function showStreams(d) {
  const list = d.sessions.flatMap((s) => s.open_streams.map((x, i) => ({ ...x, owner: s.user ?? s.server, key: `${s.id} ${x.opened} ${i}` })));
  list.sort((a, b) => b.received_bytes + b.sent_bytes - a.received_bytes - a.sent_bytes);
  $("streams").hidden = list.length === 0;
  view.streams.show(list.slice(0, maxRows));
  const total = d.sessions.reduce((n, s) => n + s.streams, 0);
  setText($("streams-count"), total > Math.min(list.length, maxRows) ? count(Math.min(list.length, maxRows)) + " of " + count(total) + " shown" : "");
}

// busy rates the recent throughput of a session in coarse steps, so that rows
// rarely change places.
function busy(s) {
  let all = 0;
  for (const [received, sent] of s.flow.history.slice(-10)) all += received + sent;
  return Math.round(Math.log2(1 + all / 1000));
}

function showTiles(d) {
  let streams = 0, queued = 0, unacknowledged = 0, down = 0;
  const times = [];
  for (const s of d.sessions) {
    streams += s.streams;
    queued += s.queued_bytes;
    unacknowledged += s.unacknowledged_bytes;
    if (!s.connected) down++;
    if (s.rtt_seconds > 0) times.push(s.rtt_seconds);
  }
  times.sort((a, b) => a - b);
  const all = { received: 0, sent: 0, resumes: 0, replayed: 0 };
  for (const t of d.role === "server" ? Object.values(d.counts.users) : [d.counts]) {
    all.received += t.received_bytes;
    all.sent += t.sent_bytes;
    all.resumes += t.resumes;
    all.replayed += t.replayed_bytes;
  }
  const f = flow("all", all.received, all.sent, now);
  const t = view.tiles;
  t.sessions.show(count(d.sessions.length), down ? count(down) + " disconnected" : count(d.counts.sessions_opened) + " opened");
  t.streams.show(count(streams), bytes(unacknowledged) + " in flight");
  t.rtt.show(times.length ? milliseconds(times[Math.floor(times.length / 2)]) : "–", times.length > 1 ? "up to " + milliseconds(times[times.length - 1]) : " ");
  t.resumes.show(count(all.resumes), all.replayed ? bytes(all.replayed) + " retransmitted" : " ");
  const known = (n) => (f.history.length ? rate(n) : "–");
  t.in.show(known(f.in), bytes(all.received) + " total", f);
  t.out.show(known(f.out), bytes(all.sent) + " total", f);
}

// pairs fills a description list.
function pairs(list, entries) {
  const wanted = entries.map((e) => e.join("\n")).join("\n\n");
  if (list.dataset.shown === wanted) return;
  list.dataset.shown = wanted;
  list.replaceChildren(...entries.flatMap(([name, value, className]) => [element("dt", "", name), element("dd", className ?? "", value)]));
}

function showTrouble(d) {
  const c = d.counts;
  const entries = [];
  const add = (name, counts) => {
    const some = Object.entries(counts).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
    if (some.length) entries.push([name, some.map(([reason, n]) => reason + " " + count(n)).join(", ")]);
  };
  const merged = (list) => {
    const all = {};
    for (const counts of list) for (const [k, n] of Object.entries(counts)) all[k] = (all[k] ?? 0) + n;
    return all;
  };
  const { lost = 0, protocol = 0 } = c.sessions_ended;
  add("Sessions ended", { lost, protocol });
  add("Sessions refused", c.sessions_refused ?? {});
  add("Handshakes failed", c.handshake_failures);
  add("Streams refused", c.streams_refused ?? {});
  add("Connections rejected", c.connections_rejected ?? {});
  if (d.routes) add("Routes refused", merged(d.routes.map((r) => r.connections_refused)));
  if (d.forwards) add("Forwards refused", merged(d.forwards.map((f) => f.connections_refused)));
  if (entries.length === 0) entries.push(["None", ""]);
  pairs($("trouble"), entries);
}

function showFacts(d) {
  const entries = [["Version", d.version], ["Uptime", duration(since(d.started))]];
  if (d.link) entries.push([d.link.up ? "Link up for" : "Link down for", duration(since(d.link.since))]);
  for (const l of d.listeners ?? []) entries.push(["Listener", l.address + (l.tls ? ", TLS" : ", no TLS")]);
  for (const c of d.certificates ?? []) {
    const left = Date.parse(c.expires) - now;
    entries.push(["Certificate", c.name + (left > 0 ? ", expires in " + duration(left) : ", expired"), left < 7 * 86400e3 ? "bad" : ""]);
  }
  if (d.unauthenticated_connections !== undefined) entries.push(["Unauthenticated", count(d.unauthenticated_connections) + " connections"]);
  if (d.role === "server") entries.push(["Reloads", count(d.reloads.good) + (d.reloads.bad ? ", " + count(d.reloads.bad) + " failed" : "")]);
  pairs($("facts"), entries);
}

// Polling: one request at a time, while the page is visible.

let last = null; // the last document

async function update() {
  try {
    const answer = await fetch("status", { cache: "no-store", signal: AbortSignal.timeout(15000) });
    if (!answer.ok) throw new Error(answer.status + " " + answer.statusText);
    last = await answer.json();
    show(last);
    $("main").hidden = false;
    $("main").classList.remove("stale");
  } catch (error) {
    setState("bad", "No response");
    $("main").classList.add("stale");
    console.info(error.message);
  }
}

async function poll() {
  for (let first = true; ; first = false) {
    const start = performance.now();
    await update();
    // Rates need two documents, so the second request follows sooner.
    const pause = Math.max(first ? interval / 4 : interval, 10 * (performance.now() - start));
    await new Promise((done) => setTimeout(done, pause));
    if (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
  }
}

for (const id of ["find", "order"]) $(id).addEventListener("input", () => { if (last) showSessions(last); });
poll();
