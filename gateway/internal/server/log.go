package server

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
)

// sink is where the log goes. A disk that is full must not hold up calls, so what cannot be written is counted and let go.
type sink struct {
	w      io.Writer
	file   *os.File // nil for one that is not ours
	failed atomic.Uint64
}

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

// Write writes a line, or counts that it could not.
func (s *sink) Write(p []byte) (int, error) {
	if _, err := s.w.Write(p); err != nil {
		s.failed.Add(1)
	}
	return len(p), nil
}

func (s *sink) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}

func newLogger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // one of four words
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l}))
}
