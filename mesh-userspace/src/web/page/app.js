// Asks the agent every second, shows what it says, and says when it does not.

import { Table, each, element, fillState, fillTimeline, mark, more, say, timeline } from "./draw.js";
import { Model, age, clock, count, day, keyOf, look, perSecond, percent, stateOf } from "./model.js";
import { drawTopology } from "./topology.js";

/** Between an answer and the next question; longer, where the agent has much to say: milliseconds. */
const PAUSE = 1000;
const PAUSE_PER_ANSWER = 5;

/** An answer that has not come by then does not come: milliseconds. */
const PATIENCE = 6000;

/** Rows that a table begins with, and that it gains at a time. */
const ROWS = 50;

/** Events asked for at first. */
const EVENTS = 500;

/** Owners of slots that have a colour of their own; the others share the last. */
const OWNERS = 7;

const model = new Model();
const at = (id) => document.getElementById(id);

let token = "";
let session = { takes_orders: false, authorised: false };
let chosen = null;
let meanings = new Map();
let answered = performance.now();
/** By how much the agent's clock is ahead of this one: milliseconds. */
let ahead = 0;
const shown = { services: ROWS, backends: ROWS, events: ROWS / 2, slots: 6 };

class Refusal extends Error {
  constructor(status, body) {
    super([body.error, body.advice].filter(Boolean).join(" — "));
    this.status = status;
  }
}

async function ask(path, method = "GET", body = undefined) {
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  if (body) headers["content-type"] = "application/json";
  const request = { method, headers, body: body && JSON.stringify(body), signal: AbortSignal.timeout(PATIENCE) };
  const response = await fetch(path, request);
  ahead = Date.parse(response.headers.get("date")) - Date.now() || 0;
  if (response.ok) return response.json();
  throw new Refusal(response.status, await response.json().catch(() => ({ error: response.statusText })));
}

/** The agent's time, where clocks differ by more than an answer's date can: it has whole seconds. */
function agentsTime() {
  return Date.now() + (Math.abs(ahead) > 2000 ? ahead : 0);
}

// What the agent says.

async function poll() {
  const begun = performance.now();
  try {
    const after = model.newest === undefined ? `limit=${EVENTS}` : `after=${model.newest}&limit=${EVENTS}`;
    const [status, services, backends, events] = await Promise.all(
      ["v1/status", "v1/services", "v1/backends", `v1/events?${after}`].map((path) => ask(path)),
    );
    if (!meanings.size) await learn();
    model.take({ status, services, backends, events }, performance.now(), agentsTime());
    connected();
    show();
  } catch (error) {
    unconnected(error);
  }
  setTimeout(poll, Math.max(PAUSE, (performance.now() - begun) * PAUSE_PER_ANSWER));
}

/** What does not change while the agent runs. */
async function learn() {
  session = await ask("v1/session");
  meanings = new Map((await ask("v1/outcomes")).map((outcome) => [outcome.name, outcome]));
  showAccess();
}

function connected() {
  answered = performance.now();
  document.body.classList.remove("stale");
  mark(at("connection"), "data-state", "live");
  say(at("connection-text"), "Live");
  say(at("connection-age"), "");
}

function unconnected(error) {
  if (error instanceof Refusal && error.status === 401) {
    mark(at("connection"), "data-state", "waiting");
    say(at("connection-text"), "The agent shows itself only to those who have its token");
    return showAccess();
  }
  // Another agent may come back, which takes other orders.
  meanings.clear();
  mark(at("connection"), "data-state", "stale");
  document.body.classList.add("stale");
  say(at("connection-text"), error instanceof Refusal ? `The agent refuses: ${error.message}` : "The agent does not answer");
  tellAge();
}

/** How old is what is shown: not in the part that is read out, which would then never be silent. */
function tellAge() {
  if (!document.body.classList.contains("stale")) return;
  const seconds = (performance.now() - answered) / 1000;
  const since = model.status ? "what is shown is from then" : "nothing is known yet";
  say(at("connection-age"), `since ${age(seconds)}; ${since}`);
}

// What is shown.

function show() {
  showState();
  const words = at("filter").value.trim();
  if (chosen && !model.services.some((service) => service.name === chosen)) chosen = null;
  const isMeant = (...texts) => !words || texts.some((text) => text?.includes(words));
  const own = model.backends.filter((backend) => !chosen || backend.service === chosen);
  const backends = own.filter((backend) => isMeant(backend.service, backend.address, backend.state, backend.group));
  const kept = new Set(backends.map((backend) => backend.service));
  const services = model.services.filter((service) => kept.has(service.name) || isMeant(service.name, service.key));
  const ways = services.filter((service) => !chosen || service.name === chosen);
  drawTopology(at("topology"), model, ways, backends);
  showServices(services);
  showBackends(backends);
  showSlots(ways);
  showOutcomes();
  showEvents();
  each(at("vips"), model.services.filter(hasOnePort), (service) => service.name, () => element("option"), (option, service) =>
    mark(option, "value", endOf(service)));
}

function hasOnePort({ port, vip }) {
  return port > 0 && !vip.includes("/");
}

function endOf({ vip, port }) {
  return vip.includes(":") ? `[${vip}]:${port}` : `${vip}:${port}`;
}

function showState() {
  const { status } = model;
  say(at("version"), status.version);
  const problems = [...(status.ready ? [] : ["the tables are not loaded"]), ...status.problems];
  mark(at("verdict"), "data-state", problems.length ? "bad" : "ok");
  const one = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  say(at("verdict"), problems.length ? one : "Ready, no problems");
  const list = problems.length > 20 ? [...problems.slice(0, 20), `${problems.length - 20} more: meshlb status`] : problems;
  each(at("problems"), list, (text) => text, () => element("li"), say);
  const sum = model.services.reduce((all, service) => all + model.rate(service.name).packets, 0);
  const facts = [
    ["Uptime of the agent", age(status.uptime_seconds)],
    ["Interfaces", status.interfaces.map((one) => `${one.name} ${one.mode}`).join(", ")],
    ["Forwarded to backends", `${perSecond(sum)} packets/s`],
    ["Recorded flows", `${count(status.flows.used)} of ${count(status.flows.capacity)} (${percent(status.flows.used, status.flows.capacity)})`],
    ["Tables", status.slots_changing ? `${count(status.slots_changing)} slots change over` : "at rest"],
    ["Sources of backends", sourcesOf(status.discovery)],
  ];
  const fact = () => element("div", {}, element("dt"), element("dd"));
  each(at("facts"), facts.filter(([, text]) => text), ([name]) => name, fact, ({ children: [term, text] }, [name, value]) => {
    say(term, name);
    say(text, value);
  });
}

function sourcesOf(sources) {
  return sources.map(({ source, state }) => `${source}: ${state}`).join(", ");
}

const by = (key, name) => model.rate(key)[name];

/** Columns of what services and backends have both. */
const RATES = (keyOf) => [
  ["Packets/s", (item) => by(keyOf(item), "packets"), perSecond],
  ["Bits/s", (item) => by(keyOf(item), "bytes") * 8, perSecond],
  ["New flows/s", (item) => by(keyOf(item), "flows"), perSecond],
  ["Recorded flows", (item) => item.recorded_flows, count],
].map(([title, value, text]) => ({ title, number: true, by: value, fill: (cell, item) => say(cell, text(value(item))) }));

const serviceTable = new Table(at("service-table"), [
  {
    title: "Service", heads: true, by: (service) => service.name,
    make: (cell, service) => {
      const choose = () => chooseService(chosen === service.name ? null : service.name);
      cell.append(element("button", { type: "button", class: "plain", click: choose }, service.name));
      cell.append(element("div", { class: "key-text" }));
    },
    fill: ({ children: [button, key] }, service) => {
      mark(button, "aria-pressed", String(chosen === service.name));
      say(key, `${service.key} · ${service.forward} · ${service.scheduler}`);
    },
  },
  {
    title: "State", by: (service) => stateOf(model.health(service)),
    fill: (cell, service) => fillState(cell, stateOf(model.health(service))),
  },
  { title: "Up", number: true, by: (service) => service.up, fill: (cell, service) => say(cell, `${service.up}/${service.backends}`) },
  ...RATES((service) => service.name),
], () => show());

function chooseService(name) {
  chosen = name;
  shown.backends = ROWS;
  show();
}

function showServices(services) {
  const sorted = serviceTable.sorted(services);
  serviceTable.show(sorted.slice(0, shown.services), (service) => service.name);
  more(at("service-more"), shown.services, services.length, () => showMore("services"));
  at("all-services").hidden = !chosen;
}

function showMore(what) {
  shown[what] += ROWS;
  show();
}

const backendTable = new Table(at("backend-table"), [
  {
    title: "Backend", heads: true, by: (backend) => backend.address,
    make: (cell) => cell.append(element("span"), element("div", { class: "key-text" })),
    fill: ({ children: [address, service] }, backend) => {
      say(address, backend.address);
      say(service, backend.service);
    },
  },
  { title: "State", by: (backend) => backend.state, fill: (cell, backend) => fillState(cell, backend.state, whyOf(backend)) },
  {
    title: "Health", make: (cell) => cell.append(timeline()),
    fill: (cell, backend) => {
      const spans = model.timeline(backend, agentsTime());
      const drawn = spans.map((span) => ({ ...span, look: span.state === "unknown" ? "unknown" : look(span.state) }));
      fillTimeline(cell, drawn, spans.map(({ state, from }, index) => (index ? `${state} from ${clock(from)}` : state)).join(", "));
    },
  },
  { title: "Should get", number: true, by: (backend) => backend.percent, fill: (cell, backend) => say(cell, `${Math.round(backend.percent)} %`) },
  ...RATES(keyOf),
  { title: "Order", class: "order", make: (cell) => cell.append(element("button", { type: "button" })), fill: fillOrder },
], () => show());

function whyOf({ health, maintenance, held_back: heldBack, state }) {
  return maintenance || heldBack || (state !== "up" && health?.last_error) || "";
}

function showBackends(backends) {
  const sorted = backendTable.sorted(backends);
  backendTable.show(sorted.slice(0, shown.backends), keyOf);
  more(at("backend-more"), shown.backends, backends.length, () => showMore("backends"));
  const minutes = model.minutes(agentsTime());
  say(at("window"), minutes === 1 ? "minute" : `${minutes} minutes`);
  const whose = chosen ? `of ${chosen}` : "of all services";
  const down = backends.filter((backend) => look(backend.state) === "down").length;
  say(at("backend-note"), `${backends.length} backends ${whose}, ${down} of them down.`);
}

function fillOrder({ firstChild: button }, backend) {
  const isDrained = backend.drained && !backend.maintenance;
  button.hidden = !session.authorised || Boolean(backend.maintenance) || backend.state === "removed";
  say(button, isDrained ? "Undrain" : "Drain");
  mark(button, "aria-label", `${isDrained ? "Undrain" : "Drain"} ${backend.address} of ${backend.service}`);
  button.onclick = () => order(backend, isDrained ? "undrain" : "drain");
}

async function order({ service, address }, what) {
  const path = ["v1/services", encodeURIComponent(service), "backends", encodeURIComponent(address), what].join("/");
  try {
    await ask(path, "POST");
    say(at("order-result"), `${address} of ${service} ${what === "drain" ? "drains: it gets no new flows" : "takes new flows again"}.`);
  } catch (error) {
    say(at("order-result"), `${address} of ${service} was not ${what}ed: ${error.message}`);
  }
}

function showSlots(services) {
  const make = (service) => element("div", {}, element("h3", {}, service.name), element("div", { class: "bar", "aria-hidden": "true" }), element("ul", { class: "owners" }));
  each(at("slot-bars"), services.slice(0, shown.slots), (service) => service.name, make, (part, service) => {
    const [title, bar, list] = part.children;
    say(title, `${service.name}: ${count(service.table_size)} slots`);
    mark(list, "aria-label", `Owners of the slots of ${service.name}`);
    const owners = ownersOf(service);
    each(bar, owners, (owner) => owner.name, () => element("span"), (segment, owner) => {
      mark(segment, "class", `s${owner.number}`);
      segment.style.flex = `${owner.slots} 0 0`;
      say(segment, String(owner.number));
    });
    each(list, owners, (owner) => owner.name, () => element("li", {}, element("b", { "aria-hidden": "true" }), " ", element("span")), (entry, owner) => {
      mark(entry.firstChild, "class", `s${owner.number}`);
      say(entry.firstChild, String(owner.number));
      say(entry.lastChild, `${owner.name}: ${count(owner.slots)} (${percent(owner.slots, service.table_size)})`);
    });
  });
  more(at("slot-more"), shown.slots, services.length, () => showMore("slots"));
}

/** Who has slots of a service, numbered; those beyond the largest are one. */
function ownersOf(service) {
  const all = model.backends.filter((backend) => backend.service === service.name && backend.slots > 0);
  const largest = new Set([...all].sort((one, other) => other.slots - one.slots).slice(0, OWNERS));
  const named = all.filter((backend) => largest.has(backend));
  const owners = named.map(({ address, slots }, index) => ({ name: address, slots, number: index + 1 }));
  const others = all.filter((backend) => !largest.has(backend));
  const slots = others.reduce((sum, backend) => sum + backend.slots, 0);
  return others.length ? [...owners, { name: `${others.length} others`, slots, number: OWNERS + 1 }] : owners;
}

const outcomeTable = new Table(at("outcome-table"), [
  { title: "Outcome", heads: true, by: (outcome) => outcome.name, fill: (cell, outcome) => say(cell, outcome.name) },
  { title: "Verdict", by: (outcome) => outcome.verdict, fill: (cell, outcome) => say(cell, outcome.verdict) },
  { title: "Packets/s", number: true, by: (outcome) => outcome.rate, fill: (cell, outcome) => say(cell, perSecond(outcome.rate)) },
  { title: "Packets", number: true, by: (outcome) => outcome.packets, fill: (cell, outcome) => say(cell, count(outcome.packets)) },
  { title: "Meaning", class: "long", fill: (cell, outcome) => say(cell, outcome.meaning) },
], () => show());

function showOutcomes() {
  const happened = Object.entries(model.status.outcomes).filter(([, packets]) => packets > 0);
  const outcomes = happened.map(([name, packets]) => {
    const { verdict = "", meaning = "" } = meanings.get(name) ?? {};
    return { name, packets, verdict, meaning, rate: by(`\n${name}`, "packets") };
  });
  // What is lost comes first.
  outcomes.sort((one, other) => (other.verdict === "drop") - (one.verdict === "drop") || other.packets - one.packets);
  outcomeTable.show(outcomeTable.sorted(outcomes), (outcome) => outcome.name);
}

const eventTable = new Table(at("event-table"), [
  {
    title: "Time", make: (cell) => cell.append(element("time")),
    fill: ({ firstChild }, event) => {
      mark(firstChild, "datetime", event.time);
      say(firstChild, day(event.time));
    },
  },
  { title: "About", fill: (cell, event) => say(cell, event.kind) },
  { title: "Service", fill: (cell, event) => say(cell, event.service ?? "") },
  { title: "Backend", fill: (cell, event) => say(cell, event.backend ?? "") },
  { title: "What happened", class: "long", fill: (cell, event) => say(cell, event.message) },
], () => show());

function showEvents() {
  const events = chosen ? model.events.filter((event) => !event.service || event.service === chosen) : model.events;
  eventTable.show(events.slice(0, shown.events), (event) => event.sequence);
  more(at("event-more"), shown.events, events.length, () => showMore("events"));
}

// Access.

function showAccess() {
  const isKnown = session.authorised;
  const asks = session.takes_orders || !meanings.size;
  at("access-text").textContent = isKnown ? "Backends can be drained." : asks ? "Read-only without the token." : "Read-only: no token is configured.";
  at("token").hidden = at("token").labels[0].hidden = at("access").querySelector("[type=submit]").hidden = isKnown || !asks;
  at("lock").hidden = !isKnown;
  document.body.classList.toggle("orders", isKnown);
}

at("access").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = at("token").value;
  try {
    session = await ask("v1/session");
    say(at("access-error"), "");
    at("token").value = "";
    showAccess();
    if (session.authorised) at("lock").focus();
    if (model.status) show();
  } catch (error) {
    token = "";
    say(at("access-error"), error.message);
  }
});

at("lock").addEventListener("click", () => {
  token = "";
  session.authorised = false;
  showAccess();
  at("token").focus();
  show();
});

// Filter and explanation.

at("filter").addEventListener("input", () => model.status && show());
at("all-services").addEventListener("click", () => {
  chooseService(null);
  at("filter").focus();
});

at("explain-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [from, to, protocol, down] = ["from", "to", "protocol", "if-down"].map((id) => at(id).value.trim());
  const flags = at("segment").value.split(",");
  const target = at("explanation");
  target.replaceChildren(element("p", {}, "Asking…"));
  try {
    showExplanation(target, await ask("v1/explain", "POST", { from, to, protocol, flags, down: down ? [down] : [] }));
  } catch (error) {
    target.replaceChildren(element("p", { class: "refusal" }, error instanceof Refusal ? error.message : "The agent does not answer"));
  }
});

function showExplanation(target, told) {
  const pairs = [
    ["Outcome", `${told.outcome}: ${told.meaning}`],
    ["Verdict", `${told.verdict}${told.certain ? "" : " (one of those possible: chance has a say)"}`],
    ["Service", told.service && `${told.service.name} (${told.service.key})`],
    ["Backend", told.backend && told.backend.address],
    ["Why it", told.backend && told.backend.reason],
    ["Next hop", told.backend?.next_hop],
    ["If so", told.prospect && prospectOf(told.prospect)],
  ];
  const list = element("dl");
  for (const [name, text] of pairs.filter(([, text]) => text)) list.append(element("dt", {}, name), element("dd", {}, text));
  const steps = told.steps.map(({ step, finding }) => element("li", {}, `${step}: ${finding}`));
  target.replaceChildren(list, element("h3", {}, "Step by step"), element("ol", {}, ...steps));
}

function prospectOf({ assumed, new_flow: flow, slots_moved: moved }) {
  const who = (addresses) => addresses.join(" or ") || "nobody";
  return `${assumed.join(", ")}: a new flow would go to ${who(flow.then)} instead of ${who(flow.now)}; ${count(moved)} slots would move`;
}

showAccess();
setInterval(tellAge, 1000);
new ResizeObserver(() => model.status && show()).observe(document.body);
poll();
