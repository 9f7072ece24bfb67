// Command simulate tries guards against upstreams with limits, in virtual time, and says who did best where.
//
//	go run ./cmd/simulate
//
// runs the built-in scenarios, prints a table, and writes report.html. See docs/simulator.md.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	if os.Getenv("GOGC") == "" {
		// What is alive is some megabytes, so that at the usual 100 the collector would run for each few of them.
		debug.SetGCPercent(400)
	}
	// Whoever reads the table may go away: the files are written all the same.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the program ends by itself, with what is finished; a second one ends it at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK           = 0
	exitInternal     = 1   // the simulator is broken, or a result could not be written
	exitMisuse       = 2   // the command line, or a file that it names
	exitAssertion    = 3   // an expectation or a bound was not met
	exitInconclusive = 4   // none was broken, and more seeds are needed to say of all that they are kept
	exitInterrupted  = 130 // Ctrl-C; what was finished is printed and written
)

// An exitError ends the program with a code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func misuse(err error) error   { return &exitError{exitMisuse, err} }
func internal(err error) error { return &exitError{exitInternal, err} }

// run is the program without its process: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{stdin: stdin, stdout: stdout, stderr: stderr}
	app := newApp(e)
	return e.exit(app.RunContext(ctx, arrange(app, args)))
}
