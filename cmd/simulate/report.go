package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/report"
)

func (e *env) reportCommand() *cli.Command {
	flags := append(outputFlags("report.html"), &cli.StringFlag{Name: "title", Usage: "`TEXT` over the report"}, quietFlag())
	return &cli.Command{
		Name: "report", Usage: "make a report again, or one of several: their scenarios, controllers and seeds together",
		ArgsUsage: "report.json ...", Flags: flags, Action: e.reportAction, OnUsageError: usageError,
		Description: `The files come from simulate run --json; - is stdin. A controller that has other
figures in a later file stays apart, under its name and the file's.

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
	r, err := joined(all, c.Args().Slice())
	if err != nil {
		return misuse(err)
	}
	if c.IsSet("title") {
		r.Title = c.String("title")
	}
	return e.publish(c, r)
}

// joined joins reports. A controller that has other figures in a later file stays apart, with the name of the file: "ours (after)".
func joined(all []*report.Report, paths []string) (*report.Report, error) {
	apart := map[string]bool{}
	names := fileNames(paths)
	for {
		r, err := report.Join(all...)
		var differs *report.DiffersError
		if !errors.As(err, &differs) || apart[differs.Controller] {
			return r, err
		}
		apart[differs.Controller] = true
		for i := 1; i < len(all); i++ {
			for k := range all[i].Scenarios {
				for n := range all[i].Scenarios[k].Runs {
					if run := &all[i].Scenarios[k].Runs[n]; run.Controller == differs.Controller {
						run.Controller += fmt.Sprintf(" (%s)", names[i])
						run.Ours = false // the verdict is about one
					}
				}
			}
		}
	}
}

// fileNames returns what files are called in a report: their names, and their paths where two have one name.
func fileNames(paths []string) []string {
	base := func(path string) string {
		if path == "-" {
			return "stdin"
		}
		return strings.TrimSuffix(filepath.Base(path), ".json")
	}
	names := make([]string, len(paths))
	for i, path := range paths {
		names[i] = base(path)
		same := func(other string) bool { return other != path && base(other) == names[i] }
		if slices.ContainsFunc(paths, same) {
			names[i] = path
		}
	}
	return names
}
