package main

import (
	"errors"
	"fmt"
	"io"
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
		Name:      "gateway",
		Usage:     "put guards between applications and their LLM APIs",
		UsageText: "gateway [options]\ngateway command [options]",
		Description: `Without a command, the gateway serves until it is told to end (SIGINT, SIGTERM): it then lets calls end. SIGHUP reads the
configuration again, and so does a change of the file. Without --config it is in front of a demonstration upstream.

Exit codes: 0 done; 1 the gateway could not go on; 2 misuse, the message says what to change.

Examples:
   gateway
   gateway --config limits.toml
   curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \
        -d '{"model":"demo","messages":[{"role":"user","content":"hello"}]}'`,
		Flags:          serveFlags(),
		Action:         e.serveAction,
		Commands:       e.commands(),
		HideVersion:    true,
		Writer:         e.stdout,
		ErrWriter:      e.stderr,
		OnUsageError:   usageError,
		ExitErrHandler: func(*cli.Context, error) {},
	}
}

// commands are the subcommands, a file each.
func (e *env) commands() []*cli.Command {
	return []*cli.Command{
		e.keyCommand(),
		e.checkCommand(),
		e.drainCommand(),
		e.batchesCommand(),
	}
}

// usageError makes a wrong flag a misuse without printing the whole help.
func usageError(c *cli.Context, err error, _ bool) error {
	return misuse(fmt.Errorf("%w; see %s --help", err, c.Command.HelpName))
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
		fmt.Fprintln(e.stderr, "gateway: "+line)
	}
	return code
}
