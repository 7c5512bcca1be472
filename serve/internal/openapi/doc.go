// Package openapi makes JSON schemas of Go types, for the description of the HTTP API.
//
// A schema follows the type: its fields, their json tags, and their comments as descriptions. In an
// answer a field is required unless it is omitempty or omitzero, and a pointer without either may be
// null. In a request a field may be left out or null unless its api tag says otherwise. Bounds are
// in the api tag, which Types.bound explains.
//
// It refuses what it can not describe: a type that reads itself and has no form, a tag that it does
// not know, and one type in both requests and answers, whose required fields would differ.
//
// github.com/invopop/jsonschema reads comments too. It was not taken because its type keyword is
// one string, so it can not write ["integer", "null"], and because it requires the fields of an
// embedded pointer, which an answer leaves out together.
package openapi
