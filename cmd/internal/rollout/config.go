package rollout

import "github.com/corastream/corastream"

// Config says where new checkpoints lie. What POST /v1/rollout changes is kept in the data folder, and holds until this section or
// `checkpoint` changes.
type Config struct {
	// Dir is where POST /v1/rollout finds files by name. Default: the folder of `checkpoint`.
	Dir string `yaml:"dir"`
}

// A rollout is off, shadow (the new checkpoint scores the active one's answers, and nobody sees its scores) or canary (it answers a share
// of the users, always the same ones).
const (
	ModeOff    = "off"
	ModeShadow = "shadow"
	ModeCanary = "canary"
)

func checkShare(share float64) error {
	if !(share > 0 && share < 1) {
		return corastream.Usagef("share", "choose a share over 0 and below 1; promote answers everybody", "%v is out of range", share)
	}
	return nil
}
