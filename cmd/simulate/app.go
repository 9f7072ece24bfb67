package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/scenarios"
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
		UsageText: "simulate [options]\nsimulate COMMAND [options] [arguments]",
		Description: `Without a command, the scenarios that tell most run with every controller. The table goes to
stdout, words to stderr, and the charts to report.html. The guard's parameters are those of ./limits.toml, when there is one.

Exit codes: 0 done; 1 internal error, or a result could not be written; 2 misuse, the message
says what to change; 3 an expectation or a bound was not met; 4 a bound is inconclusive; 130 interrupted, what was finished is written.

Examples:
   simulate
   simulate run --seeds 8 rpm-bucket
   simulate compare --scenarios rpm-bucket,closed-loop gcl-aimd ours
   simulate explain --at 42s rpm-bucket
   simulate scenarios`,
		Flags:  runFlags(),
		Action: e.demoAction,
		Commands: []*cli.Command{
			e.runCommand(),
			e.compareCommand(),
			e.sweepCommand(),
			e.tuneCommand(),
			e.assertCommand(),
			e.explainCommand(),
			e.reportCommand(),
			e.scenariosCommand(),
			e.benchCommand(),
			e.drawsCommand(),
			e.leaderboardCommand(),
			e.feedbackCommand(),
			e.loadCommand(),
			e.serveCommand(),
			e.replayCommand(),
			e.recordCommand(),
			e.fitCommand(),
		},
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // a value of --set may have commas in it
		Writer:                    e.stdout,
		ErrWriter:                 e.stderr,
		OnUsageError:              usageError,
		ExitErrHandler:            func(*cli.Context, error) {},
		CommandNotFound:           nil,
	}
}

// unknownCommand says which command was probably meant by the first argument.
func unknownCommand(c *cli.Context) error {
	word := c.Args().First()
	var names []string
	for _, cmd := range c.App.Commands {
		names = append(names, cmd.Name)
	}
	if _, ok := scenarios.Read(word); ok || isFile(word) {
		return fmt.Errorf("there is no command %q; names and files of scenarios come after run: simulate run %s", word, quote(word))
	}
	return unknownWord("command", word, names)
}

// unknownHelp says which command was probably meant by simulate help WORD.
func unknownHelp(word string) error {
	var names []string
	for _, cmd := range newApp(&env{}).Commands {
		names = append(names, cmd.Name)
	}
	return unknownWord("command", word, names)
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
	} else if topic, ok := strings.CutPrefix(err.Error(), "No help topic for '"); ok { // of package cli
		return e.exit(misuse(unknownHelp(strings.TrimSuffix(topic, "'"))))
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
