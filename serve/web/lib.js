// What all views share: nodes, requests, formats.

// h makes an element; strings become text nodes, so nothing a title holds is ever read as markup.
export function h(tag, attrs = {}, ...children) {
  const ns = svgTags.has(tag) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const el = document.createElementNS(ns, tag);
  for (const [k, v] of Object.entries(attrs)) if (v !== undefined && v !== false) el.setAttribute(k, v);
  el.append(...children.flat(9).filter((c) => c !== undefined && c !== null && c !== false));
  return el;
}
const svgTags = new Set(["svg", "g", "rect", "path", "line", "text", "polyline", "title"]);

// put shows nodes when they differ from what is shown, so an unchanged part keeps its selection; what the reader has
// unfolded stays so.
const shown = new Map();
export function put(where, key, nodes) {
  nodes = [nodes].flat();
  const made = nodes.map((n) => n.outerHTML);
  const old = [...where.children];
  if (old.length !== nodes.length || !shown.has(key)) where.replaceChildren(...nodes);
  else nodes.forEach((n, i) => {
    if (made[i] === shown.get(key)[i]) return;
    const before = old[i].querySelectorAll("details");
    n.querySelectorAll("details").forEach((d, k) => { d.open = Boolean(before[k]?.open); });
    old[i].replaceWith(n);
  });
  shown.set(key, made);
}

export class Missing extends Error {}

// api asks the server. A 404 is a Missing; every other failure carries status, message and fix.
export const api = (method, path, body) => ask(method, path, body && JSON.stringify(body), "application/json");

// upload sends a file as it is, to be looked through.
export const upload = (file) => ask("POST", "/v1/validate?name=" + encodeURIComponent(file.name), file, "application/octet-stream");

async function ask(method, path, body, type) {
  const headers = {};
  const token = sessionStorage.getItem("corastream-token");
  if (token) headers.Authorization = "Bearer " + token;
  if (body) headers["Content-Type"] = type;
  const resp = await fetch(path, { method, headers, body, cache: "no-store" });
  if (resp.ok) return resp.json();
  const { error = {} } = await resp.json().catch(() => ({}));
  if (resp.status === 404) throw new Missing(error.message);
  throw Object.assign(new Error(error.message || resp.statusText), { status: resp.status, fix: error.fix });
}

export function useToken(token) { sessionStorage.setItem("corastream-token", token.trim()); }

export const userLink = (id) => h("a", { href: "/users/" + encodeURIComponent(id) }, id);
export const itemLink = (it) => h("a", { href: "/items/" + encodeURIComponent(it.item_id) }, it.title || it.item_id);
// bar sets its width through the DOM: the page's policy forbids style attributes in markup.
export function bar(share) {
  const fill = h("i");
  fill.style.width = pct(share) + "%";
  return h("span", { class: "bar" }, fill);
}
export const pct = (x) => Math.round(100 * Math.max(0, Math.min(1, x || 0)));
export const count = (n) => n.toLocaleString("en-US").replaceAll(",", "\u202f");
export const prob = (x) => x.toFixed(3).replace(/^0\./, ".").replace(/^-0\./, "−.").replace(/^-/, "−");

export function duration(ms) {
  if (ms < 1) return "under 1 ms";
  const short = (x) => (x < 10 ? x.toFixed(1).replace(/\.0$/, "") : String(Math.round(x)));
  if (ms < 1000) return short(ms) + " ms";
  const s = ms / 1000;
  if (s < 60) return short(s) + " s";
  if (s < 3600) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
}

export function ago(iso) {
  const ms = Date.now() - Date.parse(iso);
  if (ms > 60 * 86400e3) return iso.slice(0, 10);
  return ms < 1500 ? "now" : duration(ms).replace(/\.\d /, " ") + " ago";
}

export function table(heads, rows, empty) {
  if (!rows.length) return h("p", { class: "soft" }, empty);
  return h("table", {},
    heads.some((t) => t.length > 1) && h("thead", {}, h("tr", {}, heads.map((t) => h("th", { class: t.startsWith("#") && "n" }, t.replace("#", ""))))),
    h("tbody", {}, rows.map((r) => h("tr", {}, r.map((c, i) => h("td", { class: heads[i].startsWith("#") && "n" }, c))))));
}

// titles lists items in a line, each with its score.
export const titles = (items) => (items || []).slice(0, 5).map((it, i, all) =>
  h("span", { class: "pick", title: it.why?.text }, itemLink(it), h("span", { class: "soft" }, "\u00a0", prob(it.score)), i < all.length - 1 && h("span", { class: "dot" })));

export const card = (width, title, ...rest) => h("section", { class: `card w${width}` }, h("h2", {}, title), ...rest);
