import { fill, h, table } from "../dom.js";
import { bytes, count, duration, percent, rate, time } from "../format.js";
import { watch } from "../status.js";
import { badge, card, facts, loading, problem } from "../ui.js";

// How components hang together: who sends to whom, and by which grouping.
const EDGES = {
  spout: { from: "the log", grouping: "micro-batches", hint: "One tuple is one micro-batch of one partition" },
  decode: { from: "spout", grouping: "by partition", hint: "Fields grouping on the partition" },
  view: { from: "decode", grouping: "by group key", hint: "Fields grouping on the group key" },
  land: { from: "decode", grouping: "to one task", hint: "Global grouping" },
};

export default async function topology(root, { signal }) {
  const holder = h("div", { class: "stack" }, loading());
  fill(root, h("h1", null, "Topology"), holder);
  const stop = watch(({ status, facts: f, error }) => {
    if (!status) return error && fill(holder, problem(error));
    // Redrawing under somebody's focus would lose it.
    if (holder.contains(document.activeElement) && document.activeElement !== document.body) return;
    const scrolled = [...holder.querySelectorAll(".scroll")].map((element) => element.scrollLeft);
    fill(
      holder,
      error ? problem(error) : null,
      f.topology.length ? f.topology.map(source) : h("p", { class: "empty" }, "No speed worker tells about its topology. Start one with anabranch speed."),
    );
    holder.querySelectorAll(".scroll").forEach((element, at) => (element.scrollLeft = scrolled[at] ?? 0));
  });
  signal.addEventListener("abort", stop);
}

function source({ worker, source, topic, components, views, told }) {
  const by = new Map(components.map((c) => [c.component, c]));
  const known = ["spout", "decode", "view", "land"].every((name) => by.has(name));
  return card(
    source,
    { actions: h("span", { class: "muted mono" }, worker) },
    known ? flow(by, topic) : null,
    componentTable(components),
    facts([
      ["Landings", count(told.landings)],
      told.last_landing && ["Last landing", `${count(told.last_landing.events)} events, ${bytes(told.last_landing.file_bytes)}, ${duration(told.last_landing.elapsed_ms / 1000)}, at ${time(told.last_landing.at)}`],
      ["Views folded", Object.keys(views).join(", ") || "–"],
      ["Rebuilds", count(told.rebuilds)],
      told.refused_total > 0 && ["Refused landings", count(told.refused_total)],
    ]),
  );
}

// How loaded: the share of their time that tasks were not waiting for work.
// A spout is busy while it waits for its log, too.
const heat = (c) => (c.queue_capacity > 0 && c.queue_fill >= c.queue_capacity) || c.blocked > 0.5 ? "bad" : (c.kind === "bolt" && c.busy > 0.8) || c.blocked > 0.1 ? "warn" : "good";

function node(c, title) {
  return h(
    "div",
    { class: `node ${heat(c)}` },
    h("div", { class: "node-head" }, h("b", null, title), h("span", { class: "muted" }, c.tasks > 1 ? `× ${c.tasks}` : "")),
    h("div", { class: "node-rate" }, h("span", { class: "value" }, rate(c.executedRate)), h("span", { class: "muted" }, " tuples/s")),
    c.kind === "bolt" ? meter("queue", c.queue_capacity ? c.queue_fill / c.queue_capacity : 0, `${c.queue_fill}/${c.queue_capacity}`) : h("div", { class: "meter" }, h("span", null, "pending"), h("b", null, count(c.pending))),
    meter("busy", c.busy, percent(c.busy)),
    meter("blocked", c.blocked, percent(c.blocked)),
  );
}

function meter(name, share, text) {
  return h("div", { class: "meter" }, h("span", null, name), h("i", { class: name }, h("i", { vars: { width: `${Math.min(1, share ?? 0) * 100}%` } })), h("b", null, text));
}

function flow(by, topic) {
  const arrow = (kind, text) => h("div", { class: `arrow ${kind}` }, h("span", { class: "muted" }, text));
  return h(
    "div",
    { class: "flow", role: "group", "aria-label": "Components and streams" },
    h("div", { class: "node log" }, h("div", { class: "node-head" }, h("b", null, "log")), h("div", { class: "muted" }, topic)),
    arrow("", "micro-batches"),
    node(by.get("spout"), "spout"),
    arrow("", "by partition"),
    node(by.get("decode"), "decode"),
    arrow("split", "by group key; global"),
    h("div", { class: "arms" }, node(by.get("view"), "view"), node(by.get("land"), "land")),
  );
}

const from = (edge) => (edge ? h("span", { title: edge.hint }, `${edge.from}, ${edge.grouping}`) : null);

function componentTable(components) {
  return table(
    [
      { title: "Component", cell: (c) => [h("b", null, c.component), " ", badge(c.kind)] },
      { title: "Tasks", number: true, cell: (c) => count(c.tasks) },
      { title: "Executed /s", number: true, cell: (c) => rate(c.executedRate) },
      { title: "Emitted /s", number: true, cell: (c) => rate(c.emittedRate) },
      { title: "Acked /s", number: true, cell: (c) => rate(c.ackedRate) },
      { title: "Failed", number: true, cell: (c) => count(c.failed) },
      { title: "Queue", number: true, cell: (c) => (c.queue_capacity ? `${c.queue_fill} / ${c.queue_capacity}` : "–") },
      { title: "Pending", number: true, cell: (c) => (c.kind === "spout" ? count(c.pending) : "–") },
      { title: "Busy", number: true, cell: (c) => percent(c.busy) },
      { title: "Blocked", number: true, cell: (c) => percent(c.blocked) },
      { title: "Executed", number: true, cell: (c) => count(c.executed) },
      { title: "Per call", number: true, cell: (c) => (c.executed ? duration(c.busy_ms / 1000 / c.executed) : "–") },
      { title: "From", cell: (c) => from(EDGES[c.component]) },
    ],
    components,
    { caption: "Components", empty: "The topology has not started." },
  );
}
