// Charts: lines and stacked columns over time with uPlot, bars by category in plain elements.

import uPlot from "/console/vendor/uplot.js";
import { fill, h, say } from "./dom.js";
import { short } from "./format.js";

const faded = (name, percent) => `color-mix(in oklab, ${resolved(name)} ${percent}%, transparent)`;

// Canvas takes no `light-dark()`: ask an element what the color is now.
function resolved(name) {
  const probe = h("i", { vars: { color: `var(${name})`, display: "none" } });
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const redraws = new Set();
export const redrawAll = () => redraws.forEach((redraw) => redraw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => requestAnimationFrame(redrawAll));

// Follows the width of its element, and colors when the theme changes.
function mount(element, make) {
  let plot = null;
  let data = null;
  const redraw = () => {
    plot?.destroy();
    plot = null;
    if (data) draw();
  };
  const draw = () => {
    const width = Math.floor(element.clientWidth);
    if (width < 20) return;
    if (plot) plot.setData(data);
    else plot = new uPlot(make(width), data, element);
  };
  const sizes = new ResizeObserver(() => {
    const width = Math.floor(element.clientWidth);
    if (plot && width >= 20 && width !== plot.width) plot.setSize({ width, height: plot.height });
    else if (!plot && data) draw();
  });
  sizes.observe(element);
  redraws.add(redraw);
  return {
    element,
    set: (next) => {
      data = next;
      draw();
    },
    reshape: redraw,
    destroy: () => {
      sizes.disconnect();
      redraws.delete(redraw);
      plot?.destroy();
    },
  };
}

export function spark(label) {
  const element = h("div", { class: "spark", role: "img", "aria-label": `${label}, last minutes` });
  return mount(element, (width) => ({
    width,
    height: 36,
    padding: [3, 0, 3, 0],
    cursor: { show: false },
    legend: { show: false },
    axes: [{ show: false }, { show: false }],
    scales: { x: { time: true }, y: { range: (_, low, high) => (low === high ? [Math.min(0, low - 1), high + 1] : [Math.min(low, 0), high]) } },
    series: [{}, { stroke: resolved("--accent"), width: 1.5, fill: faded("--accent", 12), points: { show: false }, spanGaps: true }],
  }));
}

const axis = () => ({
  stroke: resolved("--muted"),
  grid: { stroke: resolved("--line"), width: 1 },
  ticks: { show: false },
  font: "11px system-ui, sans-serif",
});

// Times as everywhere in answers: UTC, and 24 hours to the day.
const utc = (seconds, from, to) => new Date(seconds * 1000).toISOString().slice(from, to);
const timeAxis = () => ({
  ...axis(),
  size: 28,
  values: (_, ticks, __, ___, step) => ticks.map((tick) => (step >= 86_400 ? utc(tick, 5, 10) : tick % 86_400 === 0 ? utc(tick, 5, 16).replace("T", " ") : utc(tick, 11, step < 60 ? 19 : 16))),
});
const tzDate = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC");

// Half a column more on either side, so that the first and the last are whole.
function padded(plot, low, high) {
  const xs = plot.data[0];
  const step = xs.length > 1 ? (xs.at(-1) - xs[0]) / (xs.length - 1) : 60;
  return [low - step / 2, high + step / 2];
}

// Columns over time: the batch part below, the realtime part on top of it. `line`: lines that do not add up.
export function timeChart(label, { stacked = true, names = ["batch", "realtime", "merged"] } = {}) {
  const element = h("div", { class: "plot", role: "img", "aria-label": label });
  const readout = h("p", { class: "readout", "aria-live": "off" });
  let mode = { stacked, names };
  const chart = mount(element, (width) => {
    const bars = uPlot.paths.bars({ size: [0.8, 48], gap: 1 });
    const fills = [
      { label: mode.names[1], fill: faded("--accent", 75), stroke: resolved("--accent"), width: 0, paths: bars, points: { show: false } },
      { label: mode.names[0], fill: resolved("--batch"), stroke: resolved("--batch"), width: 0, paths: bars, points: { show: false } },
    ];
    const line = (name, text, dash) => ({ label: text, stroke: resolved(name), width: 2, dash, spanGaps: true, points: { show: true, size: 4, fill: resolved(name) } });
    return {
      width,
      height: width < 480 ? 190 : 260,
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false } },
      hooks: {
        setCursor: [
          (plot) => {
            const at = plot.cursor.idx;
            say(readout, at === null || at === undefined ? "" : mode.read(plot.data, at));
          },
        ],
      },
      tzDate,
      axes: [timeAxis(), { ...axis(), size: 56, values: (_, ticks) => ticks.map((tick) => short(tick)) }],
      scales: { x: { time: true, range: padded }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 1) * 1.05 || 1] } },
      series: mode.stacked
        ? [{}, ...fills]
        : [{}, line("--accent", mode.names[1], [4, 3]), line("--batch", mode.names[0], [4, 3]), line("--ink", mode.names[2])],
    };
  });
  return {
    element: h("div", null, element, readout),
    set: (data, next = {}) => {
      const other = next.stacked !== undefined && next.stacked !== mode.stacked;
      mode = { ...mode, ...next };
      if (other) chart.reshape();
      chart.set(data);
    },
    destroy: chart.destroy,
  };
}

// Lines of a query's numbers.
export function lineChart(element, xs, series, time) {
  const tones = ["--accent", "--batch", "--ink", "--warn", "--bad"];
  const chart = mount(element, (width) => ({
    width,
    height: width < 480 ? 190 : 260,
    padding: [8, 8, 0, 0],
    legend: { show: series.length > 1, live: false },
    cursor: { y: false },
    tzDate,
    axes: [time ? timeAxis() : { ...axis(), size: 28 }, { ...axis(), size: 56, values: (_, ticks) => ticks.map((tick) => short(tick)) }],
    scales: { x: { time } },
    series: [{}, ...series.map((one, at) => ({ label: one.name, stroke: resolved(tones[at % tones.length]), width: 2, points: { size: 4 } }))],
  }));
  chart.set([xs, ...series.map((one) => one.values)]);
  return chart;
}

// Bars by category: [{label, batch, realtime, merged}]. Parts that add up stand one behind the other.
export function bars(element, entries, { stacked, format = short }) {
  const most = Math.max(...entries.map((e) => Math.abs(e.merged ?? 0)), ...entries.map((e) => (stacked ? 0 : Math.max(Math.abs(e.batch ?? 0), Math.abs(e.realtime ?? 0)))), 0) || 1;
  const part = (kind, value) => h("i", { class: kind, vars: { width: `${(Math.max(0, value ?? 0) / most) * 100}%` } });
  return fill(
    element,
    h(
      "ol",
      { class: "bars" },
      entries.map((e) =>
        h(
          "li",
          { title: stacked ? `batch ${format(e.batch ?? 0)} + realtime ${format(e.realtime ?? 0)}` : `batch ${format(e.batch)}, realtime ${format(e.realtime)}` },
          h("span", { class: "name" }, e.label),
          h("span", { class: "bar" }, stacked ? [part("batch", e.batch), part("realtime", e.realtime)] : part("merged", e.merged)),
          h("span", { class: "num" }, format(e.merged)),
        ),
      ),
    ),
  );
}

