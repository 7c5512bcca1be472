package ingest

// Kinds are kinds of events by their type. In a configuration they join the built-in ones: null takes one out, and one that names no label
// keeps the built-in meaning but for what it does name. A weight that is left out is 1.
type Kinds map[string]Kind

// UnmarshalYAML reads kinds over those that are there.
func (k *Kinds) UnmarshalYAML(unmarshal func(any) error) error {
	var in map[string]*struct {
		Label    *float32 `yaml:"label"`
		Weight   *float32 `yaml:"weight"`
		Implicit *bool    `yaml:"implicit"`
		Retract  *bool    `yaml:"retract"`
	}
	if err := unmarshal(&in); err != nil {
		return err
	}
	out := Kinds{}
	for name, kind := range *k {
		out[name] = kind
	}
	for name, set := range in {
		if set == nil {
			delete(out, name)
			continue
		}
		kind, known := out[name]
		if !known || set.Label != nil {
			kind = Kind{Weight: 1}
		}
		over(&kind.Label, set.Label)
		over(&kind.Weight, set.Weight)
		over(&kind.Implicit, set.Implicit)
		over(&kind.Retract, set.Retract)
		out[name] = kind
	}
	*k = out
	return nil
}

func over[T any](to, set *T) {
	if set != nil {
		*to = *set
	}
}
