// Making elements. Text becomes text nodes, never HTML.

export const $ = (id) => document.getElementById(id);

const ICONS = {
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  done: "M5 13l4 4L19 7",
  again: "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
  up: "M7 11v9H4v-9zM7 11l4-8a2.5 2.5 0 0 1 2.5 2.5V9H19a2 2 0 0 1 2 2.3l-1 6.7a2.4 2.4 0 0 1-2.4 2H7",
  down: "M17 13V4h3v9zM17 13l-4 8a2.5 2.5 0 0 1-2.5-2.5V15H5a2 2 0 0 1-2-2.3L4 6a2.4 2.4 0 0 1 2.4-2H17",
  bin: "M4 7h16M10 11v6M14 11v6M6 7l1 13h10l1-13M9 7V4h6v3",
  close: "M6 6l12 12M18 6L6 18",
  file: "M6 3h8l5 5v13H6zM14 3v5h5",
};

export function icon(name, size = 17) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", width: size, height: size, "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Returns an element with `properties` and `children`; undefined and false children are left out. */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.filter((child) => child || child === 0));
  return element;
}

/** Returns a button; `label` is what it says, or what it is called where it shows an icon. */
export function button(label, act, { kind = "quiet", symbol = "" } = {}) {
  const made = make("button", { type: "button", className: kind }, symbol ? icon(symbol) : label);
  if (symbol) {
    made.setAttribute("aria-label", label);
    made.title = label;
  }
  made.addEventListener("click", act);
  return made;
}

/** Says `text` to those who hear the page. */
export function announce(text) {
  $("announcer").textContent = text;
}

export function plural(count, one, many = `${one}s`) {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}

/** Returns how long ago a moment was, in a word or two. */
export function ago(date) {
  const seconds = (Date.now() - date.getTime()) / 1000;
  const days = Math.floor(seconds / 86_400);
  if (seconds < 90) return "now";
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (days < 1) return `${Math.round(seconds / 3600)} h`;
  return days < 30 ? `${days} d` : date.toLocaleDateString();
}
