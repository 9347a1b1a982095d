// Markdown to DOM nodes. Text only ever becomes text nodes, so nothing in an answer or a document
// can become markup: there is no HTML to sanitise.

const INLINE = /(`[^`\n]+`)|(\*\*[^*\n]+\*\*)|(\*[^*\s][^*\n]*\*)|\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\](?!\()|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)/g;
const FENCE = /^\s*```/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const ITEM = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+(.*)$/;
const QUOTE = /^\s*>\s?(.*)$/;
const HIDDEN = "\0"; // stands for an escaped pipe: browsers of 2022 have no lookbehind in patterns
const NESTED = 2; // columns further in than its list's first item, an item is in a list of its own

/**
 * Returns a fragment with the blocks of `text`; `cite(n)` makes the element for the number n of a
 * marker such as [1] or [1, 2], or returns null where it is none: then the marker stays as it is.
 */
export function render(text, cite) {
  const out = document.createDocumentFragment();
  const lines = text.split("\n");
  let i = 0;
  while (i < lines.length) {
    if (!lines[i].trim()) { i += 1; continue; }
    const [block, next] = readBlock(lines, i, cite);
    out.append(block);
    i = next;
  }
  return out;
}

function readBlock(lines, i, cite) {
  if (FENCE.test(lines[i])) return readFence(lines, i);
  const heading = HEADING.exec(lines[i]);
  if (heading) return [fill(heading[1].length < 3 ? "h3" : "h4", heading[2], cite), i + 1];
  if (ITEM.test(lines[i])) return readList(lines, i, cite);
  if (QUOTE.test(lines[i])) return readQuote(lines, i, cite);
  if (startsTable(lines, i)) return readTable(lines, i, cite);
  let end = i + 1;
  while (end < lines.length && lines[end].trim() && !startsBlock(lines, end)) end += 1;
  return [fill("p", lines.slice(i, end).join("\n"), cite), end];
}

function startsBlock(lines, i) {
  return [FENCE, HEADING, ITEM, QUOTE].some((kind) => kind.test(lines[i])) || startsTable(lines, i);
}

function readFence(lines, start) {
  let end = start + 1;
  while (end < lines.length && !FENCE.test(lines[end])) end += 1;
  const pre = document.createElement("pre");
  const code = document.createElement("code");
  code.textContent = lines.slice(start + 1, end).join("\n");
  pre.append(code);
  pre.tabIndex = 0; // it may scroll: the keyboard has to reach it
  return [pre, end + 1];
}

/** Reads a list with the lists inside its items. Blank lines between items do not end it. */
function readList(lines, start, cite) {
  const [, margin, number] = ITEM.exec(lines[start]);
  const list = document.createElement(number ? "ol" : "ul");
  if (number) list.start = Number(number);
  let i = start;
  for (let at; (at = nextItem(lines, i)) !== null;) {
    const [, indent, itsNumber] = ITEM.exec(lines[at]);
    const further = columns(indent) - columns(margin);
    const inside = further >= NESTED;
    if (further < 0 || (!inside && Boolean(itsNumber) !== Boolean(number))) break;
    const [read, next] = inside ? readList(lines, at, cite) : readItem(lines, at, cite);
    (inside ? list.lastChild : list).append(read);
    i = next;
  }
  return [list, i];
}

/** Returns the index of the item that follows, blank lines left out; null where there is none. */
function nextItem(lines, start) {
  let i = start;
  while (i < lines.length && !lines[i].trim()) i += 1;
  return i < lines.length && ITEM.test(lines[i]) ? i : null;
}

/** Reads an item's own text: its line, and those further in that go on with it. */
function readItem(lines, start, cite) {
  const said = [ITEM.exec(lines[start])[3]];
  let i = start + 1;
  for (; i < lines.length && /^\s+\S/.test(lines[i]) && !startsBlock(lines, i); i += 1) said.push(lines[i].trim());
  return [fill("li", said.join("\n"), cite), i];
}

function columns(indent) {
  return indent.replaceAll("\t", "    ").length;
}

function readQuote(lines, start, cite) {
  const said = [];
  let i = start;
  for (let line; i < lines.length && (line = QUOTE.exec(lines[i])); i += 1) said.push(line[1]);
  return [fill("blockquote", said.join("\n"), cite), i];
}

/** Whether two lines begin a table: its head, and under each cell of it a rule such as `---`. */
function startsTable(lines, i) {
  if (!masked(lines[i]).includes("|") || i + 1 === lines.length) return false;
  const rules = cells(lines[i + 1]);
  return rules.length === cells(lines[i]).length && rules.every((rule) => /^:?-+:?$/.test(rule));
}

function readTable(lines, start, cite) {
  const head = cells(lines[start]);
  const table = document.createElement("table");
  table.createTHead().append(tableRow("th", head, cite));
  const body = table.createTBody();
  let i = start + 2;
  for (; i < lines.length && masked(lines[i]).includes("|"); i += 1) {
    const found = cells(lines[i]);
    body.append(tableRow("td", head.map((_, column) => found[column] ?? ""), cite));
  }
  const frame = document.createElement("div");
  frame.className = "table";
  frame.tabIndex = 0; // it may scroll, as code does
  frame.append(table);
  return [frame, i];
}

function tableRow(kind, texts, cite) {
  const row = document.createElement("tr");
  row.append(...texts.map((text) => fill(kind, text, cite)));
  return row;
}

function cells(line) {
  const inner = masked(line).trim().replace(/^\|/, "").replace(/\|$/, "");
  return inner.split("|").map((cell) => cell.trim().replaceAll(HIDDEN, "|"));
}

/** Returns a line of a table with its pipes that are text, `\|`, hidden. */
function masked(line) {
  return line.replaceAll("\\|", HIDDEN);
}

/** Returns an element with `text`, its marks and markers made elements. */
function fill(name, text, cite) {
  const element = document.createElement(name);
  let at = 0;
  for (const found of text.matchAll(INLINE)) {
    element.append(text.slice(at, found.index), inline(found, cite));
    at = found.index + found[0].length;
  }
  element.append(text.slice(at));
  return element;
}

function inline([whole, code, strong, emphasis, numbers, label, url], cite) {
  if (numbers) return markers(numbers, cite) ?? whole;
  if (url) return link(label, url);
  if (strong) return fill("strong", strong.slice(2, -2), cite);
  if (emphasis) return fill("em", emphasis.slice(1, -1), cite);
  const element = document.createElement("code");
  element.textContent = code.slice(1, -1);
  return element;
}

function markers(numbers, cite) {
  const elements = numbers.split(",").map((number) => cite(Number(number)));
  if (elements.includes(null)) return null;
  const made = document.createDocumentFragment();
  made.append(...elements);
  return made;
}

function link(label, url) {
  const anchor = document.createElement("a");
  anchor.textContent = label;
  anchor.href = url;
  anchor.rel = "noopener noreferrer nofollow";
  anchor.target = "_blank";
  return anchor;
}
