// Elements without a framework. Text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

export function s(tag, props, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

function build(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

// Sets text only when it differs, so that selections and screen readers are left in peace.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A table of plain cells. Columns: {title, cell(row) → node or text, number, class, sort}.
export function table(columns, rows, { caption, empty, rowProps, tall } = {}) {
  if (!rows.length) return h("p", { class: "empty" }, empty ?? "Nothing here yet.");
  return h(
    "div",
    { class: tall ? "scroll tall" : "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      null,
      caption && h("caption", { class: "hidden" }, caption),
      h("thead", null, h("tr", null, columns.map((c) => h("th", { scope: "col", class: cls(c) }, c.title)))),
      h(
        "tbody",
        null,
        rows.map((row) => h("tr", rowProps?.(row), columns.map((c) => h("td", { class: cls(c) }, c.cell(row))))),
      ),
    ),
  );
}

export function cls(column) {
  return [column.number && "num", column.class].filter(Boolean).join(" ") || undefined;
}

let ids = 0;
export const nextId = (name) => `${name}-${++ids}`;
