package scenario

import (
	"fmt"

	"github.com/flyball-go/flyball/scenarios"
)

// Builtin returns the built-in scenarios in the order in which they are shown.
func Builtin() []*Scenario {
	var all []*Scenario
	for _, name := range scenarios.Names() {
		text, _ := scenarios.Read(name)
		s, err := Parse("scenarios/"+scenarios.Path(name), text)
		if err != nil {
			panic(fmt.Sprintf("scenario: a built-in scenario is broken: %v", err)) // a test reads them all
		}
		all = append(all, s)
	}
	return all
}
