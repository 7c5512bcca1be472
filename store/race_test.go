//go:build race

package store

// raceDetector is on. Badger itself races when it refuses a damaged table while it still loads others (v4.9.6, levels.go:
// closeAllTables against newLevelsController's goroutines); nothing of ours takes part.
const raceDetector = true
