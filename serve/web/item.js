// An item's page: its record, what was learnt of it, what lies near.
import { h, api, bar, card, count, itemLink, prob, table } from "./lib.js";
import { curl } from "./browse.js";

let said = "";

export async function item(_, id) {
  const it = await api("GET", "/v1/items/" + encodeURIComponent(id));
  const fields = Object.entries(it.fields || {}).sort(([a], [b]) => a.localeCompare(b));
  return [
    h("section", { class: "card w12" }, h("h1", {}, it.title || h("span", { class: "soft" }, "untitled"), it.status !== "available" && h("span", { class: "tag warn" }, it.status)),
      h("p", { class: "soft" }, `item ${it.item_id}`, h("span", { class: "dot" }), `${count(it.events)} events learnt`, h("span", { class: "dot" }),
        `popularity ${prob(it.bias)}`, h("span", { class: "dot" }), `embedding version ${count(it.version)}`, h("span", { class: "dot" }),
        it.read ? "read by the LLM" : "not read by the LLM yet"), hide(it)),
    card(4, "Catalogue record", table(["field", "value"], fields, "No further fields.")),
    card(8, ["Near it ", h("small", {}, "by the vectors that candidates are found with")],
      table(["item", "#cosine", ""], it.similar.map((n) => [itemLink(n), prob(n.cosine), bar(n.cosine)]), "Nothing yet.")),
  ];
}

// hide takes the item out of lists, or brings it back: the whole record goes onto the items topic.
function hide(it) {
  if (it.status === "removed") return undefined;
  const withdrawn = it.status === "available", path = `/v1/items/${encodeURIComponent(it.item_id)}?wait=learnt`;
  const button = h("button", {}, withdrawn ? "Hide from lists" : "Bring back");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await api("PATCH", path, { withdrawn });
      location.reload();
    } catch (err) {
      said = err.message + (err.fix ? " – " + err.fix : "");
      button.disabled = false;
    }
  });
  return h("div", {}, h("p", {}, button, said && h("span", { class: "tag bad" }, said)), curl("PATCH", path, { withdrawn }));
}
