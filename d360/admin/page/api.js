// The server's calls. What fails is a CallError whose message says what
// happened and whose advice says what to do.

const KEY = "d360.token";

// How long an answer may take, in milliseconds; deleting much takes its time.
const READING = 60_000;
const CHANGING = 600_000;

let askForToken = null;
let asking = null;
let declined = false;

/** Who asks the person for a token: async (wrong) -> token or null. */
export function tokensFrom(ask) {
  askForToken = ask;
}

export class CallError extends Error {
  constructor(status, message, advice, etag) {
    super(message);
    this.status = status;
    this.advice = advice;
    this.etag = etag;
  }
}

/** The person has not the token, but may have it now. */
export function askAgain() {
  declined = false;
}

/** A path of encoded parts: at("studies", uid). */
export const at = (...parts) => `api/${parts.map(encodeURIComponent).join("/")}`;

export function query(values) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== "" && value !== null && value !== undefined) search.append(name, value);
  }
  return String(search) ? `?${search}` : "";
}

const ADVICE = {
  400: "Correct what is named and try again.",
  401: "Enter the token that the configuration has as web.token.",
  403: "Open the page under the address that the server is configured for.",
  404: "It may have been removed meanwhile. Go back to the list.",
  409: "See what is there already, change the entry, and try again.",
  412: "Someone else has changed it meanwhile. Load it again and repeat the change.",
  413: "Make it shorter.",
  421: "Open the page under the address that the server names.",
  429: "Somebody at this address has tried other tokens. Wait a moment and try again.",
  500: "The reason is in the server's log.",
  503: "D360 goes on by itself as soon as it is back. Try again in a moment.",
};

/** A header's value has bytes; those of the token are its UTF-8. */
const asHeader = (token) => String.fromCharCode(...new TextEncoder().encode(token));

async function send(method, path, options) {
  const headers = { Accept: "application/json", ...options.headers };
  const token = sessionStorage.getItem(KEY);
  if (token) headers.Authorization = `Bearer ${asHeader(token)}`;
  let body;
  if (options.body !== undefined) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(options.body);
  }
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), method === "GET" ? READING : CHANGING);
  const leave = () => end.abort();
  if (options.signal?.aborted) leave();
  options.signal?.addEventListener("abort", leave);
  try {
    const response = await fetch(path, { method, headers, body, signal: end.signal, cache: "no-store" });
    return { response, token, content: response.status === 204 ? "" : await response.text() };
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new CallError(0, "The server does not answer.",
      "See that D360 runs and that this computer reaches it. The page tries again by itself where it shows what is live.");
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", leave);
  }
}

async function newToken(old) {
  asking ??= (async () => {
    try {
      const token = await askForToken(Boolean(old));
      if (token) sessionStorage.setItem(KEY, token);
      declined = !token;
      return token;
    } finally {
      asking = null;
    }
  })();
  return asking;
}

/**
 * Make a call.
 * @param options {body, headers, signal}
 * @returns {data, etag, status}
 */
export async function call(method, path, options = {}) {
  for (;;) {
    const { response, token, content } = await send(method, path, options);
    if (response.status === 401) {
      const now = sessionStorage.getItem(KEY);
      // Another call may have asked meanwhile.
      if (now && now !== token) continue;
      if (!declined && await newToken(token)) continue;
    }
    let data = null;
    try {
      data = content ? JSON.parse(content) : null;
    } catch {
      throw new CallError(response.status, "The answer is not D360's.",
        "See that nothing stands between this browser and the server that changes its answers.");
    }
    const etag = response.headers.get("ETag");
    if (response.ok) return { data, etag, status: response.status };
    throw new CallError(response.status,
      sentence(data?.error ?? `The server answers ${response.status}.`),
      ADVICE[response.status] ?? "", etag);
  }
}

export const get = async (path, signal) => (await call("GET", path, { signal })).data;

/** With a capital and a full stop. */
function sentence(words) {
  const text = String(words).trim();
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/** Whether a failure means that this server has no such call. */
export const isMissing = (error) => error instanceof CallError && error.status === 404;
