package store

import (
	"context"
	"fmt"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

func encodeMeta(key []byte, value string) []byte {
	return seal(key, appendString([]byte{recordVersion}, value))
}

func getMeta(txn *badger.Txn, key string) (string, error) {
	k := metaKey(key)
	value, err := get(txn, k)
	if err != nil || value == nil {
		return "", err
	}
	return decodeString(k, value)
}

// Meta returns what was kept under a name ("" when nothing): the cluster's id, a topic's identity, the CF spec, digests.
func (s *Store) Meta(key string) (string, error) {
	sn, err := s.acquire()
	if err != nil {
		return "", err
	}
	defer sn.release()
	return getMeta(sn.txn, key)
}

// SetMeta keeps a value under a name; "format" is the store's own.
func (s *Store) SetMeta(ctx context.Context, key, value string) error {
	if key == "format" || key == "" {
		return fmt.Errorf("store: meta key %q is not yours to set", key)
	}
	return s.update(ctx, func(w *work) error {
		k := metaKey(key)
		w.extra = append(w.extra, op{k, encodeMeta(k, value)})
		return w.close(nil, nil)
	})
}

// Bind ties the store to a value on first use and from then on refuses any other with ErrMismatch. fix tells people what
// to change then.
func (s *Store) Bind(ctx context.Context, key, value, fix string) error {
	have, err := s.Meta(key)
	if err != nil {
		return err
	}
	if have == "" {
		return s.SetMeta(ctx, key, value)
	}
	if have != value {
		return fmt.Errorf("%w: %s was made with %s %s, this run has %s (fix: %s)", corastream.ErrMismatch, s.dir, key, have, value, fix)
	}
	return nil
}
