// The conversations that the gateway remembers, in the page's side.

import * as api from "./api.js";
import { $, ago, announce, button, make } from "./dom.js";

/** Shows the conversations; `current` is the one that is open, `open(id)` and `gone(id)` are told. */
export async function showThreads(current, open, gone) {
  let found;
  try {
    found = await api.threads();
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    explain(error.code === "invalid_api_key" ? "" : "The conversations cannot be read now.");
    return;
  }
  $("threads").replaceChildren(...found.map((thread) => item(thread, thread.id === current, open, gone)));
  explain(found.length ? "" : "What you ask will be listed here.");
}

function explain(text) {
  $("threads-empty").textContent = text;
  $("threads-empty").hidden = !text;
}

function item(thread, isCurrent, open, gone) {
  const title = make("button", { type: "button", className: "thread" },
    make("span", { textContent: thread.title }), make("time", { textContent: ago(new Date(thread.updated)) }));
  if (isCurrent) title.setAttribute("aria-current", "true");
  title.addEventListener("click", () => open(thread.id));
  const row = make("li", {}, title, button(`Delete “${thread.title}”`, () => confirm(row, thread, gone), { kind: "tool", symbol: "bin" }));
  return row;
}

function confirm(row, thread, gone) {
  const before = [...row.childNodes];
  const keep = button("Keep", () => { row.replaceChildren(...before); before[0].focus(); }, { kind: "small" });
  const forget = button("Delete", async () => {
    try {
      await api.deleteThread(thread.id);
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      row.replaceChildren(...before);
      announce(error.message);
      explain(error.message);
      return;
    }
    row.remove();
    announce("Conversation deleted");
    gone(thread.id);
  }, { kind: "small danger" });
  row.replaceChildren(make("span", { className: "sure", textContent: "Delete it?" }), forget, keep);
  forget.focus();
}
