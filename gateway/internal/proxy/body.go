package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/gateway/internal/dialect"
)

// memory is how much memory bodies take together.
type memory struct {
	used atomic.Int64
	most int64
}

// take reserves n bytes, or reports that there is no room.
func (m *memory) take(n int64) bool {
	if m.used.Add(n) <= m.most {
		return true
	}
	m.used.Add(-n)
	return false
}

func (m *memory) give(n int64) { m.used.Add(-n) }

// payload is the body of a request, all of it, so that it can be sent again: in memory or, when bodies take too much of that
// together, in a file that has no name any more. It is there before the call asks for its turn, so a caller that sends slowly
// holds nothing that others wait for.
type payload struct {
	mem  []byte
	file *os.File
	size int64

	taken  int64 // of the memory
	memory *memory

	mu      sync.Mutex
	readers int
	closed  bool
}

// errTooLarge is the error for a body that is larger than the limit.
var errTooLarge = errors.New("the request's body is too large")

// A slowError says that the caller did not send its body in time.
type slowError struct{ got int64 }

func (e *slowError) Error() string {
	return fmt.Sprintf("the request's body did not come in time; %d bytes of it did", e.got)
}

// A spillError says that there was no place for a body.
type spillError struct{ err error }

func (e *spillError) Error() string { return "the request's body cannot be kept: " + e.err.Error() }
func (e *spillError) Unwrap() error { return e.err }

const (
	firstRoom = 16 << 10 // what is reserved for a body that says nothing of its length
	slowest   = 1 << 10  // bytes a second that a caller must send on average, once the time-out is over
)

// receive reads the body of r. It fails when there are more than most bytes, or none come for as long as pause.
func receive(w http.ResponseWriter, r *http.Request, m *memory, most int64, pause time.Duration) (*payload, error) {
	if r.ContentLength > most {
		return nil, errTooLarge
	}
	p := &payload{memory: m}
	ok := false
	defer func() {
		if !ok {
			p.Close()
		}
	}()
	rc := http.NewResponseController(w)
	began := time.Now()
	defer func() {
		if ok {
			_ = rc.SetReadDeadline(time.Time{}) // the server watches the connection from here on
		} else {
			// Nor does the server wait for the rest.
			w.Header().Set("Connection", "close")
			_ = rc.SetReadDeadline(time.Now())
		}
	}()
	room := int64(firstRoom)
	if r.ContentLength >= 0 {
		room = min(r.ContentLength, 64<<10)
	}
	if m.take(room) {
		p.taken, p.mem = room, make([]byte, 0, room)
	} else if err := p.spill(); err != nil {
		return nil, err
	}
	var chunk []byte // of a body in a file
	for {
		now := time.Now()
		limit := now.Add(pause)
		if all := began.Add(pause + time.Duration(p.size/slowest)*time.Second); all.Before(limit) {
			limit = all
		}
		_ = rc.SetReadDeadline(limit) // not every ResponseWriter of a test has one
		var n int
		var err error
		if p.file == nil {
			if len(p.mem) == cap(p.mem) {
				if len(p.mem) == int(r.ContentLength) {
					// One more read says that this is all.
					n, err = r.Body.Read(make([]byte, 1))
					if n > 0 {
						return nil, errors.New("the request's body is longer than its Content-Length")
					}
				} else if grown := int64(cap(p.mem)); m.take(grown) {
					p.taken += grown
					p.mem = append(make([]byte, 0, 2*grown), p.mem...)
				} else if serr := p.spill(); serr != nil {
					return nil, serr
				}
			}
			if p.file == nil && len(p.mem) < cap(p.mem) {
				n, err = r.Body.Read(p.mem[len(p.mem):cap(p.mem)])
				p.mem = p.mem[:len(p.mem)+n]
			}
		} else {
			if chunk == nil {
				chunk = make([]byte, 32<<10)
			}
			n, err = r.Body.Read(chunk)
			if _, werr := p.file.Write(chunk[:n]); werr != nil {
				return nil, &spillError{werr}
			}
		}
		p.size += int64(n)
		switch {
		case p.size > most:
			return nil, errTooLarge
		case err == io.EOF:
			ok = true
			return p, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, &slowError{p.size}
		case err != nil:
			return nil, err
		}
	}
}

// spill moves what came so far to a file.
func (p *payload) spill() error {
	f, err := os.CreateTemp("", "flyball-body-*")
	if err != nil {
		return &spillError{err}
	}
	_ = os.Remove(f.Name()) // on systems that cannot do that now, Close does
	p.file = f
	if _, err := f.Write(p.mem); err != nil {
		return &spillError{err}
	}
	p.mem = nil
	p.memory.give(p.taken)
	p.taken = 0
	return nil
}

// bytes returns the body when it is in memory.
func (p *payload) bytes() []byte {
	if p == nil || p.file != nil {
		return nil
	}
	return p.mem
}

// reading has one body in a file be looked at at a time, because that takes memory, and there is little when bodies are in files.
var reading sync.Mutex

// longestRead is the largest body in a file that is looked at, in bytes.
const longestRead = 64 << 20

// facts returns what the body says.
func (p *payload) facts() dialect.Facts {
	if p.file == nil {
		return dialect.Read(p.mem)
	}
	if p.size > longestRead {
		return dialect.Facts{}
	}
	reading.Lock()
	defer reading.Unlock()
	b := make([]byte, p.size)
	if _, err := p.file.ReadAt(b, 0); err != nil {
		return dialect.Facts{} // sending it will say so
	}
	return dialect.Read(b)
}

// formModel returns the model that the body says when it is a form of the given type.
func (p *payload) formModel(contentType string) string {
	switch {
	case p.file == nil:
		return dialect.FormModel(contentType, bytes.NewReader(p.mem))
	case p.size > longestRead:
		return ""
	}
	return dialect.FormModel(contentType, io.NewSectionReader(p.file, 0, p.size))
}

// setWith sets the body of a request to p, which is in a file, with another model in the place of the bytes from one offset to another.
func (p *payload) setWith(req *http.Request, from, to int, model string) {
	name, _ := json.Marshal(model) // a string has its JSON
	open := func() io.ReadCloser {
		f, ok := p.open().(*fileReader)
		if !ok {
			return http.NoBody // nobody asks after the call's end
		}
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(io.NewSectionReader(p.file, 0, int64(from)), bytes.NewReader(name), io.NewSectionReader(p.file, int64(to), p.size-int64(to))), f}
	}
	req.ContentLength = p.size - int64(to-from) + int64(len(name))
	req.Body = open()
	req.GetBody = func() (io.ReadCloser, error) { return open(), nil }
}

// open returns a reader of the body from its beginning. Any number of them may be open.
func (p *payload) open() io.ReadCloser {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return io.NopCloser(bytes.NewReader(nil)) // nobody asks after the call's end
	}
	if p.file == nil {
		return io.NopCloser(bytes.NewReader(p.mem))
	}
	p.readers++
	return &fileReader{SectionReader: io.NewSectionReader(p.file, 0, p.size), p: p}
}

// fileReader is one reading of a body in a file.
type fileReader struct {
	*io.SectionReader
	p    *payload
	once sync.Once
}

// Close ends the reading.
func (f *fileReader) Close() error {
	f.once.Do(func() {
		f.p.mu.Lock()
		defer f.p.mu.Unlock()
		if f.p.readers--; f.p.readers == 0 && f.p.closed {
			f.p.drop()
		}
	})
	return nil
}

// Close gives up the body. A transport may still read it after it has answered; the file goes with the last reader.
func (p *payload) Close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	p.memory.give(p.taken)
	p.taken = 0
	if p.readers == 0 {
		p.drop()
	}
}

// drop closes the file. It needs the lock.
func (p *payload) drop() {
	if p.file != nil {
		_ = p.file.Close()
		_ = os.Remove(p.file.Name())
	}
}
