// The offset axis of each partition: what the batch view holds, what realtime state adds, what is landed, where the log ends.

import { fill, h, s } from "./dom.js";
import { count } from "./format.js";

const WIDTH = 1000;
// What lies before the cut is often thousands of times what lies behind it: it gets a fixed part, with a break in it.
const BATCH = 380;
const Y = 18;
const HEIGHT = 12;

export function legend() {
  const entry = (kind, text) => h("span", { class: `key ${kind}` }, h("i"), text);
  return h(
    "p",
    { class: "legend" },
    entry("batch", "batch view, up to the cut"),
    entry("realtime", "realtime state, served"),
    entry("lag", "in the log, not served yet"),
    entry("landed", "landed up to here"),
  );
}

// `parts`: [{partition, start, cut, through, landed, end, missing, owner}]
export function offsetAxis(element, parts) {
  return fill(
    element,
    parts.map((part) =>
      h("div", { class: "axis" }, h("div", { class: "axis-name" }, h("b", null, part.partition), part.missing ? h("span", { class: "warn-text" }, "missing") : h("span", { class: "muted" }, part.owner ?? "")), draw(part), figures(part)),
    ),
  );
}

function draw({ start, cut, through, landed, end, missing }) {
  const last = Math.max(end, through, cut, landed, start + 1);
  const hasBatch = cut > start;
  const left = hasBatch ? BATCH : 0;
  const x = (offset) => {
    if (offset <= cut) return hasBatch ? ((offset - start) / (cut - start)) * left : 0;
    return left + ((offset - cut) / Math.max(1, last - cut)) * (WIDTH - left);
  };
  const block = (kind, from, to) => to > from && s("rect", { class: kind, x: x(from), y: Y, width: Math.max(1, x(to) - x(from)), height: HEIGHT, rx: 2 });
  const label = `partition from ${count(start)}: batch cut ${count(cut)}, served through ${count(through)}, landed ${count(landed)}, end of log ${count(end)}`;
  return s(
    "svg",
    { viewBox: `0 0 ${WIDTH} 44`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("rect", { class: "track", x: 0, y: Y, width: WIDTH, height: HEIGHT, rx: 2 }),
    block("batch", start, cut),
    block(missing ? "missing" : "realtime", cut, through),
    block("lag", Math.max(through, cut), end),
    hasBatch && s("path", { class: "break", d: `M${left * 0.5 - 4} ${Y - 3}l4 ${HEIGHT + 6}M${left * 0.5 + 4} ${Y - 3}l4 ${HEIGHT + 6}` }),
    s("line", { class: "cut", x1: x(cut), x2: x(cut), y1: 6, y2: 40 }),
    s("path", { class: "landed", d: `M${x(landed)} ${Y - 2}l-5 -9h10z` }),
  );
}

function figures({ cut, through, landed, end, start }) {
  const one = (name, value, title) => h("span", { title }, h("span", { class: "muted" }, name), " ", count(value));
  return h(
    "div",
    { class: "axis-figures" },
    start > 0 && one("from", start, "Older events are not in the answer"),
    one("cut", cut, "The batch view holds everything before it"),
    one("landed", landed, "Everything before it is in the master dataset"),
    one("served through", through, "Answers hold everything before it, and nothing after"),
    one("end", end, "The next offset of the log"),
  );
}

// Coverage of a view and the status of its source, partition by partition.
export function partitionsOf(view, coverage, status) {
  const source = status?.sources?.[view.source];
  const names = new Set([...Object.keys(coverage.served_through), ...Object.keys(coverage.batch_cut), ...coverage.missing, ...Object.keys(source?.partitions ?? {})]);
  return [...names]
    .sort((a, b) => a.localeCompare(b, undefined, { numeric: true }))
    .map((name) => {
      const told = source?.partitions?.[name];
      const start = coverage.since?.[name] ?? 0;
      const cut = coverage.batch_cut[name] ?? start;
      const through = coverage.served_through[name] ?? cut;
      return {
        partition: name,
        owner: told?.owner,
        start,
        cut,
        through,
        landed: told?.next_landed ?? cut,
        end: Math.max(told?.end ?? through, through),
        missing: coverage.missing.includes(name),
      };
    });
}
