//go:build app

package apptest

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/goccy/go-yaml"
	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/store"
)

// settings are the sections of a configuration that tests open stores and models with.
type settings struct {
	Data string `yaml:"data"`
	LLM  struct {
		File        string `yaml:"file"`
		llm.Options `yaml:",inline"`
	} `yaml:"llm"`
	Checkpoint string                    `yaml:"checkpoint"`
	Kafka      ingest.Config             `yaml:"kafka"`
	Cluster    cluster.Config            `yaml:"cluster"`
	Store      store.Config              `yaml:"store"`
	CF         cfstream.Spec             `yaml:"cf"`
	Mix        mix.Spec                  `yaml:"mix"`
	Pipeline   corastream.PipelineConfig `yaml:"pipeline"`
}

// loadConfig is what the program makes of a configuration file, as `config print` says.
func loadConfig(path string) (s settings, err error) {
	var complaint bytes.Buffer
	cmd := exec.Command(program, "config", "print", "-c", path)
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("config print -c %s: %w: %s", path, err, complaint.Bytes())
	}
	err = yaml.Unmarshal(out, &s)
	return s, err
}

// host is what a cluster's stores are opened with.
func (s settings) host() cluster.Deps {
	return cluster.Deps{Data: s.Data, Cluster: s.Cluster, Kafka: s.Kafka, Store: s.Store, CF: s.CF, Mix: s.Mix, Pipeline: s.Pipeline}
}

// openStore opens the store of a data folder that no process has open.
func openStore(cfg settings, log zerolog.Logger) (*store.Store, error) {
	m, err := mix.New(cfg.Mix)
	if err != nil {
		return nil, err
	}
	return store.Open(filepath.Join(cfg.Data, "store"), cfg.Store, store.WithLogger(log), store.WithDerived(m))
}

// want is what a checkpoint must fit.
func want(m *llm.Model, spec cfstream.Spec) generator.Want {
	info := m.Info()
	w := generator.Want{
		LLM: m.Digest(), Template: m.TemplateDigest(), CF: spec.Digest(), Hidden: info.Hidden, Layers: info.Layers,
		Out: map[corastream.Target]int{},
	}
	for t, width := range m.TargetWidths() {
		w.Out[t] = width[1]
	}
	return w
}
