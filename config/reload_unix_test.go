//go:build unix

package config

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
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

// A pipe says nothing the second time it is read, or holds up whoever opens it, so it is refused before it is opened.
func TestReloaderOfAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	written := make(chan error)
	go func() { written <- os.WriteFile(pipe, []byte("[guard]\nmax_limit = 5\n"), 0) }()
	if _, err := NewReloader(pipe); err == nil || !strings.Contains(err.Error(), pipe+" is no file") {
		t.Fatalf("NewReloader of a pipe: %v", err)
	}
	if f, err := Load(pipe); err != nil || f.Defaults.Adaptive.Max != 5 { // which reads it once
		t.Errorf("Load of a pipe: %v", err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	path, r := reloader(t, "")
	if err := os.Rename(pipe, path); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reload(); err == nil || !strings.Contains(err.Error(), path+" is no file") {
		t.Errorf("Reload of a pipe: %v", err)
	}
}

// Keys are read again once pools are replaced, and a pipe would hold up the look at them, and with it every reload.
func TestReloaderOfAKeyInAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	one, _, file, path, r := keyed(t)
	want := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), ": config: the file "+pipe+" is no file") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := r.Pool("a"); err != nil {
		t.Fatal(err)
	}
	write(t, path, file(", { file = '"+pipe+"' }"))
	_, err := r.Reload()
	want("Reload", err)
	write(t, path, file("")+"[upstream.b]\nkey = [{ file = '"+pipe+"' }]\n")
	if _, err := r.Reload(); err != nil {
		t.Errorf("Reload with a pool that nobody has asked for: %v", err)
	}
	_, err = r.Pool("b")
	want("Pool", err)
	if err := os.Rename(pipe, one); err != nil {
		t.Fatal(err)
	}
	pipe = one
	_, err = r.Reload()
	want("Reload after the file of a key became a pipe", err)
	if r.otherKeys() == "" {
		t.Error("a look does not see that the file of a key became a pipe")
	}
}
