package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// Report is what Check found.
type Report struct {
	Records  map[string]int // read, by kind
	Bytes    int64          // of keys and values
	Problems []Problem      // the first MaxProblems of them
	Found    int            // all of them
}

// MaxProblems is how many a Report names.
const MaxProblems = 1000

// Problem is one record that is not what it should be.
type Problem struct {
	Record string // kind and id
	Err    error
}

func (p Problem) String() string { return p.Record + ": " + p.Err.Error() }

// kindNames of records, by key prefix.
var kindNames = map[byte]string{
	pMeta: "meta", pShared: "shared", pOffset: "offset", pUser: "user", pHistory: "history", pItem: "item", pSeq: "index",
	pUnread: "unread", pDebt: "debt", pRequest: "request", pJournal: "journal", pErased: "erasure",
	pOutbox: "parcel", pSeen: "mark", pAccepted: "mark", pReach: "mark",
	pSteps: "steps",
}

// Check reads every record, verifies its checksum and decodes it, and holds the indices against the records they point
// to. It goes on past damage; its error is only that of reading at all.
func (s *Store) Check(ctx context.Context) (Report, error) {
	sn, err := s.acquire()
	if err != nil {
		return Report{}, err
	}
	defer sn.release()
	c := checker{s: s, sn: sn, Report: Report{Records: map[string]int{}}}
	err = scan(sn.txn, nil, nil, func(key []byte, it *badger.Item) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		name := kindNames[key[0]]
		if name == "" {
			name = "unknown"
		}
		c.Records[name]++
		err := it.Value(func(v []byte) error {
			c.Bytes += int64(len(key) + len(v))
			if err := c.record(key, v); err != nil {
				c.problem(key, err)
			}
			return nil
		})
		if err != nil {
			c.problem(key, fmt.Errorf("%w: %w", corastream.ErrCorrupt, err))
		}
		return true, nil
	})
	if err == nil {
		c.totals()
		err = c.tables()
	}
	return c.Report, err
}

type checker struct {
	s  *Store
	sn *snap
	Report
	indexed uint32 // items with an index entry
}

func (c *checker) problem(key []byte, err error) {
	if c.Found++; len(c.Problems) < MaxProblems {
		c.Problems = append(c.Problems, Problem{keyName(key), err})
	}
}

func (c *checker) record(key, v []byte) error {
	switch key[0] {
	case pMeta:
		_, err := decodeString(key, v)
		return err
	case pShared:
		_, err := decodeShared(v)
		return err
	case pOffset:
		_, _, err := decodeOffset(key, v)
		return err
	case pUser:
		u, err := assembleUser(c.sn.txn, key, v)
		if err == nil && len(u.debt.pend) > 0 && !c.s.shard.on() {
			err = c.present(debtKey(u.debt.oldest(), u.ID))
		}
		return err
	case pHistory:
		_, _, err := decodeBlock(key, v)
		return err
	case pItem:
		it, err := decodeItem(key, v)
		if err != nil {
			return err
		}
		if id, err := loadSeq(c.sn.txn, it.Seq); err != nil || id != it.ID {
			return fmt.Errorf("%w: index %d leads to %q (%w)", corastream.ErrCorrupt, it.Seq, id, orNone(err))
		}
		if it.unread() && c.s.shard.owns(it.ID) {
			return c.present(seqKey(pUnread, it.Seq))
		}
		return nil
	case pSeq:
		c.indexed++
		id, err := decodeString(key, v)
		if err != nil {
			return err
		}
		return c.present(itemKey(id))
	case pUnread:
		if len(key) != 5 {
			return errKey
		}
		if err := markOnly(key, v); err != nil {
			return err
		}
		id, err := loadSeq(c.sn.txn, binary.BigEndian.Uint32(key[1:]))
		if err != nil {
			return err
		}
		if it, err := loadItem(c.sn.txn, id); err != nil {
			return err
		} else if it == nil || !it.unread() {
			return fmt.Errorf("%w: item %q does not wait to be read", corastream.ErrCorrupt, id)
		}
		return nil
	case pDebt:
		if len(key) < 10 {
			return errKey
		}
		if err := markOnly(key, v); err != nil {
			return err
		}
		u, err := loadUser(c.sn.txn, string(key[9:]))
		if err != nil {
			return err
		}
		if u == nil || len(u.debt.pend) == 0 || string(debtKey(u.debt.oldest(), u.ID)) != string(key) {
			return fmt.Errorf("%w: the user's record does not agree", corastream.ErrCorrupt)
		}
		return nil
	case pRequest:
		_, _, err := decodeRequest(key, v)
		return err
	case pJournal:
		_, err := decodeLine(key, v)
		return err
	case pErased:
		_, err := decodeErasure(key, v)
		return err
	case pSteps:
		if len(key) == 1 {
			_, err := decodeListMark(v)
			return err
		}
		_, err := decodeSteps(key, v)
		return err
	case pOutbox, pSeen, pAccepted, pReach:
		return checkMarks(key, v)
	}
	return errKey
}

var errKey = fmt.Errorf("%w: no such kind of key", corastream.ErrCorrupt)

func orNone(err error) error {
	if err == nil {
		return errors.New("another item")
	}
	return err
}

// markOnly reads a record whose presence is all it says.
func markOnly(key, v []byte) error {
	r, err := open(key, v)
	if err != nil {
		return err
	}
	return r.done(key)
}

func (c *checker) present(key []byte) error {
	value, err := get(c.sn.txn, key)
	if err == nil && value == nil {
		err = fmt.Errorf("%w: %s is missing", corastream.ErrCorrupt, keyName(key))
	}
	return err
}

// tables reads the list model's table files. One that is renamed or removed meanwhile is passed by.
func (c *checker) tables() error {
	list, err := c.s.tables()
	for _, seq := range list {
		path := filepath.Join(c.s.tableDir(), tableName(seq))
		n, err := readTable(path, seq, nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		c.Records["table"]++
		c.Bytes += n
		if err != nil {
			if c.Found++; len(c.Problems) < MaxProblems {
				c.Problems = append(c.Problems, Problem{"table file", err})
			}
		}
	}
	return err
}

// totals holds the counts of the shared record against what was seen.
func (c *checker) totals() {
	if c.indexed != c.sn.shared.items || c.Records["item"] != int(c.sn.shared.items) {
		c.problem(sharedKey, fmt.Errorf("%w: %d items counted, %d indexed, %d found",
			corastream.ErrCorrupt, c.sn.shared.items, c.indexed, c.Records["item"]))
	}
	if c.Records["user"] != int(c.sn.shared.users) {
		c.problem(sharedKey, fmt.Errorf("%w: %d users counted, %d found", corastream.ErrCorrupt, c.sn.shared.users, c.Records["user"]))
	}
}
