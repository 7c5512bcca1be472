//go:build app

package apptest

import "github.com/corastream/corastream/cmd/internal/testkit"

// Short names for the helpers that other test packages use too.
var (
	eventually     = testkit.Eventually
	withTimeout    = testkit.Context
	write          = testkit.Write
	fetchJSON      = testkit.FetchJSON
	lacks          = testkit.Lacks
	title          = testkit.Title
	realLLM        = testkit.RealLLM
	demoCheckpoint = testkit.DemoCheckpoint
)
