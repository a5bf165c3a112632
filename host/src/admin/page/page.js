// Shows what /plugins and /metrics say, every two seconds, and sends orders with the admin
// token. All text of the host goes in as text, never as markup. The token stays in this
// tab (sessionStorage).
"use strict";

const EVERY = 2000;
const WINDOW = 10000;
const BREAKER = ["closed: it is asked", "half open: one tries", "open: left alone"];
const $ = (id) => document.getElementById(id);

/** Readings of /metrics, the oldest first: { at, rows: Map(name -> [[labels, value]]) }. */
let readings = [];
const latest = () => readings[readings.length - 1];
/** What each article shows, so that only what changed is made anew. */
const shown = new Map();

// --- small pieces

function make(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

const short = (digest) => digest.slice(0, 12);
const when = (time) => new Date(time).toLocaleString();

function say(text, bad) {
  const node = $("outcome");
  node.className = bad ? "bad" : "";
  node.textContent = text;
}

// --- asking

function token() {
  return sessionStorage.getItem("token");
}

async function ask(path, method = "GET") {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const signal = AbortSignal.timeout(method === "GET" ? 5000 : 60000);
  return fetch(path, { method, headers, signal, cache: "no-store" });
}

/** Why an answer is not the one that was hoped for. */
async function reason(answer) {
  if (answer.status === 401) return "the admin token is missing or wrong";
  const body = await answer.json().catch(() => ({}));
  return body.detail || `the host answered ${answer.status}`;
}

// --- metrics

/** The Prometheus text format (0.0.4), as far as counters, gauges and buckets go. */
function parse(text) {
  const rows = new Map();
  for (const line of text.split("\n")) {
    const found = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, key, value] of (found[2] || "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[key] = value;
    }
    if (!rows.has(found[1])) rows.set(found[1], []);
    rows.get(found[1]).push([labels, Number(found[3])]);
  }
  return rows;
}

/** The sum of all series of a name that fit; undefined if there is none. */
function sum(reading, name, fits) {
  const series = (reading.rows.get(name) || []).filter(([labels]) => fits(labels));
  return series.length ? series.reduce((all, [, value]) => all + value, 0) : undefined;
}

/** How much a counter grew within the window; undefined before the second reading. */
function grown(name, fits) {
  const [old, now] = [readings[0], latest()];
  if (!old || old === now) return undefined;
  return Math.max(0, (sum(now, name, fits) || 0) - (sum(old, name, fits) || 0));
}

const span = () => (latest().at - readings[0].at) / 1000;

function rate(name, fits) {
  const count = grown(name, fits);
  return count === undefined ? undefined : count / span();
}

/** A quantile in milliseconds: the bound of the bucket that holds it, as "≤ 2.5". */
function quantile(share, service) {
  const bound = (le) => (le === "+Inf" ? Infinity : Number(le));
  const own = (latest().rows.get("lockgate_request_seconds_bucket") || []).filter(([labels]) => labels.service === service);
  const buckets = own.map(([{ le }]) => le).sort((a, b) => bound(a) - bound(b)).map((le) => (
    [bound(le) * 1000, grown("lockgate_request_seconds_bucket", (l) => l.service === service && l.le === le) || 0]));
  const all = buckets.length ? buckets[buckets.length - 1][1] : 0;
  if (!all) return undefined;
  const at = buckets.findIndex(([, count]) => count >= share * all);
  return at < buckets.length - 1 ? `≤ ${buckets[at][0]}` : `> ${at > 0 ? buckets[at - 1][0] : ""}`;
}

function figure(value, digits = 0) {
  if (value === undefined) return "–";
  return typeof value === "string" ? value : value.toFixed(digits);
}

// --- drawing

const STATES = { serving: ["● serving", "good"], quarantined: ["▲ quarantined", "bad"], empty: ["○ empty", "warn"] };

function drawServices(plugins) {
  const body = $("services").tBodies[0];
  plugins.forEach((plugin, at) => {
    let row = body.rows[at];
    if (!row) {
      row = body.insertRow();
      const head = make("th");
      head.scope = "row";
      row.append(head, ...Array.from({ length: 10 }, (_, n) => make("td", "", n > 1 ? "n" : "")));
    }
    const now = latest();
    const own = (labels) => labels.service === plugin.service;
    const gauge = (name) => sum(now, name, own);
    const [state, look] = STATES[plugin.state] || [plugin.state, "warn"];
    const cells = [
      plugin.service, plugin.address, plugin.pinned ? `${state}, pinned` : state,
      figure(rate("lockgate_requests_total", own), 1),
      figure(quantile(0.5, plugin.service)), figure(quantile(0.99, plugin.service)),
      figure(rate("lockgate_requests_total", (l) => own(l) && l.status === "5xx"), 1),
      figure(gauge("lockgate_requests_in_flight")), figure(gauge("lockgate_requests_waiting")),
      figure(gauge("lockgate_instances")), figure(gauge("lockgate_sockets_open")),
    ];
    cells.forEach((text, n) => {
      if (row.cells[n].textContent !== text) row.cells[n].textContent = text;
    });
    row.cells[2].className = look;
  });
  while (body.rows.length > plugins.length) body.deleteRow(-1);
}

function order(text, label, key, question, path) {
  const button = make("button", text);
  button.type = "button";
  button.dataset.key = key;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => send(text, question, label, path));
  return button;
}

function drawRevisions(plugins) {
  for (const plugin of plugins) {
    const now = JSON.stringify(plugin);
    const known = shown.get(plugin.service);
    if (known && known.text === now) continue;
    const node = article(plugin);
    if (known) {
      const focus = known.node.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
      node.querySelector("details").open = known.node.querySelector("details").open;
      known.node.replaceWith(node);
      // The reader stays where it was; a button that is gone leaves the focus on its card.
      if (focus) ([...node.querySelectorAll("[data-key]")].find((other) => other.dataset.key === focus) || node).focus();
    } else {
      $("revisions").append(node);
    }
    shown.set(plugin.service, { text: now, node });
  }
}

function article(plugin) {
  const node = make("article");
  node.tabIndex = -1;
  const title = make("h3", plugin.service);
  title.id = `title-${plugin.service}`;
  node.setAttribute("aria-labelledby", title.id);
  node.append(title);
  node.append(make("p", plugin.digest
    ? `Revision ${plugin.revision}, ${Math.round(plugin.size / 1024)} KiB, since ${when(plugin.loaded_at)}`
    : "No component was ever loaded."));
  const path = `plugins/${encodeURIComponent(plugin.service)}`;
  if (plugin.pinned) {
    const line = make("p", "Pinned: files in the folder wait. ");
    line.append(order("Unpin", `Unpin ${plugin.service}`, "unpin",
      `Let the file in the folder serve ${plugin.service} again?`, `${path}/unpin`));
    node.append(line);
  }
  const list = make("ul");
  const known = new Set([plugin.digest, plugin.previous, ...plugin.kept]);
  for (const digest of [...known].filter(Boolean)) {
    const line = make("li");
    line.append(make("span", short(digest), "digest"));
    if (digest === plugin.digest) {
      line.className = "here";
      line.append(make("span", "serves now", "good"));
    } else {
      line.append(order("Roll back", `Roll back ${plugin.service} to ${short(digest)}`, `back-${digest}`,
        `Have ${plugin.service} go back to revision ${short(digest)}? Requests that have begun end on the one they began on.`,
        `${path}/rollback/${digest}`));
    }
    list.append(line);
  }
  node.append(list);
  if (plugin.shadow) node.append(candidate(plugin, path));
  node.append(history(plugin));
  return node;
}

function candidate(plugin, path) {
  const { shadow } = plugin;
  const node = make("div", undefined, "candidate");
  node.append(make("strong", `Candidate ${short(shadow.digest)}`));
  node.append(make("p", `${shadow.compared} answers compared, ${shadow.different} different, ${shadow.passed_over} passed over`));
  if (shadow.problem) node.append(make("p", shadow.problem, "bad"));
  for (const found of shadow.differences.slice(-3)) {
    node.append(make("p", `${found.method} ${found.path}: ${found.what}`));
  }
  if (!shadow.promoted) {
    node.append(order("Promote", `Promote ${short(shadow.digest)} to serve ${plugin.service}`, "promote",
      `Have the candidate ${short(shadow.digest)} serve ${plugin.service}? ${shadow.different} of ${shadow.compared} answers differed.`,
      `${path}/promote/${shadow.digest}`));
  }
  return node;
}

function history(plugin) {
  const node = make("details");
  const head = make("summary", `History (${plugin.history.length})`);
  head.dataset.key = "history";
  const list = make("ol");
  for (const event of [...plugin.history].reverse()) {
    const what = event.error ? `refused${event.digest ? ` ${short(event.digest)}` : ""}: ${event.error}`
      : `revision ${event.revision} serves (${short(event.digest || "")})`;
    list.append(make("li", `${when(event.at)} – ${what}`));
  }
  node.append(head, list);
  return node;
}

function drawBreakers() {
  const body = $("breakers").tBodies[0];
  const series = latest().rows.get("lockgate_breaker_state") || [];
  const rows = series.map(([labels, value]) => [labels.name, value]).sort((a, b) => a[0].localeCompare(b[0]));
  body.replaceChildren(...rows.map(([name, value]) => {
    const row = make("tr");
    const head = make("th", name.replaceAll("_", "-"));
    head.scope = "row";
    row.append(head, make("td", BREAKER[value] || String(value), ["good", "warn", "bad"][value]));
    return row;
  }));
}

function drawErrors(plugins) {
  const lines = plugins.filter((plugin) => plugin.last_error).map((plugin) => {
    const line = make("li");
    line.append(make("b", plugin.service), ` ${when(plugin.last_error_at)}: ${plugin.last_error}`);
    return line;
  });
  for (const [labels, value] of latest().rows.get("lockgate_faults_total") || []) {
    if (!value) continue;
    const line = make("li");
    line.append(make("b", labels.service || "host"), ` ${value} × ${labels.kind || labels.reason || "fault"} since the start`);
    lines.push(line);
  }
  $("errors").replaceChildren(...lines);
  $("no-errors").hidden = lines.length > 0;
}

// --- doing

async function refresh() {
  const link = $("link");
  try {
    const [plugins, metrics] = await Promise.all([ask("plugins"), ask("metrics")]);
    if (!plugins.ok) throw new Error(await reason(plugins));
    if (!metrics.ok) throw new Error(await reason(metrics));
    const { plugins: list } = await plugins.json();
    const at = performance.now();
    const reading = { at, rows: parse(await metrics.text()) };
    const before = latest();
    const every = () => true;
    // Counters that fell: another process answers now.
    if (before && sum(reading, "lockgate_requests_total", every) < sum(before, "lockgate_requests_total", every)) readings = [];
    readings.push(reading);
    readings = readings.filter((reading) => at - reading.at <= WINDOW);
    drawServices(list);
    drawRevisions(list);
    drawBreakers();
    drawErrors(list);
    link.className = "link";
    link.textContent = `Up to date, ${new Date().toLocaleTimeString()}`;
    $("lost").textContent = "";
  } catch (error) {
    link.className = "link lost";
    link.textContent = "";
    const said = error.name === "TypeError" || error.name === "TimeoutError" ? "it does not answer" : error.message;
    const text = `The host cannot be seen: ${said}`;
    // A reader says it once, when it changes.
    if ($("lost").textContent !== text) $("lost").textContent = text;
  }
}

async function send(verb, question, what, path) {
  if (!token()) {
    say(`${what}: give the admin token first.`, true);
    $("token").focus();
    return;
  }
  $("question").textContent = question;
  $("yes").textContent = verb;
  const dialog = $("sure");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  if (dialog.returnValue !== "yes") return;
  try {
    const answer = await ask(path, "POST");
    if (answer.ok) say(`${what}: done.`);
    else say(`${what}: ${await reason(answer)}.`, true);
  } catch {
    say(`${what}: the host does not answer.`, true);
  }
  await refresh();
}

function access() {
  const known = Boolean(token());
  $("forget").hidden = !known;
  $("keep").textContent = known ? "Change" : "Use";
  $("token").placeholder = known ? "kept in this tab" : "";
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("token").value.trim();
  if (!/^[\x21-\x7e]{16,}$/.test(text)) {
    say("That is no admin token: it has 16 characters or more, without spaces.", true);
    return;
  }
  sessionStorage.setItem("token", text);
  $("token").value = "";
  access();
  say("The token is kept in this tab until it is closed. The host looks at it with each order.");
  refresh();
});

$("forget").addEventListener("click", () => {
  sessionStorage.removeItem("token");
  access();
  say("The token is forgotten.");
  $("token").focus();
});

access();
(async function always() {
  await refresh();
  setTimeout(always, EVERY);
})();
