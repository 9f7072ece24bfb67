package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/internal/lab"
	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/scenarios"
)

// defaultConfig is read when it is there and no other file is named.
const defaultConfig = "limits.toml"

// Bounds of flags.
const (
	maxSeeds    = 1000
	maxCPUs     = 1024
	minDuration = time.Second
	maxDuration = 1000 * time.Hour
)

// The flags that commands share.
func configFlag() cli.Flag { return configFlagOf("the guard's parameters ([guard] of limits.toml)") }

// configFlagOf is of a command that reads something else of the file.
func configFlagOf(what string) cli.Flag {
	return &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "`FILE` with " + what + "; ./limits.toml when it is there"}
}

func setFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "set", Usage: "`KEY=VALUE` in place of what the files say: guard.* in the configuration, everything else in the scenarios; may be repeated"}
}

func seedFlags(seeds string) []cli.Flag {
	return []cli.Flag{
		&cli.Uint64Flag{Name: "seed", Usage: "first seed `N` of the random numbers", Value: 1},
		&cli.StringFlag{Name: "seeds", Usage: "`N` seeds, one after the other; auto adds them until it is decided, 64 at most", Value: seeds},
	}
}

func durationFlag() cli.Flag {
	return &cli.DurationFlag{Name: "duration", Usage: "`TIME` that requests arrive for, in place of what the scenarios say"}
}

func cpusFlag() cli.Flag {
	return &cli.IntFlag{Name: "cpus", Usage: "`N` runs at the same time; the result does not depend on it", Value: runtime.GOMAXPROCS(0), DefaultText: "all"}
}

func quietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "say nothing on stderr but errors"}
}

func scenariosFlag() cli.Flag {
	return &cli.StringFlag{Name: "scenarios", Usage: "`LIST` with commas between: names, files, sets such as set:held-out, or all", Value: "all"}
}

// A setup is what most commands read before they begin: settings, scenarios, seeds. Everything that is wrong is collected, so that it
// can be told at once.
type setup struct {
	e    *env
	c    *cli.Context
	errs []error

	overrides []strict.Override
	// guards are the overrides of the configuration, worlds those of the scenarios.
	guards, worlds []strict.Override
	// lasts replaces the duration of the scenarios; 0 for not.
	lasts time.Duration
	stdin *[]byte // what was there; nil before it is read
}

// newSetup reads --set.
func (e *env) newSetup(c *cli.Context) *setup {
	s := &setup{e: e, c: c}
	for _, text := range c.StringSlice("set") {
		o, err := strict.ParseOverride(text)
		if err != nil {
			s.fail(fmt.Errorf("--set: %w", err))
			continue
		}
		s.overrides = append(s.overrides, o)
		if strings.HasPrefix(o.Key, "guard.") || o.Key == "guard" {
			s.guards = append(s.guards, o)
		} else {
			s.worlds = append(s.worlds, o)
		}
	}
	if d := c.Duration("duration"); c.IsSet("duration") {
		if d < minDuration || d > maxDuration {
			s.fail(fmt.Errorf("--duration is %v, must be %v to %v", d, minDuration, maxDuration))
		} else {
			s.duration(d)
		}
	}
	if n := c.Int("cpus"); c.IsSet("cpus") && (n < 1 || n > maxCPUs) {
		s.fail(fmt.Errorf("--cpus is %d, must be 1 to %d", n, maxCPUs))
	}
	return s
}

func (s *setup) fail(err error) {
	if err != nil {
		s.errs = append(s.errs, err)
	}
}

// err returns everything that was wrong, as a misuse.
func (s *setup) err() error {
	if len(s.errs) == 0 {
		return nil
	}
	return misuse(errors.Join(s.errs...))
}

// settings reads the configuration of --config, or the file path when it is not empty, with --set.
func (s *setup) settings(path string) *config.Settings {
	file, err := s.configuration(path)
	if err != nil {
		s.fail(err)
		return &config.Default().Defaults
	}
	if law := file.Defaults.Law; law != config.LawAdaptive {
		s.e.say(s.c, "guard.law is %q, and ours is always flyball's law; for others see --controllers", law)
	}
	if file.Defaults.Observe {
		s.e.say(s.c, "guard.mode is \"observe\", and guards that are simulated hold calls back")
	}
	return &file.Defaults
}

func (s *setup) configuration(path string) (*config.File, error) {
	file, text, err := loadConfigText(s.c, path)
	if err != nil || len(s.guards) == 0 {
		return file, err
	}
	return overriddenConfig(text, s.guards)
}

// overriddenConfig reads the text of a configuration with overrides.
func overriddenConfig(text []byte, overrides []strict.Override) (*config.File, error) {
	data, err := strict.Apply(text, overrides)
	if err != nil {
		return nil, fmt.Errorf("--set: %w", err)
	}
	file, err := config.Parse("--set", data)
	if err != nil {
		return nil, prefixed("--set: ", strict.Unplaced(err))
	}
	return file, nil
}

// prefixed puts a prefix before each line of an error.
func prefixed(prefix string, err error) error {
	lines := strings.Split(err.Error(), "\n")
	return errors.New(prefix + strings.Join(lines, "\n"+prefix))
}

// loadConfigText reads a configuration and returns its text, too.
func loadConfigText(c *cli.Context, path string) (*config.File, []byte, error) {
	if path == "" && c.IsSet("config") {
		path = c.String("config")
	}
	if path == "" {
		if _, err := os.Stat(defaultConfig); errors.Is(err, fs.ErrNotExist) {
			return config.Default(), nil, nil
		}
		path = defaultConfig
	}
	file, err := config.Load(path) // it says best what is wrong with the path
	if err != nil {
		return nil, nil, err
	}
	text, err := readFile(path)
	return file, text, err
}

// loadConfig reads the file that --config names, or ./limits.toml when it is there.
func loadConfig(c *cli.Context) (*config.File, error) {
	file, _, err := loadConfigText(c, "")
	return file, err
}

// seeds reads --seed and --seeds.
func (s *setup) seeds() lab.Seeds {
	seeds := lab.Seeds{First: s.c.Uint64("seed")}
	switch text := s.c.String("seeds"); text {
	case "auto":
		seeds.N, seeds.Auto = lab.MaxAuto, true
	default:
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxSeeds {
			s.fail(fmt.Errorf("--seeds is %q, must be 1 to %d, or auto", text, maxSeeds))
			n = 1
		}
		seeds.N = n
	}
	s.fail(checkSeed(s.c))
	return seeds
}

// checkSeed refuses a first seed after which the seeds would begin again at 0.
func checkSeed(c *cli.Context) error {
	if seed := c.Uint64("seed"); seed > 1<<63 {
		return fmt.Errorf("--seed is %d, must be at most %d", seed, uint64(1)<<63)
	}
	return nil
}

// controllers reads a list of controllers.
func (s *setup) controllers(flag, list string) []scenario.Controller {
	cs, err := scenario.ParseControllers(list)
	if err != nil {
		s.fail(fmt.Errorf("--%s: %w", flag, err))
	}
	return cs
}

// scenarios returns the scenarios that words name: built-in ones, files, - for stdin, set:NAME for a set, draws, all.
func (s *setup) scenarios(words []string) []*scenario.Scenario {
	var all []*scenario.Scenario
	for _, word := range words {
		list, err := s.named(word)
		s.fail(err)
		for _, sc := range list {
			if slices.ContainsFunc(all, func(o *scenario.Scenario) bool { return o.Name == sc.Name }) {
				if len(list) == 1 {
					s.fail(fmt.Errorf("two scenarios are called %q: give one of them another name", sc.Name))
				}
				continue
			}
			all = append(all, sc)
		}
	}
	return all
}

// scenariosAt is scenarios for words of a file: files are named relative to dir, and errors begin with where the words are.
func (s *setup) scenariosAt(at, dir string, words []string) []*scenario.Scenario {
	var all []*scenario.Scenario
	for _, word := range words {
		if word == "-" {
			s.fail(fmt.Errorf("%sstdin cannot be named in a file", at))
			continue
		}
		if isFile(word) && !filepath.IsAbs(word) {
			word = filepath.Join(dir, word)
		}
		list, err := s.named(word)
		if err != nil {
			s.fail(prefixed(at, err))
		}
		for _, sc := range list {
			if !slices.ContainsFunc(all, func(o *scenario.Scenario) bool { return o.Name == sc.Name }) {
				all = append(all, sc)
			}
		}
	}
	return all
}

// duration replaces the duration of all scenarios.
func (s *setup) duration(d time.Duration) { s.lasts = d }

// list splits what a flag has with commas.
func list(text string) []string {
	var words []string
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	return words
}

// drawn returns the draws that a word names, as simulate draws does: draw-SEED-N and wide-SEED-N are one, draws:SEED:N and wide:SEED:N the first N of a
// seed. nil when it names none.
func drawn(word string) ([]*scenario.Scenario, error) {
	var seed uint64
	var n int
	reads := func(format string) bool {
		k, err := fmt.Sscanf(word, format, &seed, &n)
		return k == 2 && err == nil && word == fmt.Sprintf(format, seed, n)
	}
	make := func(wide bool, n int) *scenario.Scenario {
		if wide {
			return scenario.NewWide(seed, n).Scenario
		}
		return scenario.NewDraw(seed, n).Scenario
	}
	switch one, all := reads("draw-%d-%d"), reads("draws:%d:%d"); {
	case one, reads("wide-%d-%d"):
		if n < 0 || n >= lastDraw {
			return nil, fmt.Errorf("%s: the number of a draw is 0 to %d", word, lastDraw-1)
		}
		return []*scenario.Scenario{make(!one, n)}, nil
	case all, reads("wide:%d:%d"):
		if n < 1 || n > maxDrawSet {
			return nil, fmt.Errorf("%s: the number of draws is 1 to %d", word, maxDrawSet)
		}
		var list []*scenario.Scenario
		for i := range n {
			list = append(list, make(!all, i))
		}
		return list, nil
	}
	if kind := strings.IndexAny(word, "-:"); kind > 0 && (word[:kind] == "draw" || word[:kind] == "draws" || word[:kind] == "wide") && !isFile(word) {
		return nil, fmt.Errorf("%q names no drawn world: one is draw-SEED-N or wide-SEED-N, as in wide-7-3, and the first N of a seed are draws:SEED:N or wide:SEED:N", word)
	}
	return nil, nil
}

// maxDrawSet is how many draws a word may name.
const maxDrawSet = 1000

// named returns the scenarios that a word names.
func (s *setup) named(word string) ([]*scenario.Scenario, error) {
	if list, err := drawn(word); list != nil || err != nil {
		for i, sc := range list {
			switch {
			case sc.Source != "":
			case len(s.worlds) > 0:
				return nil, fmt.Errorf("--set: %s was never a file, so that only guard.* can be set: use one of wide:SEED:N, or a file", sc.Name)
			case s.lasts > sc.World.Duration:
				return nil, fmt.Errorf("--duration: %s lasts %v, and can only be shorter", sc.Name, sc.World.Duration)
			}
			if list[i], err = s.overridden(sc); err != nil {
				return nil, err
			}
		}
		return list, err
	}
	set, isSet := strings.CutPrefix(word, "set:")
	switch {
	case word == "all" || isSet:
		var out []*scenario.Scenario
		for _, sc := range scenario.Builtin() {
			if !isSet || setOf(sc) == set {
				sc, err := s.overridden(sc)
				if err != nil {
					return nil, err
				}
				out = append(out, sc)
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("there is no set %q of scenarios, only %s", set, strings.Join(sets(), ", "))
		}
		return out, nil
	case word == "-":
		if s.stdin == nil { // a sweep reads its scenarios for each point
			data, err := io.ReadAll(io.LimitReader(s.e.stdin, strict.MaxSize+1))
			if err != nil {
				return nil, fmt.Errorf("stdin cannot be read: %w", err)
			}
			s.stdin = &data
		}
		return s.one(scenario.Parse("stdin", *s.stdin))
	case isFile(word):
		data, err := readFile(word)
		if err != nil {
			return nil, err
		}
		return s.one(scenario.Parse(word, data))
	}
	text, ok := scenarios.Read(word)
	if !ok {
		return nil, unknownScenario(word)
	}
	return s.one(scenario.Parse("scenarios/"+scenarios.Path(word), text))
}

// scenario returns the one scenario that a word names.
func (e *env) scenario(c *cli.Context, word string) (*scenario.Scenario, error) {
	list, err := (&setup{e: e, c: c}).named(word)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		return nil, fmt.Errorf("%q names %d scenarios, must name one", word, len(list))
	}
	return list[0], nil
}

func (s *setup) one(sc *scenario.Scenario, err error) ([]*scenario.Scenario, error) {
	if err == nil {
		sc, err = s.overridden(sc)
	}
	if err != nil {
		return nil, err
	}
	return []*scenario.Scenario{sc}, nil
}

// overridden returns a scenario with --set and --duration. A shorter one has its first part. What --set says of the guard goes before the scenario's own.
func (s *setup) overridden(sc *scenario.Scenario) (*scenario.Scenario, error) {
	out, err := overridden(sc, s.worlds)
	switch {
	case err != nil:
		return nil, err
	case s.lasts == 0 || s.lasts == out.World.Duration:
	case s.lasts < out.World.Duration:
		out = out.Clipped(s.lasts)
	default:
		out, err = overridden(sc, append(slices.Clip(s.worlds), strict.Override{Key: "duration", Value: strconv.Quote(s.lasts.String())}))
		if err != nil {
			return nil, err
		}
	}
	if len(s.guards) == 0 {
		return out, nil
	}
	var keys []string
	for _, o := range s.guards {
		keys = append(keys, o.Key)
	}
	return out.Unguarded(keys...), nil
}

// overridden returns a scenario with keys in place of what its file says.
func overridden(sc *scenario.Scenario, worlds []strict.Override) (*scenario.Scenario, error) {
	if len(worlds) == 0 {
		return sc, nil
	}
	data, err := strict.Apply([]byte(sc.Source), worlds)
	if err != nil {
		return nil, fmt.Errorf("--set: scenario %s: %w", sc.Name, err)
	}
	out, err := scenario.Parse("--set", data)
	if err != nil {
		return nil, prefixed("--set: scenario "+sc.Name+": ", strict.Unplaced(err))
	}
	return out, nil
}

// isFile reports whether a word names a file and not something that is built in.
func isFile(word string) bool {
	return strings.ContainsRune(word, '/') || strings.ContainsRune(word, filepath.Separator) || strings.HasSuffix(word, ".toml")
}

// readFile reads a file that is not larger than a scenario can be.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, strict.MaxSize+1)); err == nil {
			return data, nil
		}
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return nil, fmt.Errorf("%s cannot be read: %w; check the path, or take a built-in scenario (simulate scenarios)", path, err)
}

// unknownWord says which word was probably meant.
func unknownWord(kind, word string, known []string) error {
	text := fmt.Sprintf("there is no %s %q, only %s", kind, word, strings.Join(known, ", "))
	if best, ok := strict.Nearest(word, known); ok {
		text += "; did you mean " + best + "?"
	}
	return errors.New(text)
}

func unknownScenario(name string) error {
	text := fmt.Sprintf("there is no built-in scenario %q, only %s", name, strings.Join(scenarios.Names(), ", "))
	if best, ok := strict.Nearest(name, scenarios.Names()); ok {
		text = fmt.Sprintf("there is no built-in scenario %q, did you mean %s? simulate scenarios lists all", name, best)
	}
	return errors.New(text + "; a file needs a slash in its name or ends in .toml")
}

// hashOf identifies settings: 12 digits of a hash of what they print as, which has every field.
func hashOf(sets ...*config.Settings) string {
	h := sha256.New()
	for _, s := range sets {
		c := *s
		room, budget := c.Room, c.Budget
		c.Room, c.Budget = nil, nil // pointers print as addresses
		fmt.Fprintf(h, "%+v", c)
		if room != nil {
			fmt.Fprintf(h, "%+v", *room)
		}
		if budget != nil {
			fmt.Fprintf(h, "%+v", *budget)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// A command line that gives the same result is put together word by word: what it reads, not where it writes or how fast.
type recipe struct{ words []string }

func newRecipe(command string) *recipe { return &recipe{[]string{"simulate", command}} }

// flags adds those that were set.
func (r *recipe) flags(c *cli.Context, names ...string) *recipe {
	for _, name := range names {
		if !c.IsSet(name) {
			continue
		}
		switch v := c.Value(name).(type) {
		case cli.StringSlice:
			for _, s := range v.Value() {
				r.words = append(r.words, "--"+name, quote(s))
			}
		case bool:
			if v {
				r.words = append(r.words, "--"+name)
			}
		default:
			r.words = append(r.words, "--"+name, quote(fmt.Sprint(v)))
		}
	}
	return r
}

// seeds adds the seeds.
func (r *recipe) seeds(c *cli.Context) *recipe {
	r.words = append(r.words, "--seed", strconv.FormatUint(c.Uint64("seed"), 10), "--seeds", quote(c.String("seeds")))
	return r
}

// args adds arguments.
func (r *recipe) args(words []string) *recipe {
	for _, w := range words {
		r.words = append(r.words, quote(w))
	}
	return r
}

func (r *recipe) String() string { return strings.Join(r.words, " ") }

// quote returns s as a word of a shell.
func quote(s string) string {
	safe := func(r rune) bool {
		return strings.ContainsRune("-_./,=:", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
