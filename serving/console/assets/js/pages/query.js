import { api } from "../api.js";
import { lineChart } from "../chart.js";
import { cls, fill, h, say } from "../dom.js";
import { cell, count, isNumeric, isTime } from "../format.js";
import { act, badge, card, coverageLine, loading, problem, toggle } from "../ui.js";

const SHOWN = 1000;
const REMEMBERED = 20;
const STORE = "anabranch.queries";

function past() {
  try {
    return JSON.parse(localStorage.getItem(STORE) ?? "[]");
  } catch {
    return [];
  }
}

function remember(sql) {
  try {
    localStorage.setItem(STORE, JSON.stringify([sql, ...past().filter((other) => other !== sql)].slice(0, REMEMBERED)));
  } catch {
    // Private windows may keep nothing.
  }
}

export default async function query(root, { search, signal }) {
  const { views } = await api.views(signal);
  const first = views[0];
  let text = search.get("sql") ?? past()[0] ?? (first ? `SELECT *\nFROM ${first.name}\nLIMIT 100` : "SELECT 1");
  let layer = "merged";
  let asked = null;
  const exact = h("input", { type: "checkbox", id: "exact" });
  const run = h("button", { type: "button", class: "primary", title: "Ctrl+Enter", onclick: () => ask() }, "Run");
  const csv = h("button", { type: "button", disabled: true, onclick: () => download(csv, asked) }, "CSV");
  const results = h("div", { class: "stack", "aria-live": "polite" });
  const editor = await makeEditor({ text, views, onrun: () => ask(), onchange: (next) => (text = next), signal });
  const history = h("select", { "aria-label": "Earlier queries", onchange: (event) => event.target.value && (editor.set(event.target.value), editor.focus()) });
  const drawHistory = () => fill(history, h("option", { value: "" }, "Earlier queries"), past().map((sql) => h("option", { value: sql }, sql.replace(/\s+/g, " ").slice(0, 90))));
  drawHistory();

  fill(
    root,
    h("h1", null, "Query"),
    h(
      "div",
      { class: "stack" },
      h(
        "section",
        { class: "card editorcard", "aria-label": "Editor" },
        editor.element,
        h(
          "footer",
          { class: "row" },
          run,
          toggle("Layer", [["merged", "merged"], ["batch", "batch"], ["realtime", "realtime"]], layer, (next) => {
            layer = next;
            exact.disabled = next !== "merged";
            if (exact.disabled) exact.checked = false;
          }),
          h("label", { class: "check", for: "exact", title: "An error rather than a partial answer" }, exact, "exact or nothing"),
          h("span", { class: "grow" }),
          history,
          csv,
        ),
      ),
      results,
    ),
  );

  let running = null;
  const ask = async () => {
    running?.abort();
    const mine = (running = new AbortController());
    const body = { sql: text, ...(layer === "merged" ? {} : { layer }), ...(exact.checked ? { require: "exact" } : {}) };
    fill(results, loading());
    say(run, "Running…");
    try {
      const answer = await api.sql(body, mine.signal);
      remember(text);
      drawHistory();
      asked = body;
      csv.disabled = false;
      draw(results, answer, signal);
    } catch (error) {
      if (mine === running && error.name !== "AbortError") fill(results, problem(error));
    } finally {
      if (mine === running) say(run, "Run");
    }
  };
  signal.addEventListener("abort", () => running?.abort());
  if (search.has("sql")) ask();
}

async function makeEditor({ text, views, onrun, onchange, signal }) {
  const host = h("div", { class: "editor", "data-find": true, tabindex: "-1" });
  const { createEditor } = await import("/console/vendor/editor.js");
  const shadow = host.attachShadow({ mode: "open", delegatesFocus: true });
  const styles = new CSSStyleSheet();
  styles.replaceSync(EDITOR_STYLES);
  shadow.adoptedStyleSheets = [styles];
  const parent = h("div");
  shadow.append(parent);
  const schema = Object.fromEntries(views.map((view) => [view.name, view.columns.map((column) => column.name)]));
  const editor = createEditor({ parent, root: shadow, doc: text, schema, label: "SQL query; Ctrl Enter runs it", onRun: onrun, onChange: onchange });
  signal.addEventListener("abort", () => editor.destroy());
  host.focus = () => editor.focus();
  return { ...editor, element: host };
}

// The editor lives in a shadow root of its own, where page styles do not reach; custom properties do.
const EDITOR_STYLES = `
.cm-editor { color: var(--ink); background: transparent; font-size: 14px; }
.cm-editor.cm-focused { outline: none; }
.cm-editor .cm-scroller { font-family: var(--mono); line-height: 1.6; min-height: 8.5rem; max-height: 45vh; }
.cm-editor .cm-gutters { background: transparent; color: var(--muted); border: 0; }
.cm-editor .cm-activeLine, .cm-editor .cm-activeLineGutter { background: transparent; }
.cm-editor.cm-focused .cm-activeLine { background: var(--hover); }
.cm-editor .cm-content { caret-color: var(--ink); padding: .75rem 0; }
.cm-editor .cm-cursor { border-left-color: var(--ink); }
.cm-editor.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-editor .cm-selectionBackground { background: var(--select); }
.cm-editor .cm-tooltip { background: var(--surface); color: var(--ink); border: 1px solid var(--line); border-radius: 6px; }
.cm-editor .cm-tooltip-autocomplete ul li[aria-selected] { background: var(--accent); color: var(--on-accent); }
.cm-editor .cm-matchingBracket { background: var(--select); outline: none; }
.tok-keyword, .tok-operatorKeyword { color: var(--accent-text); font-weight: 600; }
.tok-string, .tok-string2 { color: var(--string); }
.tok-number, .tok-bool { color: var(--number); }
.tok-comment { color: var(--muted); font-style: italic; }
.tok-typeName { color: var(--number); }
`;

function draw(holder, answer, signal) {
  const shown = answer.rows.slice(0, SHOWN);
  const grid = () =>
    answer.rows.length
      ? h(
          "div",
          { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "Result" },
          h(
            "table",
            null,
            h("thead", null, h("tr", null, answer.columns.map((c) => h("th", { scope: "col", class: cls({ number: isNumeric(c.type) }), title: c.type }, c.name)))),
            h("tbody", null, shown.map((row) => h("tr", null, row.map((value, at) => h("td", { class: [isNumeric(answer.columns[at].type) && "num", value === null && "isnull"].filter(Boolean).join(" ") || undefined }, cell(value, answer.columns[at].type)))))),
          ),
        )
      : h("p", { class: "empty" }, "No rows.");
  const plot = plottable(answer);
  const body = h("div", null, grid());
  let chart = null;
  const show = (what) => {
    chart?.destroy();
    chart = null;
    if (what === "table") return fill(body, grid());
    const place = h("div", { class: "plot" });
    fill(body, place);
    chart = plot(place);
  };
  signal.addEventListener("abort", () => chart?.destroy());
  fill(
    holder,
    card(
      `${count(answer.row_count)} ${answer.row_count === 1 ? "row" : "rows"}`,
      { actions: [badge(`${answer.elapsed_ms} ms`), plot ? toggle("Show as", [["table", "Table"], ["chart", "Chart"]], "table", show) : null] },
      body,
      answer.rows.length > SHOWN ? h("p", { class: "muted" }, `The first ${count(SHOWN)} are shown; CSV has all of them.`) : null,
      h("div", { class: "coverages" }, coverageLine(answer.coverage)),
    ),
  );
}

// The first column that is a time or a number against the numbers beside it; categories as bars.
function plottable(answer) {
  const { columns, rows } = answer;
  const numbers = columns.map((c, at) => ({ ...c, at })).filter((c) => isNumeric(c.type));
  if (rows.length < 2 || !numbers.length) return null;
  const timed = columns.findIndex((c) => isTime(c.type));
  const x = timed >= 0 ? timed : numbers.length > 1 ? numbers[0].at : -1;
  const ys = numbers.filter((c) => c.at !== x).slice(0, 5);
  if (!ys.length) return null;
  return (place) => {
    if (x < 0 || (timed < 0 && columns.some((c) => !isNumeric(c.type)))) return categories(place, answer, ys[0]);
    const points = rows
      .map((row) => ({ x: timed >= 0 ? Date.parse(row[x]) / 1000 : Number(row[x]), row }))
      .filter((point) => Number.isFinite(point.x))
      .sort((a, b) => a.x - b.x);
    const series = ys.map((c) => ({ name: c.name, values: points.map(({ row }) => (row[c.at] === null ? null : Number(row[c.at]))) }));
    return lineChart(place, points.map((point) => point.x), series, timed >= 0);
  };
}

function categories(place, { columns, rows }, measure) {
  const some = rows.slice(0, 40);
  const names = columns.map((c, at) => ({ ...c, at })).filter((c) => !isNumeric(c.type));
  const most = Math.max(...some.map((row) => Math.abs(Number(row[measure.at] ?? 0))), 0) || 1;
  fill(
    place,
    h("p", { class: "muted" }, measure.name),
    h(
      "ol",
      { class: "bars" },
      some.map((row) =>
        h(
          "li",
          null,
          h("span", { class: "name" }, names.map((c) => cell(row[c.at], c.type)).join(" · ")),
          h("span", { class: "bar" }, h("i", { class: "merged", vars: { width: `${(Math.max(0, Number(row[measure.at] ?? 0)) / most) * 100}%` } })),
          h("span", { class: "num" }, cell(row[measure.at], measure.type)),
        ),
      ),
    ),
  );
  return { destroy() {} };
}

async function download(button, body) {
  await act(button, async () => {
    const blob = await api.csv(body);
    const address = URL.createObjectURL(blob);
    h("a", { href: address, download: "anabranch.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });
}
