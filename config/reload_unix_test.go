//go:build unix

package config

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

func TestRunReloadsOnHangup(t *testing.T) {
	// Until Run listens, a hang-up must not end the test.
	guarded := make(chan os.Signal, 1)
	signal.Notify(guarded, syscall.SIGHUP)
	defer signal.Stop(guarded)

	path, r := reloader(t, "[guard]\nlaw = 'fixed'\ninitial_limit = 2")
	g := guardOf(t, r, "a")
	ctx, cancel := context.WithCancel(t.Context())
	got, ended := make(chan told, 1), make(chan error)
	go func() {
		ended <- r.Run(ctx, RunConfig{Interval: -1, OnReload: func(c Changes, err error) {
			select {
			case got <- told{c, err}:
			default:
			}
		}})
	}()
	next := func() told {
		t.Helper()
		// Run may not listen yet, so it is asked again.
		for range 100 {
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			select {
			case x := <-got:
				return x
			case <-time.After(50 * time.Millisecond):
			}
		}
		t.Fatal("Run does not listen to SIGHUP")
		return told{}
	}
	write(t, path, "[guard]\nlaw = 'fixed'\ninitial_limit = 3")
	if x := next(); x.err != nil || g.Stats().Limit != 3 {
		t.Errorf("told %v and a limit of %d, want 3", x, g.Stats().Limit)
	}
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("Run: %v", err)
	}
}
