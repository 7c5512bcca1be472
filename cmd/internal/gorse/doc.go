// Package gorse answers Gorse's REST paths by this program's own API, so that Gorse's SDKs work unchanged.
//
// It is a translation and holds no state: each request becomes requests to the API's handler, with the same client, headers and token.
// The feedback of an item has no counterpart here, so its paths are refused by name. Comments of users are not kept. Inserting a user
// without labels changes nothing and affects no row. The history says whether an item was liked and not what the feedback was called, so
// feedback is listed under the type that was asked for.
//
//	mux.Handle("/api/", gorse.Handler(api))
package gorse
