// /v1/status once a second while somebody looks, and what follows from how it changes.

import { api } from "./api.js";

const EVERY_MS = 1000;
const KEPT = 300;

const listeners = new Set();
export const history = { t: [], rate: [], lag: [], cutAge: [], dead: [], behind: [], notLanded: [] };
let latest = null;
let failure = null;
let former = null;
let timer = null;
let asking = false;

// Calls `listener({status, error, facts})` now, if something is known, and after each look.
export function watch(listener) {
  listeners.add(listener);
  if (latest || failure) listener(current());
  if (!timer) {
    timer = setInterval(look, EVERY_MS);
    look();
  }
  return () => {
    listeners.delete(listener);
    if (!listeners.size) {
      clearInterval(timer);
      timer = null;
    }
  };
}

const current = () => ({ status: latest?.status ?? null, facts: latest?.facts ?? null, error: failure });

async function look() {
  if (document.hidden || asking) return;
  asking = true;
  try {
    const status = await api.status();
    const now = performance.now() / 1000;
    const facts = derive(status, now);
    latest = { status, facts };
    failure = null;
  } catch (error) {
    failure = error;
  } finally {
    asking = false;
  }
  for (const listener of listeners) listener(current());
}

const partitions = (status) => Object.values(status.sources).flatMap((source) => Object.entries(source.partitions));
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

function derive(status, now) {
  const sources = Object.values(status.sources);
  const parts = partitions(status);
  const consumed = new Map(parts.map(([name, part]) => [name, part.next_consumed]));
  const facts = {
    lag: parts.length ? sum(parts.map(([, part]) => part.lag)) : null,
    notLanded: sum(parts.map(([, part]) => part.not_landed)),
    landed: sources.some((source) => source.landed) ? sum(sources.map((source) => source.landed?.events ?? 0)) : null,
    dead: sources.some((source) => source.dead_letters !== null) ? sum(sources.map((source) => source.dead_letters ?? 0)) : null,
    cutAge: status.publication?.age_seconds ?? null,
    sinceCut: status.publication ? sinceCut(status) : null,
    rate: null,
    behind: null,
    topology: topology(status, now),
  };
  if (former && now - former.now > 0.2) {
    // Partitions that came or went say nothing about events.
    const moved = sum([...consumed].map(([name, next]) => Math.max(0, next - (former.consumed.get(name) ?? next))));
    facts.rate = moved / (now - former.now);
    facts.behind = facts.lag === null ? null : facts.lag === 0 ? 0 : facts.rate > 0 ? facts.lag / facts.rate : null;
    const t = Date.now() / 1000;
    for (const [name, value] of Object.entries({ t, ...facts })) {
      const series = history[name];
      if (!series) continue;
      series.push(value);
      if (series.length > KEPT) series.shift();
    }
  }
  former = { now, consumed };
  return facts;
}

function sinceCut(status) {
  return sum(
    Object.entries(status.sources).flatMap(([name, source]) => {
      const next = status.publication.cuts[name]?.next ?? {};
      return Object.entries(source.partitions).map(([partition, part]) => Math.max(0, part.next_consumed - (next[partition.split("/").pop()] ?? 0)));
    }),
  );
}

// Component figures per second and as shares of the time that tasks had, over the last seconds.
const samples = new Map();
function topology(status, now) {
  const result = [];
  for (const [worker, report] of Object.entries(status.speed ?? {})) {
    for (const [source, told] of Object.entries(report.sources ?? {})) {
      const key = `${worker}\n${source}`;
      const list = samples.get(key) ?? [];
      list.push({ now, components: told.topology ?? [] });
      while (list.length > 2 && now - list[1].now > 5) list.shift();
      samples.set(key, list);
      const first = list[0];
      const seconds = now - first.now;
      result.push({
        worker,
        source,
        topic: told.topic,
        components: (told.topology ?? []).map((component) => {
          const before = first.components.find((other) => other.component === component.component);
          const per = (field) => (before && seconds > 0 ? Math.max(0, component[field] - before[field]) / seconds : null);
          const share = (field) => (before && seconds > 0 ? Math.min(1, per(field) / 1000 / Math.max(1, component.tasks)) : null);
          return {
            ...component,
            emittedRate: per("emitted"),
            executedRate: per("executed"),
            ackedRate: per("acked"),
            blocked: share("blocked_ms"),
            busy: share("busy_ms"),
          };
        }),
        views: told.views ?? {},
        told,
      });
    }
  }
  return result;
}
