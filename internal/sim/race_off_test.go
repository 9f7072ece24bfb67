//go:build !race

package sim

// raceDetector says that the race detector is on.
const raceDetector = false
