// The search of items and users, and the lists that are the same for everybody.
import { h, api, card, count, itemLink, table, userLink, Missing } from "./lib.js";

const asked = new URLSearchParams(location.search);
const page = 25;

function more(path, cursor) {
  if (!cursor) return undefined;
  const q = new URLSearchParams(asked);
  q.set("cursor", cursor);
  return h("p", {}, h("a", { href: `${path}?${q}` }, "Next page"));
}

function query() {
  const q = new URLSearchParams({ n: String(page) });
  for (const name of ["q", "cursor"]) if (asked.get(name)) q.set(name, asked.get(name));
  return q;
}

const of = (what) => [what, asked.get("q") && h("small", {}, " with ", h("b", {}, asked.get("q")))];

export async function items() {
  const found = await api("GET", "/v1/items?" + query());
  return [card(12, of("Items"),
    table(["item", "id", "fields", "#events", ""], found.items.map((it) => [itemLink(it), h("span", { class: "soft" }, it.item_id),
      h("span", { class: "soft" }, Object.entries(it.fields || {}).sort().map(([k, v]) => `${k}: ${v}`).join(" · ")), count(it.events),
      it.status !== "available" && h("span", { class: "tag warn" }, it.status)]), found.cursor ? "None among the items that were looked through." : "No such item."),
    more("/items", found.cursor))];
}

export async function users() {
  const found = await api("GET", "/v1/users?" + query());
  return [card(12, of("Users"),
    table(["user", "#events learnt"], found.users.map((u) => [userLink(u.user_id), count(u.events)]), "No id begins with this."), more("/users", found.cursor))];
}

export async function lists() {
  const one = async (path, title, about) => {
    try {
      const list = await api("GET", `/v1/${path}?n=10`);
      return card(4, [title, " ", h("small", {}, about)], table(["#", "item", "why"], list.items.map((it) => [it.rank, itemLink(it),
        h("span", { class: "soft" }, it.why?.text || "")]), "Nothing yet."), curl("GET", `/v1/${path}?n=10`));
    } catch (err) {
      if (err.status === 401) throw err;
      return card(4, title, h("p", { class: "soft" }, err instanceof Missing ? "Not here." : err.message));
    }
  };
  return Promise.all([one("popular", "Popular", "most liked"), one("trending", "Trending", "liked more than before"), one("latest", "Latest", "came last")]);
}

// curl is the request as a shell takes it; the token is left to the reader.
export function curl(method, path, body) {
  const token = sessionStorage.getItem("corastream-token") ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const data = body ? ` -H 'Content-Type: application/json' -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'` : "";
  return h("details", {}, h("summary", {}, "as curl"), h("code", { class: "curl" }, `curl${method === "GET" || body && method === "POST" ? "" : " -X " + method}${token}${data} '${location.origin}${path}'`));
}
