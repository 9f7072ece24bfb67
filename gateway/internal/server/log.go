package server

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// sink is where the log goes. A disk that is full must not hold up calls, so what cannot be written is counted and let go. Lines are
// written together, a short while after the first of them.
type sink struct {
	w      io.Writer
	file   *os.File // nil for one that is not ours
	failed atomic.Uint64

	mu    sync.Mutex
	buf   []byte
	lines int
	timer *time.Timer
}

// How long a line may be kept, and how much of them together.
const (
	sinkDelay = 100 * time.Millisecond
	sinkMost  = 64 << 10
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
	s.buf = append(s.buf, p...)
	s.lines++
	switch {
	case len(s.buf) >= sinkMost:
		s.write()
	case s.timer == nil:
		s.timer = time.AfterFunc(sinkDelay, s.flush)
	case s.lines == 1:
		s.timer.Reset(sinkDelay)
	}
	return len(p), nil
}

// flush writes what there is.
func (s *sink) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write()
}

// write writes what there is, or counts that it could not. It needs the lock.
func (s *sink) write() {
	if len(s.buf) == 0 {
		return
	}
	if _, err := s.w.Write(s.buf); err != nil {
		s.failed.Add(uint64(s.lines))
	}
	s.buf, s.lines = s.buf[:0], 0
}

func (s *sink) close() {
	s.flush()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.file != nil {
		_ = s.file.Close()
	}
}

func newLogger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // one of four words
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}))
}
