//go:build !race

package lab

// raceDetector says that the race detector is on.
const raceDetector = false
