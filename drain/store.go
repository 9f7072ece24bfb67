package drain

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Sink takes results. It may be used by any number of goroutines.
type Sink interface {
	// Put takes a result; when it returns nil, the result is durable.
	Put(ctx context.Context, r *Result) error
}

// Store is a Sink that remembers: what it has is never sent again. It may be used by any number of goroutines.
type Store interface {
	Sink
	// Has returns the content of the job whose result the store has under an id; ok is false when it has none.
	Has(id string) (h Hash, ok bool)
	// Get returns the result that the store has under an id. Usage and Attempts are not kept. The error is ErrNoResult when
	// there is none.
	Get(ctx context.Context, id string) (*Result, error)
}

// ErrNoResult is the error of asking a Store for a result that it does not have.
var ErrNoResult = errors.New("drain: no result with this id")

// File is a Store: a file with a line for each result, in the output format of the batch API, to which lines are only
// added. It keeps some 130 bytes for each result in memory, which are twice as many with what Go has not
// collected yet, and the longer ids besides.
type File struct {
	log *appendLog
	rec recovered

	mu    sync.Mutex
	index map[string]entry
}

// entry is where a result is. A length of 0 is a result that is being written.
type entry struct {
	hash Hash
	at   int64
	n    int
}

// OpenFile opens a file of results, or makes it. What an earlier process wrote stays and is known; what it had half written
// when it died is moved to a file beside (File.Torn). A file that is something else is refused, and so is one that
// another process has open (on Unix).
func OpenFile(path string) (*File, error) {
	file, err := openAppend(path)
	if err != nil {
		return nil, err
	}
	f := &File{index: map[string]entry{}}
	f.rec, err = recover_(path, file, func(line []byte, at int64) error {
		id, h, err := readResult(line)
		if err != nil {
			return err
		}
		f.index[id] = entry{h, at, len(line)}
		return nil
	})
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	f.log = newAppendLog(path, file, f.rec.end)
	return f, nil
}

// readResult reads what must be known of a line.
func readResult(line []byte) (id string, h Hash, err error) {
	// The lines that AppendJSON wrote are read without parsing their bodies, which may be large; but a line must be whole.
	line = bytes.Trim(line, jsonSpace) // an editor or a tool may have ended lines in its own way
	named, found := false, false
	end := scanFields(line, 0, func(f field) {
		if found || err != nil {
			return
		}
		switch string(f.name) {
		case "id":
			var s string
			if err = readString(f.value, &s); err != nil {
				return
			}
			if h, named = ParseHash(strings.TrimPrefix(s, resultPrefix)); !named {
				err = fmt.Errorf(`"id" is %q, which was not written by flyball`, s)
			}
		case "custom_id":
			if found = named; found {
				err = readString(f.value, &id)
			}
		}
	})
	if err == nil && (end != len(line) || !found) {
		err = errors.New("not a result")
	}
	if err != nil {
		return "", Hash{}, err
	}
	return id, h, nil
}

// recovered is what recover_ found.
type recovered struct {
	end     int64  // where the next line belongs
	torn    string // the file that what is behind it was moved to
	damaged int    // how many lines before it cannot be read
}

// recover_ reads the lines of a file and gives each to known. What is behind the last good line was not durable: that is moved to a
// file beside. A line that cannot be read between good ones was damaged by something else, and stays where it is: the ones behind it
// count. When there is no good line before a bad one, the file is something else, and is left alone.
func recover_(path string, file *os.File, known func(line []byte, at int64) error) (rec recovered, err error) {
	r := bufio.NewReaderSize(file, 1<<20)
	pos, bad, good := int64(0), 0, 0
	for n := 1; ; n++ {
		line, err := readLine(r)
		if err != nil && err != io.EOF {
			return rec, fmt.Errorf("drain: reading %s: %w", path, err)
		}
		if whole := err == nil; whole {
			if err = known(line[:len(line)-1], pos); err == nil {
				good++
				pos += int64(len(line))
				rec.end, rec.damaged = pos, bad
				continue
			}
			if good == 0 {
				return rec, fmt.Errorf("drain: %s:%d: %w; give another file for the results", path, n, err)
			}
			if len(bytes.TrimSpace(line)) > 0 {
				bad++
			}
			pos += int64(len(line))
			continue
		}
		pos += int64(len(line))
		if pos == rec.end {
			return rec, nil
		}
		if good == 0 && !begun(line) {
			return rec, fmt.Errorf("drain: %s:%d: not a result; give another file for the results", path, n)
		}
		rec.torn, err = moveTail(path, file, rec.end)
		return rec, err
	}
}

// begun reports whether a line without an end may be the beginning of one that this package wrote, or of what a file system puts
// in its place when the power fails.
func begun(line []byte) bool {
	const start = `{"id":"` + resultPrefix
	n := min(len(line), len(start))
	return string(line[:n]) == start[:n] || len(bytes.Trim(line, "\x00")) == 0
}

// readLine returns a line with its end; without one, and with io.EOF, what is left of the file.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != bufio.ErrBufferFull {
		return line, err
	}
	all := bytes.Clone(line)
	for err == bufio.ErrBufferFull {
		line, err = r.ReadSlice('\n')
		all = append(all, line...)
	}
	return all, err
}

// moveTail moves what a file has from an offset on to a file beside.
func moveTail(path string, file *os.File, from int64) (torn string, err error) {
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("drain: %w", err)
	}
	for i := 1; ; i++ {
		torn = fmt.Sprintf("%s.torn-%d", path, i)
		side, err := os.OpenFile(torn, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, os.ErrExist) && i < 10000 {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("drain: %w", err)
		}
		_, err = io.Copy(side, io.NewSectionReader(file, from, info.Size()-from))
		err = errors.Join(err, side.Sync(), side.Close(), syncDir(filepath.Dir(path)))
		if err == nil {
			err = errors.Join(file.Truncate(from), file.Sync())
		}
		if err != nil {
			return "", fmt.Errorf("drain: %w", err)
		}
		return torn, nil
	}
}

// Torn returns the file that a half written end was moved to when the file was opened; empty when there was none.
func (f *File) Torn() string { return f.rec.torn }

// Damaged returns how many lines of the file could not be read when it was opened, although there are results behind them:
// something else has changed them, or the power failed. They stay in the file; the results that were in them are not known.
func (f *File) Damaged() int { return f.rec.damaged }

// Path returns the name of the file.
func (f *File) Path() string { return f.log.path }

// Len returns how many results the file has.
func (f *File) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.index)
}

// Has implements Store.
func (f *File) Has(id string) (Hash, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.index[id]
	return e.hash, ok && e.n > 0
}

// Put adds a result and returns when it is on the disk. A result under an id that the file has already is not added; it is
// no error when its content is the same.
func (f *File) Put(_ context.Context, r *Result) error {
	f.mu.Lock()
	if e, ok := f.index[r.ID]; ok {
		f.mu.Unlock()
		if e.n > 0 && e.hash == r.Hash {
			return nil
		}
		return fmt.Errorf("drain: a result for %q is there already, or is being written", r.ID)
	}
	f.index[r.ID] = entry{hash: r.Hash}
	f.mu.Unlock()
	at, n, err := f.log.append(r.AppendJSON)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		delete(f.index, r.ID)
		return err
	}
	f.index[r.ID] = entry{r.Hash, at, n - 1}
	return nil
}

// Get implements Store: it reads the result from the file.
func (f *File) Get(_ context.Context, id string) (*Result, error) {
	f.mu.Lock()
	e, ok := f.index[id]
	f.mu.Unlock()
	if !ok || e.n == 0 {
		return nil, ErrNoResult
	}
	line := make([]byte, e.n)
	if _, err := f.log.file.ReadAt(line, e.at); err != nil {
		return nil, fmt.Errorf("drain: %w", err)
	}
	var in resultLine
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, fmt.Errorf("drain: %s at %d: %w", f.log.path, e.at, err)
	}
	body := []byte(in.Response.Body)
	if in.Response.Bytes != nil {
		body = in.Response.Bytes
	}
	return &Result{ID: id, Hash: e.hash, Status: in.Response.Status, RequestID: in.Response.RequestID, Body: body}, nil
}

// Close closes the file. Nothing is lost: what Put has returned for is on the disk.
func (f *File) Close() error { return f.log.close() }
