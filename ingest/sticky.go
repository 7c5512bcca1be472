package ingest

import (
	"cmp"
	"encoding/binary"
	"slices"

	kafka "github.com/segmentio/kafka-go"
)

// sticky deals the partitions of one topic out to a group's members: shares that differ by one at most, with as few partitions moved as
// that allows. Every member says what it has; the group's leader decides, and any member would decide the same.
type sticky struct{ owned func() []int32 }

const (
	stickyName    = "corastream-sticky"
	stickyVersion = 1
	maxOwned      = 1 << 16 // partitions that a member may name
)

// ProtocolName implements kafka.GroupBalancer. Members of one group that know no common name can not join.
func (s *sticky) ProtocolName() string { return stickyName }

// UserData is asked for at every join: a version byte and the partitions held now, each as a uvarint.
func (s *sticky) UserData() ([]byte, error) {
	b := []byte{stickyVersion}
	if s.owned != nil {
		for _, p := range s.owned() {
			b = binary.AppendUvarint(b, uint64(uint32(p)))
		}
	}
	return b, nil
}

// parseOwned reads what a member says; nothing from what it can not read, so that it merely gets other partitions than it had.
func parseOwned(b []byte) (out []int) {
	if len(b) == 0 || b[0] != stickyVersion {
		return nil
	}
	for b = b[1:]; len(b) > 0; {
		p, n := binary.Uvarint(b)
		if n <= 0 || p >= maxOwned || len(out) == maxOwned {
			return nil
		}
		out, b = append(out, int(p)), b[n:]
	}
	return out
}

// AssignGroups implements kafka.GroupBalancer.
func (s *sticky) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	out := kafka.GroupMemberAssignments{}
	byTopic := map[string][]int{}
	for _, p := range partitions {
		byTopic[p.Topic] = append(byTopic[p.Topic], p.ID)
	}
	holds := map[string][]int{}
	for _, m := range members {
		holds[m.ID] = parseOwned(m.UserData)
		out[m.ID] = map[string][]int{}
	}
	for topic, ids := range byTopic {
		slices.Sort(ids)
		for member, share := range deal(holds, ids) {
			out[member][topic] = share
		}
	}
	return out
}

// deal gives each member its share of the partitions. Of two members that both name a partition, the first by name keeps it.
func deal(holds map[string][]int, partitions []int) map[string][]int {
	var members []string
	for m := range holds {
		members = append(members, m)
	}
	slices.Sort(members)
	shares, free := map[string][]int{}, slices.Clone(partitions)
	for _, m := range members {
		shares[m] = []int{}
		for _, p := range holds[m] {
			if i := slices.Index(free, p); i >= 0 {
				shares[m] = append(shares[m], p)
				free = slices.Delete(free, i, i+1)
			}
		}
		slices.Sort(shares[m])
	}
	if len(members) == 0 {
		return shares
	}
	// Who has most keeps the odd ones: that moves fewest.
	slices.SortStableFunc(members, func(a, b string) int { return cmp.Compare(len(shares[b]), len(shares[a])) })
	room := map[string]int{}
	for i, m := range members {
		room[m] = len(partitions) / len(members)
		if i < len(partitions)%len(members) {
			room[m]++
		}
		if over := len(shares[m]) - room[m]; over > 0 {
			free = append(free, shares[m][room[m]:]...)
			shares[m] = shares[m][:room[m]]
		}
	}
	slices.Sort(free)
	for _, m := range members {
		n := room[m] - len(shares[m])
		shares[m] = append(shares[m], free[:n]...)
		free = free[n:]
		slices.Sort(shares[m])
	}
	return shares
}
