// The chat page: its state, what happens on it, and who acts on that.

import * as api from "./api.js";
import { $ } from "./dom.js";
import { addFiles, chosenCollection, openLibrary, showBeginning, showCollections, showDocuments } from "./library.js";
import { closePassage } from "./passage.js";
import { showThreads } from "./threads.js";
import { begin, fail, finish, newTurn, oldTurn, take, waiting } from "./turn.js";

const STATUS_EVERY_MS = 15_000;
const NEAR_END_PX = 90;
const state = { model: null, thread: null, running: null, asked: "" };

// ---- the conversation ----

function submit(question) {
  const text = question.trim();
  if (!text || state.running) return;
  state.asked = text;
  const turn = newTurn(text, again);
  show(turn);
  run(turn);
}

/** Asks once more: in place what failed, below what was answered. */
function again(turn) {
  if (state.running) return;
  if (turn.body.querySelector(".meta") || !turn.started) submit(turn.question);
  else run(turn);
}

function show(turn) {
  if (!$("turns").children.length) $("title").textContent = document.title = turn.question;
  $("turns").append(turn.element);
  $("welcome").hidden = true;
}

async function run(turn) {
  const stop = new AbortController();
  state.running = { stop, turn };
  showRunning(true);
  begin(turn);
  scrollToEnd();
  try {
    state.model ??= await api.model();
    state.thread ??= crypto.randomUUID?.() ?? `t${Date.now()}${Math.random()}`.replace(".", "");
    const question = {
      model: state.model, collection: chosenCollection(), thread_id: state.thread,
      messages: [{ role: "user", content: turn.question }],
    };
    for await (const chunk of api.ask(question, stop.signal, () => waiting(turn, "The connection was lost. Reconnecting …"))) {
      const follow = isAtEnd();
      take(turn, chunk, () => { if (follow) scrollToEnd(); });
    }
    finish(turn);
    remember();
  } catch (error) {
    fail(turn, error, { stopped: stop.signal.aborted });
    if (stop.signal.aborted && turn.id) api.cancel(turn.id);
    if (error.code === "invalid_api_key") askForKey(() => again(turn));
    else if (!stop.signal.aborted && !(error instanceof api.ApiError)) throw error;
  } finally {
    state.running = null;
    showRunning(false);
    if (isAtEnd()) scrollToEnd();
    showStatus();
  }
}

/** After an answer the conversation is one of those that the gateway remembers. */
function remember() {
  history.replaceState(null, "", `#${state.thread}`);
  listThreads();
}

function listThreads() {
  return showThreads(state.thread, openThread, (id) => { if (id === state.thread) newChat(); });
}

async function openThread(id) {
  state.running?.stop.abort();
  closeSide();
  closePassage();
  let found;
  try {
    found = await api.thread(id);
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    if (error.code === "invalid_api_key") askForKey(() => openThread(id));
    newChat();
    return;
  }
  state.thread = id;
  $("turns").replaceChildren();
  for (let i = 0; i + 1 < found.messages.length; i += 2) {
    const [asked, said] = found.messages.slice(i, i + 2);
    show(oldTurn(asked.content, said.content, said.citations ?? [], again));
  }
  $("title").textContent = document.title = found.title;
  history.replaceState(null, "", `#${id}`);
  scrollToEnd();
  $("question").focus();
  listThreads();
}

function newChat() {
  state.running?.stop.abort();
  state.thread = null;
  closeSide();
  closePassage();
  $("turns").replaceChildren();
  $("welcome").hidden = false;
  $("title").textContent = "";
  document.title = "Isthmus";
  history.replaceState(null, "", location.pathname);
  $("question").focus();
  listThreads();
}

// ---- the key ----

/** Opens the dialog; `then` runs once a key was given. */
function askForKey(then) {
  const dialog = $("key-dialog");
  $("key").value = "";
  dialog.addEventListener("close", () => {
    if (!$("key").value) return;
    api.useKey($("key").value);
    listThreads();
    showCollections().then(showBeginning).then(then);
  }, { once: true });
  if (!dialog.open) dialog.showModal();
}

// ---- the page around it ----

function isAtEnd() {
  const main = $("main");
  return main.scrollHeight - main.scrollTop - main.clientHeight < NEAR_END_PX;
}

function scrollToEnd() {
  $("main").scrollTop = $("main").scrollHeight;
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
  $("status").title = text;
  $("offline").hidden = now !== "offline";
}

function send() {
  if (state.running) return;
  const field = $("question");
  const text = field.value;
  field.value = "";
  fitQuestion();
  submit(text);
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

function openSide() {
  $("side").classList.add("open");
  $("side-open").setAttribute("aria-expanded", "true");
  $("new-chat").focus();
}

function closeSide() {
  const wasOpen = $("side").classList.contains("open");
  $("side").classList.remove("open");
  $("side-open").setAttribute("aria-expanded", "false");
  return wasOpen;
}

function onKey(event) {
  const typing = event.target.matches("input, textarea, select");
  const inQuestion = event.target === $("question");
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (event.key === "Enter" && inQuestion && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  } else if (event.key === "ArrowUp" && inQuestion && !$("question").value && state.asked) {
    event.preventDefault();
    $("question").value = state.asked;
    fitQuestion();
  } else if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (!closePassage() && !closeSide()) state.running?.stop.abort();
  } else if (event.key === "/" && !typing && plain) {
    event.preventDefault();
    $("question").focus();
  } else if (event.key.toLowerCase() === "o" && event.shiftKey && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    newChat();
  } else if (event.key === "?" && !typing && plain) {
    $("keys-dialog").showModal();
  }
}

function onDrag(event) {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  $("drop").hidden = event.type !== "dragover";
  if (event.type === "drop") addFiles(event.dataTransfer.files, askForKey);
}

function listen() {
  $("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
  $("question").addEventListener("input", fitQuestion);
  $("stop").addEventListener("click", () => state.running?.stop.abort());
  $("new-chat").addEventListener("click", newChat);
  $("theme").addEventListener("click", toggleTheme);
  $("side-open").addEventListener("click", openSide);
  $("scrim").addEventListener("click", closeSide);
  $("passage-close").addEventListener("click", closePassage);
  $("open-library").addEventListener("click", () => { closeSide(); openLibrary(askForKey); });
  $("collection").addEventListener("change", () => { if ($("library").open) showDocuments(); showCollections().then(showBeginning); });
  $("ideas").addEventListener("click", (event) => {
    const idea = event.target.closest(".idea");
    if (idea) submit(idea.textContent);
  });
  for (const id of ["files", "library-files"]) {
    $(id).addEventListener("change", (event) => { addFiles(event.target.files, askForKey); event.target.value = ""; });
  }
  document.addEventListener("keydown", onKey);
  for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, onDrag);
  for (const kind of ["online", "offline"]) addEventListener(kind, showStatus);
  addEventListener("pagehide", () => { if (state.running?.turn.id) api.cancel(state.running.turn.id); });
}

function start() {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme;
  listen();
  fitQuestion();
  showStatus();
  showCollections().then(showBeginning);
  setInterval(showStatus, STATUS_EVERY_MS);
  const remembered = location.hash.slice(1);
  if (remembered) openThread(remembered);
  else listThreads();
  $("question").focus();
}

start();
