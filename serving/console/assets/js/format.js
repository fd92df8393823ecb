// Figures as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

export const NONE = "–";

export const count = (n) => (n === null || n === undefined || Number.isNaN(n) ? NONE : whole.format(n));
export const short = (n) => (n === null || n === undefined || Number.isNaN(n) ? NONE : Math.abs(n) < 10_000 ? whole.format(n) : compact.format(n));
export const decimal = (n) => (n === null || n === undefined ? NONE : fine.format(n));
export const rate = (n) => (n === null || n === undefined || Number.isNaN(n) ? NONE : n > 0 && n < 10 ? n.toFixed(1) : short(Math.round(n)));
export const percent = (n) => (n === null || n === undefined || Number.isNaN(n) ? NONE : `${n > 0 && n < 0.1 ? (n * 100).toFixed(1) : Math.round(n * 100)} %`);

export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit += 1;
  }
  return `${n < 10 && unit ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return NONE;
  if (seconds > 0 && seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.round((seconds % 86_400) / 3600)} h`;
}

export function time(text) {
  const at = new Date(text);
  if (!text || Number.isNaN(at.getTime())) return NONE;
  const today = new Date().toDateString() === at.toDateString();
  return today ? clock.format(at) : `${day.format(at)}, ${clock.format(at)}`;
}

export function ago(text) {
  const seconds = (Date.now() - new Date(text).getTime()) / 1000;
  if (!text || Number.isNaN(seconds)) return NONE;
  return seconds < 1 ? "now" : `${duration(Math.round(seconds))} ago`;
}

const NUMERIC = /^(TINYINT|SMALLINT|INT|BIGINT|REAL|DOUBLE|DECIMAL)/;
export const isNumeric = (type) => NUMERIC.test(type);
export const isTime = (type) => /^(TIMESTAMP|DATE)/.test(type);

// A cell of an answer. Numbers beyond 2^53 were kept as text by whoever read them.
export function cell(value, type) {
  if (value === null || value === undefined) return "null";
  if (typeof value === "number") return Math.abs(value) >= 1 || value === 0 ? fine.format(value) : String(Number(value.toPrecision(6)));
  if (typeof value === "object") return JSON.stringify(value);
  if (isTime(type) && /^\d{4}-\d\d-\d\dT/.test(value)) return value.replace("T", " ").replace(/Z$/, "");
  if (type?.startsWith("DECIMAL")) return value.replace(/^(-?)(\d+)/, (_, sign, digits) => sign + digits.replace(/\B(?=(\d{3})+$)/g, ","));
  return String(value);
}

// Bytes as text that cannot play tricks: control and direction characters are shown as what they are.
export function visible(text) {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, (c) => {
    if (c === "\n") return "⏎";
    if (c === "\t") return "⇥";
    return `\\u{${c.codePointAt(0).toString(16)}}`;
  });
}
