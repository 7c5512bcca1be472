package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cmd/internal/node"
)

const referenceFile = "../../docs/reference/configuration.md"

// TestConfigurationReferenceIsUpToDate: docs/reference/configuration.md is made from the configuration's types, their comments and defaults.
// `go generate ./cmd/corastream` writes it.
func TestConfigurationReferenceIsUpToDate(t *testing.T) {
	r := &keyReference{comments: map[string]map[string]string{}}
	want := r.document(t)
	if len(r.bare) > 0 {
		t.Fatalf("keys without a text of their own: write a comment over the field of %s", strings.Join(r.bare, ", "))
	}
	if os.Getenv("CORASTREAM_WRITE") != "" {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("docs/reference/configuration.md is not what the code says: run go generate ./cmd/corastream")
	}
	if keys := strings.Count(want, "\n| `"); keys < 90 {
		t.Errorf("only %d keys", keys)
	}
}

// keyReference gathers the rows. comments: package folder and type, to field, to text.
type keyReference struct {
	comments map[string]map[string]string
	bare     []string
}

const referenceHead = `# Configuration

` + "`corastream up -c FILE`" + ` reads a YAML file. Keys that the file leaves out have the defaults below. An unknown key is
refused, and the error names its line. A flag replaces the value of the file.

- ` + "`corastream config check FILE`" + ` reports all problems at once.
- ` + "`corastream config print`" + ` shows every value in use. Secrets print as ` + "`***`" + `.
- Two secrets may come from the environment: ` + "`CORASTREAM_HTTP_TOKEN`" + ` and ` + "`CORASTREAM_KAFKA_PASSWORD`" + `.

This page is made from the code by ` + "`go generate ./cmd/corastream`" + `, and a test compares the two.
`

func (r *keyReference) document(t *testing.T) string {
	var b strings.Builder
	b.WriteString(referenceHead)
	c := reflect.ValueOf(node.Default())
	b.WriteString("\n## Top level\n\n" + rowsHead)
	for i := range c.NumField() {
		if f := c.Type().Field(i); c.Field(i).Kind() != reflect.Struct {
			r.row(t, &b, c.Type(), f, key(f), c.Field(i))
		}
	}
	for i := range c.NumField() {
		f := c.Type().Field(i)
		var rows strings.Builder
		if c.Field(i).Kind() == reflect.Struct {
			r.section(t, &rows, c.Field(i), key(f)+".")
		}
		if rows.Len() > 0 { // flags alone set what replay does
			fmt.Fprintf(&b, "\n## %s\n\n", key(f))
			doc, _, _ := strings.Cut(r.comment(t, f.Type, ""), "\n\n") // what follows is for readers of the code
			if describes.MatchString(doc) {
				fmt.Fprintf(&b, "%s\n\n", r.plain(f.Type, f.Type.Name(), "This section", doc))
			}
			b.WriteString(rowsHead + rows.String())
		}
	}
	return b.String()
}

// describes tells the comments that say what a section is from those for readers of the code.
var describes = regexp.MustCompile(`^[A-Z][A-Za-z]* (is|says|are|bounds|makes) `)

const rowsHead = "| key | default | meaning |\n|---|---|---|\n"

func (r *keyReference) section(t *testing.T, b *strings.Builder, v reflect.Value, prefix string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := key(f)
		switch {
		case name == "-" || !f.IsExported():
		case strings.Contains(f.Tag.Get("yaml"), ",inline"):
			r.section(t, b, v.Field(i), prefix)
		case v.Field(i).Kind() == reflect.Struct && !isScalar(v.Field(i)):
			r.section(t, b, v.Field(i), prefix+name+".")
		default:
			r.row(t, b, v.Type(), f, prefix+name, v.Field(i))
		}
	}
}

// isScalar says whether a struct is written as one YAML value, as a secret is.
func isScalar(v reflect.Value) bool {
	_, ok := v.Interface().(interface{ MarshalText() ([]byte, error) })
	return ok
}

func (r *keyReference) row(t *testing.T, b *strings.Builder, in reflect.Type, f reflect.StructField, name string, v reflect.Value) {
	doc := r.comment(t, in, f.Name)
	if doc == "" {
		r.bare = append(r.bare, name)
	}
	doc = strings.Replace(doc, "one of Kinds", "one of "+strings.Join(cfstream.Kinds, ", "), 1)
	value := ""
	if name == "llm.threads" { // the machine's
		value = "all cores"
	} else if d, ok := v.Interface().(time.Duration); ok {
		value = d.String()
	} else if out, err := yaml.MarshalWithOptions(v.Interface(), yaml.Flow(true)); err == nil {
		value = strings.TrimSpace(string(out))
	} else {
		t.Fatal(err)
	}
	fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", name, strings.ReplaceAll(value, "|", "\\|"), strings.ReplaceAll(r.plain(in, f.Name, "`"+lastOf(name)+"`", doc), "|", "\\|"))
}

func lastOf(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

func key(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	if name == "" {
		return strings.ToLower(f.Name)
	}
	return name
}

var (
	exported = regexp.MustCompile(`\b[A-Z][A-Za-z0-9]*\b`)
	// The column beside it has the default.
	rangeToo    = regexp.MustCompile(`\bDefault [^ ,]+( [KMG]iB)?, (range|at least|at most|over|above)\b`)
	defaultOnly = regexp.MustCompile(` ?\bDefault ("[^"]*"|[^ ]+)( [KMG]iB)?\.$`)
)

// plain puts keys in the place of Go's names, and leaves out the default that the column beside it shows. A single capitalised word at the
// begin of a sentence is a word of that sentence.
func (r *keyReference) plain(in reflect.Type, self, as, doc string) string {
	doc = strings.Join(strings.Fields(doc), " ")
	if rest, ok := strings.CutPrefix(doc, self+" "); ok {
		doc = as + " " + rest
	}
	var b strings.Builder
	end := 0
	for _, at := range exported.FindAllStringIndex(doc, -1) {
		name := doc[at[0]:at[1]]
		begins := at[0] == 0 || strings.HasSuffix(doc[:at[0]], ". ") || strings.HasSuffix(doc[:at[0]], `"`)
		camel := strings.ToUpper(name) != name && strings.ToLower(name[1:]) != name[1:]
		f, ok := in.FieldByName(name)
		if !ok || key(f) == "-" || strings.ToUpper(name) == name || begins && !camel {
			continue
		}
		b.WriteString(doc[end:at[0]] + "`" + key(f) + "`")
		end = at[1]
	}
	doc = b.String() + doc[end:]
	doc = rangeToo.ReplaceAllStringFunc(doc, func(s string) string {
		word := s[strings.LastIndex(s, ", ")+2:]
		return strings.ToUpper(word[:1]) + word[1:]
	})
	if short := defaultOnly.ReplaceAllString(doc, ""); short != "" {
		doc = short
	}
	return doc
}

// comment is the text over a field, or over the type itself.
func (r *keyReference) comment(t *testing.T, in reflect.Type, field string) string {
	t.Helper()
	id := in.PkgPath() + "." + in.Name()
	if r.comments[id] == nil {
		const module = "github.com/corastream/corastream"
		dir := filepath.Join("../..", strings.TrimPrefix(in.PkgPath(), module))
		if in.PkgPath() == "main" || strings.HasSuffix(in.PkgPath(), "/cmd/corastream") {
			dir = "."
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("the source of %s: %v", id, err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if m := commentsOf(file, in.Name()); m != nil {
				r.comments[id] = m
			}
		}
		if r.comments[id] == nil {
			t.Fatalf("no type %s in %s", in.Name(), dir)
		}
	}
	return r.comments[id][field]
}

func commentsOf(file *ast.File, name string) (found map[string]string) {
	ast.Inspect(file, func(n ast.Node) bool {
		gen, ok := n.(*ast.GenDecl)
		if !ok {
			return true
		}
		for _, spec := range gen.Specs {
			ts, ok := spec.(*ast.TypeSpec)
			if !ok || ts.Name.Name != name {
				continue
			}
			st, ok := ts.Type.(*ast.StructType)
			if !ok {
				continue
			}
			found = map[string]string{"": strings.TrimSpace(gen.Doc.Text())}
			for _, f := range st.Fields.List {
				text := strings.TrimSpace(f.Doc.Text())
				if text == "" {
					text = strings.TrimSpace(f.Comment.Text())
				}
				for _, id := range f.Names {
					found[id.Name] = text
				}
			}
		}
		return true
	})
	return found
}
