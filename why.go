package corastream

// Why says why an item is listed, in words that a page can print.
type Why struct {
	Source string `json:"source"`            // the retrieval source that speaks most for it
	Item   string `json:"item_id,omitempty"` // the item of the user's history that it came from
	Title  string `json:"title,omitempty"`   // that item's
	Text   string `json:"text"`              // "because of TITLE"
}

// The sources of candidates that have words of their own; another one is called by its name.
const (
	SourceCoVisit  = "co-visit" // taken near an item of the user's
	SourceSession  = "session"  // taken right after it
	SourcePopular  = "popular"
	SourceTrending = "trending"
	SourceSimilar  = "similar" // its title or content is like that item's
	SourceTaste    = "taste"   // its vector lies near the user's
	SourceAgain    = "again"   // the user had it before
	SourceNew      = "new"     // added of late
	SourceLinear   = "linear"  // a linear model of what goes together
	SourceQuality  = "quality" // liked by most of those who took it
	SourceLabels   = "labels"  // users with the same labels took it
)

// words of a source; from is what to call the item it came from, "" where there is none.
func words(source, from string) string {
	switch source {
	case SourceCoVisit:
		if from == "" {
			return "because of what you took"
		}
		return "because of " + from
	case SourceSession:
		if from == "" {
			return "goes with what you just looked at"
		}
		return "goes with " + from + ", which you just looked at"
	case SourcePopular:
		return "popular"
	case SourceTrending:
		return "popular right now"
	case SourceSimilar:
		if from == "" {
			return "like what you took"
		}
		return "like " + from
	case SourceTaste:
		return "others with your taste took it"
	case SourceAgain:
		return "you had it before"
	case SourceNew:
		return "new here"
	case SourceLinear:
		if from == "" {
			return "fits what you like"
		}
		return "goes with " + from
	case SourceQuality:
		return "well liked"
	case SourceLabels:
		return "liked by people like you"
	}
	return source
}

// explain fills in the reasons of what is listed.
func (s *slate) explain(st State) error {
	s.reasons = make([]Why, len(s.listed))
	for i, c := range s.listed {
		why := Why{Source: c.Source, Item: c.From}
		if c.From != "" {
			it, err := st.Item(c.From)
			if err != nil {
				return err
			}
			why.Title = it.Title
		}
		from := why.Title
		if from == "" {
			from = why.Item
		}
		why.Text = words(c.Source, from)
		s.reasons[i] = why
	}
	return nil
}
