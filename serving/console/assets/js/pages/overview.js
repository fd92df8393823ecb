import { redrawAll, spark } from "../chart.js";
import { fill, h, say, table } from "../dom.js";
import { ago, bytes, count, duration, rate, short, time } from "../format.js";
import { history, watch } from "../status.js";
import { badge, card, facts, loading, note, problem, sentence, stat } from "../ui.js";
import { may } from "../who.js";

export default async function overview(root, { signal }) {
  const make = (label, hint) => {
    const line = spark(label);
    return { ...stat(label, { spark: line.element, hint }), line };
  };
  const tiles = {
    rate: make("Events per second", "Events read from the log, over all partitions"),
    behind: make("Freshness", "How long the speed layer needs for what it has not read yet"),
    lag: make("Lag", "Events in the log that were not read yet"),
    cutAge: make("Age of the cut", "Time since the newest publication"),
    notLanded: make("Waiting to be landed", "Events that answers hold, but the master dataset does not yet"),
    dead: make("Dead letters", "Records that did not decode, kept with their bytes"),
  };
  const troubles = h("div", { class: "stack" });
  const run = h("div");
  const sources = h("div", { class: "stack" });
  const services = h("div");
  const body = h(
    "div",
    { class: "stack" },
    troubles,
    h("div", { class: "stats" }, Object.values(tiles).map((tile) => tile.element)),
    may.readAll() ? h("div", { class: "columns" }, card("Last run", { actions: h("a", { href: "#/runs" }, "All runs") }, run), may.administer() ? card("Services", {}, services) : null) : null,
    sources,
  );
  const waiting = loading();
  fill(root, h("h1", null, "Overview"), waiting);
  let shown = false;
  const stop = watch(({ status, error, facts: f }) => {
    if (!status) {
      if (error) fill(waiting, problem(error));
      return;
    }
    if (!shown) {
      shown = true;
      waiting.replaceWith(body);
      redrawAll();
    }
    fill(troubles, error ? problem(error) : null, worries(status));
    say(tiles.rate.value, rate(f.rate));
    say(tiles.rate.more, f.landed === null ? "" : `${short(f.landed)} landed in all`);
    say(tiles.behind.value, f.behind === null ? "–" : f.behind === 0 ? "live" : duration(f.behind));
    say(tiles.behind.more, f.behind === 0 ? "all that is in the log is counted" : "behind the end of the log");
    say(tiles.lag.value, short(f.lag));
    say(tiles.lag.more, "events not read yet");
    say(tiles.cutAge.value, duration(f.cutAge));
    say(tiles.cutAge.more, f.sinceCut === null ? "nothing is published yet" : `${short(f.sinceCut)} events came since`);
    say(tiles.notLanded.value, short(f.notLanded));
    say(tiles.notLanded.more, "events");
    say(tiles.dead.value, short(f.dead));
    fill(tiles.dead.more, f.dead > 0 ? (may.administer() ? h("a", { href: "#/dead-letters" }, "Look at them") : "records that did not decode") : "everything decodes");
    for (const [name, tile] of Object.entries(tiles)) if (history.t.length > 1) tile.line.set([history.t, history[name]]);
    fill(run, lastRun(status.runs, status.publication));
    if (status.services) fill(services, serviceList(status.services));
    fill(sources, Object.entries(status.sources).map(([name, source]) => sourceCard(name, source)));
  });
  signal.addEventListener("abort", () => {
    stop();
    Object.values(tiles).forEach((tile) => tile.line.destroy());
  });
}

function worries(status) {
  const found = [];
  const { services } = status;
  if (services && !services.speed.length) found.push(note("warn", "No speed worker is alive", "Answers hold what the last run has. Start one with anabranch speed."));
  if (services && !services.batch.length) found.push(note("warn", "No batch service is alive", "Nothing is recomputed meanwhile. Start one with anabranch batch."));
  for (const kind of ["speed", "batch"])
    for (const service of services?.[kind] ?? []) if (!service.answers) found.push(note("warn", `${sentence(kind)} service ${service.id} does not answer`, service.error));
  for (const [name, source] of Object.entries(status.sources)) {
    for (const [worker, error] of Object.entries(source.disconnected ?? {})) found.push(note("bad", `The log of ${name} does not answer ${worker}`, String(error ?? "")));
    const owned = Object.keys(source.partitions).length;
    if (source.partitions_total && owned < source.partitions_total)
      found.push(note("warn", `${source.partitions_total - owned} of ${source.partitions_total} partitions of ${name} have no owner at the moment`, "Answers say which are missing."));
    if (source.landed?.error) found.push(note("bad", `The master dataset of ${name} cannot be read`, source.landed.error));
  }
  for (const [worker, report] of Object.entries(status.speed ?? {})) {
    if (report.paused) found.push(note("warn", `${worker} pauses reading`, "State and what waits to be landed are at twice the budget."));
    for (const [name, told] of Object.entries(report.sources ?? {})) {
      if (told.landing_trouble) found.push(note("bad", `${worker} cannot land ${name}`, told.landing_trouble.error));
      for (const [partition, part] of Object.entries(told.partitions ?? {})) if (part.stopped) found.push(note("bad", `Partition ${partition} of ${name} has stopped`, part.stopped.error));
    }
  }
  if (status.runs?.held) found.push(note("warn", "A run is held", "It differs from what was served. ", h("a", { href: `#/runs/${status.runs.held}` }, "Decide about it")));
  return found;
}

function lastRun(runs, publication) {
  const run = runs?.running ?? runs?.last;
  if (!runs) return h("p", { class: "empty" }, "The batch layer does not answer.");
  if (!run) return h("p", { class: "empty" }, runs.schedule?.next_at ? `None yet. The first starts at ${time(runs.schedule.next_at)}.` : "None yet. Start one on the page of runs.");
  const progress = run.progress;
  return [
    run.state === "running" && progress.rows_total > 0
      ? h("progress", { max: progress.rows_total, value: progress.rows_done, "aria-label": "Progress of the run" })
      : null,
    facts([
      ["Run", h("a", { href: `#/runs/${run.run_id}`, class: "mono" }, run.run_id)],
      ["State", badge(run.state, { published: "good", failed: "bad", held: "warn", running: "accent" }[run.state])],
      ["Finished", run.finished_at ? ago(run.finished_at) : "–"],
      ["Events", count(run.rows)],
      ["Publication", publication ? `${publication.number}, ${ago(publication.published_at)}` : "none yet"],
      runs.schedule && ["Next", runs.schedule.next_at ? time(runs.schedule.next_at) : "–"],
    ]),
  ];
}

function serviceList(services) {
  const rows = [
    ...services.speed.map((service) => ({ kind: "speed", ...service })),
    ...services.batch.map((service) => ({ kind: "batch", ...service })),
    ...services.serve.map((service) => ({ kind: "serve", answers: true, ...service })),
  ];
  return table(
    [
      { title: "Layer", cell: (row) => row.kind },
      { title: "Service", cell: (row) => h("span", { class: "mono" }, row.id), class: "long" },
      { title: "State", cell: (row) => badge(row.answers ? "up" : "silent", row.answers ? "good" : "warn") },
    ],
    rows,
    { caption: "Services", empty: "No service is alive." },
  );
}

function sourceCard(name, source) {
  const parts = Object.entries(source.partitions).sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }));
  const { landed } = source;
  return card(
    `Table ${name}`,
    { actions: h("span", { class: "muted" }, `topic ${source.topic}`) },
    facts([
      landed && ["Landed events", count(landed.events)],
      landed && ["Files", `${count(landed.files)}, ${bytes(landed.bytes)}`],
      landed && ["Version", count(landed.version)],
      ["Sealed segments", count(source.sealed_segments)],
      source.columns_never_seen?.length ? ["Columns never seen", source.columns_never_seen.join(", ")] : null,
    ]),
    table(
      [
        { title: "Partition", cell: ([partition]) => partition },
        { title: "Read", number: true, cell: ([, part]) => count(part.next_consumed) },
        { title: "Landed", number: true, cell: ([, part]) => count(part.next_landed) },
        { title: "End", number: true, cell: ([, part]) => count(Math.max(part.end, part.next_consumed)) },
        { title: "Lag", number: true, cell: ([, part]) => count(part.lag) },
        { title: "Owner", cell: ([, part]) => h("span", { class: "mono" }, part.owner), class: "long" },
        { title: "Epoch", number: true, cell: ([, part]) => count(part.epoch) },
      ],
      parts,
      { caption: `Partitions of ${name}`, empty: "No worker owns a partition yet." },
    ),
  );
}
