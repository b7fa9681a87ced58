// What pages do beyond links and forms. Nothing here is needed to read or to use them.
"use strict";

// Theme -----------------------------------------------------------------------------------------------------------------

function changeTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

function announce(text) {
  document.getElementById("announcement").textContent = text;
}

async function copy(button) {
  await navigator.clipboard.writeText(button.dataset.copy);
  button.classList.add("copied");
  announce("Copied");
  setTimeout(() => button.classList.remove("copied"), 1500);
}

document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-theme-toggle], [data-copy]");
  if (target?.matches("[data-theme-toggle]")) changeTheme();
  if (target?.matches("[data-copy]")) copy(target);
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  const search = document.querySelector("input[type=search]");
  if (event.key === "/" && search && !event.target.closest("input, select, textarea")) {
    event.preventDefault();
    search.focus();
  }
});

// Ages ------------------------------------------------------------------------------------------------------------------

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function age(seconds) {
  if (Math.abs(seconds) < 1) return "now";
  const [size, unit] = UNITS.find(([each]) => Math.abs(seconds) >= each);
  const told = `${Math.floor(Math.abs(seconds) / size)} ${unit}`;
  return seconds > 0 ? `${told} ago` : `in ${told}`;
}

setInterval(() => {
  for (const each of document.querySelectorAll("time[data-age]")) {
    const told = age((Date.now() - Date.parse(each.dateTime)) / 1000);
    if (each.textContent !== told) each.textContent = told;
  }
}, 5000);

// Live: a part of the page that is fetched anew, every so often or when a stream says that something happened -----------

async function refresh(part) {
  if (part.dataset.refreshing) return void (part.dataset.again = "yes");
  part.dataset.refreshing = "yes";
  await htmx.ajax("GET", location.pathname + location.search, { target: part, select: `#${part.id}`, swap: "outerHTML" });
}

setInterval(() => {
  const open = document.querySelector("details.menu[open]");
  for (const part of document.querySelectorAll("[data-refresh]"))
    if (document.visibilityState === "visible" && !open) refresh(part);
}, 4000);

const streams = new Map();

function follow() {
  const wanted = new Set([...document.querySelectorAll("[data-stream]")].map((each) => each.dataset.stream));
  for (const [url, source] of streams) if (!wanted.has(url)) { source.close(); streams.delete(url); }
  for (const url of wanted) if (!streams.has(url)) listen(url); else light(streams.get(url));
}

// The light says how the stream is, also after its part of the page was exchanged.
function light(source) {
  for (const each of document.querySelectorAll("[data-live-state]")) if (source.shown) each.dataset.liveState = source.shown;
}

function listen(url) {
  const part = () => document.querySelector(`[data-stream="${url}"]`);
  const source = new EventSource(`${url}?seen=${encodeURIComponent(part().dataset.seen)}`);
  const show = (state) => { source.shown = state; light(source); };
  streams.set(url, source);
  source.addEventListener("open", () => show("live"));
  source.addEventListener("error", () => show(source.readyState === EventSource.CLOSED ? "ended" : "lost"));
  source.addEventListener("message", () => { show("live"); if (part()) refresh(part()); });
}

// What a reader had open, and which rows they had seen, survives the exchange.
let before = { open: [], rows: new Set(), known: false };

document.addEventListener("htmx:beforeSwap", (event) => {
  const target = event.detail.target;
  before = {
    open: [...target.querySelectorAll("details[open][id]")].map((each) => each.id),
    rows: new Set([...target.querySelectorAll("[data-row]")].map((each) => each.dataset.row)),
    known: Boolean(target.dataset.refreshing),
    again: target,
  };
});

document.addEventListener("htmx:afterSettle", () => {
  for (const id of before.open) document.getElementById(id)?.setAttribute("open", "");
  if (before.known)
    for (const row of document.querySelectorAll("[data-row]")) if (!before.rows.has(row.dataset.row)) row.classList.add("fresh");
  if (before.again?.dataset.again) {
    const part = document.getElementById(before.again.id);
    before.again = null;
    if (part) refresh(part);
  }
  follow();
});
for (const failed of ["htmx:sendError", "htmx:responseError", "htmx:timeout"])
  document.addEventListener(failed, () => { for (const each of document.querySelectorAll("[data-refreshing]")) delete each.dataset.refreshing; });

// The slider that rewinds a page: its places are instants, the last one is now ------------------------------------------

document.addEventListener("input", (event) => {
  const slider = event.target.closest("[data-instants]");
  if (!slider) return;
  const instants = JSON.parse(slider.dataset.instants);
  const chosen = instants[Number(slider.value)];
  const url = new URL(location.href);
  if (chosen) url.searchParams.set("as_of", chosen); else url.searchParams.delete("as_of");
  clearTimeout(slider.waiting);
  slider.waiting = setTimeout(() => {
    history.replaceState(null, "", url);
    const part = slider.closest("[data-part]");
    htmx.ajax("GET", url.pathname + url.search, { target: part, select: `#${part.id}`, swap: "outerHTML" });
  }, 120);
});

window.addEventListener("DOMContentLoaded", follow);
follow();
