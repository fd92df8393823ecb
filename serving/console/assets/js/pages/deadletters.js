import { api } from "../api.js";
import { fill, h, table } from "../dom.js";
import { bytes, count, percent, time, visible } from "../format.js";
import { act, badge, card, confirm, dialog, facts, loading, note, problem } from "../ui.js";

const SHOWN = 100;

export default async function deadletters(root, { args: [name], signal }) {
  const status = await api.status(signal);
  const tables = Object.keys(status.sources);
  const chosen = name ?? tables.find((table) => status.sources[table].dead_letters > 0) ?? tables[0];
  const holder = h("div", { class: "stack" }, loading());
  const pick = h(
    "select",
    { "aria-label": "Table", "data-find": true, onchange: (event) => (location.hash = `#/dead-letters/${encodeURIComponent(event.target.value)}`) },
    tables.map((table) => h("option", { value: table, selected: table === chosen }, `${table} (${count(status.sources[table].dead_letters ?? 0)})`)),
  );
  const redrive = h("button", { type: "button", class: "primary", onclick: () => again(redrive, chosen, null, load) }, "Redrive");
  fill(root, h("div", { class: "head" }, h("h1", null, "Dead letters"), h("div", { class: "actions" }, tables.length > 1 ? pick : null, redrive)), holder);
  if (!chosen) return fill(holder, h("p", { class: "empty" }, "There are no tables."));
  let drawn = "";
  const load = async () => {
    try {
      const [letters, redrives] = await Promise.all([
        api.deadLetters(chosen, { limit: SHOWN }, signal),
        api.redrives(chosen, signal).catch((error) => {
          // Nothing was ever landed: nothing was redriven either.
          if (error.status === 404) return { redrives: [] };
          throw error;
        }),
      ]);
      const now = JSON.stringify([letters, redrives]);
      if (now === drawn) return;
      drawn = now;
      redrive.disabled = letters.matched === 0;
      fill(holder, draw(chosen, letters, redrives, load));
    } catch (error) {
      if (!signal.aborted) fill(holder, problem(error, load));
    }
  };
  await load();
  const timer = setInterval(() => !document.hidden && !document.querySelector("dialog[open]") && !holder.contains(document.activeElement) && load(), 5000);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function draw(name, letters, { redrives }, load) {
  if (!letters.matched) return note("good", `Everything in ${name} decodes`, "Records that do not are kept here with their bytes, and can be produced again once the table is put right.");
  const most = Math.max(...letters.reasons.map((reason) => reason.count));
  return [
    card(
      `${count(letters.matched)} records, by reason`,
      {},
      h(
        "ol",
        { class: "bars reasons" },
        letters.reasons.slice(0, 10).map(({ reason, count: n }) =>
          h("li", null, h("span", { class: "name", title: reason }, visible(reason)), h("span", { class: "bar" }, h("i", { class: "merged", vars: { width: `${(n / most) * 100}%` } })), h("span", { class: "num", title: percent(n / letters.matched) }, count(n))),
        ),
      ),
    ),
    card(
      "The newest",
      {},
      table(
        [
          { title: "Where", cell: (l) => h("span", { class: "mono" }, `${l.partition} / ${l.offset}`) },
          { title: "When", cell: (l) => time(l.timestamp) },
          { title: "Reason", cell: (l) => visible(l.reason), class: "wrap" },
          { title: "Begins with", cell: (l) => h("code", { class: "preview" }, l.preview === null ? "no value" : visible(l.preview)), class: "long" },
          { title: "Size", number: true, cell: (l) => bytes(l.bytes) },
          { title: "Redriven", cell: (l) => (l.redriven.length ? badge(l.redriven.join(", ")) : "–") },
          { title: h("span", { class: "hidden" }, "Actions"), cell: (l) => h("button", { type: "button", class: "small", onclick: (event) => show(event.currentTarget, name, l, load) }, "Look") },
        ],
        letters.dead_letters,
        { caption: `Dead letters of ${name}, newest first`, tall: true },
      ),
    ),
    redrives.length
      ? card(
          "Redrives",
          {},
          table(
            [
              { title: "Number", number: true, cell: (r) => r.number },
              { title: "When", cell: (r) => time(r.at) },
              { title: "By", cell: (r) => r.by },
              { title: "Letters", number: true, cell: (r) => count(r.letters) },
              { title: "State", cell: (r) => badge(r.state, r.state === "done" ? "good" : "accent") },
            ],
            redrives.toReversed(),
            { caption: "Redrives" },
          ),
        )
      : null,
  ];
}

async function show(button, name, letter, load) {
  const full = await act(button, () => api.deadLetter(name, letter.partition, letter.offset));
  if (!full) return;
  const raw = full.payload ? Uint8Array.from(atob(full.payload.base64), (c) => c.charCodeAt(0)) : null;
  const answer = await dialog(
    `Partition ${full.partition}, offset ${full.offset}`,
    [
      note(full.decodes_now ? "good" : "bad", full.decodes_now ? "It decodes now" : visible(full.reason), full.decodes_now ? "The table was put right since; redrive it to have it counted." : null),
      facts([
        ["Received", time(full.timestamp)],
        ["Size", bytes(raw?.length ?? 0)],
        full.key && ["Key", visible(full.key.text ?? full.key.base64)],
        ...Object.entries(full.headers ?? {}).map(([header, value]) => [`Header ${visible(header)}`, visible(value.text ?? value.base64)]),
      ]),
      raw ? h("pre", { class: "hex", tabindex: "0" }, dump(raw)) : h("p", { class: "empty" }, "The record has no value."),
    ],
    [
      { text: "Close", value: null, focus: true },
      { text: "Redrive it", value: "redrive", kind: "primary" },
    ],
  );
  if (answer === "redrive") await again(button, name, letter, load);
}

// Offset, bytes, and what is printable of them, sixteen to a line.
function dump(raw) {
  const most = 4096;
  const lines = [];
  for (let at = 0; at < Math.min(raw.length, most); at += 16) {
    const part = [...raw.subarray(at, at + 16)];
    const hex = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const text = part.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(4, "0")}  ${hex.padEnd(47)}  ${text}`);
  }
  if (raw.length > most) lines.push(`… ${count(raw.length - most)} more bytes`);
  return lines.join("\n");
}

async function again(button, name, letter, load) {
  const which = letter ? { partition: letter.partition, offsets: `${letter.offset}..${letter.offset + 1}` } : {};
  const plan = await act(button, () => api.redrive(name, { ...which, dry_run: true }));
  if (!plan) return;
  const all = h("input", { type: "checkbox", id: "undecodable" });
  const body = [
    facts([
      ["Would be produced again", count(plan.letters)],
      ["Do not decode yet", count(plan.undecodable)],
      ["Redriven before", count(plan.redriven_before)],
    ]),
    plan.undecodable > 0 ? h("p", null, h("label", { class: "check", for: "undecodable" }, all, "also those that do not decode yet; they become dead letters again")) : null,
    h("p", { class: "muted" }, "Each is produced once, at the end of its log, and counted from there."),
  ];
  if (!(await confirm("Redrive dead letters?", body, "Redrive"))) return;
  await act(
    button,
    () => api.redrive(name, { ...which, undecodable: all.checked, by: "console" }),
    (done) => (done.number === null ? "There was nothing to redrive" : `Redrive ${done.number} is on its way, ${count(done.letters)} letters`),
  );
  await load();
}
