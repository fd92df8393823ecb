// A live query: keeps the rows of a view, and says what changed. Comes back by itself, from where it was.

import { ApiError, api } from "./api.js";

const PAUSES = [500, 1000, 2000, 5000];

// `handlers`: rows(state, changedKeys or null after a snapshot), state("live" | "waiting" | "ended" | "refused", detail).
export function follow(view, pairs, handlers) {
  const stop = new AbortController();
  const held = { columns: [], key: [], rows: [], coverage: null, id: null };
  run(view, pairs, handlers, held, stop.signal);
  return () => stop.abort();
}

async function run(view, pairs, handlers, held, signal) {
  for (let failures = 0; !signal.aborted; failures += 1) {
    try {
      const response = await api.live(view, pairs, held.id, signal);
      const again = await read(response, handlers, held, () => (failures = 0));
      if (!again) return;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) return handlers.state("refused", error);
      handlers.state("waiting", error);
    }
    await pause(PAUSES[Math.min(failures, PAUSES.length - 1)], signal);
  }
}

async function read(response, handlers, held, wentWell) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return true;
    buffer += value;
    for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
      const event = block(buffer.slice(0, end));
      buffer = buffer.slice(end + 2);
      if (!event) continue;
      wentWell();
      if (event.id) held.id = event.id;
      const data = api.parse(event.data);
      if (event.name === "end") {
        if (data.reason === "draining") return true;
        handlers.state("ended", data);
        return false;
      }
      if (event.name === "trouble") handlers.state("waiting", Object.assign(new Error(data.error.message), data.error));
      else {
        const changed = take(held, event.name, data);
        handlers.state("live");
        handlers.rows(held, changed);
      }
    }
  }
}

function block(text) {
  const event = { name: "message", data: "", id: null };
  for (const line of text.split("\n")) {
    if (line.startsWith("event: ")) event.name = line.slice(7);
    else if (line.startsWith("data: ")) event.data = line.slice(6);
    else if (line.startsWith("id: ")) event.id = line.slice(4);
  }
  return event.data ? event : null;
}

// As docs/live.md says: drop what changed and what went, then put each changed row to its place, in order.
function take(held, name, data) {
  held.coverage = data.coverage;
  if (name === "snapshot") {
    held.columns = data.columns;
    held.key = data.key;
    held.rows = data.rows.map((row, at) => ({ key: JSON.stringify(data.keys[at]), row }));
    return null;
  }
  const changed = data.changed.map(({ at, key, row }) => ({ at, entry: { key: JSON.stringify(key), row } }));
  const dropped = new Set([...changed.map(({ entry }) => entry.key), ...data.gone.map((key) => JSON.stringify(key))]);
  if (dropped.size) held.rows = held.rows.filter(({ key }) => !dropped.has(key));
  for (const { at, entry } of changed) held.rows.splice(at, 0, entry);
  return new Set(changed.map(({ entry }) => entry.key));
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
