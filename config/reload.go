package config

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/limiter"
)

// Reloader is a limits.toml that may change while the program runs: it makes the guards, and changes them in
// place. Its methods may be called by any number of goroutines.
type Reloader struct {
	path  string
	parse func(name string, data []byte) (*File, error)
	// turn has room for one: whoever reads the file and puts it in force.
	turn chan struct{}
	// seen is what was read last, as digest writes it, failure why it could not be put in force, empty when it was, and blank says that nothing is
	// in the file that is. Whoever has the turn may touch them.
	seen    string
	failure string
	blank   bool

	// mu guards what follows. It is held for memory only.
	mu     sync.Mutex
	file   *File
	guards map[string]*liveGuard
	pools  map[string]*livePool
	rekey  bool // see ReplacePools
}

// liveGuard is a guard and what it runs with.
type liveGuard struct {
	guard    *limiter.Guard
	settings Settings
	law      adaptive.Law // nil for flyball's own
	named    bool         // the file has, or had, a table of its upstream
}

// livePool is a pool and what it runs with.
type livePool struct {
	pool     *limiter.Pool
	keys     []limiter.Secret
	upstream Upstream
}

// Changes is what a reload changed.
type Changes struct {
	// Upstreams are the names of those that run with other settings now, sorted.
	Upstreams []string
	// Settings are the settings that changed, with the name of the upstream, or "guard" for [guard]:
	// "openai.max_limit: 64 -> 32". No credential is in them.
	Settings []string
}

// NewReloader reads the file at path, which must be a file and no pipe. The error is that of [Load].
func NewReloader(path string) (*Reloader, error) { return NewReloaderFunc(path, Parse) }

// NewReloaderFunc is NewReloader with parse in the place of [Parse], for a program that has tables of its own in the file
// (see [Tables]). It is called with each version of the file, and again with one that could not be used, by one goroutine at a time, before
// anything is changed. A file for which it returns an error is not used; the file that it returns is not changed any more.
func NewReloaderFunc(path string, parse func(name string, data []byte) (*File, error)) (*Reloader, error) {
	data, err := readAgain(path)
	if err != nil {
		return nil, err
	}
	f, err := parse(path, data)
	if err != nil {
		return nil, err
	}
	return &Reloader{
		path: path, parse: parse, turn: make(chan struct{}, 1), seen: digest(data, nil), blank: blank(data),
		file: f, guards: map[string]*liveGuard{}, pools: map[string]*livePool{},
	}, nil
}

// File returns the file that is in force.
func (r *Reloader) File() *File {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file
}

// Guard returns the guard of the upstream called name: a new one the first time, and the same one from then
// on. A name that the file does not have gets the settings of [guard].
func (r *Reloader) Guard(name string) (*limiter.Guard, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.guards[name]; l != nil {
		return l.guard, nil
	}
	u, named := r.file.Upstream(name)
	c := u.Config()
	g, err := limiter.New(c)
	if err != nil {
		return nil, fmt.Errorf("config: upstream %s: %w", name, err)
	}
	r.guards[name] = &liveGuard{guard: g, settings: u.Settings, law: c.Law, named: named}
	return g, nil
}

// Pool returns the pool of the keys of the upstream called name, which are read the first time; see [Upstream.Pool].
func (r *Reloader) Pool(name string) (*limiter.Pool, error) {
	look := func() (u Upstream, p *limiter.Pool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		u, _ = r.file.Upstream(name)
		if l := r.pools[name]; l != nil {
			p = l.pool
		}
		return u, p
	}
	if _, p := look(); p != nil { // it may be a listener that asks, which a reload waits for
		return p, nil
	}
	// Files are read under the turn, so that the pool is made from what is in force.
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	u, p := look()
	if p != nil {
		return p, nil
	}
	c, err := u.Pool()
	if err != nil {
		return nil, err
	}
	if p, err = limiter.NewPool(c); err != nil {
		return nil, fmt.Errorf("config: upstream %s: %w", name, err)
	}
	r.mu.Lock()
	r.pools[name] = &livePool{pool: p, keys: c.Keys, upstream: u}
	r.mu.Unlock()
	return p, nil
}

// ReplacePools has reloads read the keys of pools again, too, from then on, and Run look at them. When an upstream has other keys than its pool, or the file says
// otherwise whose the limits are, Pool returns a new pool: the caller has to ask for it after each reload. Calls that are in flight or wait
// in the one before go on there; what its guards have learned is not carried over. A pool whose upstream has no keys any more is left as it
// is, and so is the guard of an upstream that is gone: who still waits there keeps to its limits, and not to those of [guard]. A key that cannot be read fails the reload, which changes nothing.
func (r *Reloader) ReplacePools() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rekey = true
}

// Reload reads the file again and puts it in force: each guard and pool whose settings changed is changed in place,
// so that nobody who waits loses his turn, and no permit is lost or doubled. Others are left alone, and so is
// what a law has learned while its own settings stay; only in a pool, a law other than flyball's own starts
// again with any change.
//
// A bad file changes nothing, and the error is that of [Load]. Neither does one that is empty and was not, which is what a full disk leaves of it,
// nor a file that names other keys for a pool that
// is in use, or changes whose the limits are: that needs a new pool (see ReplacePools).
//
// Reload must not be called by a listener of one of the guards, and no listener may ask Pool for one that is not made yet.
func (r *Reloader) Reload() (Changes, error) {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	data, err := readAgain(r.path)
	r.seen, r.failure = digest(data, err), ""
	c, err := r.apply(data, err)
	if err != nil {
		r.seen, r.failure = r.seen+r.otherKeys(), err.Error()
	}
	return c, err
}

// readAgain is read for a file that is read more than once. A pipe says nothing the second time, or never ends.
func readAgain(path string) ([]byte, error) {
	if st, err := os.Stat(path); err == nil && path != os.DevNull && st.Mode()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeDevice) != 0 {
		return nil, fmt.Errorf("config: %s is no file, and what is read again and again must be one: write it into a file", path)
	}
	return read(path)
}

// digest returns what tells one reading of the file from another.
func digest(data []byte, err error) string {
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(data)
	return string(sum[:])
}

// otherKeys returns what tells the keys that a reload would find, or why it would find none, from those in use, and from others; empty when they are the
// same, or when none are replaced. It needs the turn.
func (r *Reloader) otherKeys() string {
	r.mu.Lock()
	f, pools, rekey := r.file, maps.Clone(r.pools), r.rekey
	r.mu.Unlock()
	if !rekey {
		return ""
	}
	found := ""
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		u, _ := f.Upstream(name)
		keys, err := u.Keys.Read()
		if err != nil {
			found += digest(nil, err)
		} else if len(keys) > 0 && !sameKeys(keys, pools[name].keys) {
			for _, k := range keys {
				found += k.Reveal() + "\n"
			}
		}
	}
	if found == "" {
		return ""
	}
	return digest([]byte(found), nil)
}

func sameKeys(a, b []limiter.Secret) bool { return slices.EqualFunc(a, b, limiter.Secret.Equal) }

// blank reports whether there is nothing in a file.
func blank(data []byte) bool { return len(bytes.TrimSpace(data)) == 0 }

// apply puts data in force, unless err says that it could not be read. It needs the turn.
func (r *Reloader) apply(data []byte, err error) (Changes, error) {
	var f *File
	if err == nil {
		f, err = r.parse(r.path, data)
	}
	if err == nil && blank(data) && !r.blank {
		err = fmt.Errorf("config: %s is empty, as a file is that could not be written to a full disk: for all defaults, write a comment into it", r.path)
	}
	if err != nil {
		return Changes{}, err
	}

	fresh, err := r.freshPools(f)
	if err != nil {
		return Changes{}, err
	}

	// The lock is not held while guards change, because their listeners may ask for another guard; one
	// that is made from here on is made from f.
	r.mu.Lock()
	changes, steps, err := r.plan(f, fresh)
	if err == nil {
		r.file, r.blank = f, blank(data)
	}
	r.mu.Unlock()
	if err != nil {
		return Changes{}, err
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return changes, fmt.Errorf("config: %s: %w", r.path, err)
		}
	}
	return changes, nil
}

// freshPools returns new pools for upstreams whose keys have changed, when they are to be replaced. It needs the turn.
func (r *Reloader) freshPools(f *File) (map[string]*livePool, error) {
	r.mu.Lock()
	old, rekey := maps.Clone(r.pools), r.rekey
	r.mu.Unlock()
	if !rekey {
		return nil, nil
	}
	fresh := map[string]*livePool{}
	for _, name := range slices.Sorted(maps.Keys(old)) { // so that the same is wrong each time
		l := old[name]
		u, ok := f.Upstream(name)
		if !ok || len(u.Keys.Sources) == 0 {
			continue // nobody asks for it any more
		}
		cfg, err := u.Pool()
		if err != nil {
			return nil, err
		}
		if u.Keys.Limit == l.upstream.Keys.Limit && sameKeys(cfg.Keys, l.keys) {
			continue
		}
		p, err := limiter.NewPool(cfg)
		if err != nil {
			return nil, fmt.Errorf("config: upstream %s: %w", name, err)
		}
		fresh[name] = &livePool{pool: p, keys: cfg.Keys, upstream: u}
	}
	return fresh, nil
}

// plan returns what f changes and how to put it in force, with pools that replace others. It needs the lock. The settings of guards are f's
// when it returns no error.
func (r *Reloader) plan(f *File, fresh map[string]*livePool) (c Changes, steps []func() error, err error) {
	for _, name := range slices.Sorted(maps.Keys(r.pools)) {
		if r.rekey {
			break
		}
		l := r.pools[name]
		if u, _ := f.Upstream(name); !slices.Equal(u.Keys.Sources, l.upstream.Keys.Sources) || u.Keys.Limit != l.upstream.Keys.Limit {
			return Changes{}, nil, fmt.Errorf("config: %s: upstream.%s has other keys, or another limit, than its pool, which cannot change them: restart the program, or undo this", r.path, name)
		}
	}

	c.Settings = named("guard", differ(r.file.Defaults.each(), f.Defaults.each()))
	names := append(r.file.Names(), f.Names()...)
	for name := range r.guards {
		names = append(names, name)
	}
	slices.Sort(names)
	for name := range fresh {
		c.Upstreams = append(c.Upstreams, name)
	}
	for _, name := range slices.Compact(names) {
		was, had := r.file.Upstream(name)
		u, has := f.Upstream(name)
		if !reflect.DeepEqual(was, u) || had != has {
			c.Upstreams = append(c.Upstreams, name)
		}
		switch {
		case has && !had:
			c.Settings = append(c.Settings, name+": added")
		case had && !has:
			c.Settings = append(c.Settings, name+": removed")
		}
		if has || !had || !r.rekey { // else what there is of it is left as it is
			c.Settings = append(c.Settings, named(name, differ(was.each(), u.each()))...)
			if was.Keys.Prefix != u.Keys.Prefix {
				c.Settings = append(c.Settings, name+".key_prefix: changed") // it may be a part of a credential
			}
		}

		l := r.guards[name]
		gone := l != nil && l.named && !has && r.rekey // see ReplacePools
		if l != nil {
			l.named = l.named || has
		}
		if l != nil && !gone && !reflect.DeepEqual(l.settings, u.Settings) {
			cfg := u.Config()
			if u.Law == l.settings.Law && u.Adaptive == l.settings.Adaptive {
				cfg.Law = l.law // it goes on with what it knows
			}
			l.settings, l.law = u.Settings, cfg.Law
			steps = append(steps, func() error { return l.guard.Reload(cfg) })
		}
		if n := fresh[name]; n != nil {
			c.Settings = append(c.Settings, fmt.Sprintf("%s.key: other keys, %d -> %d, in a new pool", name, len(r.pools[name].keys), len(n.keys)))
			r.pools[name] = n
		} else if l := r.pools[name]; l != nil && len(u.Keys.Sources) > 0 && (!reflect.DeepEqual(l.upstream.Settings, u.Settings) || l.upstream.Keys.Probe != u.Keys.Probe || l.upstream.Keys.ProbeMax != u.Keys.ProbeMax) {
			cfg := u.pool(l.keys)
			l.upstream = u
			steps = append(steps, func() error { return l.pool.Reload(cfg) })
		}
	}
	slices.Sort(c.Upstreams)
	c.Upstreams = slices.Compact(c.Upstreams)
	if !reflect.DeepEqual(r.file.Rules, f.Rules) {
		c.Settings = append(c.Settings, fmt.Sprintf("feedback.rule: changed, %d -> %d rules", len(r.file.Rules), len(f.Rules)))
	}
	return c, steps, nil
}

// RunConfig says when Run reads the file again, and whom it tells.
type RunConfig struct {
	// Interval is how long after one look at the file the next one is. Zero means 2 s; a negative
	// value means never. Smaller sees changes sooner; larger reads the file less often.
	Interval time.Duration
	// Signals are those that have the file read at once. nil means SIGHUP on systems that have it; an
	// empty list that is not nil means none, as a test inside a bubble of testing/synctest wants: package os/signal must not be used first there.
	Signals []os.Signal
	// OnReload is called after each attempt, by the goroutine of Run. nil means that they are logged with
	// slog.Default, at level Info, and at Error those that failed.
	OnReload func(Changes, error)
}

// settling is how many looks at a file that changed there are in an interval.
const settling = 8

// Run reloads the file when it changed and when a signal asks for it, until ctx ends; it returns the cause. No goroutine is
// left then. It is called once, usually by a goroutine of its own.
//
// Looks read the file rather than trust its time, so a file that another one was renamed over, or a link that points
// elsewhere, is seen. A change is put in force when two looks, an eighth of the interval apart, found the same,
// so that a file is left alone while it is being written. The keys of pools are looked at in the same way, when they are replaced (see
// ReplacePools). What cannot be used is reported once, and tried again with each look: it may name a key whose file comes later. When it is
// something else then that is wrong, that is reported, too.
func (r *Reloader) Run(ctx context.Context, cfg RunConfig) error {
	tell := cfg.OnReload
	if tell == nil {
		tell = r.log
	}
	list := cfg.Signals
	if list == nil {
		list = hangup
	}
	signals := make(chan os.Signal, 1)
	if len(list) > 0 { // Notify takes no signals for all signals
		signal.Notify(signals, list...)
		defer signal.Stop(signals)
	}
	interval := cfg.Interval
	if interval == 0 {
		interval = 2 * time.Second
	}
	var look <-chan time.Time
	var timer *time.Timer
	if interval > 0 {
		timer = time.NewTimer(interval)
		defer timer.Stop()
		look = timer.C
	}
	before := ""
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-signals:
			tell(r.Reload())
		case <-look:
			found, tried, changes, err := r.look(before)
			if tried {
				tell(changes, err)
			}
			if before = found; before == "" {
				timer.Reset(interval)
			} else {
				timer.Reset(max(1, interval/settling))
			}
		}
	}
}

// look reads the file. When it is not what was seen, and what the look before found, or when what was seen could not be used, look puts it in
// force; tried says so, unless that failed as it was told before. Otherwise found is what the next look has to find, empty when nothing changed.
func (r *Reloader) look(before string) (found string, tried bool, c Changes, err error) {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	data, err := readAgain(r.path)
	file := digest(data, err)
	switch found = file + r.otherKeys(); {
	case found == r.seen && r.failure == "":
		return "", false, c, nil
	case found != r.seen && found != before:
		return found, false, c, nil
	}
	again, why := found == r.seen, r.failure
	c, err = r.apply(data, err)
	if r.seen, r.failure = file, ""; err != nil {
		r.seen, r.failure = found, err.Error() // with the keys that it was told of
	}
	return "", err == nil || !again || r.failure != why, c, err
}

// log is what Run does for OnReload.
func (r *Reloader) log(c Changes, err error) {
	if err != nil {
		slog.Error("limits not reloaded, the old ones stay", "file", r.path, "error", err)
		return
	}
	slog.Info("limits reloaded", "file", r.path, "upstreams", c.Upstreams, "changes", c.Settings)
}
