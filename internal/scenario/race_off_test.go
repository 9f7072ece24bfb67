//go:build !race

package scenario

// raceDetector says that the race detector is on.
const raceDetector = false
