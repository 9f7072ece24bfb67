package limiter

import "time"

// Reload puts cfg in force in place: nobody who waits loses his turn, and no permit is lost or doubled. A bad cfg
// changes nothing; the error says why. The name stays.
//
// What the law has learned stays, when cfg.Law is nil and the guard's own law runs: its parameters are changed,
// and its limit is moved into their bounds. Another cfg.Law replaces the law, and starts as it starts; nil
// replaces another law by the guard's own. A shorter MaxWait shortens the waits of those who wait, too; a longer one counts
// for callers that come from now on.
func (g *Guard) Reload(cfg Config) error {
	if err := cfg.Check(); err != nil {
		return err
	}
	cfg = cfg.Defaults()
	set := cfg.settings(g.note)
	g.mu.Lock()
	now := g.now()
	if cfg.Law == nil {
		tune := cfg.Adaptive
		g.core.Reconfigure(now, &set.core, &tune)
	} else {
		g.core.Reconfigure(now, &set.core, nil)
	}
	g.set.Store(set)
	if s := g.shell.Load(); s != nil && s.leaks.first != nil && set.maxHold > 0 {
		s.leaks.arm(g, max(time.Millisecond, set.maxHold-(now-s.leaks.first.since)))
	}
	g.serve(now, nil)
	g.unlock()
	return nil
}
