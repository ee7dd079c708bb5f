// What tests ask of a page.

function textOf(selector) {
  return document.querySelector(selector)?.textContent ?? "";
}

/** The texts of the cells of every row of a table. */
function rowsOf(selector) {
  const rows = [...document.querySelectorAll(`${selector} tbody tr`)];
  return rows.map((row) => [...row.cells].map((cell) => cell.innerText.trim()));
}

/** A short name for an element: its id, or what it says, within its section. */
function nameOf(element) {
  if (!element || element === document.body) return "";
  const section = element.closest("section")?.id ?? "page";
  const label = element.id || element.getAttribute("aria-label") || element.getAttribute("role") || element.textContent.trim();
  return `${section}: ${element.tagName} ${label}`;
}

function isVisible(element) {
  return element.checkVisibility({ visibilityProperty: true });
}

/** Everything that does something, or that scrolls. */
function operable() {
  const all = document.querySelectorAll("a[href], button, input, select, textarea, [tabindex='0']");
  return [...all].filter(isVisible).map(nameOf);
}

function focused() {
  return nameOf(document.activeElement);
}

/** Whether the focus can be seen. */
function focusIsMarked() {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
}

/** WCAG 2.2, relative luminance, of a colour as computed styles have it. */
function luminance([red, green, blue]) {
  const part = (value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
}

function channels(color) {
  return color.match(/[\d.]+/g).map(Number);
}

/** What stands behind an element. */
function groundOf(element) {
  for (let one = element; one; one = one.parentElement) {
    const behind = one.closest("svg") && one.previousElementSibling?.matches?.("rect.node") ? one.previousElementSibling : one;
    const style = getComputedStyle(behind);
    const color = channels(behind === one ? style.backgroundColor : style.fill);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
}

function ratio(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

/** Texts with a contrast of less than 4.5 (WCAG 2.2 §1.4.3), and how many were looked at. */
function faint() {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const wrong = [];
  let looked = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !isVisible(element) || element.closest(".hidden, title, noscript, datalist")) continue;
    const style = getComputedStyle(element);
    const color = channels(element.closest("svg") ? style.fill : style.color);
    const found = ratio(color, groundOf(element));
    looked += 1;
    if (found < 4.5) wrong.push(`${found.toFixed(2)}: ${walker.currentNode.data.trim().slice(0, 40)} (${style.color})`);
  }
  return { wrong: [...new Set(wrong)], looked };
}

/** Lines and edges that say something, with a contrast of less than 3 (WCAG 2.2 §1.4.11). */
function faintLines() {
  const parts = [...document.querySelectorAll("#topology .way, .timeline rect:not(.unknown), input, select, .bar span")];
  const colorOf = (part) => {
    const style = getComputedStyle(part);
    if (part.matches(".way, .frame")) return style.stroke;
    if (part.matches("rect")) return style.fill;
    return part.matches(".bar span") ? style.backgroundColor : style.borderTopColor;
  };
  const visible = parts.filter(isVisible);
  const found = visible.map((part) => ({ part, ratio: ratio(channels(colorOf(part)), groundOf(part.parentElement)) }));
  return { wrong: found.filter(({ ratio }) => ratio < 3).map(({ part, ratio }) => `${ratio.toFixed(2)}: ${part.outerHTML.slice(0, 80)}`), looked: found.length };
}

/** How far the page is wider than its window, and what makes it so. */
function tooWide() {
  const width = document.documentElement.clientWidth;
  const isWide = (element) => element.getBoundingClientRect().right > width + 1 && !element.closest(".scroll, .skip, .hidden");
  const wide = [...document.body.querySelectorAll("*")].filter(isWide);
  return { by: document.documentElement.scrollWidth - width, what: wide.map(nameOf) };
}

/** Levels of headings, in their order. */
function headings() {
  return [...document.querySelectorAll("h1, h2, h3, h4")].map((heading) => Number(heading.tagName[1]));
}
