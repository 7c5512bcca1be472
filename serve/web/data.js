// The page of bad records: dead letters, which may be sent again, and a look through a file before it is sent.
import { h, ago, api, card, count, table, upload } from "./lib.js";
import { curl } from "./browse.js";

const page = 25, everyMS = 5000;
let letters, asked = 0, refused = "", failed = {}, survey, wrong = "", busy = "";

export async function data() {
  if (Date.now() - asked > everyMS) {
    asked = Date.now();
    try {
      letters = (await api("GET", `/v1/dead-letters?n=${page}`)).letters;
      refused = "";
    } catch (err) {
      if (err.status === 401) throw err;
      refused = err.message;
    }
  }
  return [look, result(), card(12, ["Dead letters ", h("small", {}, "records that could not be used, newest first")], refused && h("p", { class: "trouble" }, refused), list())];
}

function list() {
  if (!letters) return undefined;
  if (!letters.length) return h("p", { class: "soft" }, "None: every record could be used.");
  return [h("p", { class: "soft" }, "Mend the configuration first and start again with it. Then send a record again: it goes onto its topic as it was. An event without a time of its own counts as of then."),
    h("ol", { class: "flow" }, letters.map((l) => h("li", {},
      h("b", {}, l.reason), h("span", { class: "soft dot" }, ago(l.seen)), h("span", { class: "soft dot" }, `${l.topic}/${l.partition}@${l.offset}`),
      h("span", { class: "soft dot" }, `${count(l.bytes)} bytes`), l.sent_again && h("span", { class: "tag good" }, `sent again ${ago(l.sent_again)}`),
      l.detail && h("p", {}, l.detail), l.preview && h("p", {}, h("code", {}, l.preview)), again(l)))),
    curl("POST", "/v1/dead-letters/resend", { id: letters[0].id })];
}

function again(l) {
  if (l.sent_again) return undefined;
  const button = h("button", {}, "Send again");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await api("POST", "/v1/dead-letters/resend", { id: l.id });
      l.sent_again = new Date().toISOString();
      delete failed[l.id];
    } catch (err) {
      failed[l.id] = err.message + (err.fix ? " – " + err.fix : "");
      button.disabled = false;
    }
    asked = 0;
  });
  return h("p", {}, button, failed[l.id] && h("span", { class: "trouble" }, " ", failed[l.id]));
}

// look is made once: a new one would forget which file was chosen.
const look = (() => {
  const file = h("input", { type: "file", id: "file", "aria-label": "a file of events or a catalogue" });
  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    busy = file.files[0].name;
    survey = undefined;
    wrong = "";
    try {
      survey = await upload(file.files[0]);
    } catch (err) {
      wrong = err.message + (err.fix ? " – " + err.fix : "");
    }
    busy = "";
  });
  return card(12, ["Look through a file ", h("small", {}, "CSV, tab-separated, JSON lines or MovieLens' own, up to 16 MiB; nothing of it is learnt or kept")], h("p", {}, file));
})();

function result() {
  if (busy) return card(12, busy, h("p", { class: "soft" }, "Reading …"));
  if (wrong) return card(12, "It can not be read", h("p", { class: "trouble" }, wrong));
  if (!survey) return h("section", { class: "w12", hidden: "" });
  const s = survey, kinds = { error: "bad", warning: "warn" };
  const facts = [s.events > 0 && ["events", count(s.events), `of ${count(s.users)} users on ${count(s.items)} items, ${s.first.slice(0, 10)} to ${s.last.slice(0, 10)}`],
    s.events > 0 && ["liked", count(s.positive), `${count(s.implicit)} of them because of what they did; ${count(s.negative)} not liked`],
    ...Object.entries(s.kinds || {}).sort().map(([k, n]) => [h("span", { class: "soft" }, k), count(n), ""]),
    s.catalogue_records > 0 && ["catalogue records", count(s.catalogue_records), s.untitled ? `${count(s.untitled)} without a title` : ""],
    s.bad > 0 && ["can not be used", count(s.bad), ""]].filter(Boolean);
  return card(12, [s.source, " ", h("small", {}, `${s.holds}${s.format ? ", " + s.format : ""}`), h("span", { class: "tag " + (s.ok ? "good" : "bad") }, s.ok ? "can be used" : s.errors === 1 ? "1 error" : `${count(s.errors)} errors`)],
    table(["", "#", ""], facts, ""),
    s.findings.length > 0 && h("ol", { class: "flow" }, s.findings.map((f) => h("li", {}, h("span", { class: "tag " + (kinds[f.level] || "") }, f.level), " ", f.what,
      f.count > 1 && h("span", { class: "soft dot" }, `${count(f.count)} times`), f.where && h("span", { class: "soft dot" }, `first at ${f.where}`),
      f.fix && h("p", { class: "soft" }, "Fix: ", f.fix)))));
}
