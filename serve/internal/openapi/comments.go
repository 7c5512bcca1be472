package openapi

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
)

// Comments are the comments of types and of their fields, by "package/path.Type" and
// "package/path.Type.Field".
type Comments map[string]string

// ReadComments parses the Go files of a folder, without its tests, as the package of that path.
func (c Comments) ReadComments(path, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("read comments of %s: %s holds no Go file", path, dir)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("read comments: %w", err)
		}
		for _, d := range file.Decls {
			if types, ok := d.(*ast.GenDecl); ok && types.Tok == token.TYPE {
				c.add(path, types)
			}
		}
	}
	return nil
}

func (c Comments) add(path string, types *ast.GenDecl) {
	for _, spec := range types.Specs {
		t := spec.(*ast.TypeSpec) // a declaration of types holds nothing else
		name := path + "." + t.Name.Name
		c[name] = plain(t.Doc)
		if c[name] == "" && !types.Lparen.IsValid() { // of a lone type, the comment is the declaration's
			c[name] = plain(types.Doc)
		}
		body, ok := t.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range body.Fields.List {
			text := plain(f.Doc)
			if text == "" {
				text = plain(f.Comment)
			}
			for _, n := range f.Names {
				c[name+"."+n.Name] = text
			}
		}
	}
}

// plain is a comment's text with every paragraph on one line.
func plain(g *ast.CommentGroup) string {
	paragraphs := strings.Split(g.Text(), "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = strings.Join(strings.Fields(p), " ")
	}
	return strings.TrimSpace(strings.Join(paragraphs, "\n\n"))
}

// ofField is the comment of a field. Where it begins with the field's Go name, as a comment above
// a field does, it begins with the JSON name instead.
func (c Comments) ofField(t reflect.Type, f reflect.StructField, jsonName string) string {
	text := c[t.PkgPath()+"."+t.Name()+"."+f.Name]
	if rest, ok := strings.CutPrefix(text, f.Name+" "); ok {
		return jsonName + " " + rest
	}
	return text
}

// ofType is the comment of a type, which begins with the type's Go name; name replaces it.
func (c Comments) ofType(t reflect.Type, name string) string {
	text := c[t.PkgPath()+"."+t.Name()]
	if rest, ok := strings.CutPrefix(text, t.Name()+" "); ok {
		return name + " " + rest
	}
	return text
}
