// Package cfstream holds the collaborative-filtering (CF) models that learn per event.
//
// All kinds share one interface and one kind of state:
//
//	bias      z = mu + b_u + b_i
//	mf        z = mu + b_u + b_i + p_u.q_i
//	hybrid    z = mu + b_u + b_i + p_u.q_i + (w + t_u).c_i
//	lightgcn  z = mu + b_u + b_i + e_u.e_i, both from propagation over the graph of likes (lightgcn.go)
//	sasrec    z = mu + b_u + b_i + e_u.q_i, e_u read by self-attention from the user's last items (sasrec.go)
//
// A hybrid with layers propagates its factors as lightgcn does, and then has no t_u.
//
// c_i is what is known of the item before any click (the frozen LLM's reading of its title, projected), t_u the user's own
// taste in that basis, w what all users share. Biases move at a constant rate, because they must go on tracking drift;
// factors and content move by Adagrad on the log loss. A hybrid is to streams what LightFM (Kula, 2015) is to batches.
//
// Models of the first three kinds can be divided into a cluster's shards: what one learns of another's items is a delta that the
// owner merges (delta.go); Shardable says so, or why not.
//
// It promises: Learn is pure, so equal events in equal order give equal bytes, on every CPU and under every build tag;
// no allocation per event once the records exist; no parameter ever becomes NaN or infinite; an item clicked before its
// catalogue record came is learnt now, and its content joins later. It refuses: a label outside [0,1], content or stored
// vectors of another width than the spec's.
//
//	model, err := cfstream.New(cfstream.Default())
//	state := corastream.NewMemory()
//	err = cfstream.Fit(ctx, state, model, events, 6) // several passes offline
//	err = state.Apply(model, event)                  // then one event at a time
//	pair, err := corastream.PairOf(state, model, "user", "item")
//	score := pair.Logit()
package cfstream
