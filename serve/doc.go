// Package serve finds candidates and answers people: a Retriever over the CF vectors of all items, and an HTTP server.
//
// It promises: Candidates is the exact top n of e_u.e_i + b_i over every item that may be recommended, ties broken by id,
// and stays right while items move; no request waits without a bound, and none is refused without saying why and when
// to come back; a body is either understood in full or refused with the field's name and the fix; no answer, log line,
// metric or panic shows a secret; user ids never become metric labels.
//
// It refuses: to listen beyond this machine without a token or client certificates; unknown fields; bodies over
// MaxBodyBytes; to claim readiness before it was told so.
//
//	r := serve.NewRetriever(serve.DefaultRetrieverConfig(), predictor, nil)
//	err := store.View(ctx, r.Rebuild)                     // all items, once, at start
//	pipeline.Retriever = r                                // from here on Moved keeps it fresh
//	s, err := serve.New(config, serve.Deps{Recommender: pipeline, View: store, Predictor: predictor, Stats: &pipeline.Stats})
//	pipeline.Sink = tee{kafka, s}                         // Publish fills the dashboard
//	s.SetReady(true)
//	err = s.Run(ctx)                                      // until ctx ends; requests in flight are finished
package serve
