// Everything the console asks of the server goes through here.

export class ApiError extends Error {
  constructor(status, code, message, hint) {
    super(message);
    Object.assign(this, { status, code, hint });
  }
}

const hooks = { unauthorized: null };

// What happens when the server does not know who asks.
export function configure(settings) {
  Object.assign(hooks, settings);
}

export async function send(method, path, { body, accept = "application/json", headers, signal } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      credentials: "same-origin",
      headers: {
        accept,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        // A page of another site cannot set it: what changes something is asked for by this page only.
        ...(method === "GET" ? {} : { "x-anabranch-csrf": "1" }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "the server does not answer", "it may be restarting; this page tries again");
  }
  if (response.ok) return response;
  if (response.status === 401 && path !== "/v1/login") hooks.unauthorized?.();
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // Not every answer in between is ours.
  }
  throw new ApiError(response.status, told.code ?? "error", told.message ?? `the server answered ${response.status}`, told.hint);
}

async function json(method, path, options) {
  return parse(await (await send(method, path, options)).text());
}

// Integers that a double cannot hold stay as they were written.
function parse(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && context?.source && /^-?\d+$/.test(context.source) ? context.source : value,
  );
}

const seg = encodeURIComponent;
export const query = (pairs) => {
  const text = new URLSearchParams(pairs).toString();
  return text ? `?${text}` : "";
};

export const api = {
  whoami: () => json("GET", "/v1/whoami"),
  login: (token) => json("POST", "/v1/login", { body: { token } }),
  logout: () => send("POST", "/v1/logout", { body: {} }),
  status: (signal) => json("GET", "/v1/status", { signal }),
  views: (signal) => json("GET", "/v1/views", { signal }),
  view: (name, signal) => json("GET", `/v1/views/${seg(name)}`, { signal }),
  rows: (name, pairs, signal) => json("GET", `/v1/views/${seg(name)}/rows${query(pairs)}`, { signal }),
  sql: (body, signal) => json("POST", "/v1/sql", { body, signal }),
  csv: async (body) => (await send("POST", "/v1/sql", { body, accept: "text/csv" })).blob(),
  runs: (limit, signal) => json("GET", `/v1/batch/runs${query({ limit })}`, { signal }),
  run: (id, signal) => json("GET", `/v1/batch/runs/${seg(id)}`, { signal }),
  startRun: (full) => json("POST", "/v1/batch/runs", { body: { full } }),
  publishRun: (id) => json("POST", `/v1/batch/runs/${seg(id)}/publish`, { body: {} }),
  discardRun: (id) => json("POST", `/v1/batch/runs/${seg(id)}/discard`, { body: {} }),
  rollback: (to) => json("POST", "/v1/batch/rollback", { body: { to } }),
  verify: () => json("POST", "/v1/batch/verify", { body: {} }),
  deadLetters: (table, pairs, signal) => json("GET", `/v1/tables/${seg(table)}/dead-letters${query(pairs)}`, { signal }),
  deadLetter: (table, partition, offset) => json("GET", `/v1/tables/${seg(table)}/dead-letters/${partition}/${offset}`),
  redrive: (table, body) => json("POST", `/v1/tables/${seg(table)}/dead-letters/redrive`, { body }),
  redrives: (table, signal) => json("GET", `/v1/tables/${seg(table)}/dead-letters/redrives`, { signal }),
  live: (name, pairs, lastId, signal) =>
    send("GET", `/v1/views/${seg(name)}/live${query(pairs)}`, {
      accept: "text/event-stream",
      headers: lastId ? { "last-event-id": lastId } : {},
      signal,
    }),
  parse,
};
