package scalesim

// learn counts what a shard's batch touches, prepares what it hands out, and gives how long it takes, in ms.
func (s *Sim) learn(i int) float64 {
	sh := &s.shards[i]
	s.batches++
	out := &sh.out
	out.parcels = out.parcels[:0]
	out.published, out.firsts, out.bytes, out.itemBytes, out.users = 0, 0, 0, 0, 0
	own, others, firsts := 0, 0, 0
	epoch := 1 + uint32(float64(s.tick)*tickMS/max(tickMS, s.Service.ExchangeMS))
	touch := func(item uint32) {
		if s.seen[item] == s.batches {
			return
		}
		s.seen[item] = s.batches
		if owner := s.owner(item); owner != int32(i) {
			others++
			out.parcels = append(out.parcels, simParcel{owner, item})
			return
		}
		own++
		if s.epochs[item] != epoch {
			s.epochs[item] = epoch
			firsts++
		}
		if sh.dirty != nil {
			sh.dirty[item] = true
		}
	}
	for _, item := range sh.inbox[:sh.taken] {
		if item == 0 {
			s.m.hotItem++
		}
		touch(item)
	}
	users := 0
	for _, ev := range sh.batch {
		touch(ev.item)
		for range s.Negatives {
			touch(uint32(s.rng.Uint64N(uint64(s.Items))))
		}
		if s.visit(ev.user) {
			users++
		}
	}
	sh.inbox = append(sh.inbox[:0], sh.inbox[sh.taken:]...)
	now := float64(s.tick) * tickMS
	published := own
	if sh.dirty != nil {
		published = 0
		if every := s.Broadcast.Seconds() * 1e3; now-sh.flushed >= every {
			published, sh.flushed = len(sh.dirty), now
			clear(sh.dirty)
		}
		firsts = published
	}
	b := s.Bytes
	outbox := float64(others) * b.Parcel
	out.users = float64(users)
	out.published, out.firsts = float64(published), float64(firsts)
	out.itemBytes = float64(published) * b.Item
	// The changelog holds the batch as a whole: users, own items, the outbox, and the copies of others' items, learnt or taken over.
	changelog := float64(users)*b.User + float64(own)*b.Item + outbox
	if !s.ItemTopic {
		changelog += float64(others+sh.adopted) * b.Item
	}
	out.bytes = changelog

	t := s.Service
	learn := float64(len(sh.batch)) * (t.LearnUS + float64(s.Negatives)*t.NegativeUS) / 1e3
	merge := float64(sh.taken) * t.MergeUS / 1e3
	follow := float64(sh.adopted) * s.followUS() / 1e3
	skip := sh.skipped * t.SkipNS / 1e6
	work := learn + merge + follow + skip
	sh.work += work
	for k, w := range []float64{learn, merge, follow, skip} {
		s.m.work[k] += w
	}
	s.m.skipped += sh.skipped
	crowd := max(1, float64(min(s.Hosted, s.Shards))/float64(s.Cores))
	return work*crowd + t.CommitMS
}

// visit says whether the batch has not had the user yet. The table is hashed: two users of one place count as different ones each
// time they take turns, which is rare where it is larger than a batch.
func (s *Sim) visit(user uint32) bool {
	key := uint64(s.batches)<<32 | uint64(user)
	at := scramble(uint64(user)) % uint64(len(s.visitors))
	if s.visitors[at] == key {
		return false
	}
	s.visitors[at] = key
	return true
}

// finish hands out what a batch made.
func (s *Sim) finish(i int) {
	sh := &s.shards[i]
	now := float64(s.tick) * tickMS
	for _, ev := range sh.batch {
		s.m.sojourn += now - float64(ev.at)*tickMS
	}
	due := s.tick + max(1, int(s.Service.HopMS/tickMS))
	slot := due % hopSlots
	out := &sh.out
	s.parcels[slot] = append(s.parcels[slot], out.parcels...)
	f := &s.flows[slot]
	f.changes += out.published
	f.firsts += out.firsts
	groups := float64(s.Groups) // a replica reads the changelogs of its own
	f.users += out.users / groups
	f.events += float64(len(sh.batch)) / groups
	if s.ItemTopic { // learners read that alone, replicas the changelogs too
		f.bytes += out.itemBytes
		f.all += out.itemBytes + out.bytes/groups
	} else {
		f.bytes += out.bytes
		f.all += out.bytes
	}
	if n := len(sh.batch); n > 0 && s.Answered > 0 {
		m := movedUsers{tick: due, users: out.users * s.Answered}
		for _, ev := range sh.batch {
			if s.sampled++; s.sampled%sampleEvery == 0 {
				m.sample = append(m.sample, ev.at)
			}
		}
		s.moved = append(s.moved, m)
	}
	s.m.batches++
	s.m.learnt += len(sh.batch)
	sh.learnt += len(sh.batch)
	sh.merged += sh.taken
	s.m.merged += sh.taken
	s.m.sent += len(out.parcels)
	s.m.adopted += float64(sh.adopted)
	s.m.changes += out.published
	s.m.firsts += out.firsts
	s.m.users += out.users
	s.m.logBytes += out.bytes
	s.m.itemBytes += out.itemBytes
	s.m.parcelBytes += float64(len(out.parcels)) * s.Bytes.Parcel
	sh.batch, sh.taken, sh.adopted, sh.skipped, sh.busy = sh.batch[:0], 0, 0, 0, false
}
