package drain

import (
	"path/filepath"
	"testing"
	"testing/synctest"
)

// A line that waits for room is written once there is some, and not when nothing is left to write, which may be hours later.
func TestAppendLogRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out.jsonl")
		file, err := openAppend(path)
		if err != nil {
			t.Fatal(err)
		}
		l := newAppendLog(path, file, 0)
		l.buf, l.next = make([]byte, maxPending+1), &commit{done: make(chan struct{})}
		l.end, l.writing = maxPending+1, true
		go func() {
			if _, _, err := l.append(func(b []byte) []byte { return append(b, "waits"...) }); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		l.flush() // writes what there is, and then the line, which has come meanwhile
		if l.durable != maxPending+1+6 {
			t.Errorf("%d bytes are on the disk", l.durable)
		}
		if err := l.close(); err != nil {
			t.Error(err)
		}
	})
}
