package config

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// Tables are the tables of limits.toml that this package reads, as they are written. A program that has tables of its own in
// the same file embeds them in a struct that has those, gives that to [Decode], and calls File:
//
//	type file struct {
//		config.Tables
//		Jobs jobsTable `toml:"jobs"`
//	}
//
// When that struct has a CheckEagerly of its own, it calls that of Tables. A program with tables that others should not stumble
// over needs an entry in Parse, too: [gateway] is there.
type Tables struct {
	// What is not written is nil, so that a zero that somebody wrote is told from nothing.
	Guard    guardTable               `toml:"guard"`
	Upstream map[string]upstreamTable `toml:"upstream"`
	Feedback feedbackTable            `toml:"feedback"`
}

// fileTable is what Parse reads.
type fileTable struct {
	Tables
	Gateway strict.Other `toml:"gateway"` // of the gateway, a module of its own
}

type guardTable struct {
	Mode             *string        `toml:"mode" choice:"enforce|observe"`
	Law              *string        `toml:"law" choice:"adaptive|aimd|fixed|gcl-aimd|gcl-vegas|gcl-gradient2"`
	Initial          *int           `toml:"initial_limit" range:"1..1000000" unit:"calls in flight"`
	Min              *int           `toml:"min_limit" range:"1..1000000" unit:"calls in flight"`
	Max              *int           `toml:"max_limit" range:"1..1000000" unit:"calls in flight"`
	Queue            *int           `toml:"queue" range:"0..1000000" unit:"callers"`
	MaxWait          *time.Duration `toml:"max_wait" range:"1ms..24h"`
	MaxPause         *time.Duration `toml:"max_pause" range:"1ms..24h"`
	PauseJitter      *float64       `toml:"pause_jitter" range:"0..1"`
	IgnoreRetryAfter *bool          `toml:"ignore_retry_after"`
	TimeOneIn        *int           `toml:"time_one_in" range:"1..1024" unit:"calls"`
	MaxHold          *time.Duration `toml:"max_hold" range:"0s..24h"`
	WatchOneIn       *int           `toml:"watch_one_in" range:"1..1024" unit:"permits"`
	Reclaim          *bool          `toml:"reclaim"`
	Adaptive         adaptiveTable  `toml:"adaptive"`
	Room             roomTable      `toml:"room"`
	Budget           budgetTable    `toml:"budget"`
	Retry            retryTable     `toml:"retry"`
}

type adaptiveTable struct {
	Backoff       *float64 `toml:"backoff" range:"0.1..0.99"`
	Epoch         *int     `toml:"epoch" range:"1..10000" unit:"calls"`
	RefusalBudget *float64 `toml:"refusal_budget" range:"0.0001..0.5"`
	Objective     *string  `toml:"objective" choice:"throughput|knee|latency"`
	LatencyFactor *float64 `toml:"latency_factor" range:"0..1000" tune:"0..10"` // beyond it nothing is held back
}

type roomTable struct {
	Aging         *time.Duration     `toml:"aging" range:"0s..24h"`
	Drop          *string            `toml:"drop" choice:"newest|oldest|lowest|longest"`
	ReservedShare *float64           `toml:"reserved_share" range:"0..0.9"`
	ReservedFor   *uint8             `toml:"reserved_for" range:"1..7"`
	Weights       map[string]float64 `toml:"weights" len:"..10000" range:"0.001..1024"`
}

type budgetTable struct {
	Oversize *string       `toml:"oversize" choice:"borrow|refuse"`
	Overrun  *float64      `toml:"overrun" range:"0.001..0.5"`
	Unseen   *int64        `toml:"unseen" range:"1..1099511627776" unit:"tokens"`
	Limit    []budgetLimit `toml:"limit" len:"..8"`
}

// budgetLimit is one [[guard.budget.limit]].
type budgetLimit struct {
	Kind         string         `toml:"kind" required:"true" choice:"requests|tokens|input_tokens|output_tokens|daily"`
	Limit        *int64         `toml:"limit" range:"0..1125899906842624" unit:"requests or tokens"`
	Per          *time.Duration `toml:"per" range:"1ms..8784h"`
	Burst        *int64         `toml:"burst" range:"1..1125899906842624" unit:"requests or tokens"`
	Fixed        *bool          `toml:"fixed"`
	CachedFactor *float64       `toml:"cached_factor" range:"0..1"`
}

type retryTable struct {
	MaxAttempts *int           `toml:"max_attempts" range:"1..100" unit:"sends"`
	BaseDelay   *time.Duration `toml:"base_delay" range:"1ms..1h"`
	MaxDelay    *time.Duration `toml:"max_delay" range:"1ms..1h"`
	Budget      *float64       `toml:"budget" range:"0.01..10"`
}

type upstreamTable struct {
	BaseURL  baseURL  `toml:"base_url"`
	Provider provider `toml:"provider"`
	keysTable
	guardTable
}

// settings returns what g says, with the defaults of what it does not say.
func (g guardTable) settings() Settings {
	d := limiter.Config{}.Defaults()
	return Settings{
		Law: or(g.Law, LawAdaptive),
		Adaptive: adaptive.Config{
			Initial:       or(g.Initial, 0),
			Min:           or(g.Min, 0),
			Max:           or(g.Max, 0),
			Backoff:       or(g.Adaptive.Backoff, 0),
			Epoch:         or(g.Adaptive.Epoch, 0),
			RefusalBudget: or(g.Adaptive.RefusalBudget, 0),
			Objective:     adaptive.Objective(or(g.Adaptive.Objective, "")),
			LatencyFactor: or(g.Adaptive.LatencyFactor, 0),
		}.Defaults(),
		Queue:       or(g.Queue, d.Queue),
		MaxWait:     or(g.MaxWait, d.MaxWait),
		MaxPause:    or(g.MaxPause, d.MaxPause),
		PauseJitter: or(g.PauseJitter, d.PauseJitter),

		IgnoreRetryAfter: or(g.IgnoreRetryAfter, false),
		Observe:          or(g.Mode, modeEnforce) == modeObserve,
		TimeOneIn:        or(g.TimeOneIn, d.TimeOneIn),
		MaxHold:          or(g.MaxHold, 0),
		WatchOneIn:       or(g.WatchOneIn, d.WatchOneIn),
		Reclaim:          or(g.Reclaim, false),
		Room:             g.Room.room(),
		Budget:           g.Budget.budget(),
		Retry: limiter.Retry{
			MaxAttempts: or(g.Retry.MaxAttempts, 0),
			BaseDelay:   or(g.Retry.BaseDelay, 0),
			MaxDelay:    or(g.Retry.MaxDelay, 0),
			Budget:      or(g.Retry.Budget, 0),
		}.Defaults(),
	}
}

// The modes.
const (
	modeEnforce = "enforce"
	modeObserve = "observe"
)

// The words for limiter.Drop and limiter.Oversize, in the order of their values.
var (
	drops     = []string{"newest", "oldest", "lowest", "longest"}
	oversizes = []string{"borrow", "refuse"}
)

// Defaults that package limiter does not have, or fills in later.
const (
	defaultReservedFor = 1
	defaultOverrun     = 0.1
	defaultUnseen      = 1000
)

// room returns what t says; nil when that is what the limiter does without.
func (t roomTable) room() *limiter.Room {
	r := limiter.Room{Aging: or(t.Aging, 0), ReservedShare: or(t.ReservedShare, 0), Drop: limiter.Drop(slices.Index(drops, or(t.Drop, drops[0])))}
	if r.ReservedShare > 0 {
		r.ReservedFor = or(t.ReservedFor, defaultReservedFor)
	}
	if len(t.Weights) > 0 {
		r.Weights = maps.Clone(t.Weights)
	}
	if reflect.ValueOf(r).IsZero() {
		return nil
	}
	return &r
}

// budget returns what t says; nil when it has no limits.
func (t budgetTable) budget() *limiter.Budget {
	if len(t.Limit) == 0 {
		return nil
	}
	b := &limiter.Budget{
		Oversize: limiter.Oversize(slices.Index(oversizes, or(t.Oversize, oversizes[0]))),
		Overrun:  or(t.Overrun, defaultOverrun),
		Unseen:   or(t.Unseen, defaultUnseen),
	}
	for _, l := range t.Limit {
		b.Limits = append(b.Limits, l.limit())
	}
	return b
}

func (l budgetLimit) limit() limiter.BudgetLimit {
	b := limiter.BudgetLimit{
		Limit: or(l.Limit, 0), Period: or(l.Per, 0), Burst: or(l.Burst, 0), Fixed: or(l.Fixed, false), CachedFactor: or(l.CachedFactor, 0),
	}
	for s := range feedback.NumScopes {
		if kind := feedback.Scope(s); kind.String() == l.Kind {
			b.Kind = kind
		}
	}
	if b.Limit > 0 && b.Period == 0 {
		b.Period = time.Minute
		if b.Kind == feedback.ScopeDaily {
			b.Period = 24 * time.Hour
		}
	}
	return b
}

func or[T any](p *T, otherwise T) T {
	if p != nil {
		return *p
	}
	return otherwise
}

// over returns g with what it does not say taken from base.
func (g guardTable) over(base guardTable) guardTable {
	return guardTable{
		Mode:        first(g.Mode, base.Mode),
		Law:         first(g.Law, base.Law),
		Initial:     first(g.Initial, base.Initial),
		Min:         first(g.Min, base.Min),
		Max:         first(g.Max, base.Max),
		Queue:       first(g.Queue, base.Queue),
		MaxWait:     first(g.MaxWait, base.MaxWait),
		MaxPause:    first(g.MaxPause, base.MaxPause),
		PauseJitter: first(g.PauseJitter, base.PauseJitter),

		IgnoreRetryAfter: first(g.IgnoreRetryAfter, base.IgnoreRetryAfter),
		TimeOneIn:        first(g.TimeOneIn, base.TimeOneIn),
		MaxHold:          first(g.MaxHold, base.MaxHold),
		WatchOneIn:       first(g.WatchOneIn, base.WatchOneIn),
		Reclaim:          first(g.Reclaim, base.Reclaim),
		Room: roomTable{
			Aging:         first(g.Room.Aging, base.Room.Aging),
			Drop:          first(g.Room.Drop, base.Room.Drop),
			ReservedShare: first(g.Room.ReservedShare, base.Room.ReservedShare),
			ReservedFor:   first(g.Room.ReservedFor, base.Room.ReservedFor),
			Weights:       merged(g.Room.Weights, base.Room.Weights),
		},
		Budget: budgetTable{
			Oversize: first(g.Budget.Oversize, base.Budget.Oversize),
			Overrun:  first(g.Budget.Overrun, base.Budget.Overrun),
			Unseen:   first(g.Budget.Unseen, base.Budget.Unseen),
			Limit:    listed(g.Budget.Limit, base.Budget.Limit),
		},
		Adaptive: adaptiveTable{
			Backoff:       first(g.Adaptive.Backoff, base.Adaptive.Backoff),
			Epoch:         first(g.Adaptive.Epoch, base.Adaptive.Epoch),
			RefusalBudget: first(g.Adaptive.RefusalBudget, base.Adaptive.RefusalBudget),
			Objective:     first(g.Adaptive.Objective, base.Adaptive.Objective),
			LatencyFactor: first(g.Adaptive.LatencyFactor, base.Adaptive.LatencyFactor),
		},
		Retry: retryTable{
			MaxAttempts: first(g.Retry.MaxAttempts, base.Retry.MaxAttempts),
			BaseDelay:   first(g.Retry.BaseDelay, base.Retry.BaseDelay),
			MaxDelay:    first(g.Retry.MaxDelay, base.Retry.MaxDelay),
			Budget:      first(g.Retry.Budget, base.Retry.Budget),
		},
	}
}

func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// merged returns base with the entries of a, which go before those of base.
func merged(a, base map[string]float64) map[string]float64 {
	all := maps.Clone(base)
	if all == nil {
		return a
	}
	maps.Copy(all, a)
	return all
}

// listed returns a, also an empty one that was written, or else base.
func listed[T any](a, base []T) []T {
	if a != nil {
		return a
	}
	return base
}

func (u upstreamTable) upstream(name string, base guardTable) Upstream {
	return Upstream{
		Name: name, BaseURL: strings.TrimRight(string(u.BaseURL), "/"), Provider: string(u.Provider),
		Keys:     u.keys(u.Provider),
		Settings: u.guardTable.over(base).settings(),
	}
}

// CheckEagerly reports pairs of settings that contradict each other, in [guard] and in each
// upstream after it took over what it does not say.
func (t *Tables) CheckEagerly(k strict.Key) {
	guard := k.At("guard")
	ordered(guard, guard, t.Guard.settings())
	t.Guard.check(guard)
	for name, u := range t.Upstream {
		own := k.At("upstream", name)
		if e := checkName(name); e != nil {
			own.Errorf("has a name that cannot be used: %v", e)
		}
		ordered(own, guard, u.guardTable.over(t.Guard).settings())
		u.guardTable.check(own)
		u.checkKeys(own)
	}
}

// check reports which of the values that g has, and that are written in own, a range cannot tell to be wrong.
func (g *guardTable) check(own strict.Key) {
	bad := func(at strict.Key, ok bool, found, allowed string) {
		if !ok && at.Given() && at.Sound() {
			at.Error("is "+found, allowed, "")
		}
	}
	power := func(name string, p *int) {
		n := or(p, 1)
		bad(own.At(name), n&(n-1) == 0, fmt.Sprint(n), "a power of two, 1 to 1024")
	}
	power("time_one_in", g.TimeOneIn)
	power("watch_one_in", g.WatchOneIn)
	hold := or(g.MaxHold, 0)
	bad(own.At("max_hold"), hold == 0 || hold >= time.Second, quoted(hold), "0s (nobody watches) or 1s to 24h")
	aging := or(g.Room.Aging, 0)
	bad(own.At("room", "aging"), aging == 0 || aging >= time.Millisecond, quoted(aging), "0s (no aging) or 1ms to 24h")
	for i, l := range g.Budget.Limit {
		at := own.At("budget", "limit").Index(i)
		limit, burst := or(l.Limit, 0), or(l.Burst, 0)
		if most := at.At("limit"); most.Sound() {
			bad(at.At("burst"), limit == 0 || burst <= limit, fmt.Sprint(burst), fmt.Sprintf("at most %s (%d)", most, limit))
		}
		bad(at.At("burst"), l.Burst == nil || !or(l.Fixed, false), fmt.Sprint(burst), "left out, as a fixed window has no burst")
	}
}

// ordered reports which of the settings s are out of order. They are written in own or else in base;
// what is written in neither has its default. What is only in base is reported there.
func ordered(own, base strict.Key, s Settings) {
	where := func(path ...string) (k strict.Key, given bool) {
		if k = own.At(path...); k.Given() {
			return k, true
		}
		k = base.At(path...)
		return k, k.Given()
	}
	pair := func(ok bool, lo, hi any, loPath, hiPath []string) {
		low, lowGiven := where(loPath...)
		high, highGiven := where(hiPath...)
		mine := own.At(loPath...).Given() || own.At(hiPath...).Given()
		if ok || !mine || !low.Sound() || !high.Sound() {
			return
		}
		note := func(given bool) string {
			if given {
				return ""
			}
			return ", the default"
		}
		if own.At(hiPath...).Given() {
			high.Error(fmt.Sprintf("is %v", hi), fmt.Sprintf("at least %s (%v%s)", low, lo, note(lowGiven)), "")
		} else {
			low.Error(fmt.Sprintf("is %v", lo), fmt.Sprintf("at most %s (%v%s)", high, hi, note(highGiven)), "")
		}
	}
	a, r := s.Adaptive, s.Retry
	pair(a.Min <= a.Max, a.Min, a.Max, []string{"min_limit"}, []string{"max_limit"})
	// An initial limit that nobody wrote lies between the others.
	if _, given := where("initial_limit"); given {
		pair(a.Min <= a.Initial, a.Min, a.Initial, []string{"min_limit"}, []string{"initial_limit"})
		pair(a.Initial <= a.Max, a.Initial, a.Max, []string{"initial_limit"}, []string{"max_limit"})
	}
	// Nor does a largest delay that nobody wrote contradict the first.
	if _, given := where("retry", "max_delay"); given {
		pair(r.BaseDelay <= r.MaxDelay, quoted(r.BaseDelay), quoted(r.MaxDelay), []string{"retry", "base_delay"}, []string{"retry", "max_delay"})
	}
}

// quoted returns a duration as the file writes it: without the zero minutes and seconds that Go adds.
func quoted(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return `"` + s + `"`
}

// checkName reports why an upstream cannot be called name. Names become labels of metrics and names in paths.
func checkName(name string) error {
	if name == "" || len(name) > 64 {
		return errors.New("it must have 1 to 64 characters")
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.') {
			return errors.New("it must be of letters, digits, dots, - and _")
		}
	}
	return nil
}

// baseURL is an absolute http or https URL.
type baseURL string

// UnmarshalText reads a URL and checks it.
func (b *baseURL) UnmarshalText(text []byte) error {
	u, err := url.Parse(string(text))
	switch {
	case err != nil:
		return strict.Secret("this is not a URL")
	case u.User != nil || strings.Contains(string(text), "@"):
		return strict.Secret("a base URL has no user and no password; credentials do not belong in this file")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return strict.Secret("a base URL has no query and no fragment")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("a base URL starts with https:// or http://")
	case u.Hostname() == "":
		return errors.New("a base URL has a host")
	}
	if port := u.Port(); port != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return errors.New("the port is no number from 0 to 65535")
		}
	}
	*b = baseURL(text)
	return nil
}

// provider is a name for whose answers they are.
type provider string

// knownProviders are the names with a dialect of their own in the tests of package feedback,
// from which misspelt names are told. Other names are allowed.
var knownProviders = []string{
	"anthropic", "azure-openai", "bedrock", "cerebras", "cloudflare", "cohere", "dashscope", "deepseek", "fireworks",
	"gemini", "generic", "groq", "huggingface", "hunyuan", "minimax", "mistral", "moonshot", "openai", "openrouter", "qianfan",
	"siliconflow", "together", "vertex-ai", "volcengine-ark", "xai", "zhipu",
}

// UnmarshalText reads a name and rejects one that looks like a slip of a known one.
func (p *provider) UnmarshalText(text []byte) error {
	s := string(text)
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-') {
			return errors.New("a provider is named with lower-case letters, digits and -")
		}
	}
	if s == "" || len(s) > 64 {
		return errors.New("a provider's name has 1 to 64 characters")
	}
	// A shorter name is near to too many; and a name that has a known one as a word is somebody's own.
	if !slices.Contains(knownProviders, s) && len(s) >= 5 {
		if best, ok := strict.Nearest(s, knownProviders); ok && !strings.Contains(best, s) {
			return fmt.Errorf("perhaps %q is meant", best)
		}
	}
	*p = provider(s)
	return nil
}
