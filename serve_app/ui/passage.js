// The panel beside the conversation: a passage, with its quote marked.

import { $, make } from "./dom.js";

let opener = null;

export function openPassage(cited, from) {
  closePassage();
  opener = from;
  opener.setAttribute("aria-expanded", "true");
  $("passage-title").textContent = cited.title;
  const page = cited.page ? `page ${cited.page}` : "";
  $("passage-place").textContent = [cited.source, page, cited.heading].filter(Boolean).join(" · ");
  $("passage-text").replaceChildren(...highlighted(cited.passage ?? cited.quote, cited.quote));
  $("passage").hidden = false;
  $("passage-title").focus();
  $("passage-text").querySelector("mark")?.scrollIntoView({ block: "center" });
}

/** Closes the panel; returns whether it was open. */
export function closePassage() {
  const wasOpen = !$("passage").hidden;
  $("passage").hidden = true;
  opener?.setAttribute("aria-expanded", "false");
  opener?.focus();
  opener = null;
  return wasOpen;
}

/** The text with its quote marked. The quote may differ from it in white space. */
function highlighted(text, quote) {
  const words = quote.trim().split(/\s+/).filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const at = words.length ? new RegExp(words.join("\\s+")).exec(text) : null;
  if (!at) return [text];
  const mark = make("mark", { textContent: at[0] });
  return [text.slice(0, at.index), mark, text.slice(at.index + at[0].length)];
}
