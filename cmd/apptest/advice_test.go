//go:build app

package apptest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// advice is a complaint and what becomes of it when its advice is followed.
type advice struct {
	name string
	bad  []string // the command
	says string   // its advice, as it stands on standard error
	done []string // the command with the advice followed
	code int      // of done
}

const (
	head3 = "user_id,item_id,timestamp\n"
	rated = "user_id,item_id,rating,timestamp\n"
	two   = "u,a,5,1700000000\nv,b,1,1700000001\n"
)

// TestAdviceThatIsFollowedLeadsOn: what validate, produce, replay and train say under "fix" is done, and the same command then
// ends well and says it no more.
func TestAdviceThatIsFollowedLeadsOn(t *testing.T) {
	n := 0
	file := func(name, content string) string {
		n++
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	validate := func(name, content string, more ...string) []string {
		return append([]string{"validate", file(name, content)}, more...)
	}
	config := func(yaml string) []string { return []string{"-c", file("c.yaml", yaml)} }
	csv := func(content string, more ...string) []string { return validate("a.csv", content, more...) }
	lines := func(content string, more ...string) []string { return validate("a.jsonl", content, more...) }
	like := `{"user_id":"u","item_id":"a","type":"like","timestamp":1700000000}` + "\n" + `{"user_id":"v","item_id":"b","type":"dislike","timestamp":1700000001}` + "\n"
	with := func(member string) string {
		return like + `{"user_id":"u","item_id":"c","timestamp":1700000002,` + member + "}\n"
	}
	catalogue := "item_id,title\n1,The Last Harbour (1990)\n2,Winter (1991)\n"
	produce := func(args ...string) []string {
		return append([]string{"produce", "--data", filepath.Join(t.TempDir(), "data")}, args...)
	}

	events, items := csvLog(t, 400, 20, 40)
	replay := func(log string, more ...string) []string {
		return append([]string{"replay", "--llm", "off", "--models", "popularity", "--log", log, "--items", items, "--out", t.TempDir()}, more...)
	}
	days := rated
	for i := range 60 { // three days, the last with most of the rows
		days += fmt.Sprintf("u%d,i%d,%d,2026-11-0%d\n", i%9, i%11, 1+i%5, min(3, 1+i/10))
	}
	tiny := tinyConfig(tinyLLM(t, 1), "") + "train: {rows: 64, passes: 1, generator: {layers: 2, targets: [q, v]}}\n"
	short := strings.Join(strings.SplitAfterN(read(t, items), "\n", 8)[:7], "") // six items
	train := func(yaml, log, items string, more ...string) []string {
		return append([]string{"train", "-c", file("t.yaml", yaml), "--train", log, "--items", items, "--out", filepath.Join(t.TempDir(), "cora.safetensors")}, more...)
	}
	few := file("few.csv", strings.Join(strings.SplitAfterN(read(t, events), "\n", 12)[:11], ""))
	clicks := head3 + "u,a,1700000000\nv,b,1700000001\n"

	cases := []advice{
		// A file that can not be read as it is.
		{"no header", csv("17,42,5,1700000000\n18,43,1,1700000001\n"), "write a header line before it, for example user_id,item_id,rating,timestamp", csv(rated + "17,42,5,1700000000\n18,43,1,1700000001\n"), 0},
		{"an empty file", csv(""), "write a header line, for example user_id,item_id,label,timestamp", csv(csvHeader + "u,a,1,1700000000\nv,b,0,1700000001\n"), 0},
		{"a column twice", csv("user_id,item_id,item_id,rating,timestamp\nu,a,b,5,1\n"), "rename one of the two", csv("user_id,item_id,other,rating,timestamp\nu,a,x,5,1700000000\nv,b,x,1,1700000001\n"), 0},
		{"UTF-16", csv("\xff\xfeu\x00"), "write it as UTF-8, as with iconv -f UTF-16 -t UTF-8", csv(rated + two), 0},
		{"UTF-16 lines", lines("\xff\xfe{\x00"), "write it as UTF-8, as with iconv -f UTF-16 -t UTF-8", lines(like), 0},
		{"a broken gzip", validate("a.csv.gz", "\x1f\x8b\x00"), "check the file, or unpack it", csv(rated + two), 0},
		{
			"foreign columns", csv("t_dat,customer_id,article_id\n2018-09-20,c1,663\n2018-09-21,c2,664\n"), "set kafka: {fields: {events: {user_id: customer_id, item_id: article_id, timestamp: t_dat}}}",
			csv("t_dat,customer_id,article_id\n2018-09-20,c1,663\n2018-09-21,c2,664\n", config("kafka: {fields: {events: {user_id: customer_id, item_id: article_id, timestamp: t_dat}}}")...), 0,
		},
		{"columns of nobody", csv("a,b,c\n1,2,3\n"), "kafka.fields in the configuration maps names", csv("a,b,c\n1,2,1700000000\n3,4,1700000001\n", config("kafka: {fields: {events: {user_id: a, item_id: b, timestamp: c}}}")...), 0},
		{"a row too short", csv(rated + two + "u,a\n"), "each line needs the header's columns; quote fields that hold commas or quotes", csv(rated + two + "u,\"a,c\",5,1700000003\n"), 0},
		{"half an array", validate("a.json", "["+strings.TrimSpace(strings.Split(like, "\n")[0])+",\n"), "write one array of JSON objects, or one object a line", lines(like), 0},
		{"no JSON", lines(like + "user u likes a\n"), "write one JSON object a line or record", lines(like), 0},

		// A record that can not be used.
		{"an unknown kind", lines(with(`"type":"contact"`)), "kafka: {kinds: {contact: {label: 1, weight: 1, implicit: true}}}", lines(with(`"type":"contact"`), config("kafka: {kinds: {contact: {label: 1, weight: 1, implicit: true}}}")...), 0},
		{"an unknown kind that takes back", lines(with(`"type":"order_cancelled"`)), "kafka: {kinds: {order_cancelled: {retract: true, weight: 1}}}", lines(with(`"type":"order_cancelled"`), config("kafka: {kinds: {order_cancelled: {retract: true, weight: 1}}}")...), 0},
		{"stars", lines(with(`"stars":5`)), "kafka: {fields: {events: {rating: stars}}}", lines(with(`"stars":5`), config("kafka: {fields: {events: {rating: stars}}}")...), 0},
		{"misspelt", lines(with(`"tpye":"like"`)), "kafka: {fields: {events: {type: tpye}}}, or write type", lines(with(`"type":"like"`)), 0},
		{"a return by quantity", lines(with(`"type":"purchase","quantity":-1`)), "give such rows the type return, or leave them out", lines(with(`"type":"return","quantity":-1`)), 0},
		{"a flag against", lines(with(`"type":"purchase","returned":true`)), "leave such rows out, or give them a type that takes back, such as unlike or return", lines(with(`"type":"return","returned":true`)), 0},
		{"nothing is said", lines(with(`"x":1`), config("kafka: {default_kind: \"\"}")...), "write type, label or rating; kafka.fields.events maps", lines(with(`"type":"like"`), config("kafka: {default_kind: \"\"}")...), 0},
		{
			"no user", lines(like + `{"customer":{"id":"u"},"item_id":"a","type":"like","timestamp":1700000000}` + "\n"), "kafka: {fields: {events: {user_id: customer.id}}}",
			lines(like+`{"customer":{"id":"u"},"item_id":"c","type":"like","timestamp":1700000000}`+"\n", config("kafka: {fields: {events: {user_id: customer.id}}}")...), 0,
		},
		{
			"no user of any name", lines(like + `{"who":"u","item_id":"c","type":"like","timestamp":1700000000}` + "\n"), "map it with kafka: {fields: {events: {user_id: NAME}}}",
			lines(like+`{"who":"u","item_id":"c","type":"like","timestamp":1700000000}`+"\n", config("kafka: {fields: {events: {user_id: who}}}")...), 0,
		},
		{
			"no item", lines(like + `{"user_id":"u","sku":"c","type":"like","timestamp":1700000000}` + "\n"), "kafka: {fields: {events: {item_id: sku}}}",
			lines(like+`{"user_id":"u","sku":"c","type":"like","timestamp":1700000000}`+"\n", config("kafka: {fields: {events: {item_id: sku}}}")...), 0,
		},
		{"an empty record", lines(like + "{}\n"), "give each record a user_id", lines(like + `{"user_id":"u","item_id":"c","type":"like","timestamp":1700000000}` + "\n"), 0},
		{"no time", csv(csvHeader + "u,a,1,today\nv,b,0,1700000000\n"), "write RFC 3339, 2022-06-24 21:20:11, a date", csv(csvHeader + "u,a,1,2022-06-24 21:20:11\nv,b,0,1700000000\n"), 0},
		{
			"relative times", csv(csvHeader + "u,a,1,61\nv,b,0,36833\n"), "say what moment 0 stands for, and what is counted, as in kafka: {time_origin: 2016-06-14T04:00:00Z, time_unit: ms}",
			csv(csvHeader+"u,a,1,61\nv,b,0,36833\n", config("kafka: {time_origin: 2016-06-14T04:00:00Z, time_unit: ms}")...), 0,
		},
		{"the future", csv(csvHeader + "u,a,1,4102444800\nv,b,0,1700000000\n"), "correct the producer's clock or the unit of timestamp, or raise kafka.max_ahead", csv(csvHeader + "u,a,1,1700000003\nv,b,0,1700000000\n"), 0},
		{"too old", csv(csvHeader+"u,a,1,1100000000\nv,b,0,1100000001\n", config("kafka: {max_age: 24h}")...), "raise kafka.max_age", csv(csvHeader+"u,a,1,1100000000\nv,b,0,1100000001\n", config("kafka: {max_age: 300000h}")...), 0},
		{"not a number", lines(like + `{"user_id":"u","item_id":"c","rating":NaN,"timestamp":1700000000}` + "\n"), "leave the member out instead of writing NaN", lines(with(`"type":"like"`)), 0},
		{"a label out of range", csv(csvHeader + "u,a,7,1700000000\nv,b,0,1700000001\n"), "what has another scale is a rating (kafka.rating_threshold)", csv(rated+"u,a,7,1700000000\nv,b,0,1700000001\n", config("kafka: {rating_threshold: 6}")...), 0},
		{"a label of null", csv(csvHeader + "u,a,,1700000000\nv,b,0,1700000001\nv,c,1,1700000002\n"), "leave such rows out, or say in type what happened", csv("user_id,item_id,type,timestamp\nu,a,like,1700000000\nv,b,dislike,1700000001\n"), 0},
		{"a word for a label", csv(csvHeader + "u,a,good,1700000000\nv,b,0,1700000001\n"), "write ids as text or whole numbers, ratings and labels as numbers, and flags as true or false", csv(csvHeader + "u,a,1,1700000000\nv,b,0,1700000001\n"), 0},
		{"an id too long", lines(like + `{"user_id":"` + strings.Repeat("u", 300) + `","item_id":"a","type":"like","timestamp":1700000000}` + "\n"), "no longer than kafka.max_id_bytes", lines(like + `{"user_id":"w","item_id":"c","type":"like","timestamp":1700000000}` + "\n"), 0},
		{"two names for one", lines(like + `{"user_id":"u","user":"v","item_id":"c","type":"like","timestamp":1700000000}` + "\n"), "leave one of the two names out", lines(with(`"type":"like"`)), 0},
		{
			"too large", lines(like+`{"user_id":"u","item_id":"c","type":"like","x":"`+strings.Repeat("x", 2000)+`","timestamp":1700000000}`+"\n", config("kafka: {max_record_bytes: 1024}")...), "raise kafka.max_record_bytes",
			lines(like+`{"user_id":"u","item_id":"c","type":"like","x":"`+strings.Repeat("x", 2000)+`","timestamp":1700000000}`+"\n", config("kafka: {max_record_bytes: 4096}")...), 0,
		},
		{
			"too many in one", lines(`[`+strings.Repeat(`{"user_id":"u","item_id":"a","type":"like","timestamp":1700000000},`, 3)+`{"user_id":"v","item_id":"b","type":"dislike","timestamp":1700000001}]`+"\n"+like, config("kafka: {max_array: 3}")...), "raise kafka.max_array, or send fewer in one record",
			lines(`[{"user_id":"v","item_id":"b","type":"dislike","timestamp":1700000001}]`+"\n"+like, config("kafka: {max_array: 3}")...), 0,
		},

		// A catalogue.
		{
			"vectors of two models", lines(`{"item_id":"1","title":"The Last Harbour","embedding":[1,0]}` + "\n" + `{"item_id":"2","title":"Winter","embedding":[1,0,0]}` + "\n"), "make all vectors with one model",
			lines(`{"item_id":"1","title":"The Last Harbour","embedding":[1,0]}` + "\n" + `{"item_id":"2","title":"Winter","embedding":[0,1]}` + "\n"), 0,
		},
		{"an item twice", csv(catalogue + "2,Winter (1991)\n"), "keep one line for each item", csv(catalogue), 0},
		{"a title in Latin-1", csv(catalogue + "3,caf\xe9\n"), "write the file as UTF-8, as with iconv -f LATIN1 -t UTF-8", csv(catalogue + "3,café\n"), 0},
		{"a title too long", csv(catalogue+"3,"+strings.Repeat("x", 300)+"\n", config("kafka: {max_text_bytes: 256}")...), "raise kafka.max_text_bytes, or shorten the title", csv(catalogue+"3,"+strings.Repeat("x", 300)+"\n", config("kafka: {max_text_bytes: 512}")...), 0},
		{"a field too long", csv("item_id,title,plot\n1,A,"+strings.Repeat("x", 300)+"\n", config("kafka: {max_text_bytes: 256}")...), "raise kafka.max_text_bytes, or send shorter fields", csv("item_id,title,plot\n1,A,"+strings.Repeat("x", 300)+"\n", config("kafka: {max_text_bytes: 512}")...), 0},
		{"no item has a title", csv("item_id,genre\n1,x\n"), "give items a title where the language model is to read them", csv("item_id,title\n1,A\n"), 0},
		{"an item without a title", csv(catalogue + "3,\n"), "give each item a title: it is what the language model reads", csv(catalogue + "3,C\n"), 0},
		{"one title for all", csv("item_id,title\n1,A\n2,A\n3,A\n"), "put what tells items apart into the title", csv("item_id,title\n1,A red\n2,A blue\n3,A black\n"), 0},
		{"records that repeat", lines(`{"item_id":"1","title":"A"}` + "\n" + `{"item_id":"1","title":"B"}` + "\n"), "keep one, unless the later ones are changes", lines(`{"item_id":"1","title":"B"}` + "\n"), 0},

		// What was read, and is odd.
		{"nothing in it", lines("\n"), "see that this is the file, topic or range you mean", lines(like), 0},
		{"no record says what happened", csv(clicks), `set kafka.default_kind to what they are, or to "" so that they are refused`, csv(clicks, config(`kafka: {default_kind: ""}`)...), 1},
		{"some do not say", lines(with(`"x":1`)), "name type, label or rating in each, or set kafka.default_kind", lines(with(`"type":"like"`)), 0},
		{"no times", lines(strings.ReplaceAll(strings.ReplaceAll(like, `,"timestamp":1700000000`, ""), `,"timestamp":1700000001`, "")), "write timestamp, or map kafka.fields.events.timestamp", lines(like), 0},
		{
			"times under another name", lines(strings.ReplaceAll(like, "timestamp", "date")), "write timestamp, or map kafka.fields.events.timestamp, as in kafka: {fields: {events: {timestamp: date}}}",
			lines(strings.ReplaceAll(like, "timestamp", "date"), config("kafka: {fields: {events: {timestamp: date}}}")...), 0,
		},
		{"the threshold is too low", csv(rated + "u,a,5,1700000000\nv,b,10,1700000001\n"), "set kafka.rating_threshold to the lowest rating that means liked, such as 9", csv(rated+"u,a,5,1700000000\nv,b,10,1700000001\n", config("kafka: {rating_threshold: 9}")...), 0},
		{"no rating is liked", csv(rated + "u,a,1,1700000000\nv,b,2,1700000001\n"), "such as 2", csv(rated+"u,a,1,1700000000\nv,b,2,1700000001\n", config("kafka: {rating_threshold: 2}")...), 0},
		{"-1 for nothing", csv(rated + "u,a,-1,1700000000\n" + two), "leave such rows out, or give them a type of their own", csv(rated + two), 0},
		{"0 for nothing", csv(rated+"u,a,0,1700000000\n"+two, config("kafka: {rating_threshold: 4}")...), "leave such rows out, or give them a type of their own", csv("user_id,item_id,type,rating,timestamp\nu,a,read,,1700000000\nu,a,rating,5,1700000000\nv,b,rating,1,1700000001\n"), 0},
		{"nothing is positive", lines(strings.ReplaceAll(like, `"like"`, `"read"`)), "give the kinds that are positive label: 1 under kafka.kinds", lines(strings.ReplaceAll(like, `"like"`, `"read"`), config("kafka: {kinds: {read: {label: 1, weight: 1, implicit: true}}}")...), 0},
		{"all are positive, explicit kinds", lines(strings.ReplaceAll(like, `"dislike"`, `"like"`)), "set implicit: true for its kinds under kafka.kinds", lines(strings.ReplaceAll(like, `"dislike"`, `"like"`), config("kafka: {kinds: {like: {implicit: true}}}")...), 0},
		{"all are positive, ratings", csv(rated + "u,a,4,1700000000\nv,b,5,1700000001\n"), "raise kafka.rating_threshold to the lowest rating that means liked", csv(rated+"u,a,4,1700000000\nv,b,5,1700000001\n", config("kafka: {rating_threshold: 5}")...), 0},
		{"all are positive, labels", csv(csvHeader + "u,a,1,1700000000\nv,b,1,1700000001\n"), "leave label out and name a type that is implicit under kafka.kinds", csv("user_id,item_id,type,timestamp\nu,a,click,1700000000\nv,b,click,1700000001\n"), 0},
		{"from 1970", csv(csvHeader + "u,a,1,0\nv,b,0,1700000001\n"), "write unix seconds, unix milliseconds or RFC 3339 into timestamp", csv(csvHeader + "u,a,1,1700000000\nv,b,0,1700000001\n"), 0},
		{"one moment", csv(csvHeader + "u,a,1,1700000000\nv,b,0,1700000000\n"), "map the column that tells when an event happened (kafka.fields.events.timestamp)", csv("user_id,item_id,label,timestamp,seen_at\nu,a,1,1700000000,1700000000\nv,b,0,1700000000,1700000009\n", config("kafka: {fields: {events: {timestamp: seen_at}}}")...), 0},
		{"rows that repeat", csv(csvHeader + "u,a,1,1700000000\nu,a,1,1700000000\nv,b,0,1700000001\n"), "give each event an id, so that repeats are dropped", csv("user_id,item_id,label,timestamp,id\nu,a,1,1700000000,1\nu,c,1,1700000000,2\nv,b,0,1700000001,3\n"), 0},
		{"ids that repeat", csv("user_id,item_id,label,timestamp,id\nu,a,1,1700000000,x\nv,b,0,1700000001,x\n"), "ids must be an event's own", csv("user_id,item_id,label,timestamp,id\nu,a,1,1700000000,x\nv,b,0,1700000001,y\n"), 0},
		{"one user", csv(csvHeader + "u,a,1,1700000000\nu,b,0,1700000001\n"), "see that user_id is the right column or field", csv("who,user_id,item_id,label,timestamp\nu,shop,a,1,1700000000\nv,shop,b,0,1700000001\n", config("kafka: {fields: {events: {user_id: who}}}")...), 0},
		{"one item", csv(csvHeader + "u,a,1,1700000000\nv,a,0,1700000001\n"), "see that item_id is the right column or field", csv("sku,user_id,item_id,label,timestamp\na,u,shop,1,1700000000\nb,v,shop,0,1700000001\n", config("kafka: {fields: {events: {item_id: sku}}}")...), 0},
		{"other ids in the catalogue", append(csv(csvHeader+"u,a,1,1700000000\nv,b,0,1700000001\n"), file("items.csv", catalogue)), "see that events and catalogue use the same ids", append(csv(csvHeader+"u,1,1,1700000000\nv,2,0,1700000001\n"), file("items.csv", catalogue)), 0},
		{"few of the catalogue", append(csv(csvHeader+"u,1,1,1700000000\nv,b,0,1700000001\n"), file("items.csv", catalogue)), "send their catalogue records", append(csv(csvHeader+"u,1,1,1700000000\nv,b,0,1700000001\n"), file("items.csv", catalogue+"b,Boats (1999)\n")), 0},
		{"hardly any is positive", csv(csvHeader + "u,a,1,1700000000\n" + strings.Repeat("v,b,0,1700000001\n", 150)), "see that the labels or kafka.rating_threshold are what you mean", csv(csvHeader + "u,a,1,1700000000\nv,b,0,1700000001\n"), 0},

		// produce
		{"dead letters", produce(file("a.jsonl", with(`"type":"contact"`))), "--skip-bad leaves them out", produce(file("a.jsonl", with(`"type":"contact"`)), "--skip-bad"), 0},
		{"a bad catalogue record", produce(file("i.jsonl", `{"item_id":"1","title":"A"}`+"\n"+`{"title":"B"}`+"\n"), "--topic", "items"), `write one catalogue record a line: {"item_id": ..., "title": ...}`, produce(file("i.jsonl", `{"item_id":"1","title":"A"}`+"\n"+`{"item_id":"2","title":"B"}`+"\n"), "--topic", "items"), 0},
		{"an event among items", produce(file("i.jsonl", `{"item_id":"1","user_id":"u"}`+"\n"), "--topic", "items"), "write one catalogue record a line", produce(file("i.jsonl", `{"item_id":"1","user_id":"u"}`+"\n"), "--topic", "interactions"), 0},
		{"no topic", produce(file("a.jsonl", like), "--topic", "clicks"), "choose interactions, items or requests", produce(file("a.jsonl", like), "--topic", "interactions"), 0},

		// replay
		{
			"one moment for all", replay(file("m.csv", csvHeader+strings.Repeat("u,i1,1,1700000000\nv,i2,0,1700000000\n", 20))), "give --train and --test as files of their own",
			[]string{"replay", "--llm", "off", "--models", "popularity", "--train", events, "--test", events, "--items", items, "--out", t.TempDir()},
			0,
		},
		{"too short to cut", replay(file("m.csv", csvHeader+"u,i1,1,1700000000\n")), "give a longer log, or change --warmup (see --dry-run)", replay(events), 0},
		{"a share out of range", replay(events, "--warmup", "2"), "choose above 0 and below 1", replay(events, "--warmup", "0.5"), 0},
		{"a bad row", replay(file("m.csv", rated+"u,i1,good,1700000000\n")), "ratings and labels as numbers", replay(events), 0},
		{"a bad line", replay(file("m.jsonl", with(`"stars":5`))), "kafka: {fields: {events: {rating: stars}}}", replay(file("m.jsonl", with(`"stars":5`)), config("kafka: {fields: {events: {rating: stars}}}")...), 0},
		{"a model that needs the LLM", replay(events, "--models", "llm"), "or leave llm out", replay(events, "--models", "bias"), 0},
		{"a model twice", replay(events, "--models", "bias,bias"), "name each once", replay(events, "--models", "bias"), 0},

		// train
		{"a catalogue of one", train(tiny, events, file("one.csv", "item_id,title\ni1,The Last Harbour\n")), "give a catalogue of two items or more with titles", train(tiny, events, file("six.csv", short)), 0},
		{"another width for the generator", train(strings.Replace(tiny, "generator: {", "generator: {taste: 4, ", 1), events, items), "it is cf.content", train(strings.Replace(tiny, "content: 8", "content: 4", 1), events, items), 0},
		{
			"factors alone", train(strings.Replace(tiny, "kind: hybrid, content: 8", "kind: mf, factors: 4", 1), events, items), "set train: {generator: {inputs: paper}}, or cf: {kind: hybrid}",
			train(strings.Replace(strings.Replace(tiny, "kind: hybrid, content: 8", "kind: mf, factors: 4", 1), "generator: {", "generator: {inputs: paper, ", 1), events, items), 0,
		},
		{"more layers than there are", train(strings.Replace(tiny, "layers: 2", "layers: 9", 1), events, items), "set train: {generator: {layers: " + fmt.Sprint(tinyLayers) + "}} or less", train(tiny, events, items), 0},
		{"a short log", train(tiny, few, items), "give a longer log", train(tiny, events, items), 0},
		{"no LLM", train(tiny, events, items, "--llm", "off"), "name a GGUF with --llm FILE", train(tiny, events, items), 0},
	}
	// A log of days is cut at the last day instead of being refused.
	if r := ok(t, replay(file("days.csv", days))...); strings.Contains(r.stderr, "--from") {
		t.Errorf("a log of days: %s", r.stderr)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if r := call(t, c.bad...); !strings.Contains(r.stderr, c.says) || strings.Contains(r.stderr, "goroutine ") {
				t.Errorf("corastream %s: exit %d, and it does not say %q:\n%s", strings.Join(c.bad, " "), r.code, c.says, tailOf(r.stderr, 1500))
			}
			if r := call(t, c.done...); r.code != c.code || strings.Contains(r.stderr, c.says) {
				t.Errorf("corastream %s, as advised: exit %d\n%s", strings.Join(c.done, " "), r.code, tailOf(r.stderr, 1500))
			}
		})
	}
	t.Run("all of them", func(t *testing.T) { everyAdviceIsTried(t, cases) })
}

// everyAdviceIsTried holds the cases against the source: each advice that is a literal there is in some case, but for those that only tell
// people to look.
func everyAdviceIsTried(t *testing.T, cases []advice) {
	look := []string{
		"check the path", "check the file", "check this line", "see --help", "is this a data file?", "one JSON object a line, at most", "write max, or a number above 0",
		"produce JSON to this topic", "leave empty records out", "correct the name, or leave it out", "correct the row", "map the right member", "give one of them",
		"give --log or --topic alone", "give --valid FILE", "write --compare", "widen --from and --to", "start `corastream up`", "or send impressions too",
		"write ids in UTF-8", "write such records to the interactions topic", "beyond kafka.max_ahead", "lists all such records", "`corastream validate ", "set kafka.rating_threshold",
	}
	for _, path := range []string{"../internal/datafile/datafile.go", "../internal/datafile/remedy.go", "../../replay/csv.go", "../../replay/survey.go", "../internal/datafile/survey.go", "../corastream/validate.go", "../corastream/produce.go", "../corastream/replaysource.go", "../corastream/offline.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			var at ast.Expr
			switch x := n.(type) {
			case *ast.CallExpr:
				sel, is := x.Fun.(*ast.SelectorExpr)
				if !is || len(x.Args) < 3 {
					return true
				}
				switch sel.Sel.Name {
				case "Usagef", "Add":
					at = x.Args[1]
				case "fail":
					at = x.Args[2]
				}
			case *ast.ReturnStmt: // Remedy's
				if strings.HasSuffix(path, "remedy.go") && len(x.Results) == 2 {
					at = x.Results[1]
				}
			case *ast.AssignStmt:
				if id, is := x.Lhs[0].(*ast.Ident); is && id.Name == "fix" && len(x.Rhs) == 1 {
					at = x.Rhs[0]
				}
			}
			if at == nil {
				return true
			}
			ast.Inspect(at, func(n ast.Node) bool {
				lit, is := n.(*ast.BasicLit)
				if !is || lit.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(lit.Value)
				if err != nil || len(text) < 12 {
					return true
				}
				if !tried(text, look, cases) {
					t.Errorf("%s: nobody has followed %q", path, text)
				}
				return true
			})
			return true
		})
	}
}

// tried says whether a case has a part of the advice that holds no verb of fmt.
func tried(text string, look []string, cases []advice) bool {
	for _, l := range look {
		if strings.Contains(text, l) {
			return true
		}
	}
	for _, part := range strings.FieldsFunc(strings.NewReplacer("%s", "\x00", "%d", "\x00", "%g", "\x00", "%q", "\x00").Replace(text), func(r rune) bool { return r == 0 }) {
		if len(part) < 10 {
			continue
		}
		for _, c := range cases {
			if strings.Contains(c.says, part) || strings.Contains(part, c.says) && len(c.says) > 10 {
				return true
			}
		}
	}
	return false
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
