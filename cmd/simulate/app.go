package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// env is where the program reads and writes.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// newApp returns the command line.
func newApp(e *env) *cli.App {
	return &cli.App{
		Name:      "simulate",
		Usage:     "try guards against upstreams with limits, in virtual time",
		UsageText: "simulate [options]\nsimulate run [options] [scenario.toml | name ...]\nsimulate scenarios [list | show NAME]\nsimulate feedback [options] FILE",
		Description: `Without a command, every built-in scenario runs with every controller. The table goes to
stdout, progress to stderr, and the charts to report.html. The guard's parameters are those of ./limits.toml, when there is one.

Exit codes: 0 done; 1 internal error, or a result could not be written; 2 misuse, the message
says what to change; 3 an expectation was not met (--assert); 130 interrupted.

Examples:
   simulate
   simulate run --seeds 10 rpm-bucket
   simulate run --controllers ours,fixed-10 --out my.html my.toml
   simulate scenarios show rpm-bucket > my.toml
   curl -si https://api.example.com/v1/models | simulate feedback -`,
		Flags:  runFlags(),
		Action: e.runAction,
		Commands: []*cli.Command{
			{
				Name: "run", Usage: "run scenarios: files, or names of built-in ones; all built-in ones when none is given",
				ArgsUsage: "[scenario.toml | name ...]", Flags: runFlags(), Action: e.runAction, OnUsageError: usageError,
				Description: "A file has a slash in its name or ends in .toml; - is stdin.\n\nExamples:\n   simulate run outage-30s\n   simulate run --assert --seeds 3",
			},
			{
				Name: "scenarios", Usage: "list the built-in scenarios, or show one", OnUsageError: usageError, Action: e.listAction,
				Subcommands: []*cli.Command{
					{Name: "list", Usage: "list the built-in scenarios", Action: e.listAction, OnUsageError: usageError},
					{Name: "show", Usage: "print the file of a built-in scenario", ArgsUsage: "NAME", Action: e.showAction, OnUsageError: usageError},
				},
			},
			e.drawsCommand(),
			e.feedbackCommand(),
			e.loadCommand(),
		},
		HideVersion:     true,
		Writer:          e.stdout,
		ErrWriter:       e.stderr,
		OnUsageError:    usageError,
		ExitErrHandler:  func(*cli.Context, error) {},
		CommandNotFound: nil,
	}
}

// usageError makes a wrong flag a misuse without printing the whole help.
func usageError(_ *cli.Context, err error, _ bool) error {
	return misuse(fmt.Errorf("%w; see simulate --help", err))
}

// exit prints an error and returns the exit code for it.
func (e *env) exit(err error) int {
	if err == nil {
		return exitOK
	}
	code := exitInternal
	var ee *exitError
	if errors.As(err, &ee) {
		code = ee.code
	}
	for line := range strings.SplitSeq(strings.TrimRight(err.Error(), "\n"), "\n") {
		fmt.Fprintln(e.stderr, "simulate: "+line)
	}
	return code
}

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// color reports whether w is to be written to with attributes (https://no-color.org).
func color(w io.Writer) bool { return terminal(w) && os.Getenv("NO_COLOR") == "" }
