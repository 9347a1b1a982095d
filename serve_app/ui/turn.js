// One question and its answer, as the page shows them.

import * as api from "./api.js";
import { announce, button, icon, make, plural } from "./dom.js";
import { render } from "./markdown.js";
import { openPassage } from "./passage.js";

/** Returns a turn; `again(turn)` asks its question once more. */
export function newTurn(question, again) {
  const body = make("div", { className: "body" });
  const element = make("li", { className: "turn" }, make("p", { className: "asked", textContent: question }), body);
  return { question, again, element, body, text: "", citations: [], info: {}, usage: null, id: "", frame: 0 };
}

/** Returns a turn that was answered earlier. */
export function oldTurn(question, answer, citations, again) {
  const turn = Object.assign(newTurn(question, again), { text: answer, citations });
  paint(turn, false);
  turn.body.append(...sources(turn));
  return turn;
}

/** Empties a turn, to be answered (anew). */
export function begin(turn) {
  Object.assign(turn, { text: "", citations: [], info: {}, usage: null, id: "", started: performance.now(), first: 0, last: 0 });
  waiting(turn, "Searching the documents …");
}

/** Says what is waited for: above the answer, or below what there is of it. */
export function waiting(turn, text) {
  cancelAnimationFrame(turn.frame); // it would draw over the line
  paint(turn, true);
  const line = turn.body.querySelector(".waiting") ?? make("p", { className: "waiting" });
  line.textContent = text;
  if (turn.text) turn.body.append(line);
  else turn.body.replaceChildren(line);
}

/** Takes in one chunk of the stream; draws at most once a frame, however fast they come. */
export function take(turn, chunk, onDrawn) {
  turn.id = chunk.id;
  const starting = chunk.isthmus?.starting;
  if (starting && !turn.text) {
    const percent = starting.percent < 100 ? `, ${Math.round(starting.percent)} %` : "";
    waiting(turn, `The model is loading${percent} …`);
    return;
  }
  const piece = chunk.choices[0]?.delta.content;
  if (piece) {
    turn.last = performance.now();
    turn.first ||= turn.last;
    turn.text += piece;
  }
  turn.citations = chunk.citations ?? turn.citations;
  turn.info = { ...turn.info, ...chunk.isthmus };
  turn.usage = chunk.usage ?? turn.usage;
  cancelAnimationFrame(turn.frame);
  turn.frame = requestAnimationFrame(() => { paint(turn, true); onDrawn(); });
}

/** Draws the whole answer, its sources, and what it took. */
export function finish(turn) {
  cancelAnimationFrame(turn.frame);
  paint(turn, false);
  if (turn.info.degraded) turn.body.append(notice(lack(turn.info), "warn"));
  turn.body.append(...sources(turn), foot(turn));
  const count = plural(turn.citations.length, "source");
  announce(`Answered, with ${count}: ${turn.text}`);
}

/** Shows what there is of an answer, and why there is not more. */
export function fail(turn, error, { stopped = false } = {}) {
  cancelAnimationFrame(turn.frame);
  paint(turn, false);
  turn.body.querySelector(".waiting")?.remove();
  const expected = stopped || error instanceof api.ApiError;
  const message = stopped ? "Stopped." : expected ? error.message : "The page failed. Reload it and ask again.";
  const limited = ["rate_limited", "overloaded", "not_ready"].includes(error.code);
  const shown = notice(message, stopped || limited || error.passages?.length ? "warn" : "bad");
  shown.setAttribute("role", "alert");
  const retry = button("Ask again", () => turn.again(turn), { kind: "small" });
  shown.append(retry);
  turn.body.append(shown, ...found(turn, error.passages ?? []));
  if (error.retryAfter && !stopped) countDown(retry, error.retryAfter);
}

function paint(turn, writing) {
  if (!turn.text) return;
  const answer = turn.body.querySelector(".answer") ?? make("div", { className: "answer" });
  const cites = (number) => writing || turn.citations.some((one) => one.number === number); // they come last
  answer.replaceChildren(render(turn.text, (number) => (cites(number) ? marker(turn, number) : null)));
  answer.classList.toggle("writing", writing);
  turn.body.querySelector(".waiting")?.remove(); // it goes on
  if (!answer.isConnected || !writing) turn.body.replaceChildren(answer);
}

/** What is not as it should be with a degraded answer. */
function lack({ grounded }) {
  return grounded ? "No model could answer. These are the passages that were found, as the documents have them."
    : "This answer does not rest on the documents: they could not be searched.";
}

function notice(text, kind) {
  return make("div", { className: `notice ${kind}` }, make("p", { textContent: text }));
}

function marker(turn, number) {
  const cited = turn.citations.find((one) => one.number === number);
  const made = make("button", { type: "button", className: "cite", textContent: String(number) });
  made.setAttribute("aria-label", cited ? `Source ${number}: ${cited.title}` : `Source ${number}`);
  made.setAttribute("aria-expanded", "false");
  made.addEventListener("click", () => {
    const found = turn.citations.find((one) => one.number === number);
    if (found) openPassage(found, made);
  });
  return made;
}

function sources(turn) {
  if (!turn.citations.length) return [];
  const list = make("ul", { className: "sources" });
  list.setAttribute("aria-label", "Sources");
  for (const cited of turn.citations) {
    const page = cited.page ? `, p. ${cited.page}` : "";
    const open = make("button", { type: "button", className: "source" },
      make("b", { textContent: String(cited.number) }), make("span", { textContent: cited.title + page }));
    open.setAttribute("aria-expanded", "false");
    open.addEventListener("click", () => openPassage(cited, open));
    list.append(make("li", {}, open));
  }
  return [list];
}

/** The passages that came in place of an answer. */
function found(turn, passages) {
  turn.citations = passages.map((passage, i) => ({ ...passage, number: i + 1, quote: "", passage: passage.text }));
  if (!passages.length) return [];
  return [make("p", { className: "label", textContent: "Passages that were found" }), ...sources(turn)];
}

// ---- below an answer: what can be done with it, and what it took ----

function foot(turn) {
  const tools = make("div", { className: "tools" },
    navigator.clipboard && button("Copy", () => copy(turn, tools), { kind: "tool", symbol: "copy" }), // none on plain http
    button("Ask again", () => turn.again(turn), { kind: "tool", symbol: "again" }),
    rating(turn, "up", "Good answer"), rating(turn, "down", "Bad answer"));
  const row = make("div", { className: "meta" }, tools, facts(turn));
  return row;
}

function facts(turn) {
  const seconds = (turn.last - turn.first) / 1000;
  const first = turn.first ? `first token ${((turn.first - turn.started) / 1000).toFixed(2)} s` : "";
  const speed = turn.usage && seconds > 0.05 ? `${((turn.usage.completion_tokens - 1) / seconds).toFixed(0)} tokens/s` : "";
  const shown = [turn.info.llm_model ?? turn.info.model, turn.info.route?.replace("_", " "), first, speed].filter(Boolean);
  const details = make("details", { className: "facts" }, make("summary", { textContent: shown.join(" · ") }), told(turn));
  details.firstChild.title = "How this answer came about";
  return details;
}

function told(turn) {
  const { info, usage } = turn;
  const steps = Object.entries(info.timings_ms ?? {}).map(([name, ms]) => `${name} ${Math.round(ms)} ms`).join(", ");
  const rows = [
    ["Model", [info.llm_model, info.reason].filter(Boolean).join(", ")],
    ["Searched for", info.queries?.join(" · ")],
    ["Evidence", info.evidence],
    ["Steps", steps],
    ["Tokens", usage && `${usage.prompt_tokens} read, ${usage.completion_tokens} written`],
    ["Cost", info.cost || ""],
  ];
  const list = make("dl");
  for (const [name, value] of rows) {
    if (value) list.append(make("dt", { textContent: name }), make("dd", { textContent: String(value) }));
  }
  return list;
}

async function copy(turn, tools) {
  try {
    await navigator.clipboard.writeText(turn.text);
  } catch {
    announce("The browser does not let the page copy it"); // its user's choice
    return;
  }
  tools.firstChild.replaceChildren(icon("done"));
  announce("Copied");
}

function rating(turn, value, label) {
  const made = button(label, () => rate(turn, value, made), { kind: "tool", symbol: value });
  made.setAttribute("aria-pressed", "false");
  return made;
}

async function rate(turn, value, pressed) {
  const opinion = { answer_id: turn.id, rating: value, question: turn.question, answer: turn.text.slice(0, 20_000) };
  try {
    await api.rate(opinion);
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    announce(`The rating was not taken: ${error.message}`);
    pressed.title = error.message;
    return;
  }
  for (const one of pressed.parentElement.querySelectorAll("[aria-pressed]")) one.setAttribute("aria-pressed", String(one === pressed));
  announce("Thank you for the rating");
  if (value === "down") askWhy(turn, opinion);
}

/** A line to say more, below a bad rating. */
function askWhy(turn, opinion) {
  if (turn.body.querySelector(".why")) return;
  const field = make("input", { type: "text", maxLength: 2000, placeholder: "What was wrong? (optional)" });
  field.setAttribute("aria-label", "What was wrong?");
  const failed = make("p", { className: "label" });
  failed.setAttribute("role", "alert");
  const form = make("form", { className: "why" }, field, make("button", { className: "small", textContent: "Send" }));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      if (field.value.trim()) await api.rate({ ...opinion, comment: field.value.trim() });
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      failed.textContent = error.message;
      form.append(failed);
      return;
    }
    form.replaceChildren(make("p", { className: "label", textContent: "Thank you." }));
  });
  turn.body.append(form);
  field.focus();
}

function countDown(retry, seconds) {
  retry.disabled = seconds > 0;
  retry.textContent = seconds > 0 ? `Ask again in ${seconds} s` : "Ask again";
  if (seconds > 0) setTimeout(() => countDown(retry, seconds - 1), 1000);
}
