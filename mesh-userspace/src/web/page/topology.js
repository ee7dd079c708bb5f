// The drawing of ways from VIPs to backends. It says nothing that the tables do not say, too.

import { svg } from "./draw.js";
import { keyOf, look, perSecond } from "./model.js";

/** Drawn at most: the rest is counted. */
const MOST_SERVICES = 12;
const MOST_BACKENDS = 8;

/** Pixels. */
const ROW = 44;
const GAP = 14;
const NODE = 36;
const WIDEST = 16;

/** Of a name, and of what stands below it: pixels a letter, rather too many than too few. */
const LETTERS = [8.6, 6.8];

const MARKS = { up: "●", rest: "◐", down: "✕" };

/** Draws services, the busiest of each one's backends first, into `target`. */
export function drawTopology(target, model, services, backends) {
  const width = Math.max(280, target.clientWidth);
  const drawn = [...services].sort((one, other) => packets(model, other.name) - packets(model, one.name)).slice(0, MOST_SERVICES);
  const groups = drawn.map((service) => group(model, service, backends));
  const most = Math.max(1, ...groups.flatMap(({ members }) => members.map((member) => member.packets)));
  let y = 4;
  const parts = [];
  for (const part of groups) {
    parts.push(...drawGroup(part, y, width, most));
    y += height(part) + GAP;
  }
  const rest = services.length - drawn.length;
  if (rest > 0) {
    parts.push(svg("text", { class: "sub", x: 4, y: y + 12 }, `and ${rest} more services, with fewer packets`));
    y += 24;
  }
  const label = `${drawn.length} services and the ways to their backends; the tables of services and backends have the figures`;
  const drawing = svg("svg", { role: "img", "aria-label": label, viewBox: `0 0 ${width} ${y}`, height: y });
  drawing.append(...parts);
  target.replaceChildren(drawing);
}

function packets(model, key) {
  return model.rate(key).packets;
}

/** A service, its busiest backends and those that are down, and how many more it has. */
function group(model, service, backends) {
  const own = backends.filter((backend) => backend.service === service.name);
  const members = own.map((backend) => ({ backend, look: look(backend.state), packets: packets(model, keyOf(backend)) }));
  // Who is ill is shown before who is busy.
  members.sort((one, other) => (other.look === "down") - (one.look === "down") || other.packets - one.packets);
  const shown = members.slice(0, MOST_BACKENDS);
  const place = new Map(own.map((backend, index) => [backend, index]));
  shown.sort((one, other) => place.get(one.backend) - place.get(other.backend));
  return { service, members: shown, more: members.length - shown.length, packets: packets(model, service.name) };
}

function height({ members, more }) {
  return Math.max(1, members.length + (more > 0 ? 1 : 0)) * ROW;
}

function drawGroup(part, top, width, most) {
  const { service, members, more } = part;
  const node = { width: Math.min(300, width * 0.38), x: 1 };
  const far = { width: Math.min(300, width * 0.42) };
  far.x = width - far.width - 1;
  const middle = top + height(part) / 2;
  const parts = [];
  members.forEach((member, index) => {
    const y = top + index * ROW + NODE / 2 + (ROW - NODE) / 2;
    parts.push(way(node.x + node.width, middle, far.x, y, member, most));
    parts.push(...backendNode(member, far, y));
  });
  if (more > 0) {
    const y = top + members.length * ROW + ROW / 2;
    parts.push(svg("text", { class: "sub", x: far.x + 8, y: y + 4 }, `and ${more} more backends`));
  }
  const below = rated(`${service.up}/${service.backends} up`, part.packets);
  return [...parts, ...box(node, middle, service.name, below, `${service.name}: ${service.key}, ${below[0]}`)];
}

/** A line whose width is its part of the busiest way's packets. */
function way(x1, y1, x2, y2, member, most) {
  const half = (x1 + x2) / 2;
  const d = `M${x1} ${y1}C${half} ${y1} ${half} ${y2} ${x2} ${y2}`;
  const wide = member.packets > 0 ? 2 + (WIDEST - 2) * (member.packets / most) : 1.5;
  return svg("path", { class: "way", "data-state": member.look, d, "stroke-width": wide.toFixed(1) });
}

/** A state and a rate, long and short. */
function rated(state, packets) {
  return ["pkt/s", "/s"].map((unit) => `${state} · ${perSecond(packets)}${unit === "/s" ? "" : " "}${unit}`);
}

function backendNode({ backend, look, packets }, far, y) {
  const below = rated(backend.state, packets);
  const sign = svg("text", { class: "mark", "data-state": look, x: far.x + far.width - 18, y: y + 5 }, MARKS[look]);
  const room = { ...far, text: far.width - 20 };
  return [...box(room, y, backend.address, below, `${backend.address} of ${backend.service}: ${below[0]}`), sign];
}

/** Two lines in a box; what does not fit is cut, and whole in its title. */
function box({ x, width, text = width }, middle, name, below, whole) {
  const fit = (texts, letter) => {
    const room = Math.floor((text - 14) / letter);
    return texts.find((one) => one.length <= room) ?? `${texts.at(-1).slice(0, Math.max(1, room - 1))}…`;
  };
  return [
    svg("rect", { class: "node", x, y: middle - NODE / 2, width, height: NODE, rx: 4 }, svg("title", {}, whole)),
    svg("text", { class: "bold", x: x + 8, y: middle - 3 }, fit([name], LETTERS[0])),
    svg("text", { class: "sub", x: x + 8, y: middle + 12 }, fit(below, LETTERS[1])),
  ];
}
