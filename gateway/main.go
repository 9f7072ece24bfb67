// Command gateway puts flyball's guards between any application and its LLM APIs, by a change of base URL.
//
//	go run ./gateway
//
// starts it in front of a demonstration upstream. See docs/gateway.md.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/early"
)

func main() {
	early.End()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal calls may end; a second one ends the program at once. What comes right after the first is the same one: timeout(1) sends it
	// to the process and then to its group, and npm passes on what the terminal has sent already.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	survive(syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// survive has a signal not end the program any more: SIGPIPE does when whoever reads its log or its progress has gone, a collector that is started
// again, and calls would go with it, or its exit code.
func survive(s os.Signal) { signal.Notify(make(chan os.Signal, 1), s) }

// untilHangup returns ctx, which ends as by Ctrl-C when the terminal is closed, too: calls in flight may end, which are paid for. The shell may tell of
// it once more while they do. A program that is to outlive its terminal (nohup) does.
func untilHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return ctx, func() {}
	}
	survive(syscall.SIGHUP) // also once the run is over: who started it goes by its exit code
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}

// Exit codes.
const (
	exitOK       = 0
	exitInternal = 1 // the gateway could not go on
	exitMisuse   = 2 // the command line, or a file that it names
)

// An exitError ends the program with a code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func misuse(err error) error { return &exitError{exitMisuse, err} }

// run is the program without its process: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{stdin: stdin, stdout: stdout, stderr: stderr}
	return e.exit(newApp(e).RunContext(ctx, args))
}
