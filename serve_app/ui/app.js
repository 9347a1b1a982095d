// The chat page: state, events, and what they change on the page.

import * as api from "./api.js";
import { render } from "./markdown.js";

const STATUS_EVERY_MS = 15_000;
const $ = (id) => document.getElementById(id);
const state = { model: null, turns: [], running: null, opener: null };

// ---- the conversation ----

function submit(question) {
  const text = question.trim();
  if (!text || state.running) return;
  const turn = { question: text, text: "", citations: [], element: null };
  state.turns.push(turn);
  turn.element = drawTurn(turn);
  $("turns").append(turn.element);
  $("welcome").hidden = true;
  run(turn);
}

async function run(turn) {
  const stop = new AbortController();
  state.running = stop;
  showRunning(true);
  const body = turn.element.querySelector(".body");
  body.replaceChildren(make("p", { className: "waiting", textContent: "Searching the documents …" }));
  scrollToEnd(true);
  const timing = { started: performance.now(), first: 0, pieces: 0 };
  try {
    state.model ??= await api.model();
    for await (const chunk of api.ask(state.model, chosenCollection(), messages(turn), stop.signal)) {
      takeChunk(turn, chunk, timing);
      draw(turn, body, true);
    }
    draw(turn, body, false);
    body.append(...sources(turn), meta(turn, timing));
    announce(turn);
  } catch (error) {
    showFailure(turn, body, error, stop.signal.aborted);
  } finally {
    state.running = null;
    showRunning(false);
    scrollToEnd(false);
  }
}

function messages(turn) {
  const earlier = state.turns.slice(0, state.turns.indexOf(turn)).filter((one) => one.text);
  return [
    ...earlier.flatMap((one) => [
      { role: "user", content: one.question },
      { role: "assistant", content: one.text },
    ]),
    { role: "user", content: turn.question },
  ];
}

function takeChunk(turn, chunk, timing) {
  const piece = chunk.choices[0]?.delta.content;
  if (piece) {
    timing.first ||= performance.now();
    timing.last = performance.now();
    timing.pieces += 1;
    turn.text += piece;
  }
  turn.citations = chunk.citations ?? turn.citations;
  turn.info = chunk.isthmus ?? turn.info;
  turn.usage = chunk.usage ?? turn.usage;
}

// One drawing a frame, however fast the tokens come.
function draw(turn, body, writing) {
  cancelAnimationFrame(turn.frame);
  const paint = () => {
    if (!turn.text) return;
    const follow = isAtEnd();
    const answer = body.querySelector(".answer") ?? make("div", { className: "answer" });
    answer.replaceChildren(render(turn.text, (number) => marker(turn, number)));
    answer.classList.toggle("writing", writing);
    if (!answer.isConnected) body.replaceChildren(answer);
    if (follow) scrollToEnd(true);
  };
  if (writing) turn.frame = requestAnimationFrame(paint);
  else paint();
}

function drawTurn(turn) {
  const item = make("li", { className: "turn" });
  item.append(make("p", { className: "asked", textContent: turn.question }), make("div", { className: "body turn" }));
  return item;
}

function marker(turn, number) {
  const cited = turn.citations.find((one) => one.number === number);
  const button = make("button", { type: "button", className: "cite", textContent: String(number) });
  button.setAttribute("aria-label", cited ? `Source ${number}: ${cited.title}` : `Source ${number}`);
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    const found = turn.citations.find((one) => one.number === number);
    if (found) openPassage(found, button);
  });
  return button;
}

function sources(turn) {
  if (!turn.citations.length) return [];
  const list = make("ul", { className: "sources" });
  list.setAttribute("aria-label", "Sources");
  for (const cited of turn.citations) {
    const button = make("button", { type: "button", className: "source" });
    button.setAttribute("aria-expanded", "false");
    const page = cited.page ? `, p. ${cited.page}` : "";
    button.append(make("b", { textContent: String(cited.number) }), make("span", { textContent: cited.title + page }));
    button.addEventListener("click", () => openPassage(cited, button));
    const item = make("li", {});
    item.append(button);
    list.append(item);
  }
  return [list];
}

function meta(turn, timing) {
  const row = make("div", { className: "meta" });
  const seconds = (timing.last - timing.first) / 1000;
  const facts = [
    turn.info?.llm_model,
    timing.first && `first token after ${((timing.first - timing.started) / 1000).toFixed(2)} s`,
    turn.usage && `${turn.usage.prompt_tokens} + ${turn.usage.completion_tokens} tokens`,
    turn.usage && seconds > 0.05 && `${((turn.usage.completion_tokens - 1) / seconds).toFixed(0)} tokens/s`,
  ];
  row.append(...facts.filter(Boolean).map((fact) => make("span", { textContent: fact })));
  row.append(action("Copy", () => copy(turn, row)), action("Ask again", () => again(turn)));
  return row;
}

async function copy(turn, row) {
  await navigator.clipboard.writeText(turn.text);
  row.querySelector("button").textContent = "Copied";
}

function again(turn) {
  if (state.running) return;
  Object.assign(turn, { text: "", citations: [], usage: null, info: null });
  run(turn);
}

function showFailure(turn, body, error, stopped) {
  draw(turn, body, false);
  body.querySelector(".waiting")?.remove();
  const expected = stopped || error instanceof api.ApiError;
  const message = stopped ? "Stopped." : expected ? error.message : "The page failed. Reload it and ask again.";
  const notice = make("div", { className: stopped || error.passages?.length ? "notice" : "notice bad" });
  notice.setAttribute("role", "alert");
  const retry = action("Ask again", () => again(turn));
  if (error.code === "invalid_api_key") askForKey(() => again(turn));
  notice.append(make("p", { textContent: message }), retry);
  body.append(notice, ...found(turn, error.passages ?? []));
  if (error.retryAfter && !stopped) countDown(retry, error.retryAfter);
  if (!expected) throw error;
}

/** The passages that came in place of an answer. */
function found(turn, passages) {
  turn.citations = passages.map((passage, i) => ({ ...passage, number: i + 1, quote: "", passage: passage.text }));
  return sources(turn);
}

function countDown(button, seconds) {
  button.disabled = seconds > 0;
  button.textContent = seconds > 0 ? `Ask again in ${seconds} s` : "Ask again";
  if (seconds > 0) setTimeout(() => countDown(button, seconds - 1), 1000);
}

function announce(turn) {
  const count = turn.citations.length;
  $("announcer").textContent = `Answered, with ${count} ${count === 1 ? "source" : "sources"}: ${turn.text}`;
}

// ---- the passage beside it ----

function openPassage(cited, opener) {
  closePassage();
  state.opener = opener;
  opener.setAttribute("aria-expanded", "true");
  $("passage-title").textContent = cited.title;
  const page = cited.page ? `page ${cited.page}` : "";
  $("passage-place").textContent = [cited.source, page, cited.heading].filter(Boolean).join(" · ");
  $("passage-text").replaceChildren(...highlighted(cited.passage ?? cited.quote, cited.quote));
  $("passage").hidden = false;
  $("passage-title").focus();
  $("passage-text").querySelector("mark")?.scrollIntoView({ block: "center" });
}

/** The text with its quote marked. The quote may differ from it in white space. */
function highlighted(text, quote) {
  const words = quote.trim().split(/\s+/).filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const at = words.length ? new RegExp(words.join("\\s+")).exec(text) : null;
  if (!at) return [text];
  const mark = make("mark", { textContent: at[0] });
  return [text.slice(0, at.index), mark, text.slice(at.index + at[0].length)];
}

function closePassage() {
  $("passage").hidden = true;
  state.opener?.setAttribute("aria-expanded", "false");
  state.opener?.focus();
  state.opener = null;
}

// ---- uploads ----

function addFiles(files) {
  for (const file of files) add(file);
}

async function add(file) {
  const row = make("li", { className: "upload" });
  const what = make("span", { className: "what", textContent: "Uploading" });
  const bar = make("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", `Upload of ${file.name}`);
  row.append(make("span", { className: "name", textContent: file.name }), bar, what);
  $("uploads").append(row);
  try {
    const report = await api.upload(file, chosenCollection(), (share) => {
      bar.value = share;
      if (share === 1) what.textContent = "Reading and indexing …";
    });
    row.dataset.state = "done";
    what.textContent = report.result === "unchanged" ? "Already there" : `Added, ${report.chunks_total} chunks`;
  } catch (error) {
    row.dataset.state = "failed";
    what.textContent = error.message;
    if (error.code === "invalid_api_key") askForKey(() => { row.remove(); add(file); });
  }
  bar.remove();
  const close = action("✕", () => row.remove());
  close.setAttribute("aria-label", `Dismiss ${file.name}`);
  row.append(close);
}

// ---- collections ----

function chosenCollection() {
  return $("collection").value || "default";
}

/** The picker appears where there is something to pick. */
async function showCollections() {
  const names = await api.collections().catch((error) => {
    if (error instanceof api.ApiError) return []; // the status line says what is wrong
    throw error;
  });
  $("collection").replaceChildren(...names.map((name) => make("option", { textContent: name })));
  if (names.includes("default")) $("collection").value = "default";
  $("collection").hidden = names.length < 2;
}

// ---- the key ----

/** Opens the dialog; `then` runs once a key was given. */
function askForKey(then) {
  const dialog = $("key-dialog");
  $("key").value = "";
  dialog.addEventListener("close", () => {
    if (!$("key").value) return;
    api.useKey($("key").value);
    showCollections().then(then);
  }, { once: true });
  if (!dialog.open) dialog.showModal();
}

// ---- the page around it ----

function make(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

function action(label, act) {
  const button = make("button", { type: "button", className: "quiet", textContent: label });
  button.addEventListener("click", act);
  return button;
}

function isAtEnd() {
  const main = $("main");
  return main.scrollHeight - main.scrollTop - main.clientHeight < 90;
}

function scrollToEnd(always) {
  if (always || isAtEnd()) $("main").scrollTop = $("main").scrollHeight;
}

function showRunning(running) {
  $("stop").hidden = !running;
  $("send").hidden = running;
  $("question").focus();
}

function fitQuestion() {
  const field = $("question");
  field.rows = Math.min(9, field.value.split("\n").length);
  while (field.scrollHeight > field.clientHeight + 2 && field.rows < 9) field.rows += 1;
  $("send").disabled = !field.value.trim();
}

async function showStatus() {
  if (state.running) return;
  const { state: now, text } = await api.readiness();
  $("status").dataset.state = now;
  $("status-text").textContent = text;
}

function send() {
  if (state.running) return;
  const field = $("question");
  const text = field.value;
  field.value = "";
  fitQuestion();
  submit(text);
}

function newChat() {
  state.running?.abort();
  state.turns = [];
  state.opener = null;
  closePassage();
  $("turns").replaceChildren();
  $("welcome").hidden = false;
  $("question").focus();
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

function onKey(event) {
  const typing = event.target === $("question");
  if (event.key === "Enter" && typing && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  } else if (event.key === "Escape") {
    if (!$("passage").hidden) closePassage();
    else state.running?.abort();
  } else if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    $("question").focus();
  }
}

function onDrag(event) {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  $("drop").hidden = event.type !== "dragover";
  if (event.type === "drop") addFiles(event.dataTransfer.files);
}

function start() {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
  $("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  $("question").addEventListener("input", fitQuestion);
  $("stop").addEventListener("click", () => state.running?.abort());
  $("new-chat").addEventListener("click", newChat);
  $("theme").addEventListener("click", toggleTheme);
  $("passage-close").addEventListener("click", closePassage);
  $("ideas").addEventListener("click", (event) => {
    const idea = event.target.closest(".idea");
    if (idea) submit(idea.textContent);
  });
  $("files").addEventListener("change", (event) => { addFiles(event.target.files); event.target.value = ""; });
  document.addEventListener("keydown", onKey);
  for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, onDrag);
  fitQuestion();
  showStatus();
  showCollections();
  setInterval(showStatus, STATUS_EVERY_MS);
  $("question").focus();
}

start();
