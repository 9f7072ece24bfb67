package feedback

import (
	"io"
	"sync"
	"time"
)

// WatchConfig configures a Watcher.
type WatchConfig struct {
	StreamConfig
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Watcher is a body that is watched while it is read. It hands on every byte as it comes,
// unchanged and without waiting for more, and meanwhile feeds a [Stream].
//
// Read is for one goroutine, as with any body. Close and Report may be called at any
// time from any goroutine.
type Watcher struct {
	body  io.ReadCloser
	clock func() time.Time

	mu     sync.Mutex // guards stream; never held while reading the body
	stream *Stream
}

// NewWatcher returns a body that reads from body and watches.
func NewWatcher(body io.ReadCloser, c WatchConfig) *Watcher {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return &Watcher{body: body, clock: c.Clock, stream: NewStream(c.StreamConfig, c.Clock())}
}

// Read reads from the body. It returns what the body returned.
func (w *Watcher) Read(p []byte) (n int, err error) {
	n, err = w.body.Read(p)
	if n > 0 || err != nil {
		now := w.clock()
		w.mu.Lock()
		defer w.mu.Unlock()
		if n > 0 && n <= len(p) {
			w.stream.Scan(p[:n], now)
		}
		if err != nil {
			w.stream.Finish(now)
		}
	}
	return n, err
}

// Close closes the body and ends the watch. It returns what the body returned.
func (w *Watcher) Close() error {
	err := w.body.Close()
	now := w.clock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stream.Finish(now)
	return err
}

// Report returns what is known so far.
func (w *Watcher) Report() Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stream.Report()
}
