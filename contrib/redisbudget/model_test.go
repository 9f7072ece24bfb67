package redisbudget_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// modelTTL is the time to live of a model's processes. Times are in ms.
const modelTTL = 2000

// modelled is a process as far as it exchanges, in time that the test makes.
type modelled struct {
	id          string
	turn        int
	share, want float64
	due         int // when it exchanges next
	cut         int // until when nothing of it arrives
}

// call is an exchange that is on its way.
type call struct {
	at   int // when it arrives
	args []any
}

// model is a fleet and its Redis.
type model struct {
	t      *testing.T
	rng    *rand.Rand
	client redis.UniversalClient
	script *redis.Script
	now    int
	clock  int // of Redis, ahead of now
	fleet  []*modelled
	joined int
	late   []call // given up by who made it
	story  []string
}

func (m *model) say(format string, args ...any) {
	m.story = append(m.story, fmt.Sprintf("%6d ", m.now)+fmt.Sprintf(format, args...))
}

func (m *model) join() {
	m.joined++
	m.fleet = append(m.fleet, &modelled{id: strconv.Itoa(m.joined), due: m.now, want: m.rng.Float64()})
	m.say("%d joins", m.joined)
}

// leave has a process close, or die.
func (m *model) leave() {
	i := m.rng.IntN(len(m.fleet))
	id := m.fleet[i].id
	m.fleet = append(m.fleet[:i], m.fleet[i+1:]...)
	if m.rng.IntN(2) == 0 {
		m.say("%s dies", id)
		return
	}
	m.say("%s closes", id)
	m.client.HDel(m.t.Context(), "model", "m:"+id)
}

// run has Redis run the script.
func (m *model) run(args []any) []string {
	now := 1_700_000_000_000 + int64(m.now+m.clock)
	reply, err := m.script.Run(m.t.Context(), m.client, []string{"model", strconv.FormatInt(now/1000, 10), strconv.FormatInt(now%1000*1000, 10)}, args...).StringSlice()
	if err != nil {
		m.t.Fatal(err)
	}
	return reply
}

func (m *model) exchange(p *modelled) {
	p.due = m.now + 180 + m.rng.IntN(40)
	p.turn++
	args := []any{p.id, modelTTL, 0, 10, p.turn, "tokens", p.share, p.want}
	switch n := m.rng.IntN(20); {
	case m.now < p.cut || n == 0: // lost
	case n == 1: // the answer is
		m.run(args)
	case n == 2:
		m.late = append(m.late, call{m.now + m.rng.IntN(3000), args})
	default:
		share, err := strconv.ParseFloat(m.run(args)[3], 64)
		if err != nil {
			m.t.Fatal(err)
		}
		m.say("%s has %.3f after %.3f", p.id, share, p.share)
		p.share = share
	}
}

// happen has something happen, and returns until when nothing else does.
func (m *model) happen() int {
	switch m.rng.IntN(5) {
	case 0:
		// As go-redis does: who has tried in vain for long tries once a second.
		d, apart := m.rng.IntN(1500), 300
		if m.rng.IntN(2) == 0 {
			d, apart = 3000+m.rng.IntN(3000), 1300
		}
		m.say("down for %d", d)
		for _, p := range m.fleet {
			p.cut = m.now + d + m.rng.IntN(apart)
		}
		m.late = nil
		return m.now + d + apart + 500
	case 1:
		m.say("flushed")
		m.client.Del(m.t.Context(), "model")
	case 2:
		by := m.rng.IntN(10_000) - 5000
		m.say("the clock jumps by %d", by)
		m.clock += by
		return m.now + 3000
	case 3:
		if len(m.fleet) < 8 {
			m.join()
		}
	case 4:
		if len(m.fleet) > 1 {
			m.leave()
		}
	}
	return m.now
}

// minute lives through a minute, and fails when the parts are ever more than the whole.
func (m *model) minute() {
	for range 2 + m.rng.IntN(5) {
		m.join()
	}
	for calm := 0; m.now < 60_000; {
		m.now += 1 + m.rng.IntN(20)
		var later []call
		for _, c := range m.late {
			if c.at <= m.now {
				m.run(c.args)
			} else {
				later = append(later, c)
			}
		}
		m.late = later
		total := 0.0
		for _, p := range m.fleet {
			if m.rng.IntN(300) == 0 {
				p.want = m.rng.Float64()
			}
			if p.due <= m.now {
				m.exchange(p)
			}
			total += p.share
		}
		if total > 1+1e-9 {
			m.t.Fatalf("the parts are %v together, want 1 at most:\n%s", total, strings.Join(m.story[max(0, len(m.story)-40):], "\n"))
		}
		if m.now > calm && m.rng.IntN(150) == 0 {
			calm = m.happen()
		}
	}
}

// Whatever becomes of Redis, of its clock and of what is said to it, the parts are never more than the whole, as long as no process is cut off alone.
func TestModel(t *testing.T) {
	s := start(t)
	lua, err := os.ReadFile("share.lua")
	if err != nil {
		t.Fatal(err)
	}
	source := strings.Replace(string(lua), "redis.call('TIME')", "{KEYS[2], KEYS[3]}", 1)
	if source == string(lua) {
		t.Fatal("the script does not ask for the time")
	}
	c := client(t, s.addr())
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			c.Del(t.Context(), "model")
			m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 1)), client: c, script: redis.NewScript(source)}
			m.minute()
		})
	}
}
