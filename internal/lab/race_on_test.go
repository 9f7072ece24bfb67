//go:build race

package lab

// raceDetector says that the race detector is on: all is ten times slower, and tests of numbers leave
// their work to the run without it.
const raceDetector = true
