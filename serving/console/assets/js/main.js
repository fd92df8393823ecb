// The frame: navigation, theme, keys, and which page is shown.

import { api, configure } from "./api.js";
import { redrawAll } from "./chart.js";
import { fill, h } from "./dom.js";
import { watch } from "./status.js";
import { dialog, logo, note, problem } from "./ui.js";
import { known, may } from "./who.js";
import deadletters from "./pages/deadletters.js";
import overview from "./pages/overview.js";
import query from "./pages/query.js";
import runs from "./pages/runs.js";
import topology from "./pages/topology.js";
import view from "./pages/view.js";
import views from "./pages/views.js";

const PAGES = [
  { path: "", key: "o", title: "Overview", show: overview },
  { path: "views", key: "v", title: "Views", show: (root, context) => (context.args[0] ? view : views)(root, context) },
  { path: "runs", key: "r", title: "Runs", show: runs, may: may.readAll },
  { path: "topology", key: "t", title: "Topology", show: topology, may: may.administer },
  { path: "query", key: "q", title: "Query", show: query },
  { path: "dead-letters", key: "d", title: "Dead letters", show: deadletters, may: may.administer },
];

const offered = () => PAGES.filter((page) => !page.may || page.may());

const THEMES = ["auto", "light", "dark"];
const remembered = (name, fallback) => {
  try {
    return localStorage.getItem(name) ?? fallback;
  } catch {
    return fallback;
  }
};

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("anabranch.theme", theme);
  } catch {
    // Private windows may keep nothing.
  }
  const text = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[theme];
  fill(themeButton, h("span", { "aria-hidden": "true" }, { auto: "◐", light: "○", dark: "●" }[theme]), h("span", { class: "text" }, text));
  themeButton.setAttribute("aria-label", text);
  redrawAll();
}

const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % THEMES.length]);
const themeButton = h("button", { type: "button", class: "quiet", onclick: nextTheme });
const helpButton = h("button", { type: "button", class: "quiet", onclick: help, "aria-label": "Keys" }, h("span", { "aria-hidden": "true" }, "?"), h("span", { class: "text" }, "Keys"));
const links = new Map(PAGES.map((page) => [page, h("a", { href: `#/${page.path}` }, page.title)]));
const pulse = h("span", { class: "pulse", role: "status" });
const main = h("main", { id: "main", tabindex: "-1" });

function shell(who) {
  const skip = h("a", { class: "skip", href: "#main", onclick: (event) => (event.preventDefault(), main.focus()) }, "Skip to content");
  fill(
    document.getElementById("app"),
    skip,
    h(
      "header",
      { class: "frame" },
      h("a", { class: "brand", href: "#/", "aria-label": "Anabranch, overview" }, logo(), h("span", null, "Anabranch")),
      h("nav", { "aria-label": "Pages" }, offered().map((page) => links.get(page))),
      h("div", { class: "foot" }, pulse, who && !who.open ? signOut(who) : null, themeButton, helpButton),
    ),
    main,
  );
  setTheme(remembered("anabranch.theme", "auto"));
  stopPulse?.();
  stopPulse = watch(({ error, status }) => {
    pulse.className = error ? "pulse bad" : "pulse good";
    fill(pulse, h("i"), h("span", { class: "text" }, error ? "not connected" : status ? "connected" : ""));
  });
}

let stopPulse = null;

function signOut(who) {
  const leaveNow = async () => {
    await api.logout().catch(() => {});
    location.reload();
  };
  return h("button", { type: "button", class: "quiet", onclick: leaveNow, "aria-label": `Sign out ${who.name}`, title: who.role }, h("span", { "aria-hidden": "true" }, "↩"), h("span", { class: "text" }, `Sign out ${who.name}`));
}

let leave = null;
let outside = false;

// Who asks is known by a cookie that scripts cannot read; a token is exchanged for it once.
function login() {
  if (outside) return;
  outside = true;
  leave?.abort();
  stopPulse?.();
  stopPulse = null;
  const token = h("input", { type: "password", name: "token", autocomplete: "current-password", required: true });
  const refused = h("div", { role: "alert" });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  const enter = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await api.login(token.value.trim());
      outside = false;
      start();
    } catch (error) {
      // The server's advice is for programs.
      fill(refused, error.status === 401 ? note("bad", "This token lets nobody in", "It may be mistyped, expired or revoked.") : problem(error));
      token.focus();
    } finally {
      button.disabled = false;
    }
  };
  title("Sign in");
  fill(
    document.getElementById("app"),
    h(
      "main",
      { class: "login" },
      h(
        "form",
        { onsubmit: enter },
        h("h1", { class: "brand" }, logo(), "Anabranch"),
        h("label", null, "Token", token),
        h("p", { class: "muted small" }, "An administrator makes one with anabranch token create."),
        refused,
        button,
      ),
    ),
  );
  token.focus();
}

async function start() {
  let who = null;
  try {
    who = await api.whoami();
  } catch (error) {
    if (error.status === 401) return;
    // Pages say what is wrong, if something is.
  }
  known(who);
  shell(who);
  route();
}

async function route() {
  if (outside) return;
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...args] = path.split("/").map(decodeURIComponent);
  const asked = PAGES.find((page) => page.path === name);
  const page = offered().includes(asked) ? asked : null;
  leave?.abort();
  leave = new AbortController();
  const context = { args, search: new URLSearchParams(search ?? ""), signal: leave.signal, title };
  for (const [other, link] of links) {
    if (other === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  links.get(page)?.scrollIntoView?.({ block: "nearest", inline: "nearest" });
  title(page?.title ?? "Not found");
  fill(main);
  window.scrollTo(0, 0);
  if (!page)
    return fill(
      main,
      h("h1", null, asked ? asked.title : "There is no such page"),
      asked ? note("warn", "Your token may not see this page", "An administrator's may.") : null,
      h("p", null, h("a", { href: "#/" }, "Go to the overview")),
    );
  try {
    await page.show(main, context);
  } catch (error) {
    if (!context.signal.aborted) fill(main, h("h1", null, page.title), problem(error, route));
  }
}

function title(text) {
  document.title = `${text} · Anabranch`;
}

function help() {
  const key = (keys, text) => h("tr", null, h("td", null, keys.map((k) => h("kbd", null, k))), h("td", null, text));
  dialog(
    "Keys",
    h(
      "table",
      { class: "keys" },
      h(
        "tbody",
        null,
        offered().map((page) => key(["g", page.key], page.title)),
        key(["/"], "Go to the page's filter or editor"),
        key(["Ctrl", "Enter"], "Run the query"),
        key(["m"], "Light, dark, or as the system"),
        key(["?"], "This list"),
        key(["Esc"], "Close"),
      ),
    ),
    [{ text: "Close", value: null, focus: true }],
  );
}

let goes = false;
function keys(event) {
  const inside = event.composedPath()[0];
  const writes = inside instanceof HTMLElement && (inside.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(inside.tagName));
  if (outside || writes || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (goes) {
    goes = false;
    const page = offered().find((page) => page.key === event.key);
    if (page) location.hash = `#/${page.path}`;
    return;
  }
  if (event.key === "g") {
    goes = true;
    setTimeout(() => (goes = false), 1500);
  } else if (event.key === "?") help();
  else if (event.key === "m") nextTheme();
  else if (event.key === "/") {
    const target = main.querySelector("[data-find]");
    if (target) {
      event.preventDefault();
      target.focus();
    }
  }
}

configure({ unauthorized: login });
addEventListener("hashchange", () => route().then(() => main.focus({ preventScroll: true })));
addEventListener("keydown", keys);
start();
