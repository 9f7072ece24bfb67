package config

import (
	"fmt"
	"strings"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/adaptive/classic"
)

// The names of the control laws.
const (
	LawAdaptive  = "adaptive"              // flyball's own
	LawPlainAIMD = "aimd"                  // flyball's AIMD: a limit and no pace
	LawFixed     = "fixed"                 // the initial limit, for ever
	LawAIMD      = gcl + classic.AIMD      // AIMD of go-concurrency-limits
	LawVegas     = gcl + classic.Vegas     // Vegas of go-concurrency-limits
	LawGradient2 = gcl + classic.Gradient2 // Gradient2 of go-concurrency-limits
	gcl          = "gcl-"
)

// Laws returns the names of the control laws that a file may choose, flyball's own first.
func Laws() []string {
	return []string{LawAdaptive, LawPlainAIMD, LawFixed, LawAIMD, LawVegas, LawGradient2}
}

// NewLaw returns a new law called name, one of [Laws], with the limits and parameters of cfg. A zero field
// of cfg means the law's own default; the settings of a [File] leave none zero. The same cfg gives laws that
// decide the same. NewLaw returns an error when there is no such law or cfg is out of range.
func NewLaw(name string, cfg adaptive.Config) (adaptive.Law, error) {
	if errs := cfg.Check(); len(errs) > 0 {
		return nil, fmt.Errorf("config: NewLaw(%q): %w", name, errs[0])
	}
	switch name {
	case LawAdaptive:
		return adaptive.New(cfg), nil
	case LawPlainAIMD:
		return adaptive.NewAIMD(cfg), nil
	case LawFixed:
		return adaptive.NewFixed(cfg.Defaults().Initial), nil
	}
	if name, ok := strings.CutPrefix(name, gcl); ok {
		if law, err := classic.New(name, cfg); err == nil {
			return law, nil
		}
	}
	return nil, fmt.Errorf("config: NewLaw(%q): there is no such law, only %s", name, strings.Join(Laws(), ", "))
}
