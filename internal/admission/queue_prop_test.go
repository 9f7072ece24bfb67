package admission

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// slowQueue is the obvious queue: a slice of all waiters, scanned for every question. What it remembers of
// tenants it forgets when they owe nothing, and when nobody of the class waits.
type slowQueue struct {
	cfg    QueueConfig
	items  []*queueItem // in the order in which they asked
	starts uint64
	turn   [NumPriorities]uint64
	run    [NumPriorities]int64 // runs as the mean tag of those who wait
	tag    [NumPriorities]map[string]int64
	floor  [NumPriorities]map[string]int64
	ties   [NumPriorities]map[string]int
	count  int
}

func (s *slowQueue) of(class uint8, tenant string) (l []*queueItem) {
	for _, it := range s.items {
		if it.Priority == class && it.Tenant == tenant {
			l = append(l, it)
		}
	}
	return l
}

func (s *slowQueue) inClass(class uint8) (l []*queueItem) {
	for _, it := range s.items {
		if it.Priority == class {
			l = append(l, it)
		}
	}
	return l
}

func (s *slowQueue) weight(tenant string) int64 {
	var l queueLine
	l.setWeight(s.cfg.Weights[tenant])
	return l.weight
}

func (s *slowQueue) retag(class uint8, tenant string, tag int64) {
	if s.tag[class] == nil {
		s.tag[class], s.ties[class] = map[string]int64{}, map[string]int{}
	}
	if s.floor[class] == nil {
		s.floor[class] = map[string]int64{}
	}
	s.count++
	s.tag[class][tenant], s.ties[class][tenant] = tag, s.count
}

// known returns the tag of a tenant that does not wait. Who owes nothing begins anew.
func (s *slowQueue) known(class uint8, tenant string) int64 {
	if tag, ok := s.tag[class][tenant]; ok && tag > s.run[class] {
		return tag
	}
	s.retag(class, tenant, s.run[class])
	s.floor[class][tenant] = s.run[class]
	return s.run[class]
}

// weights returns the sum of the weights of those of a class who wait.
func (s *slowQueue) weights(class uint8) (sum int64) {
	seen := map[string]bool{}
	for _, w := range s.inClass(class) {
		if !seen[w.Tenant] {
			seen[w.Tenant] = true
			sum += s.weight(w.Tenant)
		}
	}
	return sum
}

func (s *slowQueue) push(it *queueItem) {
	if len(s.of(it.Priority, it.Tenant)) == 0 {
		s.retag(it.Priority, it.Tenant, s.known(it.Priority, it.Tenant))
	}
	s.items = append(s.items, it)
}

func (s *slowQueue) remove(it *queueItem) {
	i := slices.Index(s.items, it)
	s.items = slices.Delete(s.items, i, i+1)
	if len(s.inClass(it.Priority)) == 0 {
		s.tag[it.Priority], s.ties[it.Priority] = nil, nil
	}
	s.forget(it.Priority)
}

// forget drops the tenants of a class that do not wait and owe nothing.
func (s *slowQueue) forget(class uint8) {
	for tenant, tag := range s.tag[class] {
		if tag <= s.run[class] && len(s.of(class, tenant)) == 0 {
			delete(s.tag[class], tenant)
		}
	}
}

func (s *slowQueue) start(it *queueItem) {
	c := it.Priority
	s.starts++
	s.turn[c] = s.starts
	tag := s.tag[c][it.Tenant]
	s.run[c] = max(tag, s.run[c]+it.cost()*tokenUnit/s.weights(c))
	s.retag(c, it.Tenant, tag+it.cost()*(tokenUnit/s.weight(it.Tenant)))
	s.remove(it)
}

func (s *slowQueue) charge(tenant string, class uint8, tokens int64) {
	if len(s.inClass(class)) == 0 {
		return
	}
	weights, waits := s.weights(class), len(s.of(class, tenant)) > 0
	_, owes := s.tag[class][tenant]
	if !waits {
		weights += s.weight(tenant)
	}
	if waits || owes || tokens > 0 {
		if !waits {
			s.known(class, tenant)
		}
		s.retag(class, tenant, max(s.floor[class][tenant], s.tag[class][tenant]+tokens*(tokenUnit/s.weight(tenant))))
	}
	s.run[class] += tokens * tokenUnit / weights
	s.forget(class)
}

func (s *slowQueue) next(now time.Duration, from uint8) *queueItem {
	highest := -1
	for _, it := range s.items {
		if it.Priority >= from {
			highest = max(highest, int(it.Priority))
		}
	}
	if highest < 0 {
		return nil
	}
	best := highest
	for c := highest - 1; c >= int(from); c-- {
		w := s.inClass(uint8(c))
		if len(w) == 0 || s.cfg.Aging == 0 {
			continue
		}
		rise := int64((now - w[0].Since) / s.cfg.Aging)
		if now >= w[0].Since && int64(c)+rise >= int64(highest) && s.turn[c] < s.turn[best] {
			best = c
		}
	}
	tenant, found := "", false
	for _, it := range s.inClass(uint8(best)) {
		a, b := s.tag[best][it.Tenant], s.tag[best][tenant]
		if !found || a < b || a == b && s.ties[best][it.Tenant] < s.ties[best][tenant] {
			tenant, found = it.Tenant, true
		}
	}
	var retry, fresh *queueItem
	for _, it := range s.of(uint8(best), tenant) {
		if it.Retry && retry == nil {
			retry = it
		}
		if !it.Retry && fresh == nil {
			fresh = it
		}
	}
	if retry == nil || fresh != nil && s.cfg.Aging > 0 && retry.Since-fresh.Since > s.cfg.Aging {
		return fresh
	}
	return retry
}

func (s *slowQueue) nextExpiry() *queueItem {
	var first *queueItem
	for _, it := range s.items {
		if it.Deadline < never && (first == nil || it.Deadline < first.Deadline) {
			first = it
		}
	}
	return first
}

func (s *slowQueue) victim(in *queueItem) *queueItem {
	if len(s.items) == 0 {
		return nil
	}
	lowest := slices.MinFunc(s.items, func(a, b *queueItem) int { return int(a.Priority) - int(b.Priority) }).Priority
	members := s.inClass(lowest)
	switch s.cfg.Drop {
	case DropOldest:
		for _, it := range s.items {
			if it.Priority <= in.Priority {
				return it
			}
		}
	case DropLowest:
		if lowest < in.Priority {
			return members[len(members)-1]
		}
	case DropLongest:
		var longest []*queueItem
		for _, it := range members {
			l := s.of(lowest, it.Tenant)
			if len(l) > len(longest) || len(l) == len(longest) && l[len(l)-1].seq > longest[len(longest)-1].seq {
				longest = l
			}
		}
		if lowest < in.Priority || lowest == in.Priority && len(longest) > len(s.of(lowest, in.Tenant))+1 {
			return longest[len(longest)-1]
		}
	}
	return nil
}

// lenClass returns how many wait in a class.
func (q *queue) lenClass(priority uint8) int {
	if c := q.classes[min(priority, NumPriorities-1)]; c != nil {
		return c.n
	}
	return 0
}

// lenTenant returns how many of a tenant wait, in all classes.
func (q *queue) lenTenant(tenant string) (n int) {
	for _, c := range q.classes {
		if c == nil || c.n == 0 {
			continue
		}
		if l := c.find(tenant); l != nil {
			n += l.len()
		}
	}
	return n
}

// The queue answers every question as the obvious one does, loses nobody and holds nobody twice.
func TestQueueEqualsSlow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := QueueConfig{
			Aging:   rapid.SampledFrom([]time.Duration{0, 1, time.Second, 10 * time.Second}).Draw(t, "aging"),
			Weights: map[string]float64{"a": 1, "b": 2.5, "c": 0.3, "e": 1e9, "f": -1},
			Drop:    Drop(rapid.IntRange(0, NumDrops-1).Draw(t, "drop")),
		}
		q := queue{cfg: &cfg}
		slow := slowQueue{cfg: cfg}
		now := time.Duration(0)
		pushed, gone := 0, 0
		tenants := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f"})
		classes := rapid.Custom(func(t *rapid.T) uint8 {
			return rapid.SampledFrom([]uint8{0, 0, 0, 1, 2, 7}).Draw(t, "class")
		})
		costs := rapid.OneOf(rapid.Just(int64(1)), rapid.Int64Range(0, 10), rapid.Int64Range(1, 1e5))
		check := func() {
			if q.len() != len(slow.items) || q.len() != pushed-gone {
				t.Fatalf("len = %d, want %d (pushed %d, gone %d)", q.len(), len(slow.items), pushed, gone)
			}
			for from := range uint8(NumPriorities) {
				if got, want := q.next(now, from), slow.next(now, from); got != want {
					t.Fatalf("next(%v, %d) = %s, want %s", now, from, name(got), name(want))
				}
				if got, want := q.lenClass(from), len(slow.inClass(from)); got != want {
					t.Fatalf("lenClass(%d) = %d, want %d", from, got, want)
				}
			}
			want := slow.nextExpiry()
			at, ok := q.nextExpiry()
			if ok != (want != nil) || ok && at != want.Deadline {
				t.Fatalf("nextExpiry = %v, %v, want %s", at, ok, name(want))
			}
			if ok && q.expired(at) != want || ok && q.expired(at-1) != nil {
				t.Fatalf("expired(%v) = %s, want %s, and nobody before", at, name(q.expired(at)), name(want))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { check() },
			"push": func(t *rapid.T) {
				it := &queueItem{
					Tenant: tenants.Draw(t, "tenant"), Priority: classes.Draw(t, "class"), Cost: costs.Draw(t, "cost"),
					Retry: rapid.IntRange(0, 4).Draw(t, "retry") == 0, Since: now,
					Deadline: now + time.Duration(rapid.OneOf(
						rapid.Just(int64(time.Minute)), rapid.Int64Range(0, 20), rapid.Int64Range(-100, 1<<62),
					).Draw(t, "wait")),
				}
				if got, want := q.victim(it), slow.victim(it); got != want {
					t.Fatalf("victim for %s = %s, want %s", name(it), name(got), name(want))
				}
				q.push(it)
				slow.push(it)
				pushed++
			},
			"start": func(t *rapid.T) {
				it := q.next(now, 0)
				if it == nil {
					t.Skip("nobody waits")
				}
				q.start(it)
				slow.start(it)
				gone++
			},
			"cancel": func(t *rapid.T) {
				if len(slow.items) == 0 {
					t.Skip("nobody waits")
				}
				it := rapid.SampledFrom(slow.items).Draw(t, "who")
				q.remove(it)
				slow.remove(it)
				gone++
				if it.line != nil || it.prev != nil || it.next != nil || it.older != nil || it.younger != nil ||
					it.sooner != nil || it.later != nil || it.expiryAt != 0 {
					t.Fatalf("%s left and is still linked", name(it))
				}
			},
			"charge": func(t *rapid.T) {
				tenant, class := tenants.Draw(t, "tenant"), classes.Draw(t, "class")
				n := rapid.Int64Range(-1000, 1000).Draw(t, "tokens")
				q.charge(tenant, class, n)
				slow.charge(tenant, class, n)
			},
			"learn": func(t *rapid.T) { // Cost then says what a start was charged, to both
				q.learn(classes.Draw(t, "class"), costs.Draw(t, "said"), costs.Draw(t, "used"))
			},
			"time": func(t *rapid.T) {
				now = max(0, now+time.Duration(rapid.Int64Range(-int64(5*time.Second), int64(20*time.Second)).Draw(t, "step")))
			},
			"count": func(t *rapid.T) {
				for _, it := range slow.items {
					own := slow.of(it.Priority, it.Tenant)
					exact := 0
					for _, o := range own {
						if o.Retry == it.Retry && o.seq < it.seq || o.Retry && !it.Retry {
							exact++
						}
					}
					if got := q.ahead(it); got < exact || got >= len(own) {
						t.Fatalf("ahead(%s) = %d, want at least %d and less than %d", name(it), got, exact, len(own))
					}
					if got := q.position(it); got < 0 || got >= q.len() {
						t.Fatalf("position(%s) = %d of %d", name(it), got, q.len())
					}
				}
				for _, tenant := range []string{"", "a", "e"} {
					want := 0
					for c := range uint8(NumPriorities) {
						want += len(slow.of(c, tenant))
					}
					if got := q.lenTenant(tenant); got != want {
						t.Fatalf("lenTenant(%q) = %d, want %d", tenant, got, want)
					}
				}
			},
		})
	})
}

// Nobody starves: from (7-c)*Aging on, of any m starts in a row one is of class c, where m is the number of
// classes that wait; so a waiter with k before it in its line is among the next m*(k+1) starts, whatever
// else comes.
func TestQueueNobodyStarves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := QueueConfig{Aging: 10 * time.Second}
		q := queue{cfg: &cfg}
		now := time.Duration(0)
		push := func(class uint8) *queueItem {
			it := &queueItem{Priority: class, Since: now, Deadline: never}
			q.push(it)
			return it
		}
		for range rapid.IntRange(0, 20).Draw(t, "before") {
			push(rapid.Uint8Range(0, 7).Draw(t, "class"))
		}
		class := rapid.Uint8Range(0, 7).Draw(t, "whose")
		it := push(class)
		left := -1
		floods := rapid.SliceOfN(rapid.Uint8Range(0, 7), 1, 4).Draw(t, "flood")
		for i := 0; it.line != nil; i++ {
			for _, c := range floods { // more come than can start
				push(c)
			}
			now += time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "step"))
			if left < 0 && now >= time.Duration(7-class)*cfg.Aging {
				left = NumPriorities * (q.ahead(it) + 1)
			}
			if left == 0 {
				t.Fatalf("class %d still waits after %d starts, %v", class, i, now)
			}
			if left > 0 {
				left--
			}
			q.start(q.next(now, 0))
		}
	})
}
