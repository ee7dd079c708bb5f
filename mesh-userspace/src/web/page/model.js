// What is known of the agent, and what follows from it. Nothing here touches the page.

/** How far timelines go back, the least that shows all that is known: minutes. */
const WINDOWS = [1, 5, 15];

const MINUTE = 60_000;

/** Events that are kept. */
const MOST_EVENTS = 1000;

/** States of backends by what a line, a mark or a bar makes of them. */
export function look(state) {
  if (state === "up" || state === "ok") return "up";
  return ["down", "panic", "unresolved"].includes(state) ? "down" : "rest";
}

/** What a service is, in a word; the same words as those of `meshlb status`. */
export function stateOf(health) {
  if (health.panic) return "panic";
  if (health.up === 0) return "down";
  return health.down > 0 ? "degraded" : "ok";
}

/** The name of a backend among all. */
export function keyOf(backend) {
  return `${backend.service}\n${backend.address}`;
}

/** What an event says that a backend has become; nothing if it says something else. */
function turnOf(event) {
  const turns = [
    ["went down", "down"],
    ["came up", "up"],
    ["takes no new flows: it drains", "draining"],
    ["takes new flows again", "up"],
    ["stands by", "standby"],
    ["is ejected", "ejected"],
    ["takes over", "up"],
    ["was added", "unknown"],
    ["was removed", "removed"],
  ];
  return turns.find(([beginning]) => event.message.startsWith(beginning))?.[1];
}

export class Model {
  status = null;
  services = [];
  backends = [];
  events = [];
  /** Per second: packets, bytes and flows by service and by backend, packets by outcome. */
  rates = new Map();
  #at = 0;
  #counters = new Map();
  /** What backends became, and when: as events say, and as this page has seen itself. */
  #turns = new Map();
  #seen = new Map();

  /** The number of the newest event; nothing before the first. */
  get newest() {
    return this.events[0]?.sequence;
  }

  /** Takes in what the agent says at a moment (milliseconds, of a clock that only goes on). */
  take({ status, services, backends, events }, at, now) {
    const isOther = this.status && status.uptime_seconds < this.status.uptime_seconds;
    Object.assign(this, { status, services, backends });
    this.#measure(at, isOther);
    // Another agent may number its events anew: it is asked for all of them the next time.
    if (isOther) this.#forget();
    else this.#remember(events);
    this.#notice(now);
  }

  #measure(at, isOther) {
    const counters = new Map();
    for (const service of this.services) counters.set(service.name, countersOf(service));
    for (const backend of this.backends) counters.set(keyOf(backend), countersOf(backend));
    for (const [name, packets] of Object.entries(this.status.outcomes)) counters.set(`\n${name}`, { packets });
    const seconds = (at - this.#at) / 1000;
    this.rates = new Map();
    for (const [key, now] of counters) {
      const before = this.#counters.get(key);
      // Counters of maps that were made anew begin at 0.
      const rate = (name) => (before && !isOther ? Math.max(0, now[name] - before[name]) / seconds : 0);
      this.rates.set(key, { packets: rate("packets"), bytes: rate("bytes"), flows: rate("flows") });
    }
    this.#counters = counters;
    this.#at = at;
  }

  #forget() {
    this.events = [];
    this.#turns.clear();
  }

  #remember(events) {
    const fresh = events.filter((event) => !(event.sequence <= this.newest));
    this.events = [...fresh.reverse(), ...this.events].slice(0, MOST_EVENTS);
    for (const event of fresh.reverse()) {
      const state = event.kind === "backend" && event.backend && turnOf(event);
      if (state) this.#turn(`${event.service}\n${event.backend}`, Date.parse(event.time), state);
    }
  }

  #notice(now) {
    for (const backend of this.backends) {
      const key = keyOf(backend);
      const turns = this.#turns.get(key) ?? [];
      // Many that change alike are one event, which does not name them all.
      if (this.#seen.has(key) && this.#seen.get(key) !== backend.state && turns.at(-1)?.state !== backend.state) {
        this.#turn(key, now, backend.state);
      }
      this.#seen.set(key, backend.state);
    }
  }

  #turn(key, at, state) {
    const turns = this.#turns.get(key) ?? [];
    turns.push({ at, state });
    turns.sort((one, other) => one.at - other.at);
    this.#turns.set(key, turns.slice(-100));
  }

  /** When the oldest event that is known happened. */
  get #beginning() {
    const oldest = this.events.at(-1);
    return oldest && Date.parse(oldest.time);
  }

  /** How far timelines go back. */
  minutes(now) {
    const known = now - (this.#beginning ?? now);
    return WINDOWS.find((minutes) => known <= minutes * MINUTE) ?? WINDOWS.at(-1);
  }

  /** What a backend was during the window before `now`, oldest first; what nobody knows is "unknown". */
  timeline(backend, now) {
    const turns = this.#turns.get(keyOf(backend)) ?? [];
    const start = now - this.minutes(now) * MINUTE;
    const before = turns.filter((turn) => turn.at <= start).at(-1)?.state;
    const within = turns.filter((turn) => turn.at > start && turn.at < now);
    let state = before ?? "unknown";
    let since = start;
    if (!turns.length) {
      // If nothing happened to it since events are told, it has been what it is.
      within.push({ at: Math.max(start, this.#beginning ?? now), state: backend.state });
    }
    const spans = [];
    for (const turn of within) {
      if (turn.at > since) spans.push({ state, from: since, to: turn.at });
      ({ state, at: since } = turn);
    }
    // The view is newer than any event: a backend can be held back by what is no event.
    spans.push({ state: backend.state, from: since, to: now });
    return joined(spans);
  }

  /** Packets, bytes and flows a second. */
  rate(key) {
    return this.rates.get(key) ?? { packets: 0, bytes: 0, flows: 0 };
  }

  health(service) {
    const health = this.status.services.find((one) => one.service === service.name);
    return health ?? { up: service.up, down: 0, panic: service.panic };
  }
}

function countersOf({ packets, bytes, new_flows: flows }) {
  return { packets, bytes, flows };
}

/** Spans, neighbours of one state made one. */
function joined(spans) {
  const all = [];
  for (const span of spans) {
    const last = all.at(-1);
    if (last?.state === span.state) last.to = span.to;
    else all.push({ ...span });
  }
  return all;
}

const UNITS = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/** A count as people read it: exact up to five digits. */
export function count(n) {
  const unit = n >= 100_000 && UNITS.find(([one]) => n >= one);
  if (!unit) return String(Math.round(n));
  const scaled = n / unit[0];
  return `${scaled < 10 ? scaled.toFixed(1) : Math.floor(scaled)} ${unit[1]}`;
}

/** A rate as people read it; less than ten has a decimal. */
export function perSecond(rate) {
  return rate > 0 && rate < 9.95 ? rate.toFixed(1) : count(rate);
}

/** A part of a whole in per cent. */
export function percent(part, whole) {
  const exact = whole ? (part * 100) / whole : 0;
  return part > 0 && exact < 1 ? "<1 %" : `${Math.round(exact)} %`;
}

/** An age of two units at most. */
export function age(seconds) {
  const s = Math.floor(seconds);
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

/** The time of day here. */
export function clock(time) {
  return new Date(time).toLocaleTimeString("en-GB");
}

/** The day and the time of day here. */
export function day(time) {
  const at = new Date(time);
  const two = (number) => String(number).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(at)}`;
}
