package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sink is where the log goes. Neither a disk that is full nor a pipe that nobody reads may hold up calls, so what cannot be written is
// counted and let go. Lines are written together, a short while after the first of them.
type sink struct {
	w      io.Writer
	file   *os.File // nil for one that is not ours
	failed atomic.Uint64

	mu      sync.Mutex
	buf     []byte
	lines   int
	torn    bool          // the last that was written is half a line
	spare   []byte        // for use again
	timer   *time.Timer   // nil before the first line
	writing chan struct{} // closed when what is being written was; nil when nothing is
}

const (
	sinkDelay = 100 * time.Millisecond // how long a line may be kept
	sinkMost  = 64 << 10               // how much is written at once, when there is so much
	sinkHeld  = 4 << 20                // how much is kept while nobody takes it
	sinkEnd   = 2 * time.Second        // how long the end waits for somebody to take the rest
)

func newSink(path string, otherwise *os.File) (*sink, error) {
	if otherwise == nil {
		otherwise = os.Stderr
	}
	if path == "" {
		return &sink{w: otherwise}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("gateway.log.file: %w", err)
	}
	return &sink{w: f, file: f}, nil
}

// Write takes a line.
func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf)+len(p) > sinkHeld {
		s.failed.Add(1)
		return len(p), nil
	}
	s.buf = append(s.buf, p...)
	s.lines++
	switch {
	case s.writing != nil: // which goes on with this
	case len(s.buf) >= sinkMost:
		s.start()
	case s.timer == nil:
		s.timer = time.AfterFunc(sinkDelay, s.due)
	case s.lines == 1:
		s.timer.Reset(sinkDelay)
	}
	return len(p), nil
}

// due starts to write what there is.
func (s *sink) due() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start()
}

// start starts to write, unless somebody does. It needs the lock.
func (s *sink) start() {
	if s.writing == nil && len(s.buf) > 0 {
		s.writing = make(chan struct{})
		go s.write() // ends when nothing is left; close waits for it, but not for ever
	}
}

// write writes what there is, or counts that it could not, until nothing is left.
func (s *sink) write() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buf) > 0 {
		buf, torn := s.buf, s.torn
		s.buf, s.lines = s.spare[:0], 0
		s.mu.Unlock()
		if torn { // else the next line, which is whole, would be lost with it
			buf = slices.Insert(buf, 0, '\n')
		}
		n, err := s.w.Write(buf)
		lost := bytes.Count(buf[n:], []byte("\n"))
		if torn && n == 0 {
			lost--
		}
		s.mu.Lock()
		if err != nil {
			s.failed.Add(uint64(lost))
		}
		if n > 0 {
			s.torn = buf[n-1] != '\n'
		}
		if s.spare = buf; cap(buf) > 4*sinkMost {
			s.spare = nil
		}
	}
	close(s.writing)
	s.writing = nil
}

// flush writes what there is, and reports whether that ended within so long.
func (s *sink) flush(most time.Duration) bool {
	s.mu.Lock()
	s.start()
	ended := s.writing
	s.mu.Unlock()
	if ended == nil {
		return true
	}
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}

func (s *sink) close() {
	s.flush(sinkEnd)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.file != nil && s.writing == nil {
		_ = s.file.Close()
	}
}

func newLogger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // one of four words
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}))
}

// serverLog is for what the HTTP server says: mostly of strangers' connections, which is not for the log, but also that it can take no more of
// them, as there are too many open files.
type serverLog struct{ log *slog.Logger }

// Write takes a line.
func (l serverLog) Write(p []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.HasPrefix(p, []byte("http: Accept error")) { // a stranger's own words may be further on
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, string(bytes.TrimSpace(p)))
	return len(p), nil
}

// libraryLog is for what the standard library says of upstreams by package log. It quotes what an upstream sent, which is somebody's answer.
type libraryLog struct{ log *slog.Logger }

// Write takes a line.
func (l libraryLog) Write(p []byte) (int, error) {
	said, _, _ := bytes.Cut(bytes.TrimSpace(p), []byte(" starting with "))
	l.log.Warn(string(said))
	return len(p), nil
}
