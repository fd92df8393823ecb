// Pieces that several pages use: badges, notes, dialogs, messages.

import { ApiError } from "./api.js";
import { fill, h, nextId, s } from "./dom.js";
import { count } from "./format.js";

export const badge = (text, kind = "plain", title) => h("span", { class: `badge ${kind}`, title }, text);

export function note(kind, title, ...more) {
  return h("div", { class: `note ${kind}`, role: kind === "bad" ? "alert" : undefined }, h("strong", null, title), more.length ? h("p", null, more) : null);
}

export function problem(error, again) {
  const hint = error instanceof ApiError ? error.hint : null;
  const box = note("bad", sentence(error.message), hint && `${sentence(hint)}.`);
  if (again) box.append(h("button", { type: "button", onclick: again }, "Try again"));
  return box;
}

export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const loading = () => h("div", { class: "loading", role: "status" }, h("span", { class: "hidden" }, "Loading"), h("i"), h("i"), h("i"));

export function card(title, { actions, id, wide } = {}, ...children) {
  const heading = nextId("card");
  return h(
    "section",
    { class: wide ? "card wide" : "card", "aria-labelledby": heading, id },
    h("header", null, h("h2", { id: heading }, title), actions && h("div", { class: "actions" }, actions)),
    children,
  );
}

export function stat(label, { spark, hint } = {}) {
  const value = h("span", { class: "value" }, "–");
  const more = h("span", { class: "more" });
  const element = h("div", { class: "stat", title: hint }, h("span", { class: "label" }, label), value, more, spark);
  return { element, value, more };
}

export const facts = (pairs) =>
  h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value ?? "–"))));

// A native dialog: keeps the focus inside, closes with Escape.
export function dialog(title, body, buttons) {
  return new Promise((resolve) => {
    const heading = nextId("dialog");
    let answer = null;
    const element = h(
      "dialog",
      { "aria-labelledby": heading, onclose: () => (element.remove(), resolve(answer)) },
      h("h2", { id: heading }, title),
      h("div", { class: "body" }, body),
      h(
        "footer",
        null,
        buttons.map(({ text, value, kind, focus }) =>
          h("button", { type: "button", class: kind, autofocus: focus, onclick: () => ((answer = value), element.close()) }, text),
        ),
      ),
    );
    document.body.append(element);
    element.showModal();
  });
}

export const confirm = (title, body, text, kind = "primary") =>
  dialog(title, body, [
    { text: "Cancel", value: false },
    { text, value: true, kind, focus: true },
  ]);

const messages = h("div", { class: "messages", role: "status", "aria-live": "polite" });
export function tell(text, kind = "plain") {
  if (!messages.isConnected) document.body.append(messages);
  const message = h("div", { class: `message ${kind}` }, text);
  messages.append(message);
  setTimeout(() => message.remove(), 6000);
}

// Runs what a button asks for, and says how it went.
export async function act(button, work, done) {
  button.disabled = true;
  try {
    const result = await work();
    if (done) tell(typeof done === "function" ? done(result) : done, "good");
    return result;
  } catch (error) {
    tell([error.message, error.hint].filter(Boolean).join("; "), "bad");
    return undefined;
  } finally {
    button.disabled = false;
  }
}

// A definition with its words told apart.
const WORDS = /('(?:[^']|'')*')|("(?:[^"]|"")*")|(--[^\n]*)|\b(SELECT|FROM|WHERE|GROUP|BY|HAVING|AS|AND|OR|NOT|CREATE|MATERIALIZED|VIEW|TABLE|WITH|COUNT|SUM|AVG|MIN|MAX|DISTINCT|FILTER|INTERVAL|CASE|WHEN|THEN|ELSE|END|CAST|ORDER|LIMIT|IS|NULL|IN|BETWEEN|LIKE|JOIN|ON|TUMBLE|HOP)\b|\b(\d+(?:\.\d+)?)\b/gi;
export function sqlText(text) {
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(WORDS)) {
    parts.push(text.slice(at, match.index));
    const kind = match[1] ? "string" : match[2] ? "name" : match[3] ? "comment" : match[4] ? "word" : "number";
    parts.push(h("span", { class: `sql-${kind}` }, match[0]));
    at = match.index + match[0].length;
  }
  parts.push(text.slice(at));
  return h("pre", { class: "sql", tabindex: "0" }, h("code", null, parts));
}

// What an answer covers, in a line.
export function coverageLine(coverage) {
  const all = Object.entries(coverage ?? {});
  if (!all.length) return h("span", { class: "muted" }, "reads no view");
  return all.map(([view, c]) => {
    const events = Object.entries(c.served_through).reduce((total, [partition, next]) => total + next - (c.since?.[partition] ?? 0), 0);
    return h(
      "span",
      { class: "coverage" },
      c.exact ? badge("exact", "good", "Each event before the served offsets is counted exactly once") : badge("not exact", "warn", "See what is missing"),
      h("span", null, `${view}: ${count(events)} offsets of ${Object.keys(c.served_through).length} partitions`),
      c.missing.length ? h("span", { class: "warn-text" }, `missing ${c.missing.join(", ")}`) : null,
    );
  });
}

export function toggle(label, options, value, onpick) {
  const group = h("div", { class: "toggle", role: "group", "aria-label": label });
  const draw = (value) =>
    fill(
      group,
      options.map(([id, text]) =>
        h(
          "button",
          {
            type: "button",
            "aria-pressed": String(id === value),
            onclick: (event) => {
              draw(id);
              if (event.detail === 0) group.querySelector("[aria-pressed=true]")?.focus();
              onpick(id);
            },
          },
          text,
        ),
      ),
    );
  draw(value);
  return group;
}

export function logo() {
  return s(
    "svg",
    { viewBox: "0 0 32 32", class: "logo", "aria-hidden": "true" },
    s("path", { d: "M2 16c6 0 7-7.5 14-7.5S24 16 30 16", class: "arm fast" }),
    s("path", { d: "M2 16c6 0 7 7.5 14 7.5S24 16 30 16", class: "arm thorough" }),
  );
}
