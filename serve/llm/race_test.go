//go:build race

package llm

// underRace: the race detector makes plain arithmetic ten times slower.
const underRace = true
