package store

import (
	"encoding/binary"
	"fmt"

	"github.com/corastream/corastream"
)

// The key prefixes. Integers in keys are big-endian, so that Badger's order is theirs. An item record holds no user id,
// and all that is kept of a user can be found from the user's id alone: erasure needs no scan but that of open requests.
const (
	pMeta    = 'm' // name -> value: format, CF spec, cluster id, ...
	pShared  = 's' // mu, w, the clock, how many items and users
	pOffset  = 'o' // topic, partition u32 -> next offset
	pUser    = 'u' // user id -> embedding, newest interactions, ids, debt
	pHistory = 'h' // user id, block u32 -> older interactions
	pItem    = 'i' // item id -> catalogue record, embedding, content
	pSeq     = 'n' // item seq u32 -> item id
	pUnread  = 'r' // item seq u32 -> nothing: the content is to be read
	pDebt    = 'd' // oldest i64 (sign flipped), user id -> nothing: the user is owed a recommendation
	pRequest = 'q' // append time i64 (sign flipped), topic, partition u32, offset u64, hash u64 -> the request
	pJournal = 'j' // seq u64 -> what was applied
	pErased  = 'e' // SHA-256 of a user id -> when it was erased
	pSteps   = 'w' // seq u64, n u32 -> what a transaction taught the list model; alone: which of those are gone
	pTable   = 'v' // n u32 -> a part of the list model's table; in snapshot files alone

	// Only a cluster's stores have these.
	pOutbox   = 'x' // seq u64, shard u32 -> what a transaction learnt about that shard's vectors
	pSeen     = 'y' // shard u32 -> the last of its transactions whose parcel was merged
	pAccepted = 'z' // topic, partition u32 -> epoch and seq of the last transaction read of a changelog that is followed
	pReach    = 'c' // -> how much of its own changelog the folder holds: offset, epoch, seq; the one key that no changelog has
)

func userKey(id string) []byte { return append(append(make([]byte, 0, 1+len(id)), pUser), id...) }
func itemKey(id string) []byte { return append(append(make([]byte, 0, 1+len(id)), pItem), id...) }
func metaKey(k string) []byte  { return append([]byte{pMeta}, k...) }

var sharedKey = []byte{pShared}

func historyKey(id string, block uint32) []byte {
	b := append(append(make([]byte, 0, 5+len(id)), pHistory), id...)
	return binary.BigEndian.AppendUint32(b, block)
}

func seqKey(prefix byte, seq uint32) []byte {
	return binary.BigEndian.AppendUint32(append(make([]byte, 0, 5), prefix), seq)
}

func offsetKey(p corastream.Partition) []byte {
	return binary.BigEndian.AppendUint32(append([]byte{pOffset}, p.Topic...), uint32(p.ID))
}

func journalKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 9), pJournal), seq)
}

// appendOrdered writes x so that bytes sort as the numbers do.
func appendOrdered(b []byte, x int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(x)^1<<63)
}

func debtKey(oldest int64, user string) []byte {
	return append(appendOrdered(append(make([]byte, 0, 9+len(user)), pDebt), oldest), user...)
}

func requestKey(r *corastream.Request) []byte {
	b := appendOrdered([]byte{pRequest}, nanos(r.Appended))
	b = append(b, r.Pos.Topic...)
	b = binary.BigEndian.AppendUint32(b, uint32(r.Pos.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Pos.Offset))
	return binary.BigEndian.AppendUint64(b, idHash(r.User+"\x00"+r.ID)) // requests from no log have one position
}

// keyName says which record a key belongs to, for people. Ids are printed: whoever reads errors may read the store.
func keyName(key []byte) string {
	if len(key) == 0 {
		return "empty key"
	}
	rest := key[1:]
	switch key[0] {
	case pMeta:
		return fmt.Sprintf("meta %q", rest)
	case pShared:
		return "shared record"
	case pOffset:
		if len(rest) >= 4 {
			return fmt.Sprintf("offset of %s:%d", rest[:len(rest)-4], binary.BigEndian.Uint32(rest[len(rest)-4:]))
		}
	case pUser:
		return fmt.Sprintf("user %q", rest)
	case pHistory:
		if len(rest) >= 4 {
			return fmt.Sprintf("history block %d of user %q", binary.BigEndian.Uint32(rest[len(rest)-4:]), rest[:len(rest)-4])
		}
	case pItem:
		return fmt.Sprintf("item %q", rest)
	case pSeq, pUnread:
		if len(rest) == 4 {
			return fmt.Sprintf("%c-index of item %d", key[0], binary.BigEndian.Uint32(rest))
		}
	case pDebt:
		if len(rest) >= 8 {
			return fmt.Sprintf("debt of user %q", rest[8:])
		}
	case pRequest:
		return fmt.Sprintf("request %x", rest)
	case pJournal:
		if len(rest) == 8 {
			return fmt.Sprintf("journal line %d", binary.BigEndian.Uint64(rest))
		}
	case pErased:
		return fmt.Sprintf("erasure %x", rest)
	case pSteps:
		return stepName(rest)
	case pTable:
		return fmt.Sprintf("table part %x", rest)
	case pOutbox:
		if len(rest) == 12 {
			return fmt.Sprintf("parcel of transaction %d to shard %d", binary.BigEndian.Uint64(rest), binary.BigEndian.Uint32(rest[8:]))
		}
	case pSeen:
		if len(rest) == 4 {
			return fmt.Sprintf("parcels of shard %d", binary.BigEndian.Uint32(rest))
		}
	case pAccepted:
		return fmt.Sprintf("changelog mark %q", rest)
	case pReach:
		return "reach of the changelog"
	}
	return fmt.Sprintf("key %q", key)
}
