//go:build app

package apptest

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/ingest/devbroker"
)

const csvHeader = "user_id,item_id,label,timestamp\n"

// TestBadInputIsRefusedWithPlaceAndFix: exit code 2, nothing on standard output, and one message that names the file,
// line or key, and what to do.
func TestBadInputIsRefusedWithPlaceAndFix(t *testing.T) {
	items := write(t, "items.csv", "item_id,title\ni1,The Last Harbour\n")
	good := write(t, "good.csv", csvHeader+"u1,i1,1,1700000000\nu1,i2,0,1700000001\n")
	data, n := t.TempDir(), 0
	folder := func() string { n++; return filepath.Join(data, fmt.Sprint(n)) } // the cases run side by side
	config := func(yaml string) []string {
		return []string{"config", "check", write(t, "c.yaml", yaml)}
	}
	replay := func(file string) []string {
		return []string{"replay", "--llm", "off", "--train", file, "--test", good, "--items", items, "--out", t.TempDir()}
	}
	csv := func(content string) string { return write(t, "log.csv", content) }
	for name, c := range map[string]struct {
		args  []string
		names []string // what the message must name
	}{
		"unknown key":            {config("data: x\nkafka:\n  brokrs: []\n"), []string{"c.yaml:3:", "brokrs"}},
		"unknown section":        {config("kafca: {}\n"), []string{"c.yaml:1:", "kafca"}},
		"wrong type":             {config("pipeline:\n  candidates: many\n"), []string{"c.yaml:2:", "candidates"}},
		"not YAML":               {config("pipeline: [\n"), []string{"c.yaml:1:"}},
		"out of range":           {config("pipeline: {candidates: 0}\n"), []string{"c.yaml", "pipeline.candidates", "1 to 500"}},
		"two problems":           {config("pipeline: {candidates: 0}\nstore: {history_limit: 0}\n"), []string{"pipeline.candidates", "store.history_limit"}},
		"bad level":              {config("log: {level: loud}\n"), []string{"log.level", "debug"}},
		"open to the network":    {config("http: {listen: \"0.0.0.0:8642\"}\n"), []string{"http.", "token"}},
		"one topic twice":        {config("kafka: {topics: {items: corastream.requests}}\n"), []string{"kafka.topics."}},
		"no such config":         {[]string{"up", "-c", "nowhere.yaml"}, []string{"nowhere.yaml"}},
		"bad config for up":      {[]string{"up", "-c", write(t, "up.yaml", "pipelin: {}\n")}, []string{"up.yaml", "pipelin"}},
		"bad broker flag":        {[]string{"up", "--llm", "off", "--data", folder(), "--bootstrap-server", "nohost"}, []string{"kafka.brokers", "nohost"}},
		"bad log level flag":     {[]string{"up", "--log-level", "loud"}, []string{"log.level", "loud"}},
		"CSV without a column":   {replay(csv("user_id,item_id,label\nu,i,1\n")), []string{"log.csv:1", "timestamp"}},
		"CSV, misspelt":          {replay(csv("user_id,item_id,lable,timestamp\nu,i,0,1\n")), []string{"log.csv:2:5", "lable"}},
		"CSV with a bad row":     {replay(csv(csvHeader + "u,i,1,5\nu,i\n")), []string{"log.csv:3"}},
		"CSV with a bad label":   {replay(csv(csvHeader + "u,i,1,5\nu,i,yes,5\n")), []string{"log.csv:3", "label", "yes"}},
		"CSV with a NaN rating":  {replay(csv("user_id,item_id,rating,timestamp\nu,i,NaN,5\n")), []string{"log.csv:2", "rating", "NaN"}},
		"CSV with a bad time":    {replay(csv(csvHeader + "u,i,1,today\n")), []string{"log.csv:2", "timestamp", "today"}},
		"empty CSV":              {replay(csv("")), []string{"log.csv", "empty"}},
		"no such CSV":            {replay("nowhere.csv"), []string{"nowhere.csv"}},
		"a log as a catalogue":   {[]string{"replay", "--llm", "off", "--train", good, "--test", good, "--items", good, "--out", t.TempDir()}, []string{"good.csv:2", "interactions topic"}},
		"item twice":             {[]string{"replay", "--llm", "off", "--train", good, "--test", good, "--items", write(t, "twice.csv", "item_id,title\n1,a\n1,b\n"), "--out", t.TempDir()}, []string{"twice.csv:3"}},
		"replay of nothing":      {[]string{"replay", "--llm", "off", "--train", good, "--items", items, "--out", t.TempDir()}, []string{"--valid"}},
		"replay without files":   {[]string{"replay"}, []string{"--items", "--out", "--train"}},
		"replay in another mode": {append(replay(good), "--mode", "live"), []string{"mode", "live", "prequential"}},
		"replay of no model":     {append(replay(good), "--models", "bias,oracle"), []string{"models", "oracle"}},
		"cora without an LLM":    {append(replay(good), "--models", "cora"), []string{"models", "--checkpoint"}},
		"delay in static mode":   {append(replay(good), "--label-delay", "1h"), []string{"label_delay"}},
		"train without files":    {[]string{"train"}, []string{"--items", "--out", "--train"}},
		"produce of a bad CSV":   {[]string{"produce", csv(csvHeader + "u,i,2,5\n"), "--data", folder()}, []string{"log.csv:2", "label"}},
		"produce to no topic":    {[]string{"produce", write(t, "e.jsonl", "{}\n"), "--data", folder(), "--topic", "clicks"}, []string{"--topic", "clicks"}},
		"a bad catalogue line":   {[]string{"produce", write(t, "i.jsonl", `{"item_id":"1","title":"A"}`+"\n"+`{"item_id":"2","user_id":"u"}`+"\n"), "--data", folder(), "--topic", "items"}, []string{"i.jsonl:2", "title"}},
		"produce of no file":     {[]string{"produce", "nowhere.csv", "--data", folder()}, []string{"nowhere.csv"}},
		"produce without a file": {[]string{"produce"}, []string{"produce --help"}},
		"consume with no broker": {[]string{"consume", "--data", folder()}, []string{"--bootstrap-server"}},
		"consume from a when":    {[]string{"consume", "--bootstrap-server", "127.0.0.1:1", "--from", "yesterday"}, []string{"--from", "yesterday"}},
		"requests for nobody":    {[]string{"requests", "--data", folder()}, []string{"--user"}},
		"recommend to nobody":    {[]string{"recommend", "--data", folder()}, []string{"--user"}},
		"score of nothing":       {[]string{"score", "--user", "u", "--data", folder()}, []string{"--item"}},
		"no store":               {[]string{"store", "digest", "--data", filepath.Join(data, "none")}, []string{"none", "--data"}},
		"erase in no store":      {[]string{"erase", "u1", "--data", filepath.Join(data, "none")}, []string{"none", "--data"}},
		"erase of nobody":        {[]string{"erase"}, []string{"erase --help"}},
		"restore of no file":     {[]string{"store", "snapshot", "nowhere.snap", "--restore", "--data", filepath.Join(data, "r1")}, []string{"nowhere.snap"}},
		"restore of garbage":     {[]string{"store", "snapshot", write(t, "junk.snap", strings.Repeat("junk", 1000)), "--restore", "--data", filepath.Join(data, "r2")}, []string{"junk.snap"}},
		"unknown command":        {[]string{"serve"}, []string{"serve", "--help"}},
		"unknown subcommand":     {[]string{"store", "frob"}, []string{"frob", "--help"}},
		"unknown flag":           {[]string{"up", "--fast"}, []string{"--fast", "up --help"}},
		"bad flag value":         {[]string{"replay", "--seed", "one"}, []string{"--seed", "replay --help"}},
		"argument too many":      {[]string{"up", "now"}, []string{"now", "up --help"}},
		"unknown bench":          {[]string{"bench", "luck"}, []string{"luck", "freshness"}},
		"bench without a name":   {[]string{"bench"}, []string{"bench --help"}},
		"bench llm without one":  {[]string{"bench", "llm", "--llm", "off"}, []string{"--llm FILE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, c.args, c.names)
		})
	}
}

// TestAConfigurationOfNothingIsTheDefaults: an empty file, or one of comments, sets nothing to zero.
func TestAConfigurationOfNothingIsTheDefaults(t *testing.T) {
	for _, yaml := range []string{"", "\n", "# all as it is\n\n  # really\n", "---\n"} {
		ok(t, "config", "check", write(t, "c.yaml", yaml))
	}
}

func refused(t *testing.T, args, names []string) {
	t.Helper()
	r := call(t, args...)
	if r.code != 2 {
		t.Errorf("corastream %s: exit %d, want 2\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	if r.stdout != "" {
		t.Errorf("standard output: %s", r.stdout)
	}
	if missing := lacks(r.stderr, append(names, "corastream: ", "fix: ")...); missing != nil {
		t.Errorf("the message does not name %q:\n%s", missing, r.stderr)
	}
	if bad := strings.Contains(r.stderr, "goroutine ") || strings.Contains(r.stderr, "panic:"); bad {
		t.Errorf("a stack trace:\n%s", r.stderr)
	}
}

// TestBadModelFilesAreRefused: the LLM's and the checkpoint's files may be anything.
func TestBadModelFilesAreRefused(t *testing.T) {
	file := tinyLLM(t, 1)
	h := newHome(t, "", tinyConfig(file, ""))
	h.amend(t, fmt.Sprintf("127.0.0.1:%d", h.port), "127.0.0.1:0") // the cases run side by side
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	checkpoint := untrained(t, h.config, 40, nil)
	ck, err := os.ReadFile(checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, b []byte) string { return write(t, name, string(b)) }
	huge := append([]byte("GGUF"), 3, 0, 0, 0)
	huge = binary.LittleEndian.AppendUint64(huge, 1<<60) // tensors
	huge = binary.LittleEndian.AppendUint64(huge, 1<<60) // metadata
	longHead := append(binary.LittleEndian.AppendUint64(nil, 1<<62), "{}"...)
	otherLLM := untrained(t, h.config, 40, func(c *generator.Checkpoint) { c.Made.LLM = strings.Repeat("0", 64) })
	otherPrompt := untrained(t, h.config, 40, func(c *generator.Checkpoint) { c.Made.Template = strings.Repeat("0", 64) })
	otherCF := untrained(t, h.config, 40, func(c *generator.Checkpoint) { c.Made.CF = strings.Repeat("0", 16) })
	otherHome := newHome(t, "", "llm: {file: "+file+", context_tokens: 200, template: {item: \"Book: {title}\\n#Answer:\"}}\ncf: {kind: hybrid, content: 8}\n")
	otherHome.amend(t, fmt.Sprintf("127.0.0.1:%d", otherHome.port), "127.0.0.1:0")
	for name, c := range map[string]struct {
		config, flag, path string
		names              []string
	}{
		"no LLM":                     {h.config, "--llm", "nowhere.gguf", []string{"nowhere.gguf", "make fetch"}},
		"LLM is a folder":            {h.config, "--llm", t.TempDir(), []string{"--llm"}},
		"LLM is empty":               {h.config, "--llm", put("a.gguf", nil), []string{"a.gguf"}},
		"LLM is text":                {h.config, "--llm", put("b.gguf", []byte(strings.Repeat("hello ", 99))), []string{"b.gguf"}},
		"LLM is cut in the head":     {h.config, "--llm", put("c.gguf", whole[:300]), []string{"c.gguf"}},
		"LLM is cut in the body":     {h.config, "--llm", put("d.gguf", whole[:len(whole)*2/3]), []string{"d.gguf"}},
		"LLM claims 2^60 tensors":    {h.config, "--llm", put("e.gguf", huge), []string{"e.gguf"}},
		"no checkpoint":              {h.config, "--checkpoint", "nowhere.safetensors", []string{"nowhere.safetensors"}},
		"checkpoint is empty":        {h.config, "--checkpoint", put("a.safetensors", nil), []string{"a.safetensors"}},
		"checkpoint is text":         {h.config, "--checkpoint", put("b.safetensors", []byte(strings.Repeat("hello ", 99))), []string{"b.safetensors"}},
		"checkpoint is cut":          {h.config, "--checkpoint", put("c.safetensors", ck[:len(ck)-100]), []string{"c.safetensors"}},
		"checkpoint claims 2^62":     {h.config, "--checkpoint", put("d.safetensors", longHead), []string{"d.safetensors"}},
		"checkpoint for another LLM": {h.config, "--checkpoint", otherLLM, []string{"test.safetensors", "LLM", "corastream train"}},
		"checkpoint, other prompt":   {h.config, "--checkpoint", otherPrompt, []string{"test.safetensors", "template"}},
		"checkpoint, other CF":       {h.config, "--checkpoint", otherCF, []string{"test.safetensors", "CF spec"}},
		"config with other prompt":   {otherHome.config, "--checkpoint", checkpoint, []string{"test.safetensors", "template"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, []string{"up", "-c", c.config, "--data", t.TempDir(), c.flag, c.path}, c.names)
		})
	}
}

// TestStoreOfAnotherModelIsRefused: a store belongs to the CF model and to the content basis that made it.
func TestStoreOfAnotherModelIsRefused(t *testing.T) {
	t.Parallel()
	file := tinyLLM(t, 1)
	h := newHome(t, "", tinyConfig(file, ""))
	first := untrained(t, h.config, 40, nil)
	h.amend(t, "checkpoint: \"\"", "checkpoint: "+first)
	h.drain(t)
	refused(t, []string{"up", "-c", h.config, "--checkpoint", untrained(t, h.config, 30, nil)}, []string{"basis", "--data"})
	h.amend(t, "kind: hybrid, content: 8", "kind: mf, factors: 8")
	h.amend(t, "checkpoint: "+first, "checkpoint: \"\"")
	refused(t, []string{"up", "-c", h.config, "--llm", "off"}, []string{"hybrid(", "mf(", "--data"})
}

// TestRunTimeFailuresExitWithOne: what better usage can not mend is 1, with a message all the same.
func TestRunTimeFailuresExitWithOne(t *testing.T) {
	h := newHome(t, "", noLLM)
	up := h.up(t)
	up.url(t)
	for name, c := range map[string]struct{ args, names []string }{
		"folder in use":      {[]string{"up", "-c", h.config}, []string{"in use"}},
		"nobody listens":     {[]string{"produce", write(t, "e.jsonl", "{}\n"), "--bootstrap-server", "127.0.0.1:1"}, []string{"127.0.0.1:1"}},
		"doctor finds fault": {[]string{"doctor", "-c", h.config, "--llm", "nowhere.gguf"}, []string{"checks failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := call(t, c.args...)
			if r.code != 1 {
				t.Errorf("exit %d, want 1\n%s%s", r.code, r.stdout, r.stderr)
			}
			if missing := lacks(r.stderr, append(c.names, "corastream: ")...); missing != nil {
				t.Errorf("the message does not name %q:\n%s", missing, r.stderr)
			}
		})
	}
	t.Run("no answer", func(t *testing.T) {
		b, err := devbroker.Start(devbroker.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		other := newHome(t, b.Addr(), noLLM)
		other.produce(t, "interactions", "{}") // makes the topics; nobody reads them
		r := call(t, "requests", "--user", "u", "--wait", "2s", "-c", other.config)
		if r.code != 1 || r.stdout != "" || lacks(r.stderr, "no answer within 2s", "corastream up", "--wait") != nil {
			t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	})
	t.Run("store in use", func(t *testing.T) {
		refused(t, []string{"store", "digest", "-c", h.config}, []string{h.data, "in use"})
	})
	t.Run("port taken", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		other := newHome(t, "", noLLM)
		refused(t, []string{"up", "-c", other.config, "--listen", l.Addr().String()}, []string{"listen", l.Addr().String()})
	})
}
