package adaptive

import (
	"fmt"
	"math"
)

// Config holds the parameters of flyball's own law. It is a plain value: printable, comparable,
// and what `[guard.adaptive]` in limits.toml fills. The zero Config means all defaults.
type Config struct {
	// Initial is the limit at the start, in calls in flight (1 to Max). Zero means 4.
	// Smaller starts gently; larger saves round trips of slow start and may meet a slope limit.
	Initial int
	// Min is the smallest limit that the law chooses, in calls in flight (1 to Max). Zero means 1.
	// Larger keeps a stream of probes going through the worst of times.
	Min int
	// Max is the largest limit that the law chooses, in calls in flight (1 to 1,000,000).
	// Zero means 4096. Smaller protects the caller's own memory and sockets.
	Max int
	// Backoff is what the limit is multiplied with at a cut (0.1 to 0.99, unitless).
	// Zero means 0.9. Smaller makes room faster and costs more goodput for each refusal.
	Backoff float64
	// Epoch is the least number of calls that end well before the limit grows by one
	// (1 to 10,000). Zero means 8. Smaller finds room sooner and probes an upstream's
	// limit more often, which costs refusals.
	Epoch int
	// RefusalBudget is how many refusals probing may cost for each call that ends well (0.0001 to 0.5, a
	// ratio). Zero means 0.01. Smaller finds a grown capacity later; larger is refused more often.
	RefusalBudget float64
	// Objective is what the limit is chosen for where more in flight makes calls slower: Throughput, the default, Knee or Latency.
	Objective Objective
	// LatencyFactor is how many times as long as with few in flight a call may take (0, or 1.05 to 1000, a ratio; less than 1.05 means 1.05);
	// the limit is kept below the level at which it takes longer. Zero means no bound: throughput alone counts, and the
	// limit stays where more in flight does not get more done; with the objective Latency it means 2.
	LatencyFactor float64
}

// Defaults returns c with each zero field set to its default.
func (c Config) Defaults() Config {
	if c.Max == 0 {
		c.Max = 4096
	}
	if c.Min == 0 {
		c.Min = 1
	}
	if c.Initial == 0 {
		c.Initial = min(max(4, c.Min), c.Max)
	}
	if c.Backoff == 0 {
		c.Backoff = 0.9
	}
	if c.Epoch == 0 {
		c.Epoch = 8
	}
	if c.RefusalBudget == 0 {
		c.RefusalBudget = 0.01
	}
	if c.Objective == "" {
		c.Objective = Throughput
	}
	if c.Objective == Latency && c.LatencyFactor == 0 {
		c.LatencyFactor = 2
	}
	return c
}

// Objective is what a limit is chosen for where more in flight makes calls slower.
type Objective string

const (
	// Throughput wants the most done a second, with no more in flight than that takes (90 % of the most counts as the most).
	Throughput Objective = "throughput"
	// Knee wants the most throughput for the latency: the level at which throughput divided by latency is largest, which is where
	// queueing begins (Kleinrock, Power and deterministic rules of thumb for probabilistic problems in computer communications, 1979).
	Knee Objective = "knee"
	// Latency keeps calls within LatencyFactor times what they take with few in flight.
	Latency Objective = "latency"
)

// The range of Config.RefusalBudget.
const minBudget, maxBudget = 0.0001, 0.5

// MaxLimit is the largest limit that a Config may ask for.
const MaxLimit = 1_000_000

// A FieldError says that one field of a Config has a value that it may not have.
type FieldError struct {
	Field   string // the name of the field, as Go writes it
	Value   any    // what it holds
	Allowed string // what it may hold, as a person reads it
}

// Error names the field, its value and what is allowed.
func (e *FieldError) Error() string {
	return fmt.Sprintf("adaptive: %s is %v, must be %s", e.Field, e.Value, e.Allowed)
}

// Check returns one *FieldError for each field of c that is out of range, after defaults.
func (c Config) Check() []error {
	given := c
	c = c.Defaults()
	var errs []error
	bad := func(field string, value any, format string, a ...any) {
		errs = append(errs, &FieldError{field, value, fmt.Sprintf(format, a...)})
	}
	if c.Max < 1 || c.Max > MaxLimit {
		bad("Max", c.Max, "1 to %d calls in flight", MaxLimit)
		given.Max = MaxLimit
		c = given.Defaults() // so that one mistake is told once
	}
	if c.Min < 1 || c.Min > c.Max {
		bad("Min", c.Min, "1 to Max (%d)", c.Max)
		given.Min = 1
		c = given.Defaults()
	}
	if c.Initial < c.Min || c.Initial > c.Max {
		bad("Initial", c.Initial, "Min (%d) to Max (%d)", c.Min, c.Max)
	}
	if !(c.Backoff >= 0.1 && c.Backoff <= 0.99) || math.IsNaN(c.Backoff) {
		bad("Backoff", c.Backoff, "0.1 to 0.99")
	}
	if c.Epoch < 1 || c.Epoch > 10_000 {
		bad("Epoch", c.Epoch, "1 to 10000 calls")
	}
	if !(c.RefusalBudget >= minBudget && c.RefusalBudget <= maxBudget) {
		bad("RefusalBudget", c.RefusalBudget, "%v to %v", minBudget, maxBudget)
	}
	if c.Objective != Throughput && c.Objective != Knee && c.Objective != Latency {
		bad("Objective", c.Objective, "%s, %s or %s", Throughput, Knee, Latency)
	}
	if !(c.LatencyFactor >= 0 && c.LatencyFactor <= 1000) {
		bad("LatencyFactor", c.LatencyFactor, "0 to 1000")
	}
	return errs
}
