// Package config reads limits.toml, the one file that says how calls to upstreams are guarded.
//
// The file is read strictly: an unknown key, a wrong type, a value out of range, and two values that
// contradict each other are errors, and all errors of a file are reported together with
// their lines, what is allowed and what was probably meant (see package config/strict). What is
// not written takes its default; an empty file is a good start. The file limits.toml at the
// root of the repository documents every key.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// File is what a limits.toml says, with the defaults filled in. It is read-only after
// it was made, and may then be shared.
type File struct {
	// Defaults is [guard]: the settings of every upstream that does not say otherwise.
	Defaults Settings
	// Upstreams are the tables [upstream.<name>] by name, each with the settings of
	// [guard] that it does not override.
	Upstreams map[string]Upstream
	// Rules are the tables [[feedback.rule]] in the order of the file; feedback.CompileRules accepts them.
	Rules []feedback.Rule
}

// Upstream is one named upstream.
type Upstream struct {
	// Name is the name of its table. It names the guard in errors, metrics and logs.
	Name string
	// BaseURL is where the upstream's API begins, without a trailing slash; empty when not given.
	BaseURL string
	// Provider hints at whose answers they are, for instance "dashscope"; empty when not given.
	Provider string
	// Keys are its credentials, and how they are used.
	Keys Keys
	// Settings are how calls to it are guarded.
	Settings
}

// Settings are how calls to an upstream are guarded. Unlike in [limiter.Config], a zero is a
// zero here and never stands for a default, except in the limits of Budget. Two Settings are alike when
// [reflect.DeepEqual] says so.
type Settings struct {
	// Law names the control law; see [Laws].
	Law string
	// Adaptive has the limits to start with and to stay within, which every law has, and the
	// parameters of flyball's own law.
	Adaptive adaptive.Config
	// Queue is how many callers may wait (0 to 1,000,000). At 0 nobody waits: a call that finds
	// no place is refused.
	Queue int
	// MaxWait is how long a caller waits at most (1 ms to 24 h).
	MaxWait time.Duration
	// MaxPause is the longest Retry-After that is waited for (1 ms to 24 h), see limiter.Config.
	MaxPause time.Duration
	// PauseJitter is how much of a pause is added to it at random, at most, as a ratio (0 to 1).
	PauseJitter float64
	// IgnoreRetryAfter leaves a Retry-After to the caller.
	IgnoreRetryAfter bool
	// Observe holds nothing back, and counts what would have been.
	Observe bool
	// TimeOneIn is how many calls there are to one whose latency is measured (1 to 1024, a power of two).
	TimeOneIn int
	// MaxHold is how long a permit may be held before it is reported as leaked (1 s to 24 h). At 0 nobody watches.
	MaxHold time.Duration
	// WatchOneIn is how many permits there are to one that is watched (1 to 1024, a power of two).
	WatchOneIn int
	// Reclaim takes the place of a leaked permit back.
	Reclaim bool
	// Room says who of those who wait goes next. It is nil when that is first in, first out; so are settings that
	// say no more than their defaults. It must not be changed.
	Room *limiter.Room
	// Budget holds limits of requests and tokens per time; nil when there are none. It must not be changed.
	Budget *limiter.Budget
	// Retry is how often and when a request is sent again.
	Retry limiter.Retry
}

// Default returns what an empty file says.
func Default() *File {
	return &File{Defaults: guardTable{}.settings(), Upstreams: map[string]Upstream{}}
}

// Load reads the file at path. An error names the path and what to do about it; what is wrong in the
// file is a [strict.Errors].
func Load(path string) (*File, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// read returns what the file at path holds, and of a file that is too large so much that Parse says so.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, fmt.Errorf("config: %s is a directory: give the path of a file in it, such as limits.toml", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, strict.MaxSize+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return data, nil
}

func unreadable(path string, err error) error {
	// The path is in the text already.
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if path == "" {
		return fmt.Errorf("config: the path of the file is empty: give one, such as limits.toml: %w", err)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("config: %s cannot be read: %w: check the path, or make the file; an empty file means all defaults", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("config: %s cannot be read: %w: let the user who runs this read it", path, err)
	}
	return fmt.Errorf("config: %s cannot be read: %w", path, err)
}

// Parse reads data, the contents of a limits.toml. The name is for messages. Its error is a [strict.Errors] with
// everything that is wrong.
func Parse(name string, data []byte) (*File, error) {
	var t fileTable
	if err := Decode(name, data, &t); err != nil {
		return nil, err
	}
	return t.File(), nil
}

// Decode is strict.Decode for a limits.toml: messages do not repeat what may be a credential.
func Decode(name string, data []byte, dst any) error {
	err := strict.Decode(name, data, dst)
	hideSecrets(err)
	return err
}

// File returns what the tables say, with the defaults of what they do not say. They must have been decoded without an error.
func (t *Tables) File() *File {
	f := &File{Defaults: t.Guard.settings(), Upstreams: make(map[string]Upstream, len(t.Upstream))}
	for name, u := range t.Upstream {
		f.Upstreams[name] = u.upstream(name, t.Guard)
	}
	for _, r := range t.Feedback.Rule {
		f.Rules = append(f.Rules, r.rule())
	}
	return f
}

// Names returns the names of the upstreams, sorted.
func (f *File) Names() []string { return slices.Sorted(maps.Keys(f.Upstreams)) }

// Upstream returns the upstream called name. When the file has none of that name, ok is
// false and u has the name and the settings of [guard].
func (f *File) Upstream(name string) (u Upstream, ok bool) {
	u, ok = f.Upstreams[name]
	if !ok {
		u = Upstream{Name: name, Keys: (&keysTable{}).keys(""), Settings: f.Defaults}
	}
	return u, ok
}

// FeedbackRules returns the rules as feedback.Parse takes them; nil when there are none. It panics when f was not
// made by this package and has a rule that feedback.CompileRules does not accept.
func (f *File) FeedbackRules() *feedback.Rules {
	if len(f.Rules) == 0 {
		return nil
	}
	rules, err := feedback.CompileRules(f.Rules)
	if err != nil {
		panic("config: " + err.Error())
	}
	return rules
}

// Guard returns the configuration of a guard for the upstream called name, or one with the settings of
// [guard] when the file has none of that name. Each call makes a new law, so the result is for
// one guard. It panics when f was not made by this package and names a law that does not exist.
func (f *File) Guard(name string) limiter.Config {
	u, _ := f.Upstream(name)
	return u.Config()
}

// Config returns the configuration of a guard for u; see [File.Guard].
func (u Upstream) Config() limiter.Config {
	c := u.Settings.Config()
	c.Name = u.Name
	return c
}

// Config returns the configuration of a guard with these settings and no name; see [File.Guard].
func (s Settings) Config() limiter.Config {
	c := limiter.Config{
		Adaptive:    s.Adaptive,
		Queue:       s.Queue,
		MaxWait:     s.MaxWait,
		MaxPause:    s.MaxPause,
		PauseJitter: s.PauseJitter,

		IgnoreRetryAfter: s.IgnoreRetryAfter,
		Observe:          s.Observe,
		TimeOneIn:        s.TimeOneIn,
		MaxHold:          s.MaxHold,
		WatchOneIn:       s.WatchOneIn,
		Reclaim:          s.Reclaim,
		Room:             s.Room,
		Budget:           s.Budget,
		Retry:            s.Retry,
	}
	if c.Queue == 0 {
		c.Queue = -1
	}
	if c.PauseJitter == 0 {
		c.PauseJitter = -1
	}
	if s.Law != LawAdaptive {
		c.Law = s.NewLaw()
	}
	return c
}

// NewLaw returns a new law of the kind that s names. It panics when there is no such law.
func (s Settings) NewLaw() adaptive.Law {
	law, err := NewLaw(s.Law, s.Adaptive)
	if err != nil {
		panic(err.Error())
	}
	return law
}
