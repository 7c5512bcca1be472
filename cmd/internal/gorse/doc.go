// Package gorse answers Gorse's REST paths by this program's own API, so that Gorse's SDKs work unchanged.
//
// It is a translation and holds no state: each request becomes requests to the API's handler, with the same client, headers and token.
// What has no counterpart is refused by name and never imitated: feedback of an item.
// Comments of users are not kept, and a user without labels affects no row. The history keeps whether an item was liked and not
// what the feedback was called: feedback is listed under the type that was asked for.
//
//	mux.Handle("/api/", gorse.Handler(api))
package gorse
