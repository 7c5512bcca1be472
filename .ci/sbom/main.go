// Command sbom writes what a binary is made of as SPDX 2.3 JSON, from the modules that the Go linker wrote into it: what
// was really linked, not what go.mod might want.
//
//	go run ./.ci/sbom bin/corastream > bin/corastream.spdx.json
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

type document struct {
	Version       string         `json:"spdxVersion"`
	License       string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Creation      creation       `json:"creationInfo"`
	Packages      []pkg          `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	ID        string     `json:"SPDXID"`
	Name      string     `json:"name"`
	Version   string     `json:"versionInfo"`
	Download  string     `json:"downloadLocation"`
	Analyzed  bool       `json:"filesAnalyzed"`
	Concluded string     `json:"licenseConcluded"`
	Declared  string     `json:"licenseDeclared"`
	Copyright string     `json:"copyrightText"`
	Comment   string     `json:"comment,omitempty"`
	Checksums []checksum `json:"checksums,omitempty"`
	Refs      []ref      `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type ref struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./.ci/sbom BINARY > FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(path string, w io.Writer) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w (fix: give a binary that `make build` wrote)", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	digest := hex.EncodeToString(sum[:])
	created, revision := "1970-01-01T00:00:00Z", info.Main.Version
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.time":
			created = s.Value // of the commit, so that equal binaries have equal documents
		case "vcs.revision":
			revision = s.Value
		}
	}
	const root = "SPDXRef-binary"
	doc := document{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: filepath.Base(path),
		Namespace: "https://" + info.Main.Path + "/sbom/" + digest,
		Creation:  creation{created, []string{"Tool: corastream-sbom"}},
		Packages: []pkg{{
			ID: root, Name: info.Main.Path, Version: revision, Download: "NOASSERTION", Concluded: "Apache-2.0", Declared: "Apache-2.0",
			Copyright: "NOASSERTION", Comment: "built by " + info.GoVersion, Checksums: []checksum{{"SHA256", digest}},
		}},
		Relationships: []relationship{{"SPDXRef-DOCUMENT", "DESCRIBES", root}},
	}
	add := func(p pkg) {
		doc.Packages = append(doc.Packages, p)
		doc.Relationships = append(doc.Relationships, relationship{root, "STATIC_LINK", p.ID})
	}
	add(module(&debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}, "the Go standard library and runtime"))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		add(module(m, "go.sum "+m.Sum))
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

func module(m *debug.Module, comment string) pkg {
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, m.Path+"-"+m.Version)
	return pkg{
		ID: "SPDXRef-" + id, Name: m.Path, Version: m.Version, Download: "NOASSERTION", Concluded: "NOASSERTION", Declared: "NOASSERTION",
		Copyright: "NOASSERTION", Comment: comment,
		Refs: []ref{{"PACKAGE-MANAGER", "purl", "pkg:golang/" + m.Path + "@" + m.Version}},
	}
}
