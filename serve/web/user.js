// A user's page: what was clicked, where the taste points, what would be recommended now and why.
import { h, ago, api, bar, card, count, duration, itemLink, prob, table, titles } from "./lib.js";
import { curl } from "./browse.js";
import { tags } from "./home.js";

let now, before, nowVersion = -1, nowAt = 0, refused;

export async function user(_, id) {
  const u = await api("GET", "/v1/users/" + encodeURIComponent(id));
  await refresh(id, u.version);
  return [
    h("section", { class: "card w12" }, h("h1", {}, "User ", id),
      h("p", { class: "soft" }, `${count(u.events)} events learnt`, h("span", { class: "dot" }), `${count(u.liked)} of the last ${count(u.total)} liked`,
        h("span", { class: "dot" }), `embedding version ${count(u.version)}`, h("span", { class: "dot" }), `leaning ${prob(u.bias)} ${u.bias < 0 ? "(strict)" : "(generous)"}`)),
    card(8, ["Recommended now ", now && h("small", {}, `from version ${count(now.versions.user)}, ${count(now.candidates)} candidates`)], recommended(id)),
    card(4, ["Taste ", h("small", {}, "the titles that this user's vector points to")], taste(u.taste)),
    card(8, ["History ", h("small", {}, "newest first")], table(["", "item", "when"],
      u.history.map((e) => [e.label >= 0.5 ? h("span", { class: "tag good" }, "liked") : h("span", { class: "tag" }, "not"), itemLink(e), ago(e.time)]), "Empty.")),
    card(4, "Sent lately", sent(u.recent)),
  ];
}

// refresh asks again when the embedding has moved, at most every three seconds: an answer costs an LLM batch.
async function refresh(id, version) {
  if (version === nowVersion || Date.now() - nowAt < 3000) return;
  nowAt = Date.now();
  try {
    const next = await api("POST", "/v1/recommend", { user_id: id, n: 10, explain: true });
    if (now) before = now.items.map((it) => it.item_id);
    now = next;
    nowVersion = version;
    refused = undefined;
  } catch (err) {
    refused = err.message;
  }
}

// moved says what the last click did to an item's place.
function moved(it) {
  if (!before) return "";
  const was = before.indexOf(it.item_id) + 1;
  if (!was) return h("span", { class: "tag good" }, "new");
  return was === it.rank ? "" : h("span", { class: "tag" }, was > it.rank ? `up ${was - it.rank}` : `down ${it.rank - was}`);
}

// gone are the items that the last click took off the list.
function gone() {
  const left = (before || []).filter((id) => !now.items.some((it) => it.item_id === id));
  return left.length > 0 && h("p", { class: "soft" }, "Off the list since the last click: ", left.map((id, i) => [i > 0 && ", ", itemLink({ item_id: id })]));
}

function recommended(id) {
  if (!now) return h("p", { class: "soft" }, refused || "Asking …");
  return [
    refused && h("p", { class: "soft" }, refused),
    h("p", { class: "soft" }, tags(now), now.note),
    table(["#", "item", "score", "#cf", "why"], now.items.map((it) => [it.rank, [itemLink(it), moved(it)], [prob(it.score), bar(it.score)], prob(it.cf), why(it.why)]), "Nothing left to recommend."),
    gone(), curl("POST", "/v1/recommend", { user_id: id, n: 10, explain: true }),
  ];
}

const sign = (x) => (x < 0 ? "" : "+") + prob(x);

function why(w) {
  if (!w) return "";
  return h("span", { class: "soft" }, w.text, w.match !== undefined && [w.text && "; ", `taste ${sign(w.match)}, popularity ${sign(w.item)}`,
    w.because && [", near ", itemLink(w.because)]]);
}

function taste(all) {
  const near = all.filter((n) => n.cosine > 0);
  if (!near.length) return h("p", { class: "soft" }, "Nothing sets this user apart yet.");
  return h("ul", { class: "plain" }, near.map((n) => h("li", {}, itemLink(n), bar(n.cosine))));
}

function sent(recent) {
  if (!recent.length) return h("p", { class: "soft" }, "Nothing since this process started.");
  return h("ol", { class: "flow" }, recent.map((m) => h("li", {}, h("span", { class: "soft" }, ago(m.made)),
    m.freshness_ms !== null && h("span", { class: "soft dot" }, duration(m.freshness_ms), " after the click"), tags(m),
    h("p", {}, titles(m.items)))));
}
