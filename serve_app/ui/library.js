// Documents: what is there, what is being added, and the collection that is asked.

import * as api from "./api.js";
import { $, ago, announce, button, icon, make, plural } from "./dom.js";

export function chosenCollection() {
  return $("collection").value || "default";
}

/** The picker appears where there is something to pick. */
export async function showCollections() {
  const before = $("collection").value;
  const names = await api.collections().catch((error) => {
    if (error instanceof api.ApiError) return []; // the status line says what is wrong
    throw error;
  });
  $("collection").replaceChildren(...names.map((name) => make("option", { textContent: name })));
  if (names.includes(before)) $("collection").value = before;
  else if (names.includes("default")) $("collection").value = "default";
  $("collection").hidden = $("collection-label").hidden = names.length < 2;
  $("library-where").textContent = `in “${chosenCollection()}”`;
}

/** A newcomer is shown where to begin: with documents, or with a question. */
export async function showBeginning() {
  const found = await api.documents(chosenCollection()).catch((error) => {
    if (error instanceof api.ApiError) return null; // then it is not known
    throw error;
  });
  $("first").hidden = !found || found.documents.length > 0;
  $("ideas").hidden = !$("first").hidden;
}

// ---- the list ----

export async function openLibrary(askForKey) {
  if (!$("library").open) $("library").showModal();
  const error = await showDocuments();
  if (error?.code === "invalid_api_key") askForKey(() => openLibrary(askForKey));
}

/** Lists the first documents; returns the refusal, if that is what came. */
export function showDocuments() {
  $("documents").replaceChildren();
  $("library-where").textContent = `in “${chosenCollection()}”`;
  return addPage("");
}

async function addPage(after) {
  const list = $("documents");
  $("documents-note").textContent = "Loading …";
  let page;
  try {
    page = await api.documents(chosenCollection(), after);
  } catch (error) {
    if (!(error instanceof api.ApiError)) throw error;
    page = { documents: [], has_more: false };
    if (error.code !== "not_found") {
      $("documents-note").textContent = error.message;
      return error;
    }
  }
  list.append(...page.documents.map(row));
  $("documents-note").textContent = list.children.length ? "" : "Nothing here yet. Add a PDF, a Word file, Markdown, a spreadsheet …";
  if (page.has_more) {
    const more = button("More", () => { more.remove(); addPage(page.documents.at(-1).name); }, { kind: "small" });
    $("documents-note").append(more);
  }
  return null;
}

function row(found) {
  const facts = [plural(found.chunks, "chunk"), size(found.bytes), ago(new Date(found.created_at * 1000))];
  const line = make("li", { className: "document" }, icon("file", 19),
    make("div", {}, make("b", { textContent: found.title || found.name }),
      make("span", { textContent: [found.title === found.name ? "" : found.name, ...facts].filter(Boolean).join(" · ") })),
    button(`Delete ${found.name}`, () => confirm(line, found), { kind: "tool", symbol: "bin" }));
  return line;
}

function size(bytes) {
  if (!bytes) return "";
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function confirm(line, found) {
  const before = [...line.childNodes];
  const keep = button("Keep", () => line.replaceChildren(...before), { kind: "small" });
  const remove = button("Delete", async () => {
    try {
      await api.deleteDocument(chosenCollection(), found.id);
    } catch (error) {
      if (!(error instanceof api.ApiError)) throw error;
      line.replaceChildren(...before);
      announce(error.message);
      $("documents-note").textContent = error.message;
      return;
    }
    line.remove();
    announce(`${found.name} was deleted`);
    if (!$("documents").children.length) showDocuments();
    showBeginning();
  }, { kind: "small danger" });
  line.replaceChildren(make("span", { className: "sure", textContent: `Delete ${found.title || found.name} and its chunks?` }), remove, keep);
  remove.focus();
}

// ---- uploads ----

export function addFiles(files, askForKey) {
  for (const file of files) add(file, askForKey);
}

async function add(file, askForKey) {
  const what = make("span", { className: "what", textContent: "Uploading" });
  const bar = make("progress", { max: 1, value: 0 });
  bar.setAttribute("aria-label", `Upload of ${file.name}`);
  const line = make("li", { className: "upload" }, make("span", { className: "name", textContent: file.name }), bar, what);
  $("uploads").append(line);
  try {
    const job = await api.upload(file, chosenCollection(), (share) => sent(share, bar, what), (now) => told(now, bar, what));
    line.dataset.state = "done";
    what.textContent = job.result === "unchanged" ? "Already there" : `Added, ${plural(job.chunks_total ?? 0, "chunk")}`;
    announce(`${file.name}: ${what.textContent}`);
    if ($("library").open) showDocuments();
    await showCollections();
    showBeginning();
  } catch (error) {
    line.dataset.state = "failed";
    what.textContent = error instanceof api.ApiError ? error.message : "The page failed. Reload it and try again.";
    if (error.code === "invalid_api_key") askForKey(() => { line.remove(); add(file, askForKey); });
    else if (!(error instanceof api.ApiError)) throw error;
  } finally {
    bar.remove();
    line.append(button(`Dismiss ${file.name}`, () => line.remove(), { kind: "tool", symbol: "close" }));
  }
}

function sent(share, bar, what) {
  bar.value = share;
  if (share === 1) {
    bar.removeAttribute("value"); // under way, one cannot say how far
    what.textContent = "Reading …";
  }
}

function told(job, bar, what) {
  if (!job.chunks_total) return;
  bar.max = job.chunks_total;
  bar.value = job.chunks_done;
  const left = job.eta_s > 1 ? `, ${Math.ceil(job.eta_s)} s left` : "";
  what.textContent = `Indexing ${job.chunks_done} of ${plural(job.chunks_total, "chunk")}${left}`;
}
