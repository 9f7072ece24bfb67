package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/flyball-go/flyball/limiter"
)

// setting is one setting as messages show it.
type setting struct{ key, value string }

// each returns the settings by their keys, in the order of the file. Tenants that look like credentials are hidden.
func (s Settings) each() []setting {
	var all []setting
	add := func(key string, value any) {
		if d, ok := value.(time.Duration); ok {
			value = quoted(d)
		}
		all = append(all, setting{key, fmt.Sprint(value)})
	}
	mode := modeEnforce
	if s.Observe {
		mode = modeObserve
	}
	add("mode", mode)
	add("law", s.Law)
	add("initial_limit", s.Adaptive.Initial)
	add("min_limit", s.Adaptive.Min)
	add("max_limit", s.Adaptive.Max)
	add("queue", s.Queue)
	add("max_wait", s.MaxWait)
	add("max_pause", s.MaxPause)
	add("pause_jitter", s.PauseJitter)
	add("ignore_retry_after", s.IgnoreRetryAfter)
	add("time_one_in", s.TimeOneIn)
	add("max_hold", s.MaxHold)
	add("watch_one_in", s.WatchOneIn)
	add("reclaim", s.Reclaim)
	add("adaptive.backoff", s.Adaptive.Backoff)
	add("adaptive.epoch", s.Adaptive.Epoch)
	add("adaptive.refusal_budget", s.Adaptive.RefusalBudget)
	add("adaptive.objective", s.Adaptive.Objective)
	add("adaptive.latency_factor", s.Adaptive.LatencyFactor)

	room := s.Room
	if room == nil {
		room = &limiter.Room{}
	}
	add("room.aging", room.Aging)
	add("room.drop", room.Drop)
	add("room.reserved_share", room.ReservedShare)
	if room.ReservedShare > 0 {
		add("room.reserved_for", room.ReservedFor)
	}
	for _, tenant := range slices.Sorted(maps.Keys(room.Weights)) {
		add("room.weights."+hideCredentials(tenant), room.Weights[tenant])
	}

	if b := s.Budget; b != nil {
		add("budget.oversize", b.Oversize)
		add("budget.overrun", b.Overrun)
		add("budget.unseen", b.Unseen)
		for i, l := range b.Limits {
			add(fmt.Sprintf("budget.limit[%d]", i), describe(l))
		}
	}

	add("retry.max_attempts", s.Retry.MaxAttempts)
	add("retry.base_delay", s.Retry.BaseDelay)
	add("retry.max_delay", s.Retry.MaxDelay)
	add("retry.budget", s.Retry.Budget)
	return all
}

// describe returns a limit of a budget as the file writes it.
func describe(l limiter.BudgetLimit) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{ kind = %q, limit = %d", l.Kind.String(), l.Limit)
	if l.Period > 0 {
		fmt.Fprintf(&b, ", per = %s", quoted(l.Period))
	}
	if l.Burst > 0 {
		fmt.Fprintf(&b, ", burst = %d", l.Burst)
	}
	if l.Fixed {
		b.WriteString(", fixed = true")
	}
	if l.CachedFactor > 0 {
		fmt.Fprintf(&b, ", cached_factor = %v", l.CachedFactor)
	}
	return b.String() + " }"
}

// each returns what the upstream's table says, its settings included.
func (u Upstream) each() []setting {
	all := []setting{
		{"base_url", hideCredentials(u.BaseURL)},
		{"provider", u.Provider},
		{"limit", u.Keys.Limit.String()},
		{"key_header", hideCredentials(u.Keys.Header)},
		{"key_probe", quoted(u.Keys.Probe)},
		{"key_probe_max", quoted(u.Keys.ProbeMax)},
	}
	for i, s := range u.Keys.Sources {
		all = append(all, setting{fmt.Sprintf("key[%d]", i), s.String()})
	}
	return append(all, u.Settings.each()...)
}

// differ returns what differs as "key: old -> new", with none for what is not there, in the order of now and then of was.
func differ(was, now []setting) []string {
	var list []string
	value := func(all []setting, key string) string {
		if i := slices.IndexFunc(all, func(s setting) bool { return s.key == key }); i >= 0 && all[i].value != "" {
			return all[i].value
		}
		return "none"
	}
	for _, s := range now {
		if a, b := value(was, s.key), value(now, s.key); a != b {
			list = append(list, s.key+": "+a+" -> "+b)
		}
	}
	for _, s := range was {
		if value(now, s.key) == "none" && s.value != "" && !slices.ContainsFunc(now, func(n setting) bool { return n.key == s.key }) {
			list = append(list, s.key+": "+s.value+" -> none")
		}
	}
	return list
}

// named puts a name before each of list.
func named(name string, list []string) []string {
	for i, s := range list {
		list[i] = name + "." + s
	}
	return list
}
