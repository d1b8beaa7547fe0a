// Shows what the API under api/v1 tells. Whatever comes from there is put into the page as text, never as markup.
"use strict";

const EVERY_MS = 2000;
const LETTERS = 20;
const of = (id) => document.getElementById(id);
const state = { token: sessionStorage.getItem("token"), before: new Map(), open: null, next: null };

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 1 : 0 });
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 120) return number(value) + " s";
  return value < 7200 ? number(value / 60) + " min" : number(value / 3600) + " h";
}

function ago(date) {
  return seconds(Math.max(0, (Date.now() - Date.parse(date)) / 1000)) + " ago";
}

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path, method = "GET", body) {
  const headers = {};
  if (state.token) headers.Authorization = "Bearer " + state.token;
  if (body) headers["Content-Type"] = "application/json";
  const answer = await fetch("api/v1/" + path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, said.detail || "the answer was " + answer.status);
  return said;
}

const route = (name, rest = "") => "routes/" + encodeURIComponent(name) + rest;

/** Delivered a second since the last look. */
function rate(name, hop) {
  const key = name + "/" + hop.name;
  const now = { at: performance.now(), delivered: hop.delivered };
  const before = state.before.get(key);
  state.before.set(key, now);
  if (!before || now.delivered === null || now.delivered < before.delivered) return null;
  return ((now.delivered - before.delivered) * 1000) / Math.max(1, now.at - before.at);
}

function card(told) {
  const made = element("article", null, "card");
  const title = element("h3");
  const open = element("button", told.name);
  open.dataset.key = "open " + told.name;
  open.addEventListener("click", () => show(told.name));
  title.append(open, element("span", told.state, "state " + told.state));
  const letters = told.hops.reduce((sum, hop) => sum + (hop.dead_lettered || 0), 0);
  if (letters > 0) title.append(element("span", number(letters) + " dead letters"));
  const map = element("ol", null, "map");
  told.hops.forEach((hop, index) => {
    if (index === 0) map.append(element("li", hop.from, "end"));
    const flows = rate(told.name, hop);
    map.append(
      element("li", "→ " + (flows === null ? "–" : number(flows)) + "/s, " + seconds(hop.lag_seconds) + " behind →", "hop"),
      element("li", hop.to, "end"),
    );
  });
  made.append(title, map);
  return made;
}

function wrong(status, routes) {
  const all = [];
  if (status.refused_table) {
    all.push(["bad", "The table was refused " + ago(status.refused_table.at) + ", and the one before runs: " + status.refused_table.why]);
  }
  for (const told of routes) {
    if (told.state === "paused") all.push(["", told.name + " is paused by a person."]);
    for (const hop of told.hops) {
      for (const wait of hop.waits) {
        all.push(["bad", told.name + ", " + hop.name + ", " + wait.what + ": " + wait.why + " (" + ago(wait.since) + ")"]);
      }
    }
  }
  if (all.length === 0) all.push(["good", "Nothing: every route flows."]);
  replace(of("wrong"), all.map(([kind, text]) => element("li", text, kind)));
}

/** The keyboard's focus stays on what has the same key. */
function replace(place, children) {
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...children);
  if (key) for (const made of place.querySelectorAll("[data-key]")) if (made.dataset.key === key) made.focus();
}

async function look() {
  try {
    const [status, told] = await Promise.all([ask("status"), ask("routes")]);
    of("login").hidden = true;
    const { running, waiting, paused } = status.routes;
    of("instance").textContent =
      status.version + ", up " + seconds(status.uptime_seconds) + ", table " + status.generation + ": " +
      running + " running, " + waiting + " waiting, " + paused + " paused";
    wrong(status, told.routes);
    replace(of("routes"), told.routes.length ? told.routes.map(card) : [element("p", "The table has no routes.")]);
    if (state.open) await partitions();
  } catch (problem) {
    failed(problem);
  }
}

function failed(problem) {
  if (problem.status === 401 || problem.status === 403 || problem.status === 429) {
    of("login").hidden = false;
    of("instance").textContent = "Who asks?";
    of("refused").textContent = state.token ? problem.message : "";
    return;
  }
  of("instance").textContent = problem instanceof Refused ? problem.message : "This instance does not answer.";
}

async function partitions() {
  const told = await ask(route(state.open, "/partitions"));
  const rows = told.partitions.map((partition) => {
    const row = element("tr");
    const wait = partition.wait ? partition.wait.why : partition.gate_closed ? "gate closed" : "flows";
    row.append(
      element("td", partition.hop),
      element("td", partition.partition),
      element("td", number(partition.lag_messages)),
      element("td", wait),
      element("td", partition.wait ? ago(partition.wait.since) : ""),
    );
    return row;
  });
  of("partitions").replaceChildren(...rows);
}

function show(name) {
  state.open = name;
  state.next = null;
  of("route").hidden = false;
  of("route-title").textContent = name;
  of("said").textContent = "";
  of("letters").replaceChildren();
  of("letters-said").textContent = "";
  for (const id of ["letters-table", "letters-more", "letter"]) of(id).hidden = true;
  partitions().catch(failed);
  of("route-title").focus();
}

async function order(what) {
  try {
    const told = await ask(route(state.open, "/" + what), "POST");
    of("said").textContent = told.route + ": " + told.state + (told.changed ? "" : " already");
    await look();
  } catch (problem) {
    of("said").textContent = problem.message;
  }
}

async function letters(more) {
  const said = of("letters-said");
  said.textContent = "Reading …";
  try {
    const next = more && state.next ? "&next=" + encodeURIComponent(state.next) : "";
    const told = await ask(route(state.open, "/dead-letters?limit=" + LETTERS + next));
    if (!more) of("letters").replaceChildren();
    of("letters").append(...told.letters.map(letter));
    of("letters-table").hidden = of("letters").childElementCount === 0;
    state.next = told.next;
    of("letters-more").hidden = !told.next;
    said.textContent = of("letters").childElementCount + " shown, " + told.more + " more";
  } catch (problem) {
    said.textContent = problem.message;
  }
}

function letter(told) {
  const row = element("tr");
  const actions = element("td");
  const inspect = element("button", "Inspect");
  inspect.addEventListener("click", () => inspected(told.id));
  const replay = element("button", "Replay");
  replay.addEventListener("click", () => replayed(told.id));
  actions.append(inspect, " ", replay);
  const key = typeof told.key === "string" || told.key === null ? told.key : JSON.stringify(told.key);
  row.append(
    element("td", told.last_failed),
    element("td", told.hop),
    element("td", told.cause),
    element("td", told.error),
    element("td", key),
    actions,
  );
  return row;
}

async function inspected(id) {
  try {
    of("letter").textContent = JSON.stringify(await ask(route(state.open, "/dead-letters/" + encodeURIComponent(id))), null, 2);
  } catch (problem) {
    of("letter").textContent = problem.message;
  }
  of("letter").hidden = false;
  of("letter").focus();
}

async function replayed(id) {
  if (!confirm("Send letter " + id + " to its target again?")) return;
  try {
    const told = await ask(route(state.open, "/dead-letters/replay"), "POST", { selection: { id }, confirm: true });
    of("letters-said").textContent = told.delivered + " delivered, " + told.returned + " refused again, " + told.quarantined + " in quarantine";
  } catch (problem) {
    of("letters-said").textContent = problem.message;
  }
}

of("pause").addEventListener("click", () => confirm("Pause " + state.open + "? Its source fills up meanwhile.") && order("pause"));
of("resume").addEventListener("click", () => order("resume"));
of("close").addEventListener("click", () => {
  state.open = null;
  of("route").hidden = true;
});
of("letters-read").addEventListener("click", () => letters(false));
of("letters-more").addEventListener("click", () => letters(true));
of("login").addEventListener("submit", (event) => {
  event.preventDefault();
  state.token = of("token").value;
  sessionStorage.setItem("token", state.token);
  look();
});

(async () => {
  for (;;) {
    if (!document.hidden && of("login").hidden) await look();
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
})();
