package strict_test

import (
	"fmt"
	"time"

	"github.com/flyball-go/flyball/config/strict"
)

type scene struct {
	Seed  *int    `toml:"seed" range:"0.."`
	Phase []phase `toml:"phase" required:"true" len:"1.."`
}

type phase struct {
	Load  float64       `toml:"load" range:">0..1000" unit:"calls a second" required:"true"`
	Until time.Duration `toml:"until" range:"1s..24h" required:"true"`
}

// Check is called when all phases were decoded without an error.
func (s *scene) Check(k strict.Key) {
	for i := 1; i < len(s.Phase); i++ {
		if before := k.At("phase").Index(i - 1).At("until"); s.Phase[i].Until <= s.Phase[i-1].Until {
			k.At("phase").Index(i).At("until").Errorf("is %v, must be later than %s (%v)", s.Phase[i].Until, before, s.Phase[i-1].Until)
		}
	}
}

func ExampleDecode() {
	var s scene
	fmt.Println(strict.Decode("scene.toml", []byte(`
[[phase]]
laod = 50
until = 60
`), &s))
	// Output:
	// scene.toml:2:3: phase[0].load is missing, must be a number, more than 0 and at most 1000 calls a second
	// scene.toml:3:1: phase[0].laod is unknown, must be one of load, until; did you mean load?
	// scene.toml:4:1: phase[0].until is 60, an integer, must be a duration in quotes, 1s to 24h; write quotes and a unit: "60s" or "60ms"
}

func ExampleChecker() {
	var s scene
	fmt.Println(strict.Decode("scene.toml", []byte(`
phase = [
  { load = 50, until = "60s" },
  { load = 80, until = "30s" },
]
`), &s))
	// Output:
	// scene.toml:4:16: phase[1].until is 30s, must be later than phase[0].until (1m0s)
}
