//go:build gpu

package cuda

import (
	"embed"
	"sort"
	"strings"
)

//go:embed ptx/*.ptx
var ptx embed.FS

// modules lists the embedded PTX by name.
func modules() []module {
	entries, err := ptx.ReadDir("ptx")
	if err != nil {
		panic("cuda: embedded PTX: " + err.Error())
	}
	var out []module
	for _, e := range entries {
		text, err := ptx.ReadFile("ptx/" + e.Name())
		if err != nil {
			panic("cuda: embedded PTX: " + err.Error())
		}
		out = append(out, module{strings.TrimSuffix(e.Name(), ".ptx"), string(text)})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}
