package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/report"
)

func (e *env) reportCommand() *cli.Command {
	flags := append(outputFlags("report.html"), &cli.StringFlag{Name: "title", Usage: "`TEXT` over the report"}, quietFlag())
	return &cli.Command{
		Name: "report", Usage: "make a report again, or one of several: their scenarios, controllers and seeds together",
		ArgsUsage: "report.json ...", Flags: flags, Action: e.reportAction, OnUsageError: usageError,
		Description: `The files come from simulate run --json; - is stdin. What two of them have in common must be the same in both.

Examples:
   simulate report after.json
   simulate report --csv after.json
   simulate report --html all.html --title 'Two nights' before.json after.json`,
	}
}

func (e *env) reportAction(c *cli.Context) error {
	if err := oneOf(c, "json", "csv", "svg"); err != nil {
		return misuse(err)
	}
	if !c.Args().Present() {
		return misuse(errors.New("report needs a file, as in simulate report after.json; make one with simulate run --json > after.json"))
	}
	var all []*report.Report
	var errs []error
	for _, path := range c.Args().Slice() {
		var r *report.Report
		var err error
		if path == "-" {
			var data []byte
			if data, err = io.ReadAll(io.LimitReader(e.stdin, report.MaxJSON+1)); err == nil {
				r, err = report.ReadJSON(bytes.NewReader(data))
			}
			if err != nil {
				err = fmt.Errorf("stdin: %w", err)
			}
		} else {
			r, err = readReport(path)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, r)
	}
	if len(errs) > 0 {
		return misuse(errors.Join(errs...))
	}
	r, err := report.Join(all...)
	if err != nil {
		return misuse(err)
	}
	if c.IsSet("title") {
		r.Title = c.String("title")
	}
	return e.publish(c, r)
}
