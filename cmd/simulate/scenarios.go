package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/scenarios"
)

// listAction lists the built-in scenarios.
func (e *env) listAction(c *cli.Context) error {
	if c.Args().Present() {
		return misuse(fmt.Errorf("scenarios: %q is not a command, only list and show NAME", c.Args().First()))
	}
	all := scenario.Builtin()
	width := 0
	for _, s := range all {
		width = max(width, len(s.Name))
	}
	var b strings.Builder
	for _, s := range all {
		fmt.Fprintf(&b, "%-*s  %s\n", width, s.Name, s.Intent)
	}
	if _, err := fmt.Fprint(e.stdout, b.String()); err != nil {
		return internal(err)
	}
	return nil
}

// showAction prints the file of a built-in scenario.
func (e *env) showAction(c *cli.Context) error {
	if c.NArg() != 1 {
		return misuse(errors.New("scenarios show needs the name of one scenario, as in simulate scenarios show rpm-bucket"))
	}
	text, ok := scenarios.Read(c.Args().First())
	if !ok {
		return misuse(unknownScenario(c.Args().First()))
	}
	if _, err := e.stdout.Write(text); err != nil {
		return internal(err)
	}
	return nil
}
