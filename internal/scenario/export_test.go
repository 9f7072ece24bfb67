package scenario

// For the tests that need what imports this package.
const RaceDetector = raceDetector

var (
	Update  = update
	Rewrite = rewrite
)
