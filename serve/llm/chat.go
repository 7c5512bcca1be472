package llm

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve/llm/gguf"
	"github.com/corastream/corastream/serve/llm/token"
)

// chatForm is a way to write a conversation down. Templates in model files are programs (Jinja); instead of running them, the
// common families are told apart by their markers and written by our own code, which puts messages in as plain text.
type chatForm struct {
	name   string
	marks  []string // all of them in a template: it is of this family
	end    []string // control tokens that end an answer, beside the file's own
	write  func(c *chat, t talk) ([]token.Part, error)
	system string // stands first when a conversation has no system message
}

// The families, in the order in which a template is tried.
var chatForms = []chatForm{
	{name: "chatml", marks: []string{"<|im_start|>"}, end: []string{"<|im_end|>"}, write: writeChatML},
	{name: "llama3", marks: []string{"<|start_header_id|>", "<|eot_id|>"}, end: []string{"<|eot_id|>"}, write: writeLlama3},
	{name: "gemma", marks: []string{"<start_of_turn>"}, end: []string{"<end_of_turn>"}, write: writeGemma},
	{name: "zephyr", marks: []string{"<|user|>", "<|assistant|>"}, write: writeZephyr},
	{name: "llama2", marks: []string{"[INST]", "<<SYS>>"}, write: writeLlama2},
	{name: "mistral", marks: []string{"[INST]"}, write: writeMistral},
	{
		name: "vicuna", marks: []string{"USER:", "ASSISTANT:"}, write: writeVicuna,
		system: "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.",
	},
}

func chatNames() []string {
	names := []string{"auto"}
	for _, f := range chatForms {
		names = append(names, f.name)
	}
	return names
}

// chat writes conversations for one model.
type chat struct {
	chatForm
	tok  *token.Tokenizer
	ends map[int32]bool // tokens that end an answer
}

// newChat finds the model's family: the configured one, the one its template's markers name, or the one its name tells where
// the file has no template.
func newChat(f *gguf.File, o Options, tok *token.Tokenizer) (*chat, error) {
	template, err := f.String("tokenizer.chat_template", "")
	if err != nil {
		return nil, err
	}
	c := &chat{tok: tok, ends: map[int32]bool{}}
	name := o.ChatTemplate
	if name == "auto" || name == "" {
		if name, err = chatFamily(f, template); err != nil {
			return nil, err
		}
	}
	for _, form := range chatForms {
		if form.name == name {
			c.chatForm = form
		}
	}
	if s := defaultSystem.FindStringSubmatch(template); name == "chatml" && s != nil {
		c.system = strings.ReplaceAll(s[1], `\n`, "\n")
	}
	if tok.EOS() >= 0 {
		c.ends[tok.EOS()] = true
	}
	if f.HasKey("tokenizer.ggml.eot_token_id") {
		id, err := f.Uint("tokenizer.ggml.eot_token_id")
		if err != nil {
			return nil, err
		}
		if id < uint64(tok.Size()) {
			c.ends[int32(id)] = true
		}
	}
	for _, text := range c.end {
		if id, ok := tok.Special(text); ok {
			c.ends[id] = true
		}
	}
	return c, nil
}

// defaultSystem finds the system message that ChatML templates write out for conversations without one.
var defaultSystem = regexp.MustCompile(`<\|im_start\|>system(?:\n|\\n)([^'"{}|+<]+)<\|im_end\|>`)

func chatFamily(f *gguf.File, template string) (string, error) {
	for _, form := range chatForms {
		all := template != ""
		for _, mark := range form.marks {
			all = all && strings.Contains(template, mark)
		}
		if all {
			return form.name, nil
		}
	}
	if template == "" {
		name, err := f.String("general.name", "")
		if err != nil {
			return "", err
		}
		if strings.Contains(strings.ToLower(name), "vicuna") {
			return "vicuna", nil
		}
		return "", corastream.Usagef(f.Name(), fmt.Sprintf("set llm.chat_template to one of %q", chatNames()[1:]), "the file has no chat template (key %q)", "tokenizer.chat_template")
	}
	return "", corastream.Usagef(f.Name(), fmt.Sprintf("set llm.chat_template to one of %q, if the model follows it", chatNames()[1:]),
		"its chat template is of no family that is known")
}

// tokens writes a conversation up to where the assistant speaks.
func (c *chat) tokens(msgs []corastream.Message) ([]int32, error) {
	if len(msgs) == 0 {
		return nil, corastream.Usagef("messages", "send at least one", "there is no message")
	}
	for i, m := range msgs {
		switch m.Role {
		case "system", "user", "assistant":
		default:
			return nil, corastream.Usagef(fmt.Sprintf("messages[%d].role", i), "use system, user or assistant", "%.40q is no role of this model", m.Role)
		}
	}
	t := talk{system: c.system, turns: msgs}
	if msgs[0].Role == "system" {
		t = talk{system: msgs[0].Content, turns: msgs[1:], first: 1}
	}
	parts, err := c.write(c, t)
	if err != nil {
		return nil, err
	}
	ids := c.tok.EncodeParts(parts)
	if c.tok.AddBOS() && (len(ids) == 0 || ids[0] != c.tok.BOS()) {
		ids = append([]int32{c.tok.BOS()}, ids...)
	}
	return ids, nil
}

// talk is a conversation with its system message apart; turns[0] is message number first.
type talk struct {
	system string
	turns  []corastream.Message
	first  int
}

// all is the system message, where there is one, and the turns.
func (t talk) all() []corastream.Message {
	if t.system == "" {
		return t.turns
	}
	return append([]corastream.Message{{Role: "system", Content: t.system}}, t.turns...)
}

func mark(text string) token.Part  { return token.Part{Text: text, Trusted: true} }
func plain(text string) token.Part { return token.Part{Text: text} }

func writeChatML(_ *chat, t talk) (p []token.Part, _ error) {
	for _, m := range t.all() {
		p = append(p, mark("<|im_start|>"+m.Role+"\n"), plain(m.Content), mark("<|im_end|>\n"))
	}
	return append(p, mark("<|im_start|>assistant\n")), nil
}

// writeLlama3 leaves out the date that some of its templates write of their own accord.
func writeLlama3(_ *chat, t talk) (p []token.Part, _ error) {
	head := func(role string) token.Part { return mark("<|start_header_id|>" + role + "<|end_header_id|>\n\n") }
	for _, m := range t.all() {
		p = append(p, head(m.Role), plain(strings.TrimSpace(m.Content)), mark("<|eot_id|>"))
	}
	return append(p, head("assistant")), nil
}

// writeGemma calls the assistant model, and puts a system message before the first user's, as Gemma 3's template does. Gemma 2's refuses one.
func writeGemma(_ *chat, t talk) (p []token.Part, _ error) {
	_, turns, err := t.alternating()
	if err != nil {
		return nil, err
	}
	if t.system != "" {
		turns[0] = t.system + "\n\n" + turns[0]
	}
	for i, text := range turns {
		role := "user"
		if i%2 == 1 {
			role = "model"
		}
		p = append(p, mark("<start_of_turn>"+role+"\n"), plain(text), mark("<end_of_turn>\n"))
	}
	return append(p, mark("<start_of_turn>model\n")), nil
}

func writeZephyr(c *chat, t talk) (p []token.Part, _ error) {
	for _, m := range t.all() {
		p = append(p, mark("<|"+m.Role+"|>\n"), plain(m.Content), mark(c.special(c.tok.EOS())+"\n"))
	}
	return append(p, mark("<|assistant|>\n")), nil
}

func writeLlama2(c *chat, t talk) ([]token.Part, error) {
	system, turns, err := t.alternating()
	if err != nil {
		return nil, err
	}
	if system != "" {
		turns[0] = "<<SYS>>\n" + system + "\n<</SYS>>\n\n" + turns[0]
	}
	return c.instructions(turns), nil
}

// writeMistral puts a system message before the first user's, as there is no place for it.
func writeMistral(c *chat, t talk) ([]token.Part, error) {
	system, turns, err := t.alternating()
	if err != nil {
		return nil, err
	}
	if system != "" {
		turns[0] = system + "\n\n" + turns[0]
	}
	return c.instructions(turns), nil
}

func (c *chat) instructions(turns []string) (p []token.Part) {
	for i, text := range turns {
		if i%2 == 0 {
			p = append(p, mark(c.special(c.tok.BOS())), mark("[INST] "), plain(text), mark(" [/INST]"))
		} else {
			p = append(p, plain(" "+text+" "), mark(c.special(c.tok.EOS())))
		}
	}
	return p
}

func writeVicuna(c *chat, t talk) (p []token.Part, _ error) {
	system, turns, err := t.alternating()
	if err != nil {
		return nil, err
	}
	p = append(p, plain(system+" "))
	for i, text := range turns {
		if i%2 == 0 {
			p = append(p, mark("USER: "), plain(text), mark(" ASSISTANT:"))
		} else {
			p = append(p, plain(" "+text), mark(c.special(c.tok.EOS())))
		}
	}
	return p, nil
}

// special is how a control token is written; "" when the model has none.
func (c *chat) special(id int32) string {
	if id < 0 {
		return ""
	}
	return c.tok.Piece(id)
}

// alternating takes a conversation apart for families that know nothing but question, answer, question.
func (t talk) alternating() (system string, turns []string, err error) {
	want := "user"
	for i, m := range t.turns {
		if m.Role != want {
			return "", nil, corastream.Usagef(fmt.Sprintf("messages[%d].role", t.first+i), "let user and assistant take turns, a system message first",
				"%s, where this model's template wants %s", m.Role, want)
		}
		turns = append(turns, strings.TrimSpace(m.Content))
		if want = "assistant"; m.Role == "assistant" {
			want = "user"
		}
	}
	if want == "user" { // also when there is no turn at all
		return "", nil, corastream.Usagef("messages", "end with a message of the user", "nobody asks anything at the end")
	}
	return strings.TrimSpace(t.system), turns, nil
}
