//go:build unix

package batches_test

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A batch whose results would not fit on the disk is not sent before they do: they would be paid for in vain.
func TestFullDisk(t *testing.T) {
	said := make(chan string, 1000)
	up := &upstream{}
	a := runs(t, t.TempDir(), up, func(format string, args ...any) { said <- fmt.Sprintf(format, args...) })
	f := a.upload(requests(30))
	end := fill(t)
	b := a.create(f.ID)
	line := <-said
	sent := up.sent.Load()
	end()
	if !strings.Contains(line, "file too large; again in") || sent != 0 {
		t.Errorf("%d calls with a full disk, and the log says %q", sent, line)
	}
	if got := a.until(b.ID, "completed"); got.Counts.Completed != 30 {
		t.Errorf("%+v", got.Counts)
	}
}

// fill has no file become as large as the room that a batch must have, until end is called, which is all of a full disk that can be had without
// one. What the test writes down itself, for the cache of go test, is smaller.
func fill(t *testing.T) (end func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	full := before
	full.Cur = 1<<20 - 1
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
		signal.Reset(syscall.SIGXFSZ)
	})
}

// A batch that was cancelled, or whose time is over, ends as that with a full disk, too.
func TestCancelledOnAFullDisk(t *testing.T) {
	for _, want := range []string{"cancelled", "expired"} {
		dir := t.TempDir()
		up := &upstream{hold: make(chan struct{})}
		a := runs(t, dir, up, t.Logf)
		b := a.create(a.upload(requests(10)).ID)
		eventually(t, func() bool { return up.sent.Load() == 4 })
		a.stop()
		file := filepath.Join(dir, "batches", b.ID+".json")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want == "cancelled" {
			text = bytes.Replace(text, []byte("in_progress"), []byte("cancelling"), 1)
		} else {
			text = bytes.Replace(text, fmt.Appendf(nil, `"expires_at":%d`, b.ExpiresAt), []byte(`"expires_at":1`), 1)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		end := fill(t)
		defer end()
		a = runs(t, dir, up, t.Logf)
		if got := a.until(b.ID, want); got.Errors != nil {
			t.Errorf("%s, and its errors are %+v", want, got.Errors)
		}
		end()
	}
}
