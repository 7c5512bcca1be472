package corastream

import "slices"

// Memory is a State in memory, for replay, training and tests. Not safe for concurrent use.
type Memory struct {
	// HistoryLimit bounds each user's history; 0 keeps all.
	HistoryLimit int

	shared Embedding
	users  map[string]*UserState
	items  map[string]*ItemState
	order  []*ItemState
}

// NewMemory returns an empty state.
func NewMemory() *Memory {
	return &Memory{users: map[string]*UserState{}, items: map[string]*ItemState{}}
}

// Shared implements State.
func (m *Memory) Shared() (*Embedding, error) { return &m.shared, nil }

// User implements State; an unknown user is made.
func (m *Memory) User(id string) (*UserState, error) {
	u := m.users[id]
	if u == nil {
		u = &UserState{ID: id}
		m.users[id] = u
	}
	return u, nil
}

// Item implements State; an unknown item is made.
func (m *Memory) Item(id string) (*ItemState, error) {
	it := m.items[id]
	if it == nil {
		it = &ItemState{Item: Item{ID: id}, Seq: uint32(len(m.order))}
		m.items[id] = it
		m.order = append(m.order, it)
	}
	return it, nil
}

// Items implements State.
func (m *Memory) Items() int { return len(m.order) }

// ItemAt implements State.
func (m *Memory) ItemAt(seq uint32) (*ItemState, error) { return m.order[seq], nil }

// Put sets a catalogue record, keeping what was learnt of the item.
func (m *Memory) Put(it Item) {
	s, _ := m.Item(it.ID)
	s.Item = it
}

// Apply learns one event and then adds it to the user's history: the order in which Store.Commit does it.
func (m *Memory) Apply(l Learner, ev Event) error {
	if !ev.OfUser() {
		if err := l.Learn(m, ev); err != nil {
			return err
		}
	}
	u, _ := m.User(ev.User)
	u.Remember(ev, m.HistoryLimit)
	return nil
}

// Remember takes out of the history what the event takes back, and appends the event, dropping the oldest past limit (0: none).
// An event that only takes back is not appended, and one of the user's labels sets them.
func (u *UserState) Remember(ev Event, limit int) {
	if ev.OfUser() {
		u.Labels = append([]string(nil), ev.Labels...)
		return
	}
	if at := ev.FirstTakenBack(u.History); at >= 0 {
		kept := slices.DeleteFunc(u.History[at:], ev.TakesBack)
		u.History = u.History[:at+len(kept)]
	}
	if ev.Retract {
		return
	}
	u.History = append(u.History, Interaction{Item: ev.Item, Label: ev.Label, Time: ev.Time, Shown: ev.Shown()})
	if limit > 0 && len(u.History) > limit {
		u.History = slices.Delete(u.History, 0, len(u.History)-limit)
	}
}

// Clone returns a deep copy, for evaluating from one trained state several times.
func (m *Memory) Clone() *Memory {
	c := NewMemory()
	c.HistoryLimit = m.HistoryLimit
	c.shared = m.shared.Clone()
	for id, u := range m.users {
		c.users[id] = &UserState{ID: id, Embedding: u.Embedding.Clone(), History: slices.Clone(u.History), Labels: u.Labels}
	}
	for _, it := range m.order {
		d := &ItemState{Item: it.Item, Embedding: it.Embedding.Clone(), Seq: it.Seq}
		c.items[it.ID] = d
		c.order = append(c.order, d)
	}
	return c
}
