// Making and changing elements. Texts are set as texts, never as markup: names come from others.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; a child that is no element is text. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same for drawings. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Sets a text, if it is another: a reader should hear of no change that is none. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Sets an attribute, if it is another. */
export function mark(target, name, value) {
  if (target.getAttribute(name) !== value) target.setAttribute(name, value);
}

/**
 * Makes the children of `parent` those of `items`: elements are made once for each key, and then changed, so that the
 * keyboard's focus, a selection and a reader's place stay.
 */
export function each(parent, items, key, make, change) {
  const known = (parent.known ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [name, child] of known) {
    if (!wanted.has(name)) {
      child.remove();
      known.delete(name);
    }
  }
  const focused = document.activeElement;
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = known.get(name);
    if (!child) {
      child = make(item);
      known.set(name, child);
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    change(child, item);
  }
  if (document.activeElement !== focused && parent.contains(focused)) focused.focus({ preventScroll: true });
}

/** A table whose columns sort it. A column: title, what sorts it, what makes and fills its cell. */
export class Table {
  #columns;
  #table;
  #sorted = null;
  #descends = false;
  #changed;

  constructor(table, columns, changed) {
    this.#table = table;
    this.#columns = columns;
    this.#changed = changed;
    table.tHead.append(element("tr", {}, ...columns.map((column) => this.#head(column))));
  }

  #head(column) {
    const attributes = { scope: "col", class: classOf(column) };
    if (!column.by) return element("th", attributes, column.title);
    const button = element("button", { type: "button" }, column.title);
    const head = element("th", attributes, button);
    button.addEventListener("click", () => this.#sort(column, head));
    return head;
  }

  #sort(column, head) {
    // Numbers begin with the largest.
    this.#descends = this.#sorted === column ? !this.#descends : Boolean(column.number);
    this.#sorted = column;
    for (const other of this.#table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", this.#descends ? "descending" : "ascending");
    this.#changed();
  }

  /** Items in the order that was chosen. */
  sorted(items) {
    if (!this.#sorted) return items;
    const { by } = this.#sorted;
    const order = (one, other) => (typeof by(one) === "number" ? by(one) - by(other) : collate(by(one), by(other)));
    return [...items].sort((one, other) => (this.#descends ? order(other, one) : order(one, other)));
  }

  /** Shows these items, in this order. */
  show(items, key) {
    const make = (item) => element("tr", {}, ...this.#columns.map((column) => cell(column, item)));
    each(this.#table.tBodies[0], items, key, make, (row, item) => {
      this.#columns.forEach((column, index) => column.fill(row.cells[index], item));
    });
  }
}

const { compare: collate } = new Intl.Collator("en", { numeric: true });

function classOf(column) {
  return column.number ? "number" : column.class;
}

function cell(column, item) {
  const attributes = { class: classOf(column) };
  const made = column.heads ? element("th", { ...attributes, scope: "row" }) : element("td", attributes);
  column.make?.(made, item);
  return made;
}

/** A state, as a word with a mark, and why it is so. */
export function fillState(target, state, why) {
  if (!target.firstChild) target.append(element("span", { class: "state" }), element("span", { class: "why" }));
  const [word, reason] = target.children;
  say(word, state);
  mark(word, "data-state", state);
  say(reason, why ?? "");
}

/** The button that shows more, where there is more. */
export function more(target, shown, all, onMore) {
  if (shown >= all) return target.replaceChildren();
  if (!target.firstChild) target.append(element("span"), " ", element("button", { type: "button" }, "Show more"));
  say(target.firstChild, `${shown} of ${all} are shown.`);
  target.lastChild.onclick = onMore;
}

const WIDTH = 192;
const HEIGHT = 20;

/** What a backend was, as a bar with patterns, and as text for readers. */
export function fillTimeline(target, spans, text) {
  mark(target.firstElementChild, "aria-label", text);
  const [first, last] = [spans[0].from, spans.at(-1).to];
  const x = (time) => ((time - first) / (last - first)) * WIDTH;
  const parts = spans.flatMap((span) => drawnSpan(span.look, x(span.from), Math.max(2, x(span.to) - x(span.from))));
  const frame = svg("rect", { class: "frame", x: 0.5, y: 0.5, width: WIDTH - 1, height: HEIGHT - 1 });
  target.firstElementChild.replaceChildren(...parts, frame);
}

export function timeline() {
  return svg("svg", { class: "timeline", role: "img", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" });
}

/** Up is a full bar; down is half as high and struck by strokes, what is between is a half bar with dots. */
function drawnSpan(look, x, width) {
  const full = { x, y: 0, width, height: HEIGHT, class: look };
  if (look === "up" || look === "unknown") return [svg("rect", full)];
  const half = svg("rect", { ...full, y: HEIGHT / 2, height: HEIGHT / 2 });
  const step = look === "down" ? 6 : 12;
  const stroke = (at) => svg("line", { class: "pattern", x1: at, y1: HEIGHT, x2: look === "down" ? at + 5 : at, y2: HEIGHT / 2 });
  const strokes = Array.from({ length: Math.floor(width / step) }, (_, index) => stroke(x + index * step + step / 2));
  return [half, ...strokes];
}
