//go:build unix

package batches_test

import (
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// A batch whose results would not fit on the disk is not sent before they do: they would be paid for in vain.
func TestFullDisk(t *testing.T) {
	said := make(chan string, 1000)
	up := &upstream{}
	a := runs(t, t.TempDir(), up, func(format string, args ...any) { said <- fmt.Sprintf(format, args...) })
	f := a.upload(requests(30))
	// No file may become larger than this from now on, which is all of a full disk that can be had without one.
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	full := before
	full.Cur = 64 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	b := a.create(f.ID)
	line := <-said
	sent := up.sent.Load()
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(line, "file too large; again in") || sent != 0 {
		t.Errorf("%d calls with a full disk, and the log says %q", sent, line)
	}
	if got := a.until(b.ID, "completed"); got.Counts.Completed != 30 {
		t.Errorf("%+v", got.Counts)
	}
}
