// Two charts, drawn as SVG with attributes alone.
import { h, count, duration, prob } from "./lib.js";

const W = 560, H = 190;

// histogram draws freshness buckets from the first to the last that holds anything, with p50 and p99 beside it in words.
export function histogram(f) {
  if (!f.count) return h("p", { class: "soft" }, "No recommendation has covered an event yet.");
  const filled = f.buckets.map((b, i) => (b.count ? i : -1)).filter((i) => i >= 0);
  const lo = Math.max(0, filled[0] - 1), hi = Math.min(f.buckets.length - 1, filled.at(-1) + 1);
  const shown = f.buckets.slice(lo, hi + 1);
  const top = Math.max(...shown.map((b) => b.count));
  const step = W / shown.length, base = H - 34;
  const bound = (b, i) => (b.le_ms === null ? "over " + duration(shown[i - 1]?.le_ms ?? f.buckets.at(-2).le_ms) : "≤ " + duration(b.le_ms));
  return h("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Freshness of ${f.count} recommendations: half within ${duration(f.p50_ms)}, 99 % within ${duration(f.p99_ms)}` },
    h("line", { class: "grid", x1: 0, x2: W, y1: base, y2: base }),
    shown.map((b, i) => {
      const tall = Math.max(b.count ? 2 : 0, (b.count / top) * (base - 22));
      const x = i * step + step * 0.12;
      return h("g", {},
        h("rect", { class: "col", x: x.toFixed(1), y: (base - tall).toFixed(1), width: (step * 0.76).toFixed(1), height: tall.toFixed(1), rx: 2 }, h("title", {}, `${bound(b, i)}: ${count(b.count)}`)),
        h("text", { x: (i * step + step / 2).toFixed(1), y: (base - tall - 5).toFixed(1), "text-anchor": "middle" }, b.count ? ((100 * b.count) / f.count).toFixed(b.count * 10 < f.count ? 1 : 0) + "%" : ""),
        h("text", { x: (i * step + step / 2).toFixed(1), y: base + 15, "text-anchor": "middle" }, b.le_ms === null ? "more" : duration(b.le_ms)));
    }),
    [["p50", f.p50_ms], ["p99", f.p99_ms]].map(([name, ms], k) => {
      const i = shown.findIndex((b) => b.le_ms === null || ms <= b.le_ms);
      const from = i > 0 ? shown[i - 1].le_ms : 0, to = shown[i]?.le_ms;
      const x = (i < 0 ? shown.length : i + (to ? Math.min(1, (ms - from) / (to - from)) : 1)) * step;
      const before = x > W * 0.85 || (k === 0 && x > W * 0.15); // p50 on the left of its mark, p99 on the right of its own
      return [h("line", { class: "mark", x1: x.toFixed(1), x2: x.toFixed(1), y1: 14, y2: base }),
        h("text", { x: (x + (before ? -4 : 4)).toFixed(1), y: H - 4, "text-anchor": before ? "end" : "start" }, `${name} ${duration(ms)}`)];
    }));
}

const order = ["mix", "late", "popularity", "bias", "cf", "cora"];
const known = (m) => (order.includes(m) ? m : "other");

// curve draws a running figure of each model over the events learnt; key is its name in a point, now its last values.
export function curve(points, key, now, what) {
  points = points.filter((p) => Object.keys(p[key]).length);
  const models = Object.keys(now).sort((a, b) => order.indexOf(a) - order.indexOf(b));
  if (!models.length || points.length < 2) return h("p", { class: "soft" }, `No ${what} yet.`);
  const all = points.flatMap((p) => Object.values(p[key]));
  let lo = Math.min(...all), hi = Math.max(...all);
  const pad = Math.max(0.005, (hi - lo) * 0.1);
  lo = Math.max(0, lo - pad); hi = Math.min(1, hi + pad);
  const first = points[0].events, span = Math.max(1, points.at(-1).events - first);
  const left = 34, base = H - 24, right = W - 6;
  const x = (n) => left + ((n - first) / span) * (right - left);
  const y = (v) => base - ((v - lo) / (hi - lo)) * (base - 10);
  const ticks = [0, 1, 2, 3].map((i) => lo + ((hi - lo) * i) / 3);
  return [
    h("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Running ${what}: ` + models.map((m) => `${m} ${prob(now[m])}`).join(", ") },
      ticks.map((v) => [h("line", { class: "grid", x1: left, x2: right, y1: y(v).toFixed(1), y2: y(v).toFixed(1) }), h("text", { x: left - 6, y: (y(v) + 4).toFixed(1), "text-anchor": "end" }, prob(v))]),
      h("text", { x: left, y: H - 6 }, count(first)),
      h("text", { x: right, y: H - 6, "text-anchor": "end" }, count(points.at(-1).events) + " events"),
      models.map((m) => h("polyline", { class: "curve " + known(m), points: points.filter((p) => m in p[key]).map((p) => `${x(p.events).toFixed(1)},${y(p[key][m]).toFixed(1)}`).join(" ") }))),
    h("p", { class: "soft" }, models.map((m) => [h("span", { class: "key " + known(m) }, m), " ", h("b", {}, prob(now[m]))])),
  ];
}
