// The live page: what flows, how fresh it is, how good it is, what went wrong.
import { h, ago, bar, card, count, duration, prob, table, titles, userLink } from "./lib.js";
import { curve, histogram } from "./charts.js";

export function home(s) {
  const lists = Object.keys(s.hits10).length > 0, labels = !lists || Object.keys(s.auc).length > 0;
  const width = lists && labels ? 4 : 6;
  return [tiles(s), card(width, ["Freshness ", h("small", {}, "from a click in the log to the recommendation that knows it")], histogram(s.freshness)),
    lists && card(width, ["HR@10 ", h("small", {}, "was it among the ten? the lists, the same an hour late, and what is popular")], curve(s.curve, "hits10", s.hits10, "HR@10")),
    labels && card(width, ["Running AUC ", h("small", {}, "each event scored before it is learnt")], curve(s.curve, "auc", s.auc, "AUC")),
    s.llm && llm(s.llm),
    card(8, "Recommendations going out", flow(s.recent)), side(s), letters(s)].filter(Boolean);
}

function tiles(s) {
  const f = s.freshness, buried = Object.values(s.dead_letters).reduce((a, b) => a + b, 0);
  const lag = s.gauges.filter((g) => g.name.startsWith("lag")).reduce((a, g) => a + g.value, 0);
  const hasLag = s.gauges.some((g) => g.name.startsWith("lag"));
  const auc = s.auc.cora ?? s.auc.cf ?? s.auc.bias;
  const tile = (value, what) => h("div", { class: "card tile" }, h("b", {}, value), h("span", {}, what));
  return h("section", { class: "tiles w12", "aria-label": "in short" },
    tile(count(s.events), `events learnt · ${count(Math.round(s.events_per_s))}/s` + (hasLag ? ` · ${count(lag)} behind` : "")),
    tile(f.count ? duration(f.p50_ms) : "–", "freshness p50" + (f.count ? ` · p99 ${duration(f.p99_ms)}` : "")),
    tile(count(s.recommendations), "recommendations" + (s.degraded ? ` · ${count(s.degraded)} batches by CF alone` : "")),
    s.hits10.mix !== undefined ? tile(prob(s.hits10.mix), "HR@10" + (s.hits10.late === undefined ? "" : ` · an hour late ${prob(s.hits10.late)}`)) :
    tile(auc === undefined ? "–" : prob(auc), "AUC" + (s.auc.cora === undefined ? "" : " of cora") + (s.auc.cora !== undefined && s.auc.cf !== undefined ? ` · cf ${prob(s.auc.cf)}` : "")),
    tile(count(buried), "dead letters" + (s.duplicates ? ` · ${count(s.duplicates)} duplicates` : "")));
}

// llm shows what the LLM's part of the lists is worth, and what became of the versions of its weights.
function llm(l) {
  const w = l.worth, kinds = { gain: "good", nothing: "warn", promoted: "good", refused: "", "taken back": "bad" };
  const tag = (name) => h("span", { class: "tag " + (kinds[name] || "") }, name);
  const percent = (x) => (x < 0 ? "−" : "+") + Math.abs(100 * x).toFixed(2) + " %";
  const now = [["in use", `version ${l.version}`, l.version ? `trained after ${count(l.trained_at_event)} events` : "the start, before any training"]];
  if (l.reading) now.unshift(["reading items", `${count(l.reading.done)} of ${count(l.reading.total)}`, "lists come without it until all are read" + (l.reading.eta_s >= 0 ? `, in about ${duration(1000 * l.reading.eta_s)}` : "")]);
  if (l.training) now.push(["in training", "", "beside the stream"]);
  if (l.shadow) now.push(["tried unseen", `version ${l.shadow.version}`, `${count(l.shadow.rows)} of ${count(l.shadow.of_rows)} likes: it makes what was taken ${percent(l.shadow.chance)} more probable [${percent(l.shadow.ci[0])}, ${percent(l.shadow.ci[1])}]`]);
  return card(12, ["What the language model is worth to the lists ", tag(w.finding)],
    h("p", {}, w.says), w.advice && h("p", { class: "soft" }, "What to do: ", w.advice),
    table(["", "", ""], now, ""),
    l.reading && (l.reading.advice || []).map((a) => h("p", { class: "soft" }, a)),
    h("details", {}, h("summary", {}, `verdicts on ${count(l.verdicts.length)} versions of its weights`),
      table(["#version", "verdict", "#at event", "#likes", "why"], l.verdicts.map((v) => [v.version, tag(v.decision), count(v.at_event), count(v.rows), v.reason]), "None yet.")));
}

export const tags = (m) => [m.cold && h("span", { class: "tag" }, "new user"), m.arm === "canary" && h("span", { class: "tag" }, "canary"),
  m.fallback && h("span", { class: "tag" }, "what is popular"), m.degraded && h("span", { class: "tag warn" }, "by CF alone")];

function flow(recent) {
  if (!recent.length) return h("p", { class: "soft" }, "Nothing has gone out yet.");
  return h("ol", { class: "flow" }, recent.slice(0, 12).map((m) => h("li", {},
    userLink(m.user_id), h("span", { class: "soft dot" }, ago(m.made)),
    m.freshness_ms !== null && h("span", { class: "soft dot" }, duration(m.freshness_ms), " after the click"), tags(m),
    h("p", {}, titles(m.items)))));
}

function side(s) {
  const checks = s.checks.map((c) => [c.name, h("span", { class: "tag " + (c.ok ? "good" : "bad") }, c.ok ? "ok" : "no"), c.why && h("span", { class: "soft" }, " ", c.why)]);
  const facts = s.facts.map((f) => [f.name, f.value]);
  return h("div", { class: "card w4" },
    h("h2", {}, "The stages"), table(["", "", ""], checks, ""),
    h("h2", {}, "What the generator and the LLM did last"), table(["", ""], facts, "Nothing yet."),
    s.gauges.length > 0 && [h("h2", {}, "Gauges"), gauges(s.gauges)]);
}

// gauges shows one line for each name: the sum, and what it is made of on demand.
function gauges(all) {
  const byName = Map.groupBy(all, (g) => g.name);
  const figure = (x) => count(Math.round(x * 1000) / 1000);
  return table(["", "#"], [...byName].map(([name, list]) => [
    list.length === 1 ? name.replaceAll("_", " ") : h("details", {}, h("summary", {}, name.replaceAll("_", " ")),
      list.map((g) => h("div", { class: "soft" }, Object.values(g.labels || {}).reverse().join(" "), ": ", figure(g.value)))),
    figure(list.reduce((sum, g) => sum + g.value, 0))]), "");
}

function letters(s) {
  const reasons = Object.entries(s.dead_letters).sort((a, b) => b[1] - a[1]);
  const total = reasons.reduce((a, r) => a + r[1], 0);
  if (!total) return card(12, "Dead letters", h("p", { class: "soft" }, "None: every record could be used."));
  return card(12, ["Dead letters ", h("small", {}, "records that could not be used; ", h("a", { href: "/data" }, "look at them and send them again"))],
    table(["reason", "#records", "share"], reasons.map(([r, n]) => [r, count(n), bar(n / total)]), ""),
    h("details", {}, h("summary", {}, "the last ones"),
      table(["when", "position", "reason", "detail", "starts with"], s.recent_dead_letters.map((l) => [ago(l.seen), `${l.topic}/${l.partition}@${l.offset}`, l.reason, l.detail || "", h("code", {}, l.preview || "")]), "None seen by this process.")));
}
