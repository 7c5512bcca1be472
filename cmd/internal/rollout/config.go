package rollout

import (
	"errors"

	"github.com/corastream/corastream"
)

// Config tries a new checkpoint beside the one in use. What POST /v1/rollout changes is kept in the data folder, and holds
// until this section or `checkpoint` changes.
type Config struct {
	// Mode is off, shadow (the new checkpoint scores the active one's answers, and nobody sees its scores) or canary (it answers
	// a share of the users, always the same ones). Default off.
	Mode string `yaml:"mode"`
	// Checkpoint is the new one's file. It must be made for the same LLM, prompts, CF and content basis. Default none.
	Checkpoint string `yaml:"checkpoint"`
	// Share is the share of the users that a canary answers. Default 0.05, over 0 and below 1.
	Share float64 `yaml:"share"`
	// Dir is where POST /v1/rollout finds files by name. Default: the folder of `checkpoint`.
	Dir string `yaml:"dir"`
}

// Default tries nothing.
func Default() Config { return Config{Mode: ModeOff, Share: .05} }

const (
	ModeOff    = "off"
	ModeShadow = "shadow"
	ModeCanary = "canary"
)

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	if c.Mode != ModeOff && c.Mode != ModeShadow && c.Mode != ModeCanary {
		errs = append(errs, corastream.Usagef("mode", "choose off, shadow or canary", "%q is not known", c.Mode))
	} else if c.Mode != ModeOff && c.Checkpoint == "" {
		errs = append(errs, corastream.Usagef("checkpoint", "name the new checkpoint's file", "%s of nothing", c.Mode))
	}
	return errors.Join(append(errs, checkShare(c.Share))...)
}

func checkShare(share float64) error {
	if !(share > 0 && share < 1) {
		return corastream.Usagef("share", "choose a share over 0 and below 1; promote answers everybody", "%v is out of range", share)
	}
	return nil
}
