package drain

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// JSONLConfig is what a JSONL source is made from.
type JSONLConfig struct {
	// Dead is the file for dead letters. Empty means the name of the input with ".dead.jsonl" in place of ".jsonl"; reading
	// from a pipe it must be given. It is made when the first job is put aside.
	Dead string
	// RetryDead tries jobs again that an earlier run put aside. The file of dead letters is then begun anew, and the one
	// before is kept with ".old" at the end of its name, or ".old-2" and so on when there is one.
	RetryDead bool
	// MaxLine is the longest line, in bytes (1 KiB to 1 GiB). Zero means 16 MiB. A longer one is a dead letter.
	MaxLine int
}

// JSONL is a Source: a file with a job on each line. It has no memory but that of its dead letters: each run reads it from the
// start, and what the Store has is skipped.
type JSONL struct {
	name  string
	close func() error // the input, once, and what reads it
	r     *bufio.Reader
	cfg   JSONLConfig
	line  int
	read  int64 // lines of total
	total int64 // -1: not known
	pipe  pipe
	// before is how many dead letters there were, leftOut how many jobs were left out for what was put aside.
	before  int64
	leftOut atomic.Int64

	mu   sync.Mutex
	dead *appendLog // nil until it is needed
	gone map[Hash]bool
	ways []later // handed back, to be delivered again; by time
	kick chan struct{}
	out  int  // deliveries that are not settled
	eof  bool // of the file
}

// pipe is an input that may have nothing to read for long: a goroutine reads it, so that what was handed back meanwhile can be delivered again.
type pipe struct {
	begin sync.Once
	came  chan []*Delivery // closed when there is no more
	err   error            // why; it may be read then
	over  chan struct{}    // closed when nobody wants more
	rest  []*Delivery      // came, and not yet delivered; of the goroutine that calls Fetch
}

// later is a job that is to be delivered again.
type later struct {
	at time.Time
	d  *Delivery
}

// OpenJSONL opens a file of jobs.
func OpenJSONL(path string, cfg JSONLConfig) (*JSONL, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("drain: %w", err)
	}
	if cfg.Dead == "" {
		cfg.Dead = strings.TrimSuffix(path, ".jsonl") + ".dead.jsonl"
	}
	total := int64(-1)
	info, err := file.Stat()
	if dead, e := os.Stat(cfg.Dead); err == nil && e == nil && os.SameFile(info, dead) {
		_ = file.Close()
		return nil, fmt.Errorf("drain: %s is the file of jobs and of dead letters; give another one for the dead letters", path)
	}
	if err == nil && info.Mode().IsRegular() {
		if total, err = countLines(file); err != nil {
			_ = file.Close()
			return nil, fmt.Errorf("drain: reading %s: %w", path, err)
		}
	}
	s, err := NewJSONL(file, path, cfg)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	s.total = total
	return s, nil
}

// NewJSONL reads jobs from in, which it closes; name is what messages call it.
func NewJSONL(in io.ReadCloser, name string, cfg JSONLConfig) (*JSONL, error) {
	if cfg.MaxLine == 0 {
		cfg.MaxLine = 16 << 20
	}
	if cfg.MaxLine < 1<<10 || cfg.MaxLine > 1<<30 {
		return nil, fmt.Errorf("drain: JSONLConfig.MaxLine is %d, must be 0 (default) or 1024 to 1073741824 bytes", cfg.MaxLine)
	}
	if cfg.Dead == "" {
		return nil, errors.New("drain: JSONLConfig.Dead is empty, must name a file for the dead letters")
	}
	s := &JSONL{name: name, r: bufio.NewReaderSize(in, 1<<18), cfg: cfg, total: -1, gone: map[Hash]bool{}, kick: make(chan struct{}, 1)}
	s.pipe.came, s.pipe.over = make(chan []*Delivery), make(chan struct{})
	s.close = sync.OnceValue(func() error {
		close(s.pipe.over)
		return in.Close()
	})
	if cfg.RetryDead {
		old := cfg.Dead + ".old"
		for i := 2; exists(old); i++ {
			old = fmt.Sprintf("%s.old-%d", cfg.Dead, i)
		}
		if err := os.Rename(cfg.Dead, old); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("drain: %w", err)
		}
		return s, nil
	}
	if _, err := os.Stat(cfg.Dead); err == nil {
		err := s.openDead()
		s.before = int64(len(s.gone))
		return s, err
	}
	return s, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// openDead opens the file of dead letters, and reads what is in it.
func (s *JSONL) openDead() error {
	file, err := openAppend(s.cfg.Dead)
	if err != nil {
		return err
	}
	rec, err := recover_(s.cfg.Dead, file, func(line []byte, _ int64) error {
		_, h, err := readResult(line)
		if err == nil {
			s.gone[h] = true
		}
		return err
	})
	if err != nil {
		_ = file.Close()
		return err
	}
	s.dead = newAppendLog(s.cfg.Dead, file, rec.end)
	return nil
}

// blank reports whether a line, or a part of it, says nothing.
func blank(line []byte) bool { return len(bytes.Trim(line, jsonSpace)) == 0 }

// countLines counts the lines that are not blank, and goes back to the start.
func countLines(f *os.File) (n int64, err error) {
	buf := make([]byte, 1<<18)
	text := false
	for {
		m, err := f.Read(buf)
		for b := buf[:m]; len(b) > 0; {
			line, rest, end := bytes.Cut(b, []byte{'\n'})
			text = text || !blank(line)
			if end && text {
				n++
				text = false
			}
			b = rest
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	if text {
		n++
	}
	_, err = f.Seek(0, io.SeekStart)
	return n, err
}

// Total implements Counter.
func (s *JSONL) Total() (int64, bool) { return s.total, s.total >= 0 }

// DeadBefore returns how many jobs earlier runs have put aside, as far as the file of dead letters says; this run leaves them out.
func (s *JSONL) DeadBefore() int64 { return s.before }

// LeftOut returns how many jobs this run has left out so far, because an earlier one put them aside, or this one an equal line.
func (s *JSONL) LeftOut() int64 { return s.leftOut.Load() }

// DeadPath returns the file for dead letters.
func (s *JSONL) DeadPath() string { return s.cfg.Dead }

// Fetch implements Source. Jobs of which an earlier run has a dead letter are left out.
func (s *JSONL) Fetch(ctx context.Context, n int) ([]*Delivery, error) {
	if s.total < 0 {
		s.pipe.begin.Do(func() { go s.feed() }) // ends when the input does, or is closed
		defer context.AfterFunc(ctx, func() { _ = s.close() })()
	}
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		ds, wait, err := s.ready(n)
		if len(ds) > 0 {
			return ds, nil // a file that cannot be read on says so again
		}
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, err
		}
		var timer <-chan time.Time
		if wait > 0 {
			t := time.NewTimer(wait)
			defer t.Stop()
			timer = t.C
		}
		more := s.pipe.came // to which nothing comes but from a pipe
		if s.eof {          // which only this goroutine writes
			more = nil
		}
		select {
		case <-ctx.Done():
		case s.pipe.rest = <-more:
		case <-s.kick:
		case <-timer:
		}
	}
}

// mostAhead is how many bytes are read for one Fetch, beside a last line.
const mostAhead = 16 << 20

// mostLines is how many lines of a pipe are read ahead.
const mostLines = 256

// feed reads a pipe.
func (s *JSONL) feed() {
	p := &s.pipe
	defer close(p.came)
	for p.err == nil {
		var ds []*Delivery
		// What can be read without waiting goes together.
		for n := 0; p.err == nil && len(ds) < mostLines && n < mostAhead && (len(ds) == 0 || s.whole()); {
			var d *Delivery
			if d, p.err = s.next(); d != nil {
				ds = append(ds, d)
				n += len(d.Body)
			}
		}
		if len(ds) == 0 {
			continue
		}
		select {
		case p.came <- ds:
		case <-p.over:
			p.err = os.ErrClosed
		}
	}
}

// arrived returns the next job of a pipe; nil when there is none now.
func (s *JSONL) arrived() (*Delivery, error) {
	p := &s.pipe
	if len(p.rest) == 0 {
		select {
		case ds, open := <-p.came:
			if !open {
				return nil, p.err
			}
			p.rest = ds
		default:
			return nil, nil
		}
	}
	d := p.rest[0]
	p.rest = p.rest[1:]
	return d, nil
}

// ready returns what can be delivered now. When there is nothing, it returns how long until something handed back is due, 0 when
// that is up to those who hold deliveries.
func (s *JSONL) ready(n int) (ds []*Delivery, wait time.Duration, err error) {
	now := time.Now()
	s.mu.Lock()
	for len(s.ways) > 0 && len(ds) < n && !s.ways[0].at.After(now) {
		ds = append(ds, s.ways[0].d)
		s.ways = s.ways[1:]
	}
	s.out += len(ds)
	eof := s.eof
	s.mu.Unlock()
	for ahead := 0; !eof && len(ds) < n && ahead < mostAhead; {
		var d *Delivery
		if s.total >= 0 {
			if d, err = s.next(); err == io.EOF && s.read < s.total {
				err = fmt.Errorf("drain: %s was cut while it was read: it had %d lines that are not blank, and %d were there", s.name, s.total, s.read)
			}
		} else if d, err = s.arrived(); d == nil && err == nil {
			break
		}
		if err == io.EOF {
			eof = true
			break
		}
		if err != nil {
			return ds, 0, err
		}
		if d != nil && s.wanted(d) {
			ds = append(ds, d)
			ahead += len(d.Body)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eof = eof
	switch {
	case len(ds) > 0:
		return ds, 0, nil
	case len(s.ways) > 0:
		return nil, max(1, s.ways[0].at.Sub(now)), nil
	case !eof, s.out > 0:
		return nil, 0, nil // one of them may be handed back, or more come
	}
	return nil, 0, io.EOF
}

// whole reports whether a line can be read without waiting for the rest of it.
func (s *JSONL) whole() bool {
	b, _ := s.r.Peek(s.r.Buffered())
	return bytes.IndexByte(b, '\n') >= 0
}

// next reads a job; nil when the line is blank.
func (s *JSONL) next() (*Delivery, error) {
	line, cut, sum, err := s.readLine()
	if err == io.EOF && len(line) == 0 {
		return nil, io.EOF
	}
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("drain: reading %s: %w", s.name, err)
	}
	s.line++
	if cut || !blank(line) {
		s.read++
	}
	if s.line == 1 {
		line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	line = bytes.TrimSpace(line)
	if len(line) == 0 && !cut {
		return nil, nil
	}
	d := &Delivery{Body: line, Where: s.name + ":" + strconv.Itoa(s.line), Since: time.Now()}
	if cut {
		d.Body = bytes.Clone(line[:min(len(line), 4<<10)])
		d.Fault = &Fault{ReasonTooLarge, fmt.Sprintf("the line is longer than %d bytes; its first 4096 are kept", s.cfg.MaxLine)}
		d.Handle = sum
	}
	return d, nil
}

// sum returns the hash by which the job of a line is known.
func sum(d *Delivery) Hash {
	if h, cut := d.Handle.(Hash); cut { // d.Body is the beginning of the line only
		return h
	}
	return lineHash(d.Body)
}

// wanted counts a job as out, unless it is known as a dead letter.
func (s *JSONL) wanted(d *Delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.gone) > 0 && s.gone[sum(d)] {
		s.leftOut.Add(1)
		return false
	}
	s.out++
	return true
}

// readLine returns a line in memory of its own. Of one that is too long it returns the beginning, cut, and the hash of all of it.
func (s *JSONL) readLine() (line []byte, cut bool, sum Hash, err error) {
	all := sha256.New()
	for {
		part, err := s.r.ReadSlice('\n')
		if !cut && len(line)+len(part) > s.cfg.MaxLine+2 {
			cut = true
			all.Write(line)
		}
		if cut {
			all.Write(part)
			part = part[:min(len(part), max(0, s.cfg.MaxLine-len(line)))]
		}
		line = append(line, part...)
		if err != bufio.ErrBufferFull {
			if cut {
				copy(sum[:], all.Sum(nil))
			}
			return line, cut, sum, err
		}
	}
}

func lineHash(line []byte) (h Hash) {
	sum := sha256.Sum256(line)
	copy(h[:], sum[:])
	return h
}

// Ack implements Source: the result is in the Store, which is all that is to be known.
func (s *JSONL) Ack(context.Context, *Delivery) error { return s.settle() }

// Release implements Source. The next run reads the job again.
func (s *JSONL) Release(context.Context, *Delivery) error { return s.settle() }

// Retry implements Source: the job is delivered again by this run.
func (s *JSONL) Retry(_ context.Context, d *Delivery, after time.Duration, _ string) error {
	again := *d
	again.Attempts++
	again.Retries++
	at := time.Now().Add(after)
	s.mu.Lock()
	i := len(s.ways)
	for i > 0 && s.ways[i-1].at.After(at) {
		i--
	}
	s.ways = append(s.ways, later{})
	copy(s.ways[i+1:], s.ways[i:])
	s.ways[i] = later{at, &again}
	s.mu.Unlock()
	return s.settle()
}

// Dead implements Source: the dead letter is a line in the format of the batch API's error file, with the job beside it.
func (s *JSONL) Dead(_ context.Context, d *Delivery, letter *DeadLetter) error {
	s.mu.Lock()
	if s.dead == nil {
		if err := s.openDead(); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	h, log := sum(d), s.dead
	known := s.gone[h]
	s.gone[h] = true
	s.mu.Unlock()
	if !known {
		if _, _, err := log.append(func(b []byte) []byte { return appendDead(b, d, letter, h) }); err != nil {
			s.mu.Lock()
			delete(s.gone, h)
			s.mu.Unlock()
			return err
		}
	}
	return s.settle()
}

// settle counts a delivery that came back.
func (s *JSONL) settle() error {
	s.mu.Lock()
	s.out--
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
	return nil
}

// Close closes the files.
func (s *JSONL) Close() error {
	err := s.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead != nil {
		err = errors.Join(err, s.dead.close())
	}
	return err
}

// DeadLine is a line of a file of dead letters, for programs that read it.
type DeadLine struct {
	ID       string `json:"custom_id"`
	Response *struct {
		Status    int             `json:"status_code"`
		RequestID string          `json:"request_id"`
		Body      json.RawMessage `json:"body"`
	} `json:"response"`
	Error struct {
		Code    Reason `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	Attempts int       `json:"attempts"`
	At       time.Time `json:"at"`
	Where    string    `json:"where"`
	// Input is the job: JSON where it was JSON, else a string. InputBytes is it where it was not even text.
	Input      json.RawMessage `json:"input"`
	InputBytes []byte          `json:"input_base64"`
}
