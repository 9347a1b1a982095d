// The gateway's HTTP API, as the page needs it.

const MOST_RECONNECTIONS = 6;
const MOST_LOOKS = 10; // at a job, over a restart of the ingestor: they last for a minute
const FIRST_PAUSE_MS = 400;
const MOST_PAUSE_MS = 10_000;
const ENDED = ["done", "failed", "cancelled"];

/** What the gateway refused, or the network: `message` is a sentence for a person. */
export class ApiError extends Error {
  constructor(message, { code = "", status = 0, retryAfter = 0, passages = [] } = {}) {
    super(message);
    this.code = code;
    this.status = status; // of HTTP; 0 for an error in the middle of a stream
    this.retryAfter = retryAfter;
    this.passages = passages;
  }
}

/** The key that this gateway may ask for; it lives as long as the tab. */
export function useKey(key) {
  sessionStorage.setItem("key", key);
}

function authorization() {
  const key = sessionStorage.getItem("key");
  return key ? { authorization: `Bearer ${key}` } : {};
}

export async function model() {
  return (await json("v1/models")).data[0].id;
}

/** Returns the names of the collections that may be searched. */
export async function collections() {
  return (await json("v1/collections")).collections.map((one) => one.name);
}

export async function threads() {
  return (await json("v1/threads")).threads;
}

export const thread = (id) => json(`v1/threads/${encodeURIComponent(id)}`);

export const deleteThread = (id) => request(`v1/threads/${encodeURIComponent(id)}`, { method: "DELETE" });

/** Returns `{documents, has_more}`: those of a collection by name, after the name `after`. */
export function documents(collection, after = "") {
  return json(`v1/documents?${new URLSearchParams({ collection, after, limit: 50 })}`);
}

export function deleteDocument(collection, id) {
  const query = new URLSearchParams({ collection });
  return request(`v1/documents/${encodeURIComponent(id)}?${query}`, { method: "DELETE" });
}

export function rate(opinion) {
  return request("v1/feedback", posted(opinion));
}

/** Returns "ready", or why a question cannot be answered now. */
export async function readiness() {
  const response = await fetch("readyz").catch(() => null);
  if (!response) return { state: "offline", text: "No connection to the gateway" };
  if (response.ok) return { state: "ready", text: "Ready" };
  const body = await response.json().catch(() => ({}));
  return { state: "degraded", text: body.error?.message ?? "The gateway is starting" };
}

/**
 * Yields the chunks of a streamed answer. When the connection drops, it is taken up again where it
 * broke off; `onLost` is called before each attempt. Aborting `signal` ends the reading; `cancel`
 * ends the work.
 */
export async function* ask(question, signal, onLost) {
  const asked = posted({ ...question, stream: true, stream_options: { include_usage: true } });
  asked.headers["x-isthmus-resumable"] = "true";
  let response = await request("v1/chat/completions", { ...asked, signal });
  const resumable = response.headers.has("x-isthmus-resumable");
  for (let last = "", lost = 0; ; lost += 1) {
    try {
      response ??= await request("v1/chat/completions/events", { headers: { "last-event-id": last }, signal });
      for await (const { id, data } of events(response.body)) {
        [last, lost] = [id || last, 0];
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(chunk.error.message, { code: chunk.error.code });
        yield chunk;
      }
      throw new ApiError("The answer ended in the middle. Ask again.", { code: "broken" });
    } catch (error) {
      const comesBack = resumable && last && wasLost(error);
      if (signal.aborted || !comesBack || lost >= MOST_RECONNECTIONS) throw error;
      onLost();
      await pause(lost, error.retryAfter, signal);
      response = null;
    }
  }
}

/** Whether a connection broke, or nobody was there to take it up: the gateway's word, or a proxy's. */
function wasLost(error) {
  return ["broken", "offline"].includes(error.code) || error.status === 429 || error.status >= 500;
}

/** Waits before the next attempt, longer each time; a signal ends the waiting. */
function pause(lost, retryAfter, signal) {
  const wanted = Math.max(FIRST_PAUSE_MS * 2 ** lost, retryAfter * 1000);
  return new Promise((resolve) => {
    setTimeout(resolve, Math.min(wanted, MOST_PAUSE_MS));
    signal?.addEventListener("abort", resolve, { once: true });
  });
}

/** Stops the work on an answer, also while the page goes away. */
export function cancel(answerId) {
  const sent = { method: "DELETE", headers: authorization(), keepalive: true };
  return fetch(`v1/chat/completions/${encodeURIComponent(answerId)}`, sent).catch(() => null); // it ends by itself
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The connection broke off. Try again.", { code: "broken" });
    });
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const event = { id: "", data: "" };
      for (const line of frame.split("\n")) {
        if (line.startsWith("data: ")) event.data += line.slice(6);
        if (line.startsWith("id: ")) event.id = line.slice(4);
      }
      if (event.data) yield event;
    }
  }
}

function posted(body) {
  return { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

async function json(path) {
  return (await request(path)).json();
}

async function request(path, options = {}) {
  const headers = { ...options.headers, ...authorization() };
  const response = await fetch(path, { ...options, headers }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The gateway cannot be reached. Check the connection and try again.", { code: "offline" });
  });
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  return new ApiError(body.error?.message ?? `The gateway answered HTTP ${response.status}.`, {
    code: body.error?.code,
    status: response.status,
    retryAfter: Number(response.headers.get("retry-after")) || 0,
    passages: body.passages,
  });
}

/**
 * Uploads one file and follows its job: `onProgress` gets the share sent, 0 to 1, `onJob` the job as
 * it goes on. Resolves to the job, done.
 */
export async function upload(file, collection, onProgress, onJob) {
  let job = await send(file, collection, onProgress);
  for await (job of followed(job)) onJob(job);
  if (job.status === "failed") throw new ApiError(job.error.message, { code: job.error.code });
  if (job.status === "cancelled") throw new ApiError("The upload was cancelled.");
  return job;
}

/** Yields a job as it goes on, until it has ended, also over a restart of the ingestor. */
async function* followed(job) {
  for (let lost = 0, now = job; !ENDED.includes(now.status); lost += 1) {
    try {
      for await (const later of news(now.id)) {
        if (later.updated_at !== now.updated_at) lost = 0; // it goes on
        yield now = later;
      }
      if (!ENDED.includes(now.status)) throw new ApiError("The progress broke off.", { code: "broken" });
    } catch (error) {
      if (!wasLost(error) && error.code !== "not_ready") throw error;
      if (lost >= MOST_LOOKS) throw new ApiError("How far it is cannot be told now. Look at Documents later: it may still be added.");
      await pause(lost, error.retryAfter);
    }
  }
}

async function* news(jobId) {
  const response = await request(`v1/jobs/${jobId}/events`);
  for await (const { data } of events(response.body)) {
    const job = JSON.parse(data);
    if (!job.id) throw new ApiError(job.error.message, { code: job.error.code });
    yield job;
  }
}

function send(file, collection, onProgress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("file", file, file.name);
    form.append("collection", collection);
    const call = new XMLHttpRequest(); // fetch does not tell how much was sent
    call.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    call.onerror = () => reject(new ApiError("The connection broke. Try again.", { code: "offline" }));
    call.onload = () => {
      const body = parse(call.responseText);
      if (call.status === 200 || call.status === 202) resolve(body);
      else reject(new ApiError(body.error?.message ?? `The gateway answered HTTP ${call.status}.`, { code: body.error?.code }));
    };
    call.open("POST", "v1/documents");
    for (const [name, value] of Object.entries(authorization())) call.setRequestHeader(name, value);
    call.send(form);
  });
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
