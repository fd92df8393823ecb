import { api } from "../api.js";
import { fill, h, s, table } from "../dom.js";
import { ago, count, duration, percent, rate, time } from "../format.js";
import { act, badge, card, confirm, facts, loading, note, problem } from "../ui.js";
import { may } from "../who.js";

const SHOWN = 40;
const KINDS = { published: "good", failed: "bad", held: "warn", running: "accent", compared: "good", discarded: "plain", queued: "plain" };

export default function runs(root, context) {
  return context.args[0] ? one(root, context) : list(root, context);
}

const seconds = (run, now = Date.now()) => (run.started_at ? ((run.finished_at ? Date.parse(run.finished_at) : now) - Date.parse(run.started_at)) / 1000 : null);
const state = (run) => badge(run.state, KINDS[run.state]);
const link = (run) => h("a", { href: `#/runs/${run.run_id}`, class: "mono" }, run.run_id);

// Keeps asking while somebody looks: often while a run is on its way.
function keep(load, signal) {
  let timer;
  const again = async () => {
    const busy = document.hidden ? false : await load();
    if (!signal.aborted) timer = setTimeout(again, busy ? 500 : 2000);
  };
  signal.addEventListener("abort", () => clearTimeout(timer));
  return again();
}

function differences(diff) {
  if (!diff) return h("span", { class: "muted" }, "–");
  const views = Object.values(diff.views);
  const differing = views.reduce((sum, v) => sum + v.differing + v.only_computed + v.only_served, 0);
  if (differing) return badge(`${count(differing)} groups differ`, diff.expected ? "plain" : "warn", diff.expected);
  const compared = views.reduce((sum, v) => sum + v.compared, 0);
  return compared ? badge(`${count(compared)} groups equal`, "good") : h("span", { class: "muted" }, "nothing to compare");
}

// ---- list

async function list(root, { signal }) {
  const holder = h("div", { class: "stack" }, loading());
  const start = h("button", { type: "button", class: "primary", onclick: () => begin(start) }, "Start a run");
  const back = h("button", { type: "button", onclick: () => rollBack(back) }, "Roll back");
  const check = h("button", { type: "button", onclick: () => verify(check) }, "Verify");
  fill(root, h("div", { class: "head" }, h("h1", null, "Runs"), may.administer() ? h("div", { class: "actions" }, check, back, start) : null), holder);
  let current = null;
  let refresh = () => {};

  const begin = async (button) => {
    const full = h("input", { type: "checkbox", id: "full" });
    const body = [h("p", null, "Recomputes all views from the master dataset, and publishes them together."), h("p", null, h("label", { class: "check", for: "full" }, full, "Fold all of history, whatever the mode"))];
    if (await confirm("Start a run?", body, "Start")) await act(button, () => api.startRun(full.checked), (run) => `Run ${run.run_id} is on its way`);
    refresh();
  };
  const rollBack = async (button, to) => {
    const text = to ? `Answers change to run ${to.run_id}, publication ${to.publication}.` : "Answers change to the publication before the one that is served.";
    const body = h("p", null, text, " The speed layer first folds the landed events behind its cut, so nothing is missing meanwhile.");
    if (await confirm("Roll back?", body, "Roll back", "danger")) await act(button, () => api.rollback(to?.run_id), (run) => `Rollback ${run.run_id} is on its way`);
    refresh();
  };
  const verify = async (button) => {
    const body = h("p", null, "Computes all views from all of history, and compares them with what is served. Nothing is published.");
    if (await confirm("Verify?", body, "Verify")) await act(button, () => api.verify(), (run) => `Comparison ${run.run_id} is on its way`);
    refresh();
  };

  const load = async () => {
    try {
      const { runs } = await api.runs(SHOWN, signal);
      const published = runs.filter((run) => run.state === "published");
      current = published.reduce((newest, run) => ((run.publication ?? 0) > (newest?.publication ?? 0) ? run : newest), null);
      back.disabled = published.length < 2;
      draw(runs);
      return runs.some((run) => run.state === "running" || run.state === "queued");
    } catch (error) {
      if (!signal.aborted) fill(holder, problem(error, load));
      return false;
    }
  };
  let drawn = "";
  const draw = (runs) => {
    // The same again would take the focus from whoever is on a button.
    const now = JSON.stringify(runs);
    if (now === drawn) return;
    drawn = now;
    const live = runs.filter((run) => run.state === "running" || run.state === "queued");
    const focus = document.activeElement?.dataset?.run;
    fill(
      holder,
      live.map(progress),
      runs.filter((run) => run.state === "held").map((run) => note("warn", "A run is held", "It differs from what was served. ", link(run))),
      runs.length ? card("Timeline", {}, timeline(runs)) : null,
      card("The newest", {}, runTable(runs, rollBack)),
    );
    if (focus) holder.querySelector(`[data-run="${CSS.escape(focus)}"]`)?.focus();
  };
  const runTable = (runs) =>
    table(
      [
        { title: "Run", cell: (run) => link(run), class: "long" },
        { title: "State", cell: state },
        { title: "What", cell: (run) => [run.kind === "run" ? run.mode : run.kind, h("span", { class: "muted" }, ` · ${run.trigger}`)] },
        { title: "Begun", cell: (run) => h("span", { title: run.started_at }, time(run.started_at ?? run.created_at)) },
        { title: "Took", number: true, cell: (run) => duration(seconds(run)) },
        { title: "Events", number: true, cell: (run) => count(run.rows) },
        { title: "Compared", cell: (run) => differences(run.diff) },
        { title: "Publication", number: true, cell: (run) => (run.publication ? [count(run.publication), run === current ? [" ", badge("served", "accent")] : null] : "–") },
        {
          title: h("span", { class: "hidden" }, "Actions"),
          cell: (run) =>
            may.administer() && run.state === "published" && run !== current && run.kind === "run" && run.publication
              ? h("button", { type: "button", class: "small", "data-run": run.run_id, onclick: (event) => rollBack(event.currentTarget, run) }, "Go back")
              : null,
        },
      ],
      runs,
      { caption: "Runs, newest first", empty: "No run yet. The first recomputes all views from everything that was landed." },
    );
  refresh = load;
  await keep(load, signal);
}

function progress(run) {
  const { rows_done: done, rows_total: total, eta_seconds: eta } = run.progress;
  return h(
    "div",
    { class: "card running" },
    h("header", null, h("h2", null, run.kind === "run" ? `${run.mode === "incremental" ? "Incremental" : "Full"} run` : run.kind, " ", link(run)), state(run)),
    h("progress", total > 0 ? { max: total, value: done, "aria-label": "Progress" } : { "aria-label": "Progress" }),
    h("p", { class: "muted figures" }, total > 0 ? `${count(done)} of ${count(total)} events, ${percent(done / total)}` : "preparing", eta === null || eta === undefined ? "" : `, about ${duration(eta)} left`),
  );
}

function timeline(runs) {
  const some = runs.filter((run) => run.started_at).slice(0, 30);
  if (!some.length) return h("p", { class: "empty" }, "No run has begun yet.");
  const now = Date.now();
  const from = Math.min(...some.map((run) => Date.parse(run.started_at)));
  const span = Math.max(1000, now - from);
  const x = (at) => ((at - from) / span) * 1000;
  const longest = Math.max(...some.map((run) => seconds(run, now) ?? 0), 0.001);
  return h(
    "figure",
    { class: "timeline" },
    s(
      "svg",
      { viewBox: "0 0 1000 72", preserveAspectRatio: "none", role: "img", "aria-label": `The latest ${some.length} runs over ${duration(span / 1000)}; higher is longer` },
      s("line", { class: "ground", x1: 0, x2: 1000, y1: 70, y2: 70 }),
      some.map((run) => {
        const took = seconds(run, now) ?? 0;
        const width = Math.max(5, (took * 1000 * 1000) / span);
        const height = 8 + (took / longest) * 56;
        return s("a", { href: `#/runs/${run.run_id}` }, s("rect", { class: `run ${run.state}`, x: Math.min(995, x(Date.parse(run.started_at))), y: 70 - height, width, height, rx: 2 }, s("title", null, `${run.run_id}: ${run.state}, ${duration(took)}`)));
      }),
    ),
    h("figcaption", { class: "muted figures" }, h("span", null, time(new Date(from).toISOString())), h("span", null, `height: duration, up to ${duration(longest)}`), h("span", null, "now")),
  );
}

// ---- one

async function one(root, { args: [id], signal, title }) {
  title(`Run ${id}`);
  const holder = h("div", { class: "stack" }, loading());
  const actions = h("div", { class: "actions" });
  fill(root, h("div", { class: "head" }, h("h1", null, h("a", { href: "#/runs", class: "up" }, "Runs"), h("span", { class: "muted", "aria-hidden": "true" }, " / "), h("span", { class: "mono" }, id)), actions), holder);
  let drawn = "";
  const load = async () => {
    let run;
    try {
      run = await api.run(id, signal);
    } catch (error) {
      if (!signal.aborted) fill(holder, problem(error, load));
      return false;
    }
    const busy = run.state === "running" || run.state === "queued";
    if (JSON.stringify(run) === drawn) return busy;
    drawn = JSON.stringify(run);
    fill(actions, run.state === "held" && may.administer() ? held(run, load) : null);
    fill(
      holder,
      run.error ? note("bad", "It failed", run.error) : null,
      busy ? progress(run) : null,
      card("What happened", {}, facts([
        ["State", state(run)],
        ["What", run.kind === "run" ? `${run.mode} run` : run.kind],
        ["Started by", run.trigger],
        run.reason && ["Because", run.reason],
        run.base && ["Built on", h("a", { href: `#/runs/${run.base}`, class: "mono" }, run.base)],
        ["Begun", run.started_at ? `${time(run.started_at)}, ${ago(run.started_at)}` : "–"],
        ["Took", duration(seconds(run))],
        ["Events", count(run.rows)],
        ["Events per second", run.finished_at && seconds(run) > 0 ? rate(run.rows / seconds(run)) : "–"],
        ["Groups", count(run.groups)],
        ["Publication", run.publication ?? "–"],
      ]), phases(run.timings_ms)),
      card("Compared with what was served", {}, comparison(run.diff)),
      card("Cut", {}, cuts(run.cuts)),
    );
    return busy;
  };
  await keep(load, signal);
}

function held(run, load) {
  const publish = h("button", { type: "button", class: "primary" }, "Publish");
  const discard = h("button", { type: "button", class: "danger" }, "Discard");
  publish.addEventListener("click", async () => {
    if (await confirm("Publish this run?", h("p", null, "All its views become what is served, together."), "Publish")) await act(publish, () => api.publishRun(run.run_id), (done) => `It is publication ${done.publication}`);
    load();
  });
  discard.addEventListener("click", async () => {
    if (await confirm("Discard this run?", h("p", null, "It will not be published. What is served stays."), "Discard", "danger")) await act(discard, () => api.discardRun(run.run_id), "Discarded");
    load();
  });
  return [discard, publish];
}

function phases(timings) {
  const all = Object.entries(timings ?? {}).filter(([name, ms]) => ms > 0 && name !== "total").sort(([, a], [, b]) => b - a);
  if (!all.length) return null;
  const most = all[0][1];
  return h(
    "ol",
    { class: "bars phases" },
    all.map(([name, ms]) => h("li", null, h("span", { class: "name" }, name.replaceAll("_", " ")), h("span", { class: "bar" }, h("i", { class: "merged", vars: { width: `${(ms / most) * 100}%` } })), h("span", { class: "num" }, duration(ms / 1000)))),
  );
}

function comparison(diff) {
  if (!diff) return h("p", { class: "empty" }, "Not compared.");
  const views = Object.entries(diff.views);
  const value = (side, column) => (side === null ? "no such group" : (side[column] ?? "null"));
  return [
    diff.expected ? note("plain", "A difference is expected", diff.expected) : null,
    table(
      [
        { title: "View", cell: ([name]) => h("a", { href: `#/views/${encodeURIComponent(name)}` }, name) },
        { title: "Compared", number: true, cell: ([, v]) => count(v.compared) },
        { title: "Differing", number: true, cell: ([, v]) => count(v.differing) },
        { title: "Only in the run", number: true, cell: ([, v]) => count(v.only_computed) },
        { title: "Only served", number: true, cell: ([, v]) => count(v.only_served) },
        { title: "Largest", cell: ([, v]) => (v.largest ? `${v.largest.column} by ${v.largest.by}` : "–") },
        { title: "", cell: ([, v]) => v.skipped ?? Object.entries(v.not_compared ?? {}).map(([p, why]) => `${p}: ${why}`).join("; "), class: "long" },
      ],
      views,
      { caption: "Comparison by view", empty: "There was nothing to compare with." },
    ),
    views
      .filter(([, v]) => v.samples.length)
      .map(([name, v]) =>
        h(
          "details",
          null,
          h("summary", null, `${name}: groups that differ`),
          table(
            [
              { title: "Group", cell: (sample) => Object.values(sample.key).map((k) => k ?? "null").join(" · ") || "the only one" },
              { title: "Column", cell: (sample) => columnsOf(sample).map((c) => h("div", null, c)) },
              { title: "Computed", cell: (sample) => columnsOf(sample).map((c) => h("div", null, value(sample.computed, c))) },
              { title: "Served", cell: (sample) => columnsOf(sample).map((c) => h("div", null, value(sample.served, c))) },
            ],
            v.samples,
            { caption: `Groups of ${name} that differ` },
          ),
        ),
      ),
  ];
}

const columnsOf = (sample) => [...new Set([...Object.keys(sample.computed ?? {}), ...Object.keys(sample.served ?? {})])];

function cuts(cuts) {
  const rows = Object.entries(cuts ?? {}).flatMap(([source, cut]) => Object.entries(cut.next ?? {}).map(([partition, next]) => ({ source, version: cut.version, partition, next })));
  return table(
    [
      { title: "Table", cell: (row) => row.source },
      { title: "Version", number: true, cell: (row) => count(row.version) },
      { title: "Partition", number: true, cell: (row) => row.partition },
      { title: "Next offset", number: true, cell: (row) => count(row.next) },
    ],
    rows,
    { caption: "Cut", empty: "Nothing was landed when it began." },
  );
}
