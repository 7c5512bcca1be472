// Package testdata has the comments of the types in openapi_test.go, since comments of tests are not read.
package testdata

type (
	// inner is held by a request.
	inner struct {
		At uint64 `json:"at"` // when
	}
	answer struct {
		Own *float64 `json:"own"` // it hides the embedded one
		// Long is told
		// above.
		Long string `json:"long_name"`
	}
)
