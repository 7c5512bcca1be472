// A small shop over HTTP: node shop.mjs [URL]. Node 18 or newer alone is needed; set TOKEN where the server asks for one.
const url = (process.argv[2] ?? "http://127.0.0.1:8642").replace(/\/$/, "");

async function ask(path, body, method = body ? "POST" : "GET") {
  const headers = { "Content-Type": "application/json" };
  if (process.env.TOKEN) headers.Authorization = "Bearer " + process.env.TOKEN;
  const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return JSON.parse(text);
}

await ask("/v1/items?wait=learnt", ["Lamp", "Bulb", "Desk", "Chair"].map((title, n) => ({ item_id: `node-shop-${n}`, title })));
for (let n = 0; n < 3; n++)
  await ask("/v1/events?wait=learnt", [0, 1].map((item) => ({ user_id: `node-shop-${n}`, item_id: `node-shop-${item}`, type: "click" })));

// Pages: a cursor keeps the list that it began, so that nothing comes twice while somebody scrolls.
const first = await ask("/v1/recommend", { user_id: "node-shop-9", n: 2, cursor: "new" });
const second = await ask("/v1/recommend", { user_id: "node-shop-9", n: 2, cursor: first.cursor });
console.log("page 1:", first.items.map((it) => it.title).join(", "), "- page 2:", second.items.map((it) => it.title).join(", "));
const near = await ask("/v1/items/node-shop-0/similar?n=2");
console.log("goes with the lamp:", near.items.map((it) => `${it.title} (${it.why?.text ?? ""})`).join(", "));
