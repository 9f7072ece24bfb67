package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/limiter"
)

// fileTable is limits.toml as it is written. What is not written is nil, so that a zero that
// somebody wrote is told from nothing.
type fileTable struct {
	Guard    guardTable               `toml:"guard"`
	Upstream map[string]upstreamTable `toml:"upstream"`
	Feedback feedbackTable            `toml:"feedback"`
}

type guardTable struct {
	Law         *string        `toml:"law" choice:"adaptive|fixed|gcl-aimd|gcl-vegas|gcl-gradient2"`
	Initial     *int           `toml:"initial_limit" range:"1..1000000" unit:"calls in flight"`
	Min         *int           `toml:"min_limit" range:"1..1000000" unit:"calls in flight"`
	Max         *int           `toml:"max_limit" range:"1..1000000" unit:"calls in flight"`
	Queue       *int           `toml:"queue" range:"0..1000000" unit:"callers"`
	MaxWait     *time.Duration `toml:"max_wait" range:"1ms..24h"`
	MaxPause    *time.Duration `toml:"max_pause" range:"1ms..24h"`
	PauseJitter *float64       `toml:"pause_jitter" range:"0..1"`
	Adaptive    adaptiveTable  `toml:"adaptive"`
	Retry       retryTable     `toml:"retry"`
}

type adaptiveTable struct {
	Backoff *float64 `toml:"backoff" range:"0.1..0.99"`
	Epoch   *int     `toml:"epoch" range:"1..10000" unit:"calls"`
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
			Initial: or(g.Initial, 0),
			Min:     or(g.Min, 0),
			Max:     or(g.Max, 0),
			Backoff: or(g.Adaptive.Backoff, 0),
			Epoch:   or(g.Adaptive.Epoch, 0),
		}.Defaults(),
		Queue:       or(g.Queue, d.Queue),
		MaxWait:     or(g.MaxWait, d.MaxWait),
		MaxPause:    or(g.MaxPause, d.MaxPause),
		PauseJitter: or(g.PauseJitter, d.PauseJitter),
		Retry: limiter.Retry{
			MaxAttempts: or(g.Retry.MaxAttempts, 0),
			BaseDelay:   or(g.Retry.BaseDelay, 0),
			MaxDelay:    or(g.Retry.MaxDelay, 0),
			Budget:      or(g.Retry.Budget, 0),
		}.Defaults(),
	}
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
		Law:         first(g.Law, base.Law),
		Initial:     first(g.Initial, base.Initial),
		Min:         first(g.Min, base.Min),
		Max:         first(g.Max, base.Max),
		Queue:       first(g.Queue, base.Queue),
		MaxWait:     first(g.MaxWait, base.MaxWait),
		MaxPause:    first(g.MaxPause, base.MaxPause),
		PauseJitter: first(g.PauseJitter, base.PauseJitter),
		Adaptive: adaptiveTable{
			Backoff: first(g.Adaptive.Backoff, base.Adaptive.Backoff),
			Epoch:   first(g.Adaptive.Epoch, base.Adaptive.Epoch),
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

func (u upstreamTable) upstream(name string, base guardTable) Upstream {
	return Upstream{
		Name: name, BaseURL: strings.TrimRight(string(u.BaseURL), "/"), Provider: string(u.Provider),
		Keys:     u.keys(u.Provider),
		Settings: u.guardTable.over(base).settings(),
	}
}

// CheckEagerly reports pairs of settings that contradict each other, in [guard] and in each
// upstream after it took over what it does not say.
func (t *fileTable) CheckEagerly(k strict.Key) {
	guard := k.At("guard")
	ordered(guard, guard, t.Guard.settings())
	for name, u := range t.Upstream {
		own := k.At("upstream", name)
		if e := checkName(name); e != nil {
			own.Errorf("has a name that cannot be used: %v", e)
		}
		ordered(own, guard, u.guardTable.over(t.Guard).settings())
		u.checkKeys(own)
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
