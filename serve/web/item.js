// An item's page: its record, what was learnt of it, what lies near.
import { h, api, bar, card, count, itemLink, prob, table } from "./lib.js";

export async function item(_, id) {
  const it = await api("GET", "/v1/items/" + encodeURIComponent(id));
  const fields = Object.entries(it.fields || {}).sort(([a], [b]) => a.localeCompare(b));
  return [
    h("section", { class: "card w12" }, h("h1", {}, it.title || h("span", { class: "soft" }, "untitled"), it.status !== "available" && h("span", { class: "tag warn" }, it.status)),
      h("p", { class: "soft" }, `item ${it.item_id}`, h("span", { class: "dot" }), `${count(it.events)} events learnt`, h("span", { class: "dot" }),
        `popularity ${prob(it.bias)}`, h("span", { class: "dot" }), `embedding version ${count(it.version)}`, h("span", { class: "dot" }),
        it.read ? "read by the LLM" : "not read by the LLM yet")),
    card(4, "Catalogue record", table(["field", "value"], fields, "No further fields.")),
    card(8, ["Near it ", h("small", {}, "by the vectors that candidates are found with")],
      table(["item", "#cosine", ""], it.similar.map((n) => [itemLink(n), prob(n.cosine), bar(n.cosine)]), "Nothing yet.")),
  ];
}
