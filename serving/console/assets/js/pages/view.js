import { api } from "../api.js";
import { legend, offsetAxis, partitionsOf } from "../axis.js";
import { bars, timeChart } from "../chart.js";
import { cls, fill, h, say, table } from "../dom.js";
import { cell, count, decimal, isNumeric, isTime, short } from "../format.js";
import { follow } from "../live.js";
import { watch } from "../status.js";
import { badge, card, facts, loading, note, problem, sqlText, toggle } from "../ui.js";

const SHOWN = 100;
const CATEGORIES = 15;
const WINDOWS = 120;
const CHART_EVERY_MS = 2000;
// Changes faster than this are a flicker to people, and work for nothing to their machines.
const INTERVAL = "500ms";
// Rows that are seen at a time, about: the others need not flash.
const IN_SIGHT = 16;

export default async function view(root, { args: [name], signal, title }) {
  title(name);
  fill(root, crumbs(name), loading());
  const told = await api.view(name, signal);
  const state = h("span", { class: "badges" });
  const axis = h("div", { class: "axes" });
  const live = liveCard(told, signal, (coverage) => {
    fill(
      state,
      coverage.exact ? badge("exact", "good", "Each event before the served offsets is counted exactly once") : badge("not exact", "warn"),
      coverage.publication === null ? badge("not published yet", "warn") : badge(`publication ${coverage.publication}`),
      told.changing ? badge("changing", "warn", "A newer definition is being built") : null,
    );
    latest.coverage = coverage;
    drawAxis();
  });
  const latest = { coverage: told.coverage, status: null };
  const drawAxis = () => offsetAxis(axis, partitionsOf(told, latest.coverage, latest.status));
  drawAxis();
  const stop = watch(({ status }) => {
    latest.status = status;
    if (status) drawAxis();
  });
  signal.addEventListener("abort", stop);
  fill(
    root,
    crumbs(name, state),
    h(
      "div",
      { class: "stack" },
      chartCard(told, signal),
      live,
      card("Where the two arms meet", {}, h("p", { class: "muted" }, "Each event is in exactly one part: in the batch view before the cut, in realtime state from there on."), axis, legend()),
      h("div", { class: "columns" }, definition(told), schema(told)),
    ),
  );
}

const crumbs = (name, state) => h("div", { class: "head" }, h("h1", null, h("a", { href: "#/views", class: "up" }, "Views"), h("span", { class: "muted", "aria-hidden": "true" }, " / "), name), state);

function definition(view) {
  return card(
    "Definition",
    { actions: h("a", { href: `#/query?sql=${encodeURIComponent(`SELECT * FROM ${quoted(view.name)} LIMIT 100`)}` }, "Query it") },
    sqlText(view.definition ?? ""),
    facts([
      ["Table", view.source],
      ["Topic", view.topic],
      ["Groups in the batch view", count(view.batch_groups)],
      ["Events in the batch view", count(view.batch_events)],
      ["Values that became NULL", count(view.nulled_values)],
      ["Version", h("span", { class: "mono", title: view.hash }, view.hash.slice(0, 12))],
    ]),
  );
}

function schema(view) {
  const classes = new Map((view.plan?.finalise?.columns ?? []).map((column) => [column.name, column]));
  return card(
    "Schema",
    {},
    table(
      [
        { title: "Column", cell: (c) => [h("b", null, c.name), c.key ? [" ", badge("key", "accent")] : null] },
        { title: "Type", cell: (c) => c.type },
        { title: "From", cell: (c) => h("span", { class: "mono" }, (classes.get(c.name)?.expression ?? "").replace("count(Int64(1))", "count(*)")), class: "wrap" },
        { title: "Arithmetic", cell: (c) => classes.get(c.name)?.class ?? "" },
      ],
      view.columns,
      { caption: `Columns of ${view.name}` },
    ),
  );
}

// ---- live table

function liveCard(view, signal, oncoverage) {
  const measure = view.columns.find((c) => !c.key && isNumeric(c.type));
  const timed = view.columns.find((c) => c.key && isTime(c.type));
  let order = timed ? `-${timed.name}` : measure ? `-${measure.name}` : "";
  let filter = "";
  let stop = () => {};
  const status = h("span", { class: "livestate", role: "status" });
  const holder = h("div", null, loading());
  const find = h("input", { type: "search", placeholder: filterHint(view), "aria-label": "Filter, as column=value", "data-find": true });
  const form = h("form", { class: "filter", onsubmit: (event) => (event.preventDefault(), (filter = find.value), start()) }, find, h("button", { type: "submit" }, "Filter"));

  const start = () => {
    stop();
    fill(holder, loading());
    const pairs = [...pairsOf(filter), ["interval", INTERVAL], ["limit", String(SHOWN)], ...(order ? [["order", order]] : [])];
    const grid = liveTable(view, () => order, (next) => ((order = next), start()));
    let placed = false;
    stop = follow(view.name, pairs, {
      rows: (held, changed) => {
        if (!placed) {
          placed = true;
          fill(holder, grid.element);
        }
        grid.draw(held, changed);
        if (held.coverage[view.name]) oncoverage(held.coverage[view.name]);
        say(status.lastChild, held.rows.length < SHOWN ? `live, ${count(held.rows.length)} rows` : `live, first ${SHOWN} rows`);
      },
      state: (kind, detail) => {
        status.className = `livestate ${kind}`;
        if (kind === "waiting") say(status.lastChild, `waiting: ${detail.message ?? "the connection broke"}`);
        if (kind === "refused") fill(holder, problem(detail));
        if (kind === "ended") fill(holder, note("warn", `The view cannot be followed any more: ${detail.message}`, h("a", { href: "#/views" }, "All views")));
        if (kind === "refused" || kind === "ended") say(status.lastChild, "not live");
      },
    });
  };
  fill(status, h("i"), h("span", null, "connecting"));
  start();
  signal.addEventListener("abort", () => stop());
  return card("Rows", { actions: [status, form] }, holder);
}

const filterHint = (view) => {
  const key = view.columns.find((c) => c.key && !isTime(c.type)) ?? view.columns[0];
  return `${key.name}=value`;
};

function pairsOf(text) {
  return text
    .split("&")
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part) => {
      const at = part.indexOf("=");
      return at < 0 ? [part, ""] : [part.slice(0, at).trim(), part.slice(at + 1).trim()];
    });
}

function liveTable(view, order, onorder) {
  const columns = view.columns;
  const body = h("tbody");
  const heads = columns.map((c) => {
    const sorted = order() === c.name ? "ascending" : order() === `-${c.name}` ? "descending" : undefined;
    const next = order() === `-${c.name}` ? c.name : `-${c.name}`;
    return h("th", { scope: "col", class: cls({ number: isNumeric(c.type) }), "aria-sort": sorted }, h("button", { type: "button", class: "sort", onclick: () => onorder(next) }, c.name, sorted && h("span", { class: "arrow", "aria-hidden": "true" }, sorted === "ascending" ? "↑" : "↓")));
  });
  const element = h(
    "div",
    { class: "scroll tall", tabindex: "0", role: "region", "aria-label": `Live rows of ${view.name}` },
    h("table", null, h("thead", null, h("tr", null, heads)), body),
  );
  const empty = h("tr", { class: "none" }, h("td", { colspan: String(columns.length) }, "No row matches."));
  const known = new Map();
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  const draw = ({ rows }, changed) => {
    const present = new Set(rows.map(({ key }) => key));
    for (const [key, tr] of known) {
      if (present.has(key)) continue;
      tr.remove();
      known.delete(key);
    }
    empty.remove();
    const height = body.firstElementChild?.offsetHeight || 33;
    const top = Math.floor(element.scrollTop / height);
    const color = changed && !calm.matches ? getComputedStyle(element).getPropertyValue("--flash") : null;
    let before = body.firstChild;
    for (const [place, { key, row }] of rows.entries()) {
      const seen = place >= top && place < top + IN_SIGHT;
      let tr = known.get(key);
      const isNew = !tr;
      if (isNew) {
        tr = h("tr", null, columns.map((c) => h("td", { class: cls({ number: isNumeric(c.type) }) })));
        known.set(key, tr);
      }
      if (isNew || changed === null || changed.has(key)) {
        columns.forEach((c, at) => {
          const text = cell(row[at], c.type);
          const td = tr.children[at];
          if (td.textContent === text) return;
          say(td, text);
          td.classList.toggle("isnull", row[at] === null);
          if (color && seen) flash(td, color);
        });
      }
      if (tr === before) before = before.nextSibling;
      else body.insertBefore(tr, before);
    }
    if (!rows.length) body.append(empty);
  };
  return { element, draw };
}

function flash(td, color) {
  td.animate([{ backgroundColor: color }, { backgroundColor: "transparent" }], { duration: 900, easing: "ease-out" });
}

// ---- chart

// Sums and counts of two parts add up to the whole; averages, distinct counts and the like do not.
function addsUp(view, column) {
  const expression = view.plan?.finalise?.columns?.find((c) => c.name === column.name)?.expression ?? "";
  return /^(count|sum)\((?!\s*DISTINCT\b)[^()]*(\([^()]*\)[^()]*)*\)(\s+FILTER\s*\(.*\))?$/i.test(expression);
}

const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
const literal = (value) => (typeof value === "number" ? String(value) : typeof value === "boolean" ? String(value) : `'${String(value).replaceAll("'", "''")}'`);
const number = (value) => (value === null || value === undefined ? null : Number(value));

function chartCard(view, signal) {
  const measures = view.columns.filter((c) => !c.key && isNumeric(c.type));
  const timed = view.columns.find((c) => c.key && isTime(c.type));
  const category = view.columns.find((c) => c.key && !isTime(c.type));
  const holder = h("div", null, loading());
  const explain = h("p", { class: "muted small" });
  if (!measures.length) return card("Chart", {}, h("p", { class: "empty" }, "No column of this view is a number."));
  let measure = measures[0];
  let chart = null;
  const pick = measures.length > 1 ? toggle("Measure", measures.map((m) => [m.name, m.name]), measure.name, (name) => ((measure = measures.find((m) => m.name === name)), draw())) : null;
  const key = h("p", { class: "legend" }, h("span", { class: "key batch" }, h("i"), "batch"), h("span", { class: "key realtime" }, h("i"), "realtime"), h("span", { class: "key merged" }, h("i"), "merged"));
  let drawing = 0;

  const draw = async () => {
    const mine = ++drawing;
    const adds = addsUp(view, measure);
    try {
      const shown = timed ? await overTime(view, timed, category, measure, adds, signal) : await byCategory(view, category, measure, adds, signal);
      if (mine !== drawing || signal.aborted) return;
      key.classList.toggle("adds", adds);
      say(explain, explanation(view, timed, category, measure, adds));
      if (!shown.length) return fill(holder, h("p", { class: "empty" }, "No rows yet."));
      if (timed) {
        if (!chart) {
          chart = timeChart(`${measure.name} over ${timed.name}`);
          signal.addEventListener("abort", chart.destroy);
        }
        if (chart.element.parentNode !== holder) fill(holder, chart.element);
        drawTime(chart, shown, measure, adds);
      } else bars(holder, shown, { stacked: adds, format: (n) => (n === null ? "–" : Number.isInteger(n) ? short(n) : decimal(n)) });
    } catch (error) {
      if (mine === drawing && !signal.aborted) fill(holder, problem(error, draw));
    }
  };
  draw();
  const timer = setInterval(() => !document.hidden && draw(), CHART_EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
  return card(timed ? `By ${timed.name}` : category ? `By ${category.name}` : "Total", { actions: pick, wide: true }, holder, key, explain);
}

function explanation(view, timed, category, measure, adds) {
  const over = timed && category ? (adds ? `, summed over ${category.name}` : `, the mean over ${category.name}`) : "";
  const which = timed ? `The latest ${WINDOWS} windows` : category ? `The ${CATEGORIES} largest` : "One row";
  return `${which} of ${measure.name}${over}. ${adds ? "Both parts add up to the answer." : "Its two parts do not add up; the merge combines their state."}`;
}

// The three of one publication: were it to change between them, an event would show in both parts or in none.
async function all(view, sqls, signal) {
  for (let attempt = 1; ; attempt += 1) {
    const layers = Object.keys(sqls);
    const answers = await Promise.all(layers.map((layer) => api.sql({ sql: sqls[layer], layer }, signal)));
    const publications = new Set(answers.map((answer) => answer.coverage[view.name]?.publication));
    if (publications.size === 1 || attempt === 3) return Object.fromEntries(layers.map((layer, at) => [layer, answers[at].rows]));
  }
}

const same = (sql) => ({ merged: sql, batch: sql, realtime: sql });

async function overTime(view, timed, category, measure, adds, signal) {
  const t = quoted(timed.name);
  const m = category ? `${adds ? "sum" : "avg"}(${quoted(measure.name)})` : quoted(measure.name);
  const sql = `SELECT ${t}, ${m} AS value FROM ${quoted(view.name)} WHERE ${t} IS NOT NULL ${category ? `GROUP BY ${t}` : ""} ORDER BY ${t} DESC LIMIT ${WINDOWS}`;
  const { merged, batch, realtime } = await all(view, same(sql), signal);
  const of = (rows) => new Map(rows.map(([at, value]) => [at, number(value)]));
  const [b, r] = [of(batch), of(realtime)];
  const points = merged
    .map(([at, value]) => ({ at: Date.parse(at) / 1000, merged: number(value), batch: b.get(at) ?? null, realtime: r.get(at) ?? null }))
    .filter((point) => Number.isFinite(point.at))
    .reverse();
  // A late event of yesterday must not push today to the edge.
  const steps = points.slice(1).map((point, at) => point.at - points[at].at);
  const from = points.length > 1 ? points.at(-1).at - WINDOWS * Math.min(...steps) : 0;
  return points.filter((point) => point.at > from);
}

function drawTime(chart, points, measure, adds) {
  const xs = points.map((p) => p.at);
  const stack = points.map((p) => (p.batch ?? 0) + (p.realtime ?? 0));
  const data = adds ? [xs, stack, points.map((p) => p.batch)] : [xs, points.map((p) => p.realtime), points.map((p) => p.batch), points.map((p) => p.merged)];
  const read = (_, at) => {
    const p = points[at];
    if (!p) return "";
    const when = new Date(p.at * 1000).toISOString().replace("T", " ").replace(/\.000Z$/, "");
    return `${when}   ${measure.name} ${decimal(p.merged)} (batch ${decimal(p.batch ?? 0)}, realtime ${decimal(p.realtime ?? 0)})`;
  };
  chart.set(data, { stacked: adds, read });
}

async function byCategory(view, category, measure, adds, signal) {
  const m = quoted(measure.name);
  const from = quoted(view.name);
  const keys = view.columns.filter((c) => c.key);
  const label = keys.map((c) => quoted(c.name));
  if (!category) {
    const { merged, batch, realtime } = await all(view, same(`SELECT ${m} FROM ${from}`), signal);
    return [{ label: measure.name, merged: number(merged[0]?.[0]), batch: number(batch[0]?.[0]), realtime: number(realtime[0]?.[0]) }];
  }
  const top = await api.sql({ sql: `SELECT ${label.join(", ")}, ${m} FROM ${from} WHERE ${m} IS NOT NULL ORDER BY ${m} DESC, ${label.join(", ")} LIMIT ${CATEGORIES}` }, signal);
  if (!top.rows.length) return [];
  const name = (row) => JSON.stringify(row.slice(0, keys.length));
  const first = [...new Set(top.rows.map((row) => row[0]))];
  const some = first.filter((value) => value !== null).map(literal);
  const where = [some.length ? `${label[0]} IN (${some.join(", ")})` : null, first.includes(null) ? `${label[0]} IS NULL` : null].filter(Boolean).join(" OR ");
  const parts = `SELECT ${label.join(", ")}, ${m} FROM ${from} WHERE ${where}`;
  const { merged, batch, realtime } = await all(view, same(parts), signal);
  const of = (rows) => new Map(rows.map((row) => [name(row), number(row.at(-1))]));
  const [m3, b, r] = [of(merged), of(batch), of(realtime)];
  return top.rows.map((row) => ({
    label: row.slice(0, keys.length).map((value, at) => cell(value, keys[at].type)).join(" · "),
    merged: m3.get(name(row)) ?? number(row.at(-1)),
    batch: b.get(name(row)) ?? null,
    realtime: r.get(name(row)) ?? null,
  }));
}
