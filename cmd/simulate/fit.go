package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/fit"
)

// fitCommand is simulate fit.
func (e *env) fitCommand() *cli.Command {
	return &cli.Command{
		Name: "fit", Usage: "make a model of the upstream that a trace was recorded at",
		ArgsUsage: "TRACE", Action: e.fitAction, OnUsageError: usageError,
		Description: `It finds which limit refuses, how large it is and when it changed, and how long an answer takes with so many tokens
and calls in flight. It fits to the first half and says how well that foretells the second; the scenario that it
writes is fitted to all. It goes to stdout, or to --out, and the evidence to stderr.

Examples:
   simulate fit --out fitted.toml trace.jsonl
   simulate run fitted.toml
   simulate fit --format csv --columns t=start:ms,latency=took:ms,status=code log.csv`,
		Flags: append(traceFlags(),
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "`FILE` for the scenario", DefaultText: "stdout"},
			&cli.BoolFlag{Name: "assert", Usage: "exit with 3 when the model is poor"},
		),
	}
}

func (e *env) fitAction(c *cli.Context) error {
	if c.NArg() != 1 {
		return misuse(fmt.Errorf("%d arguments, must be one trace, as in simulate fit --out fitted.toml trace.jsonl", c.NArg()))
	}
	t, err := e.trace(c, c.Args().First())
	if err != nil {
		return misuse(err)
	}
	r, err := fit.Fit(t)
	if err != nil {
		return misuse(err)
	}
	text := r.TOML(filepath.Base(t.Name))
	if out := c.String("out"); out != "" {
		if err := writeFile(out, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
			return internal(fmt.Errorf("the scenario could not be written: %w; name another file with --out", err))
		}
		fmt.Fprintf(e.stderr, "simulate: wrote %s\n", out)
	} else if _, err := io.WriteString(e.stdout, text); err != nil {
		return internal(fmt.Errorf("the scenario could not be written: %w", err))
	}
	fmt.Fprintf(e.stderr, "simulate: fitted half: %v\n", &r.Fitted)
	fmt.Fprintf(e.stderr, "simulate: held-out half: %v\n", &r.HeldOut)
	for _, n := range r.Notes {
		fmt.Fprintf(e.stderr, "simulate: %s\n", n)
	}
	v := r.HeldOut.Verdict()
	fmt.Fprintf(e.stderr, "simulate: the model is %s\n", v)
	if v == fit.Poor && c.Bool("assert") {
		return &exitError{exitAssertion, errors.New("the model is poor")}
	}
	return nil
}
