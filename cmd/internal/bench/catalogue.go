package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cfstream/mix"
)

// Market is the size of the made-up shop that Catalogue measures.
type Market struct {
	Items, Users, Events int
	Seed                 uint64
}

// market is a made-up shop: Zipf's law in users and within themes, sessions on one theme, and best-sellers that move on.
type market struct {
	Market
	r      *rand.Rand
	ranks  *rand.Zipf // of an item within its theme
	people *rand.Zipf
	at     time.Time
	themes int
	recent [][]corastream.Interaction // by user, newest first
	made   int
}

const (
	marketTheme   = 200              // items of a theme
	marketGap     = 20 * time.Second // mean time between two events of all users is a fraction of it
	marketSession = 0.7              // chance that a user stays with the theme of the last event
	marketDrift   = 1e-4             // places by which a theme's best-sellers move with each event
)

func newMarket(s Market) *market {
	r := rand.New(rand.NewPCG(s.Seed, 22))
	themes := max(1, s.Items/marketTheme)
	return &market{
		Market: s, r: r, themes: themes, ranks: rand.NewZipf(r, 1.3, 4, uint64(s.Items/themes-1)), people: rand.NewZipf(r, 1.05, 50, uint64(s.Users-1)),
		at: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), recent: make([][]corastream.Interaction, s.Users),
	}
}

func (m *market) id(item int) string { return fmt.Sprint("i", item) }

// title is made of words of the item's theme and of its own.
func (m *market) title(item int) string {
	a := []string{"Harbour", "Witness", "Orchard", "Telegram", "Winter", "Accord", "Lantern", "Meadow", "Copper", "Signal"}
	theme := item % m.themes
	return fmt.Sprintf("%s %s%d %s %d", a[theme%10], a[theme/10%10], theme/100, a[item/m.themes%10], item)
}

// next is the next event; its item's number is at the end of its id.
func (m *market) next() (user int, ev corastream.Event) {
	m.at = m.at.Add(time.Duration(m.r.Int64N(int64(marketGap))))
	user = int(m.people.Uint64())
	theme := m.r.IntN(m.themes)
	if past := m.recent[user]; len(past) > 0 && m.r.Float64() < marketSession {
		var last int
		fmt.Sscanf(past[0].Item, "i%d", &last)
		theme = last % m.themes
	} else if len(past) == 0 || m.r.Float64() < 0.8 {
		theme = (user*2654435761 + m.r.IntN(3)) % m.themes // a user's own few themes
	}
	size := m.Items / m.themes
	place := (int(m.ranks.Uint64()) + int(float64(m.made)*marketDrift) + theme) % size
	item := place*m.themes + theme
	m.made++
	return user, corastream.Event{
		Pos: corastream.Position{Topic: "bench", Offset: int64(m.made - 1)}, User: fmt.Sprint("u", user), Item: m.id(item), Kind: "click",
		Label: 1, Weight: 1, Implicit: true, Time: m.at, Appended: m.at,
	}
}

// took notes that the user took the event's item.
func (m *market) took(user int, ev corastream.Event, window int) {
	past := m.recent[user]
	past = append([]corastream.Interaction{{Item: ev.Item, Label: 1, Time: ev.Time}}, past[:min(len(past), window-1)]...)
	m.recent[user] = past
}

// Catalogue learns a made-up shop through the store, then asks for lists, candidates found by the sources against all items. The restart
// is one after kill -9: of a copy of the folder that is made while the store is open.
func Catalogue(ctx context.Context, d Deps, w io.Writer, size Market) error {
	dir, err := os.MkdirTemp("", "corastream-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, model, err := d.OpenStore(dir)
	if err != nil {
		return err
	}
	defer func() { s.Close() }()
	cf, err := cfstream.New(d.CF)
	if err != nil {
		return err
	}
	world := newMarket(size)
	part := corastream.Partition{Topic: "bench"}
	const batch = 4000
	bar := d.Progress("catalogue")
	for from := 0; from < size.Items; from += batch {
		var b corastream.Batch
		for i := from; i < min(from+batch, size.Items); i++ {
			b.Items = append(b.Items, corastream.Item{ID: world.id(i), Title: world.title(i)})
		}
		if _, err := s.Commit(ctx, b, cf.Learn); err != nil {
			return err
		}
		bar(min(from+batch, size.Items), size.Items)
	}
	bar = d.Progress("learn")
	began, cpu := time.Now(), cpuTime()
	for from := 0; from < size.Events; from += batch {
		to := min(from+batch, size.Events)
		b := corastream.Batch{Spans: []corastream.Span{{Partition: part, From: int64(from), To: int64(to)}}}
		for range to - from {
			user, ev := world.next()
			world.took(user, ev, model.Window())
			b.Events = append(b.Events, ev)
		}
		if _, err := s.Commit(ctx, b, cf.Learn); err != nil {
			return err
		}
		bar(to, size.Events)
	}
	learning := time.Since(began)
	cpu = cpuTime() - cpu
	found, exact, missed, err := world.ask(ctx, model, d.Progress("ask"))
	if err != nil {
		return err
	}
	world = nil // the memory is to be the product's
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	disk, err := sizeOf(dir)
	if err != nil {
		return err
	}
	killed := dir + "-killed"
	defer os.RemoveAll(killed)
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	began = time.Now()
	if s, _, err = d.OpenStore(killed); err != nil {
		return err
	}
	restart := time.Since(began)
	return line(w, map[string]any{
		"bench": "catalogue", "items": size.Items, "users": size.Users, "events": size.Events, "learn_events_per_s": float64(size.Events) / learning.Seconds(),
		"learn_events_per_cpu_s": float64(size.Events) / cpu.Seconds(),
		"list_ms":                found.quantiles(), "exact_ms": exact.quantiles(), "ndcg10": found.mean(), "ndcg10_exact": exact.mean(), "ndcg10_less_exact_ci": less(found, exact),
		"missed": missed, "recall": found.shared / float64(10*len(exact.took)), "memory_bytes": memory.HeapAlloc, "disk_bytes": disk, "restart_s": restart.Seconds(),
		"asked": len(exact.took),
	})
}

// lists are those of one way to rank.
type lists struct {
	took   []time.Duration
	gain   []float64 // of each list, by NDCG@10
	shared float64
}

func (l lists) mean() float64 {
	var sum float64
	for _, g := range l.gain {
		sum += g
	}
	return sum / float64(len(l.gain))
}

// less is the 95 % interval of the difference of two ways to rank the same rows, by the rows' spread.
func less(a, b lists) [2]float64 {
	var sum, squares float64
	for i, g := range a.gain {
		d := g - b.gain[i]
		sum += d
		squares += d * d
	}
	n := float64(len(a.gain))
	mean := sum / n
	half := 1.96 * math.Sqrt(max(0, squares/n-mean*mean)/n)
	return [2]float64{mean - half, mean + half}
}

func (l lists) quantiles() map[string]float64 {
	slices.Sort(l.took)
	return map[string]float64{"p50": ms(l.took[len(l.took)/2]), "p99": ms(l.took[len(l.took)*99/100])}
}

// askFor bounds the time for the exact lists: at a million items each takes a tenth of a second and more.
const askFor = 5 * time.Minute

// ask makes lists before what comes next, which is not learnt. missed counts the items taken that the exact list had and the other did
// not, by the source that speaks most for them.
func (m *market) ask(ctx context.Context, model *mix.Model, bar func(done, total int)) (found, exact lists, missed map[string]int, err error) {
	const asked, atLeast = 10_000, 100
	missed = map[string]int{}
	began := time.Now()
	for n := range asked {
		if err := ctx.Err(); err != nil {
			return found, exact, nil, err
		}
		if bar(n, asked); n >= atLeast && time.Since(began) > askFor {
			break
		}
		user, ev := m.next()
		q := corastream.Query{Recent: m.recent[user], Now: ev.Time, N: 10, Reasons: true}
		var tops [2][]corastream.Candidate
		for k, way := range []func(corastream.Query) []corastream.Candidate{model.Rank, model.RankExact} {
			l := []*lists{&found, &exact}[k]
			began := time.Now()
			tops[k] = way(q)
			l.took = append(l.took, time.Since(began))
			l.gain = append(l.gain, 0)
			if place := placeOf(tops[k], ev.Item); place >= 0 {
				l.gain[n] = 1 / math.Log2(float64(place)+2)
			}
		}
		if place := placeOf(tops[1], ev.Item); place >= 0 && found.gain[n] == 0 {
			missed[tops[1][place].Source]++
		}
		for _, c := range tops[0] {
			if placeOf(tops[1], c.Item) >= 0 {
				found.shared++
			}
		}
		m.took(user, ev, model.Window())
	}
	if len(found.took) == 0 {
		return found, exact, nil, errors.New("no list was asked for")
	}
	return found, exact, missed, nil
}

// placeOf is an item's place in a list, -1 where it is not there.
func placeOf(list []corastream.Candidate, item string) int {
	return slices.IndexFunc(list, func(c corastream.Candidate) bool { return c.Item == item })
}

// sizeOf is how many bytes the files of a folder have.
func sizeOf(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
