package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/corastream/corastream"
)

// Digest is the SHA-256 of the state in a form that depends on nothing but the state: the shared vector, every user with
// history and ids, every item with content, the next offsets; each in key order. What is owed, the journal, the metadata
// and the way records lie on the disk are left out. With a list model the SHA-256 of its table is in it. Equal events in equal order give equal digests, however they were
// batched and however often the process was killed.
func (s *Store) Digest() (string, error) {
	sn, list, err := s.withList()
	if err != nil {
		return "", err
	}
	defer sn.release()
	h := sha256.New()
	b := append([]byte("corastream state 1\n"), pShared)
	b = appendEmbedding(b, &sn.shared.Embedding)
	b = appendUvarint(appendVarint(b, sn.shared.clock), uint64(sn.shared.items))
	h.Write(b)
	if err := s.eachUser(sn, func(u *userRec) bool { b = u.canonical(b[:0]); h.Write(b); return true }); err != nil {
		return "", err
	}
	err = eachItem(sn, func(it *itemRec) bool {
		b = appendString(append(b[:0], pItem), it.ID)
		b, _ = it.encode(b) // can not fail: the content comes from the disk
		h.Write(b)
		return true
	})
	if err != nil {
		return "", err
	}
	for _, p := range sortedPartitions(sn.offsets) {
		b = appendUvarint(appendString(append(b[:0], pOffset), p.Topic), uint64(uint32(p.ID)))
		h.Write(appendVarint(b, sn.offsets[p]))
	}
	if list != nil {
		h.Write(append([]byte{pSteps}, list...))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// withList acquires the current snapshot together with the SHA-256 of the list model's table, nil where there is none.
func (s *Store) withList() (*snap, []byte, error) {
	if s.derived == nil || s.derived.Derived == nil {
		sn, err := s.acquire()
		return sn, nil, err
	}
	sn, unlock, err := s.lock() // not after a failed write: the table may be behind
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	list, err := s.derived.tableSum()
	if err != nil {
		return nil, nil, fmt.Errorf("store: list model: %w", err)
	}
	sn.refs.Add(1)
	return sn, list, nil
}

// canonical appends the user in one piece, without the debt.
func (u *userRec) canonical(b []byte) []byte {
	b = appendString(append(b, pUser), u.ID)
	b = appendEmbedding(b, &u.Embedding)
	b = appendUvarints(b, u.total, uint64(len(u.History)))
	b = appendInteractions(b, u.History)
	b = appendVarint(b, u.last)
	b = appendUvarint(b, uint64(len(u.ids)))
	for _, id := range u.ids {
		b = appendVarint(appendU64(b, id.hash), id.at)
	}
	for _, label := range u.Labels {
		b = appendString(b, label)
	}
	return b
}

func sortedPartitions[V any](m map[corastream.Partition]V) []corastream.Partition {
	out := make([]corastream.Partition, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b corastream.Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID))
	})
	return out
}
