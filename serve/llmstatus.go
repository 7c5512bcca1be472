package serve

// LLMStatus says what the LLM's part does to lists, and which version of its weights answers (0: the start, before any training).
type LLMStatus struct {
	Worth          LLMWorth     `json:"worth"`
	Version        int64        `json:"version"`
	List           string       `json:"list"` // the version as a list's versions.list names it
	TrainedAtEvent int64        `json:"trained_at_event"`
	Training       bool         `json:"training"`          // a version is being trained
	Shadow         *LLMShadow   `json:"shadow,omitempty"`  // the version that is tried unseen
	Former         string       `json:"former,omitempty"`  // what the active version replaced; it comes back when the active one turns bad
	Verdicts       []LLMVerdict `json:"verdicts"`          // the newest first, at most 32
	Coded          int          `json:"coded_items"`       // items that the LLM has read for lists
	Reading        *LLMReading  `json:"reading,omitempty"` // while the catalogue is read; lists come without the LLM's part until then
}

// LLMReading is how far the reading of a catalogue is.
type LLMReading struct {
	Done  int     `json:"done"` // items
	Total int     `json:"total"`
	ETAS  float64 `json:"eta_s"` // seconds until all are read, at the pace so far; below 0: not known yet

	ItemsPerS float64  `json:"items_per_s"`      // read by this process; 0: not known yet
	Advice    []string `json:"advice,omitempty"` // what would have it done sooner, where more than ten minutes are left
}

// LLMWorth is the NDCG@10 of the last likes, each ranked with and without the LLM's part before it was learnt, and the interval of
// the difference (95 %).
type LLMWorth struct {
	NDCG10With    float64    `json:"ndcg10_with"`
	NDCG10Without float64    `json:"ndcg10_without"`
	CI            [2]float64 `json:"ci"`
	Rows          int64      `json:"rows"`
	Finding       string     `json:"finding"` // too early, gain, unclear or nothing
	Says          string     `json:"says"`
	Advice        string     `json:"advice,omitempty"` // what to do where it is worth nothing
}

// LLMShadow is a version that ranks each like unseen, held against the active one.
type LLMShadow struct {
	Version        int64      `json:"version"`
	List           string     `json:"list"`
	TrainedAtEvent int64      `json:"trained_at_event"`
	Rows           int64      `json:"rows"`    // likes so far
	OfRows         int64      `json:"of_rows"` // after which it is decided at the latest
	Chance         float64    `json:"chance"`  // how much more probable it makes what was taken, as a factor less 1
	CI             [2]float64 `json:"ci"`      // of it, 99 %
	NDCG10         float64    `json:"ndcg10"`
	NDCG10Active   float64    `json:"ndcg10_active"`
}

// LLMVerdict is what became of a version, and why.
type LLMVerdict struct {
	Version        int64  `json:"version"`
	Decision       string `json:"decision"` // promoted, refused or taken back
	AtEvent        int64  `json:"at_event"`
	TrainedAtEvent int64  `json:"trained_at_event"`
	Rows           int64  `json:"rows"` // likes that it was judged by
	Reason         string `json:"reason"`
}
