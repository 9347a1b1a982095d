// The gateway's HTTP API, as the page needs it.

/** What the gateway refused, or the network: `message` is a sentence for a person. */
export class ApiError extends Error {
  constructor(message, { code = "", retryAfter = 0, passages = [] } = {}) {
    super(message);
    this.code = code;
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
  return (await (await request("v1/models")).json()).data[0].id;
}

/** Returns the names of the collections that may be searched. */
export async function collections() {
  return (await (await request("v1/collections")).json()).collections.map((one) => one.name);
}

/** Returns "ready", or why a question cannot be answered now. */
export async function readiness() {
  const response = await fetch("readyz").catch(() => null);
  if (!response) return { state: "offline", text: "No connection to the gateway" };
  if (response.ok) return { state: "ready", text: "Ready" };
  const body = await response.json().catch(() => ({}));
  return { state: "degraded", text: body.error?.message ?? "The gateway is starting" };
}

/** Yields the chunks of a streamed answer. Aborting `signal` stops the work behind it. */
export async function* ask(modelId, collection, messages, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: modelId, collection, messages, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, { code: chunk.error.code });
    yield chunk;
  }
  throw new ApiError("The answer ended in the middle. Ask again.");
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The connection broke in the middle of the answer. Ask again.");
    });
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      if (frame.startsWith("data: ")) yield frame.slice(6);
    }
  }
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
    retryAfter: Number(response.headers.get("retry-after")) || 0,
    passages: body.passages,
  });
}

/**
 * Uploads one file and follows its job: `onProgress` gets the share sent, 0 to 1, `onJob` the job as
 * it goes on. Resolves to the job, done.
 */
export async function upload(file, collection, onProgress, onJob = () => {}) {
  let job = await send(file, collection, onProgress);
  while (!["done", "failed", "cancelled"].includes(job.status)) {
    onJob(job);
    for await (const data of events((await request(`v1/jobs/${job.id}/events`)).body)) {
      job = JSON.parse(data);
      if (!job.id) throw new ApiError(job.error.message, { code: job.error.code });
      onJob(job);
    }
  }
  if (job.status === "failed") throw new ApiError(job.error.message, { code: job.error.code });
  if (job.status === "cancelled") throw new ApiError("The upload was cancelled.");
  return job;
}

function send(file, collection, onProgress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("file", file, file.name);
    form.append("collection", collection);
    const call = new XMLHttpRequest(); // fetch does not tell how much was sent
    call.upload.onprogress = (event) => onProgress(event.loaded / event.total);
    call.onerror = () => reject(new ApiError("The connection broke. Try again."));
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
