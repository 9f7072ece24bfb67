package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/feedback"
)

// feedbackCommand returns the command that says what an answer means.
func (e *env) feedbackCommand() *cli.Command {
	return &cli.Command{
		Name: "feedback", Usage: "say what an upstream's answer means: class, delay, scope, windows",
		ArgsUsage: "FILE", Flags: feedbackFlags(), Action: e.feedbackAction, OnUsageError: usageError,
		Description: `FILE is an answer as curl -i prints it, or JSON objects, one a line, in the form of feedback/testdata; - is stdin.
Each answer gives one line of JSON on stdout. With --check each difference to what the line expects gives one.

Examples:
   curl -si https://api.example.com/v1/models | simulate feedback -
   simulate feedback --provider dashscope answer.txt
   simulate feedback --check feedback/testdata/responses.jsonl`,
	}
}

func feedbackFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "check", Usage: "compare with the expect of each line instead, and exit with 3 when one differs"},
		&cli.StringFlag{Name: "provider", Usage: "`NAME` of who answered, for answers that do not say it"},
		&cli.StringFlag{Name: "now", Usage: "`TIME` (RFC 3339) at which answers came that do not say it", DefaultText: "the time"},
		configFlagOf("rules ([[feedback.rule]] of limits.toml)"),
	}
}

// A reading reads the answers of one file.
type reading struct {
	*env
	ctx   context.Context
	file  string // what messages call it
	name  string // of an answer that has none of its own
	check bool
	// defaults has what an answer does not say itself: Now and Provider. Its Rules are for all.
	defaults feedback.Answer

	answers, differing int
	prefix             []byte // of the body at hand
}

// feedbackAction reads a file and says what the answers in it mean.
func (e *env) feedbackAction(c *cli.Context) error {
	path, err := feedbackFile(c)
	if err != nil {
		return misuse(err)
	}
	r := &reading{env: e, ctx: c.Context, file: path, name: filepath.Base(path), check: c.Bool("check")}
	var errs []error
	r.defaults = feedback.Answer{Provider: c.String("provider"), Now: time.Now()}
	if c.IsSet("now") {
		if r.defaults.Now, err = time.Parse(time.RFC3339, c.String("now")); err != nil {
			errs = append(errs, fmt.Errorf("--now is %q, must be an instant such as 2026-08-20T10:00:00Z", c.String("now")))
		}
	}
	if file, err := loadConfig(c); err != nil {
		errs = append(errs, err)
	} else {
		r.defaults.Rules = file.FeedbackRules()
	}
	if len(errs) > 0 {
		return misuse(errors.Join(errs...))
	}
	in := e.stdin
	if path == "-" {
		r.file, r.name = "stdin", "stdin"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return misuse(r.unreadable(err))
		}
		defer f.Close()
		in = f
	}
	if err := r.read(&interruptible{ctx: r.ctx, r: in}); err != nil {
		return err
	}
	if r.differing > 0 {
		return &exitError{exitAssertion, fmt.Errorf("%s: %d of %d answers are not as expected", r.file, r.differing, r.answers)}
	}
	if r.check {
		fmt.Fprintf(e.stderr, "simulate: %s: %d answers, all as expected\n", r.file, r.answers)
	}
	return nil
}

// feedbackFile returns the one argument. Options may come after it, too.
func feedbackFile(c *cli.Context) (string, error) {
	const example = "as in simulate feedback answer.txt; - is stdin"
	var files []string
	for args := c.Args().Slice(); len(args) > 0; {
		if args[0] == "-" || !strings.HasPrefix(args[0], "-") {
			files, args = append(files, args[0]), args[1:]
			continue
		}
		set := flag.NewFlagSet("", flag.ContinueOnError)
		set.SetOutput(io.Discard)
		for _, f := range feedbackFlags() {
			if err := f.Apply(set); err != nil {
				return "", err
			}
		}
		if err := set.Parse(args); err != nil {
			return "", fmt.Errorf("%w; see simulate feedback --help", err)
		}
		var err error
		set.Visit(func(f *flag.Flag) { err = errors.Join(err, c.Set(f.Name, f.Value.String())) })
		if err != nil {
			return "", err
		}
		args = set.Args()
	}
	switch {
	case len(files) == 0:
		return "", errors.New("feedback needs a file, " + example)
	case len(files) > 1:
		return "", fmt.Errorf("feedback reads one file, not %d: %s; join them with cat when they are lines of JSON", len(files), strings.Join(files, ", "))
	case files[0] == "":
		return "", errors.New("the name of the file is empty: write it, " + example)
	}
	return files[0], nil
}

// read reads the answers from in, which is a raw answer or lines of JSON, and writes what they mean.
func (r *reading) read(in io.Reader) error {
	s := newSource(in)
	err := r.parse(s)
	switch {
	case r.ctx.Err() != nil && (err == nil || s.err != nil):
		return &exitError{exitInterrupted, fmt.Errorf("interrupted after %d answers; what they mean is above", r.answers)}
	case s.err != nil:
		return misuse(r.unreadable(s.err))
	}
	var bad *badInput
	if errors.As(err, &bad) {
		return misuse(fmt.Errorf("%s:%d: %s", r.file, bad.line, bad.text))
	}
	return err
}

// parse is read; when the source fails, that comes before what it returns.
func (r *reading) parse(s *source) error {
	start, err := s.begin()
	if err != nil {
		return err
	}
	switch {
	case start[0] == '{':
		return r.lines(s)
	case !isStatusLine(start):
		start, _, _ = bytes.Cut(start, []byte("\n"))
		return s.badf("begins with %q, must be an answer as curl -i prints it (HTTP/1.1 429 Too Many Requests ...) or JSON objects, one a line, as jq -c prints them ({\"status\": 429, ...})", start)
	case r.check:
		return s.badf("a raw answer has no expect for --check: write it as a line of JSON with one, or leave --check out")
	}
	a, err := r.raw(s)
	if err != nil {
		return err
	}
	return r.write(r.name, a)
}

// unreadable says that the file cannot be read.
func (r *reading) unreadable(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s cannot be read: %w; check the path, or write - for stdin", r.file, err)
}

// note says on stderr what a reader of the result should know.
func (r *reading) note(name, format string, args ...any) {
	fmt.Fprintf(r.stderr, "simulate: %s: %s\n", printable(name), fmt.Sprintf(format, args...))
}

// write prints what an answer means as a line of JSON.
func (r *reading) write(name string, s feedback.Signal) error {
	line, err := marshal(newMeaning(name, s))
	if err != nil {
		return internal(err)
	}
	r.answers++
	return r.print(append(line, '\n'))
}

// print writes to stdout at once, so that nothing is lost when a later line is bad.
func (r *reading) print(p []byte) error {
	if _, err := r.stdout.Write(p); err != nil {
		return internal(fmt.Errorf("the result could not be written: %w", err))
	}
	return nil
}

// meaning is what is printed of a signal. The names and their order are those of the fixtures' expect.
type meaning struct {
	Name       string   `json:"name"`
	Class      string   `json:"class"`
	Retryable  bool     `json:"retryable"`
	RetryAfter count    `json:"retry_after_ms"`
	Scope      string   `json:"scope"`
	Windows    []window `json:"windows"`
	Source     string   `json:"source"`
	Stated     []stated `json:"stated"`
}

type window struct {
	Kind      string `json:"kind"`
	Limit     count  `json:"limit"`
	Remaining count  `json:"remaining"`
	Reset     count  `json:"reset_ms"`
}

type stated struct {
	Kind      string `json:"kind"`
	Limit     count  `json:"limit"`
	Used      count  `json:"used"`
	Requested count  `json:"requested"`
	Per       count  `json:"per_ms"`
}

// count is a number that is null when nobody stated it.
type count int64

// MarshalJSON implements json.Marshaler.
func (c count) MarshalJSON() ([]byte, error) {
	if c == feedback.Unstated {
		return []byte("null"), nil
	}
	return json.Marshal(int64(c))
}

func newMeaning(name string, s feedback.Signal) *meaning {
	m := &meaning{
		Name: name, Class: s.Class.String(), Retryable: s.Retryable, RetryAfter: feedback.Unstated,
		Scope: s.Scope.String(), Source: s.Source, Windows: []window{}, Stated: []stated{},
	}
	if s.HasRetryAfter {
		m.RetryAfter = count(s.RetryAfter.Milliseconds())
	}
	for _, w := range s.Windows {
		reset := count(feedback.Unstated)
		if w.Reset != feedback.Unstated {
			reset = count(w.Reset.Milliseconds())
		}
		m.Windows = append(m.Windows, window{w.Kind.String(), count(w.Limit), count(w.Remaining), reset})
	}
	for _, t := range s.Stated {
		per := count(feedback.Unstated)
		if t.Per > 0 {
			per = count(t.Per.Milliseconds())
		}
		m.Stated = append(m.Stated, stated{t.Kind.String(), count(t.Limit), count(t.Used), count(t.Requested), per})
	}
	return m
}

// marshal is json.Marshal that leaves <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// A badInput is what is wrong with a line of the file.
type badInput struct {
	line int
	text string
}

func (e *badInput) Error() string { return fmt.Sprintf("%d: %s", e.line, e.text) }

// A source is a file that is read line by line, or from one point on as bytes.
type source struct {
	*bufio.Reader
	in   io.Reader
	line int   // of what is read next, from 1
	err  error // why reading ended, when not at the end
}

func newSource(in io.Reader) *source {
	s := &source{in: in, line: 1}
	s.Reader = bufio.NewReaderSize(fails{s}, 64<<10)
	return s
}

// fails reads from a source's file and notes why reading failed.
type fails struct{ s *source }

func (f fails) Read(p []byte) (int, error) {
	n, err := f.s.in.Read(p)
	if n > 0 {
		return n, nil // an error that comes with bytes comes again after them
	}
	if err != nil && err != io.EOF {
		f.s.err = err
	}
	return n, err
}

// badf returns an error about the line that is read next.
func (s *source) badf(format string, args ...any) error {
	return &badInput{s.line, fmt.Sprintf(format, args...)}
}

// begin skips what may come before the first answer and returns its first bytes, at least one.
func (s *source) begin() ([]byte, error) {
	switch mark, _ := s.Peek(3); {
	case bytes.Equal(mark, []byte("\xef\xbb\xbf")):
		s.Discard(len(mark)) //nolint:errcheck // they are there
	case bytes.HasPrefix(mark, []byte("\xff\xfe")), bytes.HasPrefix(mark, []byte("\xfe\xff")):
		return nil, s.badf("is UTF-16, must be UTF-8: let curl write the file itself, as in curl -i -o answer.txt")
	}
	for {
		c, err := s.ReadByte()
		switch {
		case err != nil:
			return nil, s.badf("there is no answer: save one with curl -i, or write it as a line of JSON")
		case c == '\n':
			s.line++
		case c != ' ' && c != '\t' && c != '\r':
			s.UnreadByte() //nolint:errcheck // it was just read
			if c == '{' {
				return s.Peek(1) // a line may be short, and the next one not there yet
			}
			start, _ := s.Peek(statusLine)
			return start, nil
		}
	}
}

// errTooLong is a line that is longer than it may be.
var errTooLong = errors.New("line too long")

// readLine returns the next line without its end, LF or CR LF, and goes on to the next. At the end it returns io.EOF. The
// line may only be used until the next call.
func (s *source) readLine(limit int) ([]byte, error) {
	line, err := s.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		all := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) && len(all) <= limit+2 {
			line, err = s.ReadSlice('\n')
			all = append(all, line...)
		}
		line = all
	}
	if len(line) == 0 {
		return nil, io.EOF
	}
	line, _ = bytes.CutSuffix(line, []byte("\n"))
	line, _ = bytes.CutSuffix(line, []byte("\r"))
	if len(line) > limit {
		return nil, errTooLong
	}
	s.line++
	return line, nil
}

// interruptible reads from r, but returns when its context is done, though r gives nothing.
type interruptible struct {
	ctx  context.Context
	r    io.Reader
	buf  []byte
	rest []byte
}

// Read implements io.Reader. A read that is going on when the context ends is left to itself: the program ends then.
func (i *interruptible) Read(p []byte) (int, error) {
	if len(i.rest) == 0 {
		if err := i.ctx.Err(); err != nil {
			return 0, err
		}
		type result struct {
			n   int
			err error
		}
		if i.buf == nil {
			i.buf = make([]byte, 64<<10)
		}
		done := make(chan result, 1)
		go func() {
			n, err := i.r.Read(i.buf)
			done <- result{n, err}
		}()
		select {
		case <-i.ctx.Done():
			return 0, i.ctx.Err()
		case got := <-done:
			if got.n == 0 {
				return 0, got.err // and one that comes with bytes comes again after them
			}
			i.rest = i.buf[:got.n]
		}
	}
	n := copy(p, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}

// shorten returns the beginning of s for a message.
func shorten(s []byte) string {
	const most = 40
	if len(s) <= most {
		return string(s)
	}
	return strings.ToValidUTF8(string(s[:most]), "") + "..."
}
