// The page's frame: which view, the token, the poll. Views are functions that return nodes; whatever comes from the
// server is set as text, never as markup.
import { h, put, Missing, api, useToken } from "./lib.js";
import { home } from "./home.js";
import { user } from "./user.js";
import { item } from "./item.js";
import { items, lists, users } from "./browse.js";
import { data } from "./data.js";

const $ = (id) => document.getElementById(id);
const [, kind, rawID] = location.pathname.split("/");
const id = rawID ? decodeURIComponent(rawID) : "";
const view = kind === "data" ? data : kind === "lists" ? lists : kind === "users" ? (id ? user : users) : kind === "items" ? (id ? item : items) : home;
const everyMS = view === home ? 1000 : 2000;

document.title = id || kind ? `${id || kind} · corastream` : "corastream";
if (kind === "users" || kind === "items") $("kind").value = kind;
$("id").value = id || new URLSearchParams(location.search).get("q") || "";

$("search").addEventListener("submit", (e) => {
  e.preventDefault();
  const wanted = $("id").value.trim();
  location.assign(`/${$("kind").value}` + (wanted ? "?q=" + encodeURIComponent(wanted) : ""));
});

$("login").addEventListener("submit", (e) => {
  e.preventDefault();
  useToken($("token").value);
  $("token").value = "";
  tick();
});

function readiness(status) {
  const pill = $("ready");
  const failed = status.checks.filter((c) => !c.ok);
  pill.textContent = status.ready ? "ready" : "not ready: " + failed.map((c) => c.why || c.name).join("; ");
  pill.className = "pill " + (status.ready ? "good" : "warn");
  $("build").textContent = "corastream " + (status.version || "");
}

function unknown(what) {
  return h("section", { class: "card w12" },
    h("h1", {}, `No such ${what}: `, id),
    h("p", {}, what === "user"
      ? "No event of this user has been learnt. A new user still gets recommendations from /v1/recommend, by what holds for everybody."
      : "This item is neither in the catalogue nor in any event."),
    h("p", {}, h("a", { href: "/" }, "Go to the live page"), ", or look up another id above."));
}

let timer, running = false;
async function tick() {
  if (running) return;
  running = true;
  clearTimeout(timer);
  try {
    const status = await api("GET", "/v1/status");
    readiness(status);
    put($("main"), "main", await view(status, id));
    $("login").hidden = $("trouble").hidden = true;
  } catch (err) {
    trouble(err);
  }
  running = false;
  timer = setTimeout(tick, document.hidden ? 10 * everyMS : everyMS);
}

function trouble(err) {
  if (err instanceof Missing) {
    $("trouble").hidden = true;
    put($("main"), "main", [unknown(kind === "users" ? "user" : "item")]);
    return;
  }
  const locked = err.status === 401;
  $("login").hidden = !locked;
  $("trouble").hidden = false;
  $("trouble").textContent = locked ? err.message
    : err.status ? `${err.message}${err.fix ? " – " + err.fix : ""}` : "The server does not answer; trying again.";
  $("ready").textContent = locked ? "locked" : "trouble";
  $("ready").className = "pill bad";
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) tick(); });
tick();
