package drain

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// appendLog is a file to which lines are added. A line that was added is on the disk when append returns; lines that come
// while others are being written share the next fsync.
type appendLog struct {
	path string
	at   string // path, for a process that goes to another directory
	file *os.File

	mu      sync.Mutex
	idle    sync.Cond // writing has ended, or there is room for more
	buf     []byte    // lines for the next write
	spare   []byte    // for use again
	end     int64     // where the next line begins
	durable int64     // what is on the disk
	next    *commit   // of buf; nil when it is empty
	writing bool
	broken  error // nothing can be added any more
}

type commit struct {
	done chan struct{}
	err  error
}

var errClosed = errors.New("drain: the file is closed")

// maxPending is how much may wait to be written, in bytes, before append waits first.
const maxPending = 64 << 20

// newAppendLog goes on at the offset end of an open file.
func newAppendLog(path string, file *os.File, end int64) *appendLog {
	l := &appendLog{path: path, at: path, file: file, end: end, durable: end}
	if at, err := filepath.Abs(path); err == nil {
		l.at = at
	}
	l.idle.L = &l.mu
	return l
}

// append adds a line, with its end, and returns where it begins once it is on the disk.
func (l *appendLog) append(line func([]byte) []byte) (at int64, n int, err error) {
	l.mu.Lock()
	for l.writing && len(l.buf) > maxPending {
		l.idle.Wait()
	}
	if l.broken != nil {
		defer l.mu.Unlock()
		return 0, 0, l.broken
	}
	before := len(l.buf)
	l.buf = append(line(l.buf), '\n')
	n = len(l.buf) - before
	at = l.end
	l.end += int64(n)
	if l.next == nil {
		l.next = &commit{done: make(chan struct{})}
	}
	c := l.next
	if !l.writing {
		l.writing = true
		go l.flush() // ends when nothing is left to write; close waits for it
	}
	l.mu.Unlock()
	<-c.done
	return at, n, c.err
}

// flush writes until nothing is left.
func (l *appendLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.buf) > 0 {
		buf, c := l.buf, l.next
		l.buf, l.next = l.spare[:0], nil
		l.idle.Broadcast() // there is room again, and it may be long before nothing is left to write
		l.mu.Unlock()
		var err, syncErr error
		changed := l.resized(l.durable)
		if changed == nil {
			if _, err = l.file.WriteAt(buf, l.durable); err == nil {
				syncErr = l.file.Sync()
				changed = errors.Join(l.resized(l.durable+int64(len(buf))), l.moved())
			}
		}
		l.mu.Lock()
		if cap(buf) <= 4<<20 {
			l.spare = buf
		}
		switch {
		case err != nil:
			// The disk is full, most likely. What was written in part, of which WriteAt does not tell, must not stay: the next lines
			// may be shorter.
			err = fmt.Errorf("drain: writing to %s: %w", l.path, err)
			if e := l.file.Truncate(l.durable); e != nil {
				l.broken = errors.Join(err, e)
			}
			l.fail(c, err)
		case syncErr != nil:
			// What is on the disk then is not known, and a second fsync that succeeds would not tell.
			l.broken = fmt.Errorf("drain: fsync of %s: %w", l.path, syncErr)
			l.fail(c, l.broken)
		case changed != nil:
			l.broken = changed
			l.fail(c, l.broken)
		default:
			l.durable += int64(len(buf))
			close(c.done)
		}
	}
	l.writing = false
	l.idle.Broadcast()
}

// resized returns an error when the file has not so many bytes: somebody has cut it or added to it, and what is written next does not fit.
func (l *appendLog) resized(size int64) error {
	info, err := l.file.Stat()
	if err != nil || info.Size() == size {
		return nil // or writing says more
	}
	return fmt.Errorf("drain: %s was changed by something else while it was written: it has %d bytes, not %d", l.path, info.Size(), size)
}

// moved returns an error when the file is no longer where it was: what is added to it is found by nobody.
func (l *appendLog) moved() error {
	open, err := l.file.Stat()
	if err != nil {
		return nil
	}
	named, err := os.Stat(l.at)
	// Some network file systems give a file another number meanwhile; what was put in its place has another size.
	if errors.Is(err, os.ErrNotExist) || err == nil && !os.SameFile(open, named) && open.Size() != named.Size() {
		return fmt.Errorf("drain: %s was moved, replaced or removed while it was written", l.path)
	}
	return nil
}

// fail fails a commit, and those whose lines were to follow. It needs the lock.
func (l *appendLog) fail(c *commit, err error) {
	c.err = err
	close(c.done)
	if l.next != nil {
		l.next.err = err
		close(l.next.done)
	}
	l.buf, l.next, l.end = l.buf[:0], nil, l.durable
}

// close waits for what is being written, and closes the file.
func (l *appendLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.writing {
		l.idle.Wait()
	}
	if l.broken == errClosed {
		return nil
	}
	l.broken = errClosed
	return l.file.Close()
}

// openAppend opens a file to add to, made and made durable when it is not there, that nobody else adds to.
func openAppend(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("drain: %w", err)
	}
	// What is no regular file has no end to be read to (/dev/full, a pipe that nobody closes), or forgets what was written.
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = file.Close()
		if err != nil {
			return nil, fmt.Errorf("drain: %w", err)
		}
		return nil, fmt.Errorf("drain: %s is a %s, must be a regular file", path, kind(info.Mode()))
	}
	if err := lock(file); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("drain: %s is in use by another process: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// kind names a file that is not regular.
func kind(m os.FileMode) string {
	switch {
	case m&os.ModeNamedPipe != 0:
		return "pipe"
	case m&os.ModeDevice != 0:
		return "device"
	}
	return "special file"
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !unsyncableDir(err) {
		return fmt.Errorf("drain: fsync of %s: %w", dir, err)
	}
	return nil
}
