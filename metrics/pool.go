package metrics

import "github.com/flyball-go/flyball/limiter"

// poolSample is a pool's Stats with its label.
type poolSample struct {
	label string // pool="...", escaped
	limiter.PoolStats
}

// poolFamilies are the metrics of pools, by name. docs/metrics.md shows this table.
var poolFamilies = []family[poolSample]{
	{"flyball_key_faults_total", counter, "key", "calls",
		"Calls for which the key was to blame: it is not valid, not allowed, or has no money or quota left.",
		ofKeys(func(p *page, k *limiter.KeyStatus) { p.uint(k.Faults) })},
	{"flyball_key_in_flight", gauge, "key", "calls",
		"Calls in flight with the key.",
		ofKeys(func(p *page, k *limiter.KeyStatus) { p.int(k.InFlight) })},
	{"flyball_key_in_service", gauge, "key", "0 or 1",
		"Whether calls are sent with the key: 0 while it is out, and probed now and then.",
		ofKeys(func(p *page, k *limiter.KeyStatus) { p.uint(bit(k.Out == limiter.KeyFine)) })},
	{"flyball_key_limit", gauge, "key", "calls",
		"How many calls may be in flight with the key; with all keys of the account where the limit is the account's.",
		ofKeys(func(p *page, k *limiter.KeyStatus) { p.int(k.Limit) })},
	{"flyball_key_pause_remaining_seconds", gauge, "key", "seconds",
		"How much longer nothing starts with the key because of a pause; 0 when there is none.",
		ofKeys(func(p *page, k *limiter.KeyStatus) { p.float(k.Paused.Seconds()) })},
	{"flyball_key_probes_total", counter, "key", "calls",
		"Calls that found out whether a key that is out is of use again.",
		ofKeys(func(p *page, k *limiter.KeyStatus) { p.uint(k.Probes) })},
	{"flyball_key_served_total", counter, "key", "calls",
		"Calls with the key that ended well.",
		ofKeys(func(p *page, k *limiter.KeyStatus) { p.uint(k.Served) })},
	{"flyball_pool_canceled_waits_total", counter, "", "callers",
		"Callers that gave up while they waited for a key.",
		func(p *page, s *poolSample) { p.series(s.label, "", "", "").uint(s.Counts.Canceled) }},
	{"flyball_pool_in_flight", gauge, "", "calls",
		"Calls in flight with all keys.",
		func(p *page, s *poolSample) { p.series(s.label, "", "", "").int(s.InFlight) }},
	{"flyball_pool_keys", gauge, "", "keys",
		"Keys of the pool.",
		func(p *page, s *poolSample) { p.series(s.label, "", "", "").int(len(s.Keys)) }},
	{"flyball_pool_keys_in_service", gauge, "", "keys",
		"Keys that are not out.",
		func(p *page, s *poolSample) { p.series(s.label, "", "", "").int(s.InService) }},
	{"flyball_pool_no_key_total", counter, "", "callers",
		"Callers that were refused because every key was out; flyball_pool_refusals_total has them, too.",
		func(p *page, s *poolSample) { p.series(s.label, "", "", "").uint(s.Counts.NoKey) }},
	{"flyball_pool_refusals_total", counter, "reason", "callers",
		"Callers that the pool refused, by reason; nothing was sent.",
		func(p *page, s *poolSample) { p.refusals(s.label, s.Counts.Refused[:]) }},
	{"flyball_pool_wait_reason_seconds", histogram, "why", "seconds",
		"How long callers waited that waited for a key and then had one, by what they waited for longest.",
		func(p *page, s *poolSample) { p.waitsFor(s.label, &s.Counts.WaitedFor) }},
	{"flyball_pool_wait_seconds", histogram, "", "seconds",
		"How long callers waited that waited for a key and then had one.",
		func(p *page, s *poolSample) { p.waits(s.label, &s.Counts.Waits, s.Counts.WaitSum) }},
	{"flyball_pool_waiting", gauge, "", "callers",
		"Callers that wait for a key.",
		func(p *page, s *poolSample) { p.series(s.label, "", "", "").int(s.Waiting) }},
}

// ofKeys writes a series for each key of a pool, by its fingerprint.
func ofKeys(number func(p *page, k *limiter.KeyStatus)) func(*page, *poolSample) {
	return func(p *page, s *poolSample) {
		for i := range s.Keys {
			number(p.series(s.label, "", "key", s.Keys[i].Key), &s.Keys[i])
		}
	}
}
