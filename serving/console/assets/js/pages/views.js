import { api } from "../api.js";
import { fill, h } from "../dom.js";
import { count } from "../format.js";
import { badge, loading, problem } from "../ui.js";

export default async function views(root, { signal }) {
  const list = h("div", { class: "stack" }, loading());
  const find = h("input", { type: "search", placeholder: "Filter views", "aria-label": "Filter views", "data-find": true });
  fill(root, h("div", { class: "head" }, h("h1", null, "Views"), find), list);
  let known = [];
  const draw = () => {
    const text = find.value.trim().toLowerCase();
    const shown = known.filter((view) => [view.name, view.source, ...view.columns.map((c) => c.name)].some((name) => name.toLowerCase().includes(text)));
    fill(
      list,
      shown.length
        ? h("ul", { class: "tiles" }, shown.map(tile))
        : h("p", { class: "empty" }, known.length ? "No view is called so." : "There are no views yet. Declare one in views.sql, and apply it with anabranch views apply."),
    );
  };
  find.addEventListener("input", draw);
  const load = async () => {
    try {
      known = (await api.views(signal)).views;
      draw();
    } catch (error) {
      if (!signal.aborted) fill(list, problem(error, load));
    }
  };
  await load();
  const timer = setInterval(() => !document.hidden && load(), 5000);
  signal.addEventListener("abort", () => clearInterval(timer));
}

function tile(view) {
  return h(
    "li",
    null,
    h(
      "a",
      { class: "tile", href: `#/views/${encodeURIComponent(view.name)}` },
      h("strong", null, view.name, " ", view.changing ? badge("changing", "warn", "A newer definition is being built") : null),
      h("span", { class: "muted" }, `from ${view.source}`),
      h("span", { class: "chips" }, view.columns.map((column) => h("span", { class: column.key ? "chip key" : "chip" }, column.name))),
      h("span", { class: "muted figures" }, view.publication === null ? "not in a publication yet" : `${count(view.batch_groups)} groups of ${count(view.batch_events)} events in publication ${view.publication}`),
    ),
  );
}
