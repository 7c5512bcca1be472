// Gorse's own client for Node against a running `up --gorse`: node gorse_client.js URL, with gorsejs in NODE_PATH.
const assert = require("node:assert");
const { Gorse, GorseException } = require("gorsejs");

const client = new Gorse({ endpoint: process.argv[2].replace(/\/$/, ""), secret: "none" });
const ids = (list) => list.map((x) => x.Id ?? x.ItemId ?? x);

(async () => {
  const day = "2026-01-02T00:00:00Z";
  assert.equal(await client.upsertItem({ ItemId: "js:a", Comment: "A lamp", Categories: ["lamp"], IsHidden: false, Timestamp: day }), 1);
  assert.equal(await client.upsertItems([{ ItemId: "js:b", Comment: "A desk", Categories: ["desk"], IsHidden: false, Timestamp: day }, { ItemId: "js:c", Comment: "A chair", IsHidden: false, Timestamp: day }]), 2);
  assert.equal(await client.insertFeedbacks(["a", "b", "c"].map((x) => ({ FeedbackType: "purchase", UserId: "js-1", ItemId: "js:" + x, Timestamp: day }))), 3);
  assert.equal(await client.upsertFeedbacks(["a", "b"].map((x) => ({ FeedbackType: "purchase", UserId: "js-2", ItemId: "js:" + x, Timestamp: day }))), 2);
  assert.equal((await client.getRecommend({ userId: "js-2", cursorOptions: { n: 4 } })).length, 4);
  assert.deepEqual(ids(await client.getPopular({ category: "lamp", cursorOptions: { n: 3 } })), ["js:a"]);
  assert.deepEqual(ids(await client.getLatest({ category: "desk" })), ["js:b"]);
  assert.equal(ids(await client.getItemNeighbors({ itemId: "js:a", cursorOptions: { n: 1 } })).length, 1);
  assert.deepEqual(ids(await client.getUserNeighbors({ userId: "js-2" })), ["js-1"]);
  assert.equal((await client.getSessionRecommend([{ FeedbackType: "click", UserId: "", ItemId: "js:a", Timestamp: day }], { cursorOptions: { n: 2 } })).length, 2);
  assert.equal((await client.getFeedback({ type: "purchase", userId: "js-1", itemId: "js:b" })).ItemId, "js:b");
  assert.equal((await client.getUserFeedbackByType("js-1", "purchase")).length, 3);
  assert.equal((await client.deleteFeedback({ type: "purchase", userId: "js-1", itemId: "js:c" })).RowAffected, 1);
  assert.equal((await client.getUserFeedback("js-1")).length, 2);
  assert.equal(await client.insertItemCategory("js:a", "light"), 1);
  assert.deepEqual((await client.getItem("js:a")).Categories, ["lamp", "light"]);
  assert.equal(await client.deleteItemCategory("js:a", "lamp"), 1);
  assert.deepEqual((await client.getItem("js:a")).Categories, ["light"]);
  assert.equal((await client.getUser("js-1")).UserId, "js-1");
  await assert.rejects(client.getItemFeedback("js:a"), GorseException);
  assert.equal(await client.deleteItem("js:c"), 1);
  await assert.rejects(client.getItem("js:c"), GorseException);
  console.log("ok");
})().catch((e) => { console.error(e); process.exit(1); });
