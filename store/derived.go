package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// When the list model's table is written to the disk beside the end of Close. An event costs some 250 bytes of step
// records and a table may have 1 GB, so a snapshot is worth many events.
const (
	tableEvents = 100_000          // events that opening applies again: 10 s at 10,000 events/s
	tableBytes  = 64 << 20         // step records since then, which take room on the disk
	tablePause  = 10 * time.Minute // between the snapshots that erasures ask for
	tableRetry  = time.Minute      // after a snapshot that failed
	tablesKept  = 2                // files, so that one that is damaged loses nothing
	trimKeys    = 16               // step records that a transaction deletes, and twice as many as it writes
)

// A table file: magic, version u32 LE, seq u64 LE, length u64 LE, what Derived.Save wrote, SHA-256 of all before it.
const (
	tableMagic   = "CORATABL"
	tableVersion = 1
	tableHead    = 8 + 4 + 8 + 8
)

// shardSteps is how many bytes of step records a shard keeps in its folder and its changelog, some 4 to 12 million
// events: what a replica that starts anew learns its table from.
const shardSteps = 1 << 30

// derived is the list model that the store keeps alive, under the writer's lock.
//
// The model has a large state that changes with every event, too large to be written with each
// transaction. So each transaction writes small step records in its place: what the model is to
// learn. From time to time the whole table is written to a file, and steps that two files hold are
// deleted. Opening loads the newest good file and applies the steps behind it. The model is thus
// always the same function of the committed events, whatever was killed when.
type derived struct {
	corastream.Derived // nil: steps are written for others, and no table is kept
	enc                *stepsWriter
	every              int // tableEvents; tests take less
	met                metSets
	refs               []stepRef // the transactions with step records on the disk, oldest first
	trimTo             uint64    // those up to here may go
	events             int       // steps since the newest table file
	bytes              int64     // of their records
	kept               int64     // of all records in refs, where there is no table
	most               int64     // shardSteps; tests take less
	files              []uint64  // table files that may be opened, newest first, by the last transaction in them
	size               int64     // of the last table
	after              time.Time // before it no table file is made: the last one failed
	rest               time.Time // before it none is made for an erasure
	saving             chan tableSaved
	since              stepCount // what the table being saved holds
}

// stepRef counts the step records of one transaction, so that they can be deleted without reading
// them.
type stepRef struct {
	seq   uint64
	n     uint32
	bytes uint32
}

// stepCount is a point in the list of steps. When a table file is done, what came before that point
// is no longer waiting for one.
type stepCount struct {
	seq    uint64
	events int
	bytes  int64
}

// tableSaved is what the goroutine that writes a table file reports: the files that may be opened
// from now on, newest first.
type tableSaved struct {
	files []uint64
	err   error
}

// WithDerived makes the store keep a list model alive: d, which must be empty, is brought by Open to the state after the
// last transaction, and every Commit teaches it the events and catalogue records that it wrote, once. Times in a Step are
// those that the disk keeps, Recent has at most MaxWindow interactions. A store is with its list model from the first
// event on: Open refuses one that learnt without it, and Commit one whose list model was not given. Erase and reading work
// without. d belongs to the store: beside it only methods that read may be called, and those that d itself makes
// safe. A copy of the table takes memory, and keeps Commit
// waiting while it is made, each time that a table file is written.
func WithDerived(d corastream.Derived) Option {
	return func(s *Store) { s.derived = &derived{Derived: d, enc: newStepsWriter(d.Window()), every: tableEvents} }
}

// WithSteps makes a cluster's shard write step records for a list model that looks back window interactions. A shard keeps
// no table itself, since nobody asks it for lists: replicas, which follow its changelog, learn from its steps. It keeps
// the newest gigabyte of them.
func WithSteps(window int) Option {
	return func(s *Store) { s.derived = &derived{enc: newStepsWriter(window), most: shardSteps} }
}

const tableFix = "restore a snapshot, or remove the folder and learn again from the log"

const tableFolder = "derived"

func (s *Store) tableDir() string { return filepath.Join(s.dir, tableFolder) }

func tableName(seq uint64) string { return fmt.Sprintf("%020d.snap", seq) }

// loadDerived brings the list model to the state of the last transaction: the newest good table
// file, then the step records after it.
//
// Several folders are refused here, because going on would give wrong lists without a word: a store
// with events that never had a list model, a shard opened like a single store or the reverse, and a
// folder whose steps are gone while no file holds them.
func (s *Store) loadDerived(sn *snap) error {
	value, err := get(sn.txn, listMarkKey)
	if err != nil {
		return err
	}
	if value != nil {
		if s.mark, err = decodeListMark(value); err != nil {
			return err
		}
	}
	d := s.derived
	if d == nil {
		return nil
	}
	d.met.limit = int(s.cfg.records() / 8 / 64)
	if s.shard.learns() != (d.Derived == nil) {
		return fmt.Errorf("%w: a shard is opened with WithSteps, any other store WithDerived", corastream.ErrMismatch)
	}
	if !s.mark.known && d.Derived == nil {
		s.mark.trimmed = sn.seq // a shard that was without steps until now
	}
	if !s.mark.known && d.Derived != nil && (len(sn.offsets) > 0 || sn.shared.items > 0 || sn.shared.users > 0) {
		return fmt.Errorf("%w: %s was made without a list model (fix: learn again from the log in another folder)", corastream.ErrMismatch, s.dir)
	}
	if err := scan(sn.txn, []byte{pSteps}, nil, func(key []byte, it *badger.Item) (bool, error) {
		if len(key) != 13 {
			return true, nil
		}
		if seq := binary.BigEndian.Uint64(key[1:]); len(d.refs) == 0 || d.refs[len(d.refs)-1].seq != seq {
			d.refs = append(d.refs, stepRef{seq: seq})
		}
		ref := &d.refs[len(d.refs)-1]
		ref.n++
		ref.bytes += uint32(it.ValueSize())
		d.kept += it.ValueSize()
		return true, nil
	}); err != nil {
		return err
	}
	if d.Derived == nil {
		s.retain()
		return nil
	}
	from, err := s.loadTable(sn.seq)
	if err != nil {
		return err
	}
	s.retain()
	return scan(sn.txn, []byte{pSteps}, stepKey(from+1, 0), func(key []byte, it *badger.Item) (bool, error) {
		err := it.Value(func(v []byte) error {
			n, err := d.learn(key, v)
			d.events, d.bytes = d.events+n, d.bytes+int64(len(v))
			return err
		})
		if errors.Is(err, corastream.ErrCorrupt) {
			err = fmt.Errorf("%s: %w (fix: %s)", s.dir, err, tableFix)
		}
		return err == nil, err
	})
}

// loadTable loads the newest table file that can be used, and returns the transaction up to which
// it goes.
//
// A file of a later transaction than the store's last one is passed by. It comes from before a
// power loss: the file was synced and the commits that it contains were not. So is a file that ends
// before the steps begin, since the steps between the two are gone. A damaged file, or one of
// another build's format, costs time and nothing else while the file before it, or all steps, are
// there. Otherwise the folder is refused.
func (s *Store) loadTable(last uint64) (uint64, error) {
	d := s.derived
	names, err := s.tables()
	if err != nil {
		return 0, err
	}
	var broken error
	for _, seq := range names {
		if seq > last || seq < s.mark.trimmed {
			continue
		}
		if len(d.files) > 0 { // the older one, read only when it is needed
			d.files = append(d.files, seq)
			break
		}
		path := filepath.Join(s.tableDir(), tableName(seq))
		n, err := readTable(path, seq, d.Load)
		if errors.Is(err, errTableFile) || errors.Is(err, corastream.ErrFormat) {
			s.log.Warn().Err(err).Str("file", path).Msg("a table file of the list model can not be used; the one before it, or the steps, are taken")
			broken = errors.Join(broken, err)
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("store: list model: %s: %w (fix: set the configuration of the list model back, or %s)", path, err, tableFix)
		}
		d.files, d.size = append(d.files, seq), n
	}
	switch {
	case len(d.files) > 0:
		return d.files[0], nil
	case s.mark.trimmed == 0:
		return 0, nil // all steps are there
	case broken == nil:
		broken = errors.New("no table file")
	}
	return 0, fmt.Errorf("%w: %s: the list model can not be restored: %w (fix: %s)", corastream.ErrCorrupt, s.tableDir(), broken, tableFix)
}

// tables lists the table files, newest first.
func (s *Store) tables() (out []uint64, err error) {
	list, err := os.ReadDir(s.tableDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("store: %w", err)
	}
	for _, f := range list {
		if name, ok := strings.CutSuffix(f.Name(), ".snap"); ok {
			if seq, err := strconv.ParseUint(name, 10, 64); err == nil && tableName(seq) == f.Name() {
				out = append(out, seq)
			}
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

// learn teaches the list model one step record.
func (d *derived) learn(key, value []byte) (steps int, err error) {
	b, err := decodeSteps(key, value)
	if err != nil {
		return 0, err
	}
	for i := range b.Items {
		d.Describe(b.Items[i])
	}
	for i := range b.Steps {
		d.Learn(b.Steps[i])
	}
	return len(b.Steps), nil
}

// learnSteps teaches the list model what was just written. It reads the encoded records and not the
// events, exactly as an opening would, so that a rounding of times or a cut of a long history can
// not make the running model differ from a restored one.
//
// It runs after the disk has the transaction. A model that had learnt before a failed commit would
// know events that the store does not.
func (s *Store) learnSteps(w *work) error {
	d := s.derived
	s.mark = w.list
	if d == nil {
		return nil
	}
	for _, ref := range d.refs[:w.trimmed] {
		d.kept -= int64(ref.bytes)
	}
	d.refs = d.refs[w.trimmed:]
	for i := range w.parts {
		p := &w.parts[i]
		ref := stepRef{seq: p.seq, n: uint32(len(p.steps))}
		for _, o := range p.steps {
			ref.bytes += uint32(len(o.value))
			if d.Derived == nil {
				continue
			}
			n, err := d.learn(o.key, o.value)
			if err != nil {
				return err
			}
			d.events, d.bytes = d.events+n, d.bytes+int64(len(o.value))
		}
		if ref.n > 0 {
			d.refs, d.kept = append(d.refs, ref), d.kept+int64(ref.bytes)
		}
	}
	if d.Derived == nil {
		s.retain()
	}
	return nil
}

// putSteps writes the step records of the transaction.
func (w *work) putSteps(p *part) error {
	if w.steps == nil {
		return nil
	}
	w.steps.finish()
	for i, body := range w.steps.bodies {
		key := stepKey(w.seq(), uint32(i))
		if err := w.put(p, key, len(body), func(b []byte) ([]byte, error) { return append(b, body...), nil }); err != nil {
			return fmt.Errorf("steps of the list model: %w", err)
		}
		p.steps = append(p.steps, p.ops[len(p.ops)-1])
	}
	w.steps.reset()
	return nil
}

// trimSteps deletes step records that no table file needs any more, at most `most` keys, and writes
// the mark of how far steps are deleted.
//
// A table file makes millions of steps superfluous at once. Deleting them in one transaction would
// be a pause of seconds and a transaction beyond Badger's limit, so every commit deletes a few more
// than it writes.
func (w *work) trimSteps(p *part, most int) error {
	d := w.s.derived
	if d != nil {
		w.list.known = true
		for _, ref := range d.refs[w.trimmed:] {
			if ref.seq > d.trimTo || most <= 0 {
				break
			}
			for n := range ref.n {
				p.delete(stepKey(ref.seq, n))
			}
			most -= int(ref.n)
			w.list.trimmed = ref.seq
			w.trimmed++
		}
	}
	if w.list == w.listed {
		return nil
	}
	w.listed = w.list
	return w.put(p, listMarkKey, 32, w.list.encode)
}

// saveDue starts a table file when it is due, and takes in what became of the one before. Called
// with the writer's lock, after a write.
//
// The table is copied to memory here and now, so that the file is exactly the state after this
// transaction; Learn waits for as long as Save takes. A goroutine brings the copy to the disk, and
// Close waits for it. One file is made at a time. A file that can not be made is a warning: the
// steps stay, and the next attempt comes after a pause.
func (s *Store) saveDue() {
	d := s.derived
	if d == nil || d.Derived == nil {
		return
	}
	select {
	case done := <-d.saving:
		s.saved(done)
	default:
	}
	if d.saving != nil || s.now().Before(d.after) {
		return
	}
	if d.events >= d.every || d.bytes >= tableBytes || s.erasureDue() && !s.now().Before(d.rest) {
		s.save()
	}
}

// erasedSteps says whether step records from before the last erasure are still there.
func (s *Store) erasedSteps() bool {
	return len(s.derived.refs) > 0 && s.derived.refs[0].seq < s.mark.erased
}

// erasureDue says whether a table file has to be made before they can go.
func (s *Store) erasureDue() bool {
	return s.erasedSteps() && (len(s.derived.files) == 0 || s.derived.files[0] < s.mark.erased)
}

// retain decides which step records may go, and leaves the answer in trimTo.
//
// A single store keeps the steps that its older table file does not hold, so that one damaged file
// loses nothing. An erasure changes that: the older file and the steps before it still hold the
// erased user's clicks. Once a newer file without them exists, the older one and all steps up to
// the newer one go. A shard has no table. It keeps as many bytes of steps as fit its room, for
// replicas that start anew.
func (s *Store) retain() {
	d := s.derived
	if d.Derived == nil {
		over := d.kept - d.most
		for _, ref := range d.refs {
			if over <= 0 {
				break
			}
			d.trimTo = ref.seq
			over -= int64(ref.bytes)
		}
		return
	}
	if len(d.files) == 0 {
		return
	}
	if s.mark.erased <= d.files[0] && s.erasedSteps() {
		d.trimTo, d.files = d.files[0], d.files[:1]
	} else if len(d.files) == tablesKept {
		d.trimTo = d.files[tablesKept-1]
	}
}

// save copies the table and starts the goroutine that writes it. The older file is kept beside it
// unless an erasure is due, which the older file would survive.
func (s *Store) save() {
	d := s.derived
	fail := func(err error) { s.saved(tableSaved{err: err}) }
	if err := s.guard.room(s.guard.reserve/2 + 2*d.size); err != nil {
		fail(err)
		return
	}
	table := &spool{}
	began := time.Now()
	if err := d.Save(table); err != nil {
		fail(err)
		return
	}
	seq := s.snap.seq
	s.log.Debug().Int64("bytes", table.n).Dur("pause", time.Since(began)).Msg("table of the list model copied")
	files := []uint64{seq}
	if len(d.files) > 0 && d.files[0] < seq && !s.erasureDue() { // else the steps that it needs are to be erased
		files = append(files, d.files[0])
	}
	d.size, d.since = table.n, stepCount{seq, d.events, d.bytes}
	d.saving = make(chan tableSaved, 1)
	go func() {
		d.saving <- tableSaved{files, s.writeTableFile(table, seq, files)}
	}()
}

// saved takes in the end of a save. events and bytes count what came since the newest file, and
// steps may have come while it was written, so only what the file holds is subtracted.
func (s *Store) saved(done tableSaved) {
	d := s.derived
	d.saving = nil
	if done.err != nil {
		d.after = s.now().Add(tableRetry)
		s.log.Warn().Err(done.err).Msg("the list model's table could not be written; its steps are kept instead")
		return
	}
	if s.erasureDue() {
		d.rest = s.now().Add(tablePause)
	}
	d.files = done.files
	d.events, d.bytes = d.events-d.since.events, d.bytes-d.since.bytes
	s.retain()
}

// writeTableFile makes the file appear whole, and then removes those that are not to be kept.
//
// The order is what a power loss asks for. Badger is synced first, so that no file is ahead of the
// transactions. The file is written under another name, synced, renamed, and the folders are
// synced. Older files go last: at any moment at least one good file, or all steps, are there.
func (s *Store) writeTableFile(table *spool, seq uint64, keep []uint64) error {
	dir := s.tableDir()
	if err := s.guard.room(s.guard.reserve/2 + table.n); err != nil { // it must not be what fills the disk
		return err
	}
	if !s.cfg.SyncWrites { // else a power loss might leave a table of transactions that are gone
		if err := s.db.Sync(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, tableName(seq))
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err = corastream.Failpoint("table.write"); err == nil {
		err = (&tableFile{seq, table}).write(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = corastream.Failpoint("table.written")
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	if err := errors.Join(syncDir(dir), syncDir(s.dir)); err != nil {
		return err
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range list {
		if !slices.ContainsFunc(keep, func(seq uint64) bool { return tableName(seq) == f.Name() }) {
			if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
				s.log.Warn().Err(err).Msg("an old table file stays")
			}
		}
	}
	return corastream.Failpoint("table.kept")
}

// closeTable leaves a table file of the last state behind, so that the next opening is quick.
// Called by Close with the writer's lock.
//
// After an erasure it also deletes the step records with the erased user's clicks, in as many
// transactions as that takes. Otherwise they would stay on the disk until someone learns again.
func (s *Store) closeTable() {
	d := s.derived
	if d == nil || d.Derived == nil {
		return
	}
	wait := func() {
		if d.saving != nil {
			s.saved(<-d.saving)
		}
	}
	wait()
	if s.failed != nil || d.events+int(d.bytes) == 0 && !s.erasureDue() {
		return
	}
	s.save()
	wait()
	for s.erasedSteps() && d.refs[0].seq <= d.trimTo {
		w := newWork(s, s.snap)
		s.arena.reset(s.cfg.arena())
		w.trimMost = w.s.maxKeys() / 2
		err := w.close(&Line{Kind: kindNote}, nil)
		if err == nil {
			err = s.write(context.Background(), s.snap, w)
		}
		if err != nil {
			s.log.Warn().Err(err).Msg("steps with an erased user's clicks stay until the next commits")
			return
		}
	}
}

// spool holds a table in pieces: one slice that grows would take twice the room.
type spool struct {
	pieces [][]byte
	n      int64
}

const spoolPiece = 1 << 20

func (p *spool) Write(b []byte) (int, error) {
	p.n += int64(len(b))
	for rest := b; len(rest) > 0; {
		k := len(p.pieces) - 1
		if k < 0 || len(p.pieces[k]) == cap(p.pieces[k]) {
			p.pieces = append(p.pieces, make([]byte, 0, spoolPiece))
			k++
		}
		n := min(len(rest), cap(p.pieces[k])-len(p.pieces[k]))
		p.pieces[k] = append(p.pieces[k], rest[:n]...)
		rest = rest[n:]
	}
	return len(b), nil
}

// tableFile is the table after a transaction.
type tableFile struct {
	seq   uint64
	table *spool
}

// write writes the file.
func (t *tableFile) write(f io.Writer) error {
	sum := sha256.New()
	w := io.MultiWriter(f, sum)
	head := binary.LittleEndian.AppendUint32([]byte(tableMagic), tableVersion)
	head = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(head, t.seq), uint64(t.table.n))
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, piece := range t.table.pieces {
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	_, err := f.Write(sum.Sum(nil))
	return err
}

// errTableFile says that a table file is not whole.
var errTableFile = fmt.Errorf("%w: table file", corastream.ErrCorrupt)

// readTable verifies a table file to its last byte and only then hands what Save wrote to load, where there is one.
func readTable(path string, seq uint64, load func(io.Reader) error) (size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	bad := func(why string) error { return fmt.Errorf("%w: %s: %s", errTableFile, path, why) }
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() < tableHead+sha256.Size {
		return 0, bad("it is cut off")
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, st.Size()-sha256.Size)); err != nil {
		return 0, err
	}
	var want [sha256.Size]byte
	if _, err := io.ReadFull(f, want[:]); err != nil {
		return 0, err
	}
	if !bytes.Equal(sum.Sum(nil), want[:]) {
		return 0, bad("its SHA-256 does not agree")
	}
	var head [tableHead]byte
	if _, err := f.ReadAt(head[:], 0); err != nil {
		return 0, err
	}
	if string(head[:8]) != tableMagic {
		return 0, bad("it begins with other bytes")
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != tableVersion {
		return 0, fmt.Errorf("%w: table version %d, this program reads %d", corastream.ErrMismatch, v, tableVersion)
	}
	n := binary.LittleEndian.Uint64(head[20:])
	if binary.LittleEndian.Uint64(head[12:]) != seq || n != uint64(st.Size()-tableHead-sha256.Size) {
		return 0, bad("it is another transaction's, or of another length")
	}
	if load == nil {
		return int64(n), nil
	}
	return int64(n), load(bufio.NewReaderSize(io.NewSectionReader(f, tableHead, int64(n)), 1<<20))
}

// tableSum is the SHA-256 of what Save writes.
func (d *derived) tableSum() ([]byte, error) {
	h := sha256.New()
	err := d.Save(h)
	return h.Sum(nil), err
}

// withTable acquires the current snapshot together with the list model's table, nil where there is none.
func (s *Store) withTable() (*snap, *tableFile, error) {
	if s.derived == nil || s.derived.Derived == nil {
		sn, err := s.acquire()
		if err == nil && s.mark.known && !s.shard.learns() {
			sn.release()
			err = fmt.Errorf("%w: %s is with a list model, which this program did not give it", corastream.ErrMismatch, s.dir)
		}
		return sn, nil, err
	}
	sn, unlock, err := s.lock()
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	table := &spool{}
	if err := s.derived.Save(table); err != nil {
		return nil, nil, fmt.Errorf("store: list model: %w", err)
	}
	sn.refs.Add(1)
	return sn, &tableFile{sn.seq, table}, nil
}

// records gives a snapshot file's records of the list model: the mark, and the table file in parts.
func (t *tableFile) records(add func(key, value []byte) error) error {
	mark, _ := listMark{known: true, trimmed: t.seq}.encode(nil)
	if err := add(listMarkKey, seal(listMarkKey, mark)); err != nil {
		return err
	}
	n := uint32(0)
	part := func(b []byte) error {
		key := binary.BigEndian.AppendUint32([]byte{pTable}, n)
		n++
		return add(key, seal(key, append([]byte{recordVersion}, b...)))
	}
	cut := &cutter{put: part}
	if err := t.write(cut); err != nil {
		return err
	}
	return part(cut.b)
}

// cutter gives what is written to it on in parts of one size; the last one is left in b.
type cutter struct {
	b   []byte
	put func([]byte) error
}

const tablePart = 256 << 10

func (c *cutter) Write(b []byte) (int, error) {
	c.b = append(c.b, b...)
	for len(c.b) >= tablePart {
		if err := c.put(c.b[:tablePart]); err != nil {
			return 0, err
		}
		c.b = append(c.b[:0], c.b[tablePart:]...)
	}
	return len(b), nil
}

// restoredTable puts the parts of a snapshot file together again.
type restoredTable struct {
	dir string
	f   *os.File
	n   uint32
}

func (t *restoredTable) path() string { return filepath.Join(t.dir, "restored.tmp") }

func (t *restoredTable) add(key, value []byte) (err error) {
	r, err := open(key, value)
	if err != nil {
		return err
	}
	if len(key) != 5 || binary.BigEndian.Uint32(key[1:]) != t.n {
		return fmt.Errorf("%w: %s is not part %d", corastream.ErrCorrupt, keyName(key), t.n)
	}
	if t.f == nil {
		if err := os.MkdirAll(t.dir, 0o700); err != nil {
			return err
		}
		if t.f, err = os.OpenFile(t.path(), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600); err != nil {
			return err
		}
	}
	t.n++
	_, err = t.f.Write(r.b)
	return err
}

// close gives the file its name, unless something failed before.
func (t *restoredTable) close(whole bool) error {
	if t.f == nil {
		return nil
	}
	var head [tableHead]byte
	_, err := t.f.ReadAt(head[:], 0)
	if err = errors.Join(err, t.f.Sync(), t.f.Close()); err != nil || !whole {
		return err
	}
	seq := binary.LittleEndian.Uint64(head[12:])
	if _, err := readTable(t.path(), seq, nil); err != nil {
		return err
	}
	if err := os.Rename(t.path(), filepath.Join(t.dir, tableName(seq))); err != nil {
		return err
	}
	return syncDir(t.dir)
}
