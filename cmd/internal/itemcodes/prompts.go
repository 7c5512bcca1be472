package itemcodes

import "github.com/corastream/corastream"

// Prompts are n of the prompts by which a catalogue's items are read for lists, from its first item to its last, before the LLM's
// options shorten title and fields to 48 tokens each.
func Prompts(items []corastream.Item, n int) []string {
	about := corastream.NewAbout(items)
	var all []string
	for _, it := range items {
		text := about.Text(it)
		if it.Removed || it.Title == "" {
			continue
		}
		if text != "" {
			text = ". " + text
		}
		all = append(all, "Item: "+it.Title+text+"\n#Answer:")
	}
	if len(all) <= n {
		return all
	}
	out := make([]string, n)
	for k := range out {
		out[k] = all[k*(len(all)-1)/max(n-1, 1)]
	}
	return out
}
