// Markdown to DOM nodes. Text only ever becomes text nodes, so nothing in an answer or a document
// can become markup: there is no HTML to sanitise.

const INLINE = /(`[^`\n]+`)|(\*\*[^*\n]+\*\*)|(\*[^*\s][^*\n]*\*)|\[(\d{1,3})\](?!\()|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)/g;
const FENCE = /^\s*```/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const BULLET = /^\s*[-*+]\s+(.*)$/;
const NUMBER = /^\s*\d{1,9}[.)]\s+(.*)$/;
const QUOTE = /^\s*>\s?(.*)$/;

/** Returns a fragment with the blocks of `text`; `cite(n)` makes the element for a marker [n]. */
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
  if (BULLET.test(lines[i])) return readList(lines, i, "ul", BULLET, cite);
  if (NUMBER.test(lines[i])) return readList(lines, i, "ol", NUMBER, cite);
  if (QUOTE.test(lines[i])) return readQuote(lines, i, cite);
  let end = i + 1;
  while (end < lines.length && lines[end].trim() && !startsBlock(lines[end])) end += 1;
  return [fill("p", lines.slice(i, end).join("\n"), cite), end];
}

function startsBlock(line) {
  return [FENCE, HEADING, BULLET, NUMBER, QUOTE].some((kind) => kind.test(line));
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

function readList(lines, start, kind, pattern, cite) {
  const list = document.createElement(kind);
  let i = start;
  for (let item; i < lines.length && (item = pattern.exec(lines[i])); i += 1) {
    list.append(fill("li", item[1], cite));
  }
  return [list, i];
}

function readQuote(lines, start, cite) {
  const said = [];
  let i = start;
  for (let line; i < lines.length && (line = QUOTE.exec(lines[i])); i += 1) said.push(line[1]);
  return [fill("blockquote", said.join("\n"), cite), i];
}

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

function inline([whole, code, strong, emphasis, number, label, url], cite) {
  if (number) return cite(Number(number)) ?? whole;
  if (url) return link(label, url);
  const [name, text] = code ? ["code", code.slice(1, -1)]
    : strong ? ["strong", strong.slice(2, -2)] : ["em", emphasis.slice(1, -1)];
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

function link(label, url) {
  const anchor = document.createElement("a");
  anchor.textContent = label;
  anchor.href = url;
  anchor.rel = "noopener noreferrer nofollow";
  anchor.target = "_blank";
  return anchor;
}
