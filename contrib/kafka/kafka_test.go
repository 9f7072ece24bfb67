package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/contrib/kafka"
	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/drain/draintest"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// cluster is brokers of a test's own.
func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// each runs a test with kfake, always, and with the broker of FLYBALL_KAFKA when there is one. Most of the time they wait, so two run at a
// time.
func each(t *testing.T, f func(t *testing.T, brokers []string)) {
	t.Parallel()
	t.Run("kfake", func(t *testing.T) {
		t.Parallel()
		c := cluster(t, kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))
		f(t, c.ListenAddrs())
	})
	t.Run("broker", func(t *testing.T) {
		t.Parallel()
		addr := os.Getenv("FLYBALL_KAFKA")
		if addr == "" {
			const reason = "FLYBALL_KAFKA names no broker: tested with kfake only (.ci/services kafka -- go test ./contrib/kafka)"
			if strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "kafka") {
				t.Fatal(reason)
			}
			t.Skip(reason)
		}
		f(t, []string{addr})
	})
}

func admin(t *testing.T, brokers []string) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// waitForGroup waits until a group has so many members and is in a state, and returns them.
func waitForGroup(t *testing.T, c *kgo.Client, group, state string, members int) []kmsg.DescribeGroupsResponseGroupMember {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Groups = []string{group}
		resp, err := req.RequestWith(t.Context(), c)
		if kerr.IsRetriable(err) && time.Now().Before(end) { // a broker that is new has no coordinator yet
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if g := resp.Groups[0]; g.State == state && len(g.Members) == members {
			return g.Members
		} else if time.Now().After(end) {
			t.Fatalf("the group is %s with %d members, want %s with %d", g.State, len(g.Members), state, members)
		}
	}
}

// committed returns how far a group is with the first partition of a topic.
func committed(t *testing.T, c *kgo.Client, topic, group string) int64 {
	t.Helper()
	return commit(t, c, topic, group).offset
}

// commitment is what was committed of a partition.
type commitment struct {
	offset   int64
	metadata string
}

// commit returns what a group has committed of the first partition of a topic.
func commit(t *testing.T, c *kgo.Client, topic, group string) (of commitment) {
	t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = topic, []int32{0}
	req.Topics = append(req.Topics, rt)
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = topic, []int32{0}
	g.Topics = append(g.Topics, gt)
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p := resp.Groups[0].Topics[0].Partitions[0] // also of brokers that answer for one group only
	of.offset = p.Offset
	if p.Metadata != nil {
		of.metadata = *p.Metadata
	}
	return of
}

// fetch returns the next delivery, once there is one.
func fetch(t *testing.T, s *kafka.Source) *drain.Delivery {
	t.Helper()
	ds, err := s.Fetch(t.Context(), 1)
	if err != nil || len(ds) != 1 {
		t.Fatalf("Fetch returned %d deliveries and %v", len(ds), err)
	}
	return ds[0]
}

func create(t *testing.T, c *kgo.Client, topic string, partitions int32) {
	t.Helper()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, partitions, 1
	createTopic(t, c, rt)
}

// createFor makes a topic of one partition that takes batches of so many bytes.
func createFor(t *testing.T, c *kgo.Client, topic, most string) {
	t.Helper()
	createWith(t, c, topic, "max.message.bytes", most)
}

// createWith makes a topic of one partition with a setting.
func createWith(t *testing.T, c *kgo.Client, topic, key, value string) {
	t.Helper()
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = topic, 1, 1
	with := kmsg.NewCreateTopicsRequestTopicConfig()
	with.Name, with.Value = key, &value
	rt.Configs = append(rt.Configs, with)
	createTopic(t, c, rt)
}

func createTopic(t *testing.T, c *kgo.Client, rt kmsg.CreateTopicsRequestTopic) {
	t.Helper()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
	// A broker may say for a moment that there is no such topic.
	known := kmsg.NewPtrMetadataRequest()
	known.Topics = []kmsg.MetadataRequestTopic{{Topic: &rt.Topic}}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := known.RequestWith(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		err = kerr.ErrorForCode(resp.Topics[0].ErrorCode)
		if err == nil {
			return
		} else if time.Now().After(end) {
			t.Fatalf("%s: %v", rt.Topic, err)
		}
	}
}

func remove(t *testing.T, c *kgo.Client, topic string) {
	t.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	dt := kmsg.NewDeleteTopicsRequestTopic()
	dt.Topic = &topic
	req.Topics, req.TopicNames = append(req.Topics, dt), append(req.TopicNames, topic)
	if resp, err := req.RequestWith(t.Context(), c); err != nil || resp.Topics[0].ErrorCode != 0 {
		t.Fatalf("%v, %v", resp, err)
	}
}

func name(what string) string { return fmt.Sprintf("%s-%d", what, rand.Uint32()) }

// read reads n records of a topic, of all partitions, or what comes within 10 s.
func read(t *testing.T, brokers []string, topic string, n int) (all []*kgo.Record) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(all) < n && ctx.Err() == nil {
		c.PollFetches(ctx).EachRecord(func(r *kgo.Record) { all = append(all, r) })
	}
	return all
}

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func open(t *testing.T, cfg kafka.Config) *kafka.Source {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = t.Logf
	}
	s, err := kafka.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wire is connections that can be cut.
type wire struct {
	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func (w *wire) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, errors.New("cut")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		w.conns = append(w.conns, c)
	}
	return c, err
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

func (w *wire) crash() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for _, c := range w.conns {
		c.Close()
	}
}

func TestSource(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		draintest.Run(t, func(t *testing.T) *draintest.Fixture {
			c := admin(t, brokers)
			topic := name("conformance")
			create(t, c, topic, 1)
			var w *wire
			return &draintest.Fixture{
				Publish: func(t *testing.T, bodies ...string) {
					for _, b := range bodies {
						if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(b)}).FirstErr(); err != nil {
							t.Fatal(err)
						}
					}
				},
				Open: func(t *testing.T) drain.Source {
					w = &wire{}
					return open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic, RevokeWait: -1, Options: []kgo.Opt{
						kgo.Dialer(w.dial), kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond),
					}})
				},
				Crash: func(t *testing.T, s drain.Source) {
					w.crash()
					go s.(*kafka.Source).Close() // it has nobody to say farewell to
				},
				Close: func(t *testing.T, s drain.Source) {
					if err := s.(*kafka.Source).Close(); err != nil {
						t.Error(err)
					}
				},
				Letters: func(t *testing.T, n int) (all []draintest.Letter) {
					for _, r := range read(t, brokers, topic+".dead", n) {
						all = append(all, draintest.Letter{
							Body: r.Value, Reason: drain.Reason(header(r, "x-flyball-reason")), Detail: header(r, "x-flyball-detail"),
						})
					}
					return all
				},
				Prefix: true,
				Wait:   30 * time.Second,
			}
		})
	})
}

func TestConfig(t *testing.T) {
	_, err := kafka.Open(kafka.Config{MaxGap: 1, Dead: "x", Retry: "x", RevokeWait: time.Hour})
	for _, want := range []string{"Brokers", "Topic", "Group", "MaxGap", "Retry and Dead", "RevokeWait"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}

// ackAll fetches jobs that have the bodies want, in this order, and settles each.
func ackAll(t *testing.T, s *kafka.Source, want ...string) {
	t.Helper()
	for _, body := range want {
		d := fetch(t, s)
		if string(d.Body) != body {
			t.Fatalf("%s is %q, want %q", d.Where, d.Body, body)
		}
		if err := s.Ack(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
}

// fleet is several runners with one group, one store and one upstream.
type fleet struct {
	t       *testing.T
	brokers []string
	topic   string
	store   *drain.File
	up      *upstream
	revoke  time.Duration // RevokeWait
	options []kgo.Opt
}

type upstream struct {
	mu     sync.Mutex
	sent   map[string]int
	order  []string
	wrong  []string
	store  *drain.File
	refuse float64
	takes  time.Duration
}

func (u *upstream) Send(ctx context.Context, j *drain.Job) drain.Answer {
	u.mu.Lock()
	if u.sent == nil {
		u.sent = map[string]int{}
	}
	u.sent[j.ID]++
	u.order = append(u.order, j.ID)
	if _, ok := u.store.Has(j.ID); ok {
		u.wrong = append(u.wrong, j.ID)
	}
	u.mu.Unlock()
	time.Sleep(u.takes)
	if rand.Float64() < u.refuse {
		return drain.Answer{Status: 429, Retryable: true, Outcome: limiter.Outcome{Class: feedback.Throttled}}
	}
	if strings.HasPrefix(j.ID, "bad") {
		return drain.Answer{Status: 400, Body: []byte(`{"error":"no"}`), Outcome: limiter.Outcome{Class: feedback.ClientError}}
	}
	return drain.Answer{Status: 200, Body: []byte(`{"ok":true}`)}
}

func newFleet(t *testing.T, brokers []string, partitions int32) (*fleet, *kgo.Client) {
	c := admin(t, brokers)
	f := &fleet{t: t, brokers: brokers, topic: name("requests"), up: &upstream{takes: 5 * time.Millisecond}, revoke: 5 * time.Second}
	create(t, c, f.topic, partitions)
	var err error
	if f.store, err = drain.OpenFile(filepath.Join(t.TempDir(), "results.jsonl")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.store.Close() })
	f.up.store = f.store
	return f, c
}

// member is a runner of a fleet.
type member struct {
	guard *limiter.Guard
	run   *drain.Runner
	stop  func() error
}

func (f *fleet) join(change func(*drain.Config)) *member {
	f.t.Helper()
	src := open(f.t, kafka.Config{Brokers: f.brokers, Topic: f.topic, Group: f.topic, RevokeWait: f.revoke, Options: append([]kgo.Opt{
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond),
	}, f.options...)})
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(8), MaxWait: time.Hour, MaxPause: time.Hour})
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := drain.Config{Source: src, Store: f.store, Upstream: f.up, Guard: guard, PauseAfter: 100 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	r, err := drain.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var once sync.Once
	stop := func() (err error) {
		once.Do(func() {
			cancel()
			if err = <-ended; errors.Is(err, context.Canceled) {
				err = nil
			}
			err = errors.Join(err, src.Close())
		})
		return err
	}
	f.t.Cleanup(func() { _ = stop() })
	return &member{guard, r, stop}
}

func (f *fleet) wait(what string, most time.Duration, ok func() bool) {
	f.t.Helper()
	for end := time.Now().Add(most); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("no %s within %v: %d results", what, most, f.store.Len())
		}
	}
}

func line(id string, n int) []byte {
	return fmt.Appendf(nil, `{"custom_id":%q,"url":"/v1/x","body":{"n":%d}}`, id, n)
}

// Members come and go, also while the guards are paused. Each id is once in the results, nothing is sent whose result is
// durable, the poison is with the dead letters, and what is committed at the end is all.
func TestRebalanceDuringPauses(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		const n = 1500
		f, c := newFleet(t, brokers, 4)
		f.up.refuse, f.up.takes = 0.01, 30*time.Millisecond
		var rs []*kgo.Record
		for i := range n {
			rs = append(rs, &kgo.Record{Topic: f.topic, Partition: int32(i % 4), Value: line(fmt.Sprint("id-", i), i)})
			if i%300 == 100 {
				rs = append(rs, &kgo.Record{Topic: f.topic, Partition: int32(i % 4), Value: []byte("poison")},
					&kgo.Record{Topic: f.topic, Partition: int32(i % 4), Value: line(fmt.Sprint("bad-", i), i)})
			}
		}
		if err := c.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		a := f.join(nil)
		f.wait("start", 30*time.Second, func() bool { return f.store.Len() > 100 })
		a.guard.Pause(time.Now().Add(4 * time.Second))
		b := f.join(nil) // a rebalance while a is paused
		f.wait("work of the second", 30*time.Second, func() bool { return b.run.Progress().Done > 50 })
		b.guard.Pause(time.Now().Add(3 * time.Second))
		d := f.join(nil)
		if err := a.stop(); err != nil { // and it may be paused still
			t.Error(err)
		}
		f.wait("end", time.Minute, func() bool { return f.store.Len() == n })
		f.wait("dead letters", 20*time.Second, func() bool {
			return a.run.Progress().Dead+b.run.Progress().Dead+d.run.Progress().Dead >= 10
		})
		for _, m := range []*member{b, d} {
			if err := m.stop(); err != nil {
				t.Error(err)
			}
			t.Logf("%+v", m.run.Progress())
		}
		if len(f.up.wrong) > 0 {
			t.Errorf("%d jobs were sent although their results were durable, such as %s", len(f.up.wrong), f.up.wrong[0])
		}
		again := 0
		for id, n := range f.up.sent {
			if again += n - 1; n > 20 {
				t.Errorf("%s was sent %d times", id, n)
			}
		}
		t.Logf("%d attempts more than jobs: refusals, and what was in flight when a partition went", again)
		reasons := map[string]int{}
		for _, r := range read(t, brokers, f.topic+".dead", 10) {
			reasons[header(r, "x-flyball-reason")]++
		}
		if reasons["bad_json"] < 5 || reasons["refused"] < 5 {
			t.Errorf("dead letters %v", reasons)
		}
		// Everything is committed: a new member gets nothing.
		e := f.join(nil)
		time.Sleep(2 * time.Second)
		if err := e.stop(); err != nil {
			t.Error(err)
		}
		if p := e.run.Progress(); p.Fetched != 0 {
			t.Errorf("%d jobs came again after the end", p.Fetched)
		}
	})
}

// A member loses a partition while it is paused, with jobs of it in hand, and another one does them. When the pause is over, they are not
// sent again.
func TestPartitionGoesInAPause(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		const n = 200
		f, c := newFleet(t, brokers, 2)
		f.revoke, f.options = -1, []kgo.Opt{kgo.Balancers(kgo.RangeBalancer())} // which gives each a partition, and takes all away for that
		var rs []*kgo.Record
		for i := range n {
			rs = append(rs, &kgo.Record{Topic: f.topic, Partition: int32(i % 2), Value: line(fmt.Sprint("id-", i), i)})
		}
		if err := c.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		a := f.join(func(c *drain.Config) { c.InHand = n - 10 }) // of both
		f.wait("start", 30*time.Second, func() bool { return f.store.Len() > 20 })
		a.guard.Pause(time.Now().Add(30 * time.Minute))
		b := f.join(nil)
		f.wait("end of a partition", 30*time.Second, func() bool {
			for part := range 2 {
				i := part
				for ; i < n; i += 2 {
					if _, ok := f.store.Has(fmt.Sprint("id-", i)); !ok {
						break
					}
				}
				if i >= n {
					return true
				}
			}
			return false
		})
		a.guard.Resume()
		f.wait("end", 30*time.Second, func() bool { return f.store.Len() == n })
		for _, m := range []*member{a, b} {
			if err := m.stop(); err != nil {
				t.Error(err)
			}
			t.Logf("%+v", m.run.Progress())
		}
		if p := a.run.Progress(); p.Lost == 0 {
			t.Errorf("no job of the partition was in hand: %+v", p)
		}
		if len(f.up.wrong) > 0 {
			t.Errorf("%d jobs were sent although their results were durable, such as %s", len(f.up.wrong), f.up.wrong[0])
		}
		for id, times := range f.up.sent {
			if times != 1 {
				t.Errorf("%s was sent %d times", id, times)
			}
		}
	})
}

// While a partition goes, what is in flight ends, and nothing of it is started any more: it would be in flight when the time for that is over, and be
// sent by the next member, too. Nor is what waits for a place waited for.
func TestNothingStartsOfAPartitionThatGoes(t *testing.T) {
	for what, revoke := range map[string]time.Duration{"short": time.Second, "long": 30 * time.Second} {
		t.Run(what, func(t *testing.T) {
			each(t, func(t *testing.T, brokers []string) {
				const n = 600
				f, c := newFleet(t, brokers, 2)
				f.revoke, f.up.takes = revoke, 400*time.Millisecond
				a := f.join(func(c *drain.Config) { c.InHand = n })
				for i := 0; i < n; i += 2 { // of both in turn
					r := []*kgo.Record{{Topic: f.topic, Value: line(fmt.Sprint("id-", i), i)}, {Topic: f.topic, Partition: 1, Value: line(fmt.Sprint("id-", i+1), i+1)}}
					if err := c.ProduceSync(t.Context(), r...).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
				f.wait("start", 30*time.Second, func() bool { return f.store.Len() > 20 })
				b := f.join(nil)
				f.wait("work of the second", 15*time.Second, func() bool { return b.run.Progress().Done > 40 })
				for _, m := range []*member{a, b} {
					if err := m.stop(); err != nil {
						t.Error(err)
					}
					t.Logf("%+v", m.run.Progress())
				}
				for id, times := range f.up.sent {
					if times != 1 {
						t.Errorf("%s was sent %d times", id, times)
					}
				}
			})
		})
	}
}

// Calls that are in flight when the guard is paused have their time as ever, when their partition is taken away in the pause.
func TestCallsInFlightInAPause(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		const n = 8 // as many as the guard lets start
		f, c := newFleet(t, brokers, 2)
		f.revoke, f.up.takes = 30*time.Second, 6*time.Second
		for i := range n {
			r := &kgo.Record{Topic: f.topic, Partition: int32(i % 2), Value: line(fmt.Sprint("id-", i), i)}
			if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		a := f.join(func(c *drain.Config) { c.InHand = n })
		f.wait("calls in flight", 30*time.Second, func() bool { return a.run.Progress().InFlight == n })
		a.guard.Pause(time.Now().Add(30 * time.Minute))
		time.Sleep(time.Second) // until the source knows
		b := f.join(nil)
		f.wait("end", 30*time.Second, func() bool { return f.store.Len() == n })
		for _, m := range []*member{a, b} {
			if err := m.stop(); err != nil {
				t.Error(err)
			}
			t.Logf("%+v", m.run.Progress())
		}
		for id, times := range f.up.sent {
			if times != 1 {
				t.Errorf("%s was sent %d times", id, times)
			}
		}
	})
}

// refusing is an upstream that refuses each call, and names a delay.
type refusing struct{ asked chan bool }

func (r refusing) Send(context.Context, *drain.Job) drain.Answer {
	r.asked <- true
	return drain.Answer{Status: 429, Retryable: true, Outcome: limiter.Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: time.Minute}}
}

// What was refused and waits for the end of the pause is not in flight: no revocation waits for it.
func TestRefusedInAPause(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		const n = 40
		f, c := newFleet(t, brokers, 2)
		f.revoke, f.options = 30*time.Second, []kgo.Opt{kgo.Balancers(kgo.RangeBalancer())}
		for i := range n {
			r := &kgo.Record{Topic: f.topic, Partition: int32(i % 2), Value: line(fmt.Sprint("id-", i), i)}
			if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		up := refusing{make(chan bool, n)}
		a := f.join(func(c *drain.Config) { c.InHand, c.Upstream = n, up })
		<-up.asked
		f.wait("refusal", 30*time.Second, func() bool { p := a.run.Progress(); return p.Throttled > 0 && p.InFlight == 0 })
		b := f.join(nil)
		f.wait("work of the second", 15*time.Second, func() bool { return b.run.Progress().Done > 0 })
		for _, m := range []*member{a, b} {
			if err := m.stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

// The broker is killed and started again while one runner has jobs in flight and another one is paused. Each id is once in the results,
// nothing is sent whose result is durable, and the poison is with the dead letters. With FLYBALL_LONG it is killed three times.
func TestBrokerRestarts(t *testing.T) {
	restart := os.Getenv("FLYBALL_KAFKA_RESTART")
	if restart == "" {
		t.Skip("FLYBALL_KAFKA_RESTART names no program: no broker is restarted (.ci/services kafka -- go test ./contrib/kafka)")
	}
	if testing.Short() {
		t.Skip("-short: not waiting for a broker to start")
	}
	times := 1
	if os.Getenv("FLYBALL_LONG") != "" {
		times = 3
	}
	const n = 1200
	f, c := newFleet(t, []string{os.Getenv("FLYBALL_KAFKA")}, 3)
	f.up.refuse, f.up.takes = 0.02, 20*time.Millisecond
	var rs []*kgo.Record
	for i := range n {
		rs = append(rs, &kgo.Record{Topic: f.topic, Partition: int32(i % 3), Value: line(fmt.Sprint("id-", i), i)})
		if i%300 == 100 {
			rs = append(rs, &kgo.Record{Topic: f.topic, Partition: int32(i % 3), Value: []byte("poison")})
		}
	}
	if err := c.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	a, b := f.join(nil), f.join(nil)
	for i := range times {
		f.wait("progress", time.Minute, func() bool { return f.store.Len() > 200+i*250 })
		a.guard.Pause(time.Now().Add(5 * time.Second))
		if out, err := exec.Command(restart).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", restart, err, out)
		}
	}
	f.wait("end", 2*time.Minute, func() bool { return f.store.Len() == n })
	f.wait("dead letters", time.Minute, func() bool { return a.run.Progress().Dead+b.run.Progress().Dead >= n/300 })
	for _, m := range []*member{a, b} {
		if err := m.stop(); err != nil {
			t.Error(err)
		}
		t.Logf("%+v", m.run.Progress())
	}
	if len(f.up.wrong) > 0 {
		t.Errorf("%d jobs were sent although their results were durable, such as %s", len(f.up.wrong), f.up.wrong[0])
	}
	if dead := read(t, f.brokers, f.topic+".dead", n/300); len(dead) < n/300 {
		t.Errorf("%d dead letters, want %d", len(dead), n/300)
	}
}

// In a pause nothing is fetched, for longer than the session's time-out, and nobody is thrown out of the group.
func TestPauseLongerThanTheSession(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: waiting for the session's time-out")
	}
	each(t, func(t *testing.T, brokers []string) {
		f, c := newFleet(t, brokers, 2)
		a := f.join(func(c *drain.Config) { c.InHand = 16 })
		for i := range 200 {
			r := &kgo.Record{Topic: f.topic, Partition: int32(i % 2), Value: line(fmt.Sprint("id-", i), i)}
			if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if i == 50 {
				f.wait("start", 30*time.Second, func() bool { return f.store.Len() > 20 })
				a.guard.Pause(time.Now().Add(30 * time.Minute)) // less than MaxWait, so that jobs wait at the guard
			}
		}
		before := a.run.Progress().Fetched
		time.Sleep(8 * time.Second)
		if p := a.run.Progress(); p.Fetched > before+17 {
			t.Errorf("%d jobs were fetched in the pause", p.Fetched-before)
		}
		a.guard.Resume()
		f.wait("end", 30*time.Second, func() bool { return f.store.Len() == 200 })
		if p := a.run.Progress(); p.Lost != 0 || p.Fetched != 200 {
			t.Errorf("%+v", p)
		}
	})
}

// putOut has the brokers forget all members of a group, as after a silence that was longer than the session's time-out.
func putOut(t *testing.T, c *kgo.Client, group string) {
	t.Helper()
	ask := kmsg.NewPtrDescribeGroupsRequest()
	ask.Groups = []string{group}
	groups, err := ask.RequestWith(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = group
	for _, m := range groups.Groups[0].Members {
		member := kmsg.NewLeaveGroupRequestMember()
		member.MemberID = m.MemberID
		leave.Members = append(leave.Members, member)
	}
	resp, err := leave.RequestWith(t.Context(), c)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil || len(leave.Members) == 0 {
		t.Fatalf("%d members are put out: %v", len(leave.Members), err)
	}
}

// What is done behind a job that is not is committed, too: who has the partition next gets that job and what is new, whether the first one left or died.
func TestDoneBehindAGap(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprint("dies ", dies), func(t *testing.T) { doneBehindAGap(t, dies) })
	}
}

func doneBehindAGap(t *testing.T, dies bool) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("behind")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		produce := func(bodies ...string) {
			t.Helper()
			for _, body := range bodies {
				if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(body)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
		produce("a", "slow", "b", "c", "slow, too", "d", "e")
		w := &wire{}
		cfg := kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Options: []kgo.Opt{kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(200 * time.Millisecond)}}
		first := cfg
		first.Options = append(cfg.Options[:2:2], kgo.Dialer(w.dial))
		first.RevokeWait = -1
		if dies {
			first.Log = func(string, ...any) {}
		}
		s := open(t, first)
		for range 7 {
			d := fetch(t, s)
			if strings.HasPrefix(string(d.Body), "slow") {
				continue
			}
			if err := s.Ack(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		if dies {
			for end := time.Now().Add(20 * time.Second); !strings.HasPrefix(commit(t, c, topic, topic).metadata, "flyball-done-1 "); time.Sleep(100 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("what is committed is %+v", commit(t, c, topic, topic))
				}
			}
			w.crash()
			go s.Close()
		} else {
			s.Close()
		}
		if at := committed(t, c, topic, topic); at != 1 {
			t.Errorf("the offset %d is committed, want 1", at)
		}
		produce("f")
		s = open(t, cfg)
		defer s.Close()
		ackAll(t, s, "slow", "slow, too", "f")
		for end := time.Now().Add(20 * time.Second); committed(t, c, topic, topic) != 8; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the offset %d is committed, want 8", committed(t, c, topic, topic))
			}
		}
	})
}

// What is done behind a gap is handed on by a member that ends before it has come to it.
func TestDoneIsHandedOn(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	a := admin(t, c.ListenAddrs())
	for _, body := range []string{"slow", "a", "b", "slow, too", "c", "d"} {
		if err := a.ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte(body)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cfg := kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", RevokeWait: -1}
	s := open(t, cfg)
	for range 6 {
		if d := fetch(t, s); d.Body[0] != 's' {
			if err := s.Ack(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.Close()
	s = open(t, cfg)
	if err := s.Ack(t.Context(), fetch(t, s)); err != nil { // and nothing else is fetched
		t.Fatal(err)
	}
	s.Close()
	s = open(t, cfg)
	defer s.Close()
	ackAll(t, s, "slow, too")
}

// What is done behind one job and then behind another is committed each time, also where both look alike.
func TestDoneBehindOneGapAndTheNext(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: waiting for commits")
	}
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	a := admin(t, c.ListenAddrs())
	var ds []*drain.Delivery
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs"})
	defer s.Close()
	for range 4 {
		if err := a.ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		ds = append(ds, fetch(t, s))
	}
	for _, step := range []struct {
		ack    int
		offset int64
		behind bool
	}{{1, 0, true}, {0, 2, false}, {3, 2, true}} {
		if err := s.Ack(t.Context(), ds[step.ack]); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			at := commit(t, a, "jobs", "jobs")
			if at.offset == step.offset && strings.HasPrefix(at.metadata, "flyball-done-1 ") == step.behind {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("with %d done, what is committed is %+v", step.ack, at)
			}
		}
	}
}

// A commit of what is done behind a gap that is sent again and again takes no newer one back for good: the client commits that once more.
func TestDoneIsNotTakenBack(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: waiting for as long as a commit may take")
	}
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	a := admin(t, c.ListenAddrs())
	for range 2 {
		if err := a.ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var newer atomic.Bool
	asked := make(chan struct{}, 1000)
	c.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		topic := req.(*kmsg.OffsetCommitRequest).Topics[0]
		if m := topic.Partitions[0].Metadata; newer.Load() || m == nil || !strings.HasPrefix(*m, "flyball") {
			newer.Store(true)
			return nil, nil, false
		}
		asked <- struct{}{}
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		rp := kmsg.NewOffsetCommitResponseTopicPartition()
		rp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs"})
	defer s.Close()
	ds := []*drain.Delivery{fetch(t, s), fetch(t, s)}
	if err := s.Ack(t.Context(), ds[1]); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := s.Ack(t.Context(), ds[0]); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !newer.Load(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing else is committed")
		}
	}
	time.Sleep(10 * time.Second) // longer than it takes to be sent again, and what is newer then
	if n := committed(t, a, "jobs", "jobs"); n != 2 {
		t.Fatalf("the offset %d is committed, want 2", n)
	}
}

// What is committed beside the client takes back nothing that the client commits meanwhile.
func TestCommitBesideTheClient(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "jobs"))
	a := admin(t, c.ListenAddrs())
	for range 20 {
		if err := a.ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs"})
	defer s.Close()
	n := int64(0)
	ack := func() {
		t.Helper()
		if err := s.Ack(t.Context(), fetch(t, s)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	ack()
	wait := func() {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); committed(t, a, "jobs", "jobs") != n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the offset %d is committed, want %d", committed(t, a, "jobs", "jobs"), n)
			}
		}
	}
	wait() // from here on nobody else asks who coordinates the group
	asked, known := make(chan struct{}), make(chan struct{})
	c.ControlKey(int16(kmsg.FindCoordinator), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if c.CurrentNode() != c.CoordinatorFor("jobs") { // whose connection has to take the client's commits meanwhile
			select {
			case asked <- struct{}{}:
				c.SleepControl(func() { <-known })
			default:
			}
		}
		return nil, nil, false
	})
	for during := false; !during; { // the client may have committed all
		ack()
		ended := make(chan error, 1)
		go func() { ended <- s.Commit(t.Context()) }()
		select {
		case <-asked:
			ack()
			wait()
			known <- struct{}{}
			during = <-ended == nil
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			wait()
		}
	}
	if at := committed(t, a, "jobs", "jobs"); at != n {
		t.Errorf("the offset %d is committed, want %d", at, n)
	}
}

// Brokers that take no metadata are told what is done without.
func TestDoneWithoutMetadata(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	a := admin(t, c.ListenAddrs())
	for range 5 {
		if err := a.ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	var refused atomic.Int32
	c.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		topic := req.(*kmsg.OffsetCommitRequest).Topics[0]
		if m := topic.Partitions[0].Metadata; m == nil || !strings.HasPrefix(*m, "flyball") {
			return nil, nil, false
		}
		refused.Add(1)
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		rp := kmsg.NewOffsetCommitResponseTopicPartition()
		rp.ErrorCode = kerr.OffsetMetadataTooLarge.Code
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		return resp, nil, true
	})
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs"})
	defer s.Close()
	var ds []*drain.Delivery
	for range 5 {
		ds = append(ds, fetch(t, s))
	}
	done := func(want int64, is ...int) {
		t.Helper()
		for _, i := range is {
			if err := s.Ack(t.Context(), ds[i]); err != nil {
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(20 * time.Second); committed(t, a, "jobs", "jobs") != want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the offset %d is committed, want %d", committed(t, a, "jobs", "jobs"), want)
			}
		}
	}
	done(1, 4, 2, 0)
	n := refused.Load()
	done(3, 1)
	if n == 0 || refused.Load() != n {
		t.Errorf("metadata were refused %d times, and %d times more", n, refused.Load()-n)
	}
	s.Close()
	// Also by who hears of it only as it ends.
	for range 3 {
		if err := a.ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Options: []kgo.Opt{kgo.AutoCommitInterval(time.Hour)}, RevokeWait: -1})
	for i := range 5 {
		ds[i] = fetch(t, s)
	}
	for _, i := range []int{0, 1, 3} {
		if err := s.Ack(t.Context(), ds[i]); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if at := committed(t, a, "jobs", "jobs"); at != 5 {
		t.Errorf("at the end the offset %d is committed, want 5", at)
	}
}

// TLS is an option of the client's.
func TestTLS(t *testing.T) {
	t.Parallel()
	web := httptest.NewTLSServer(nil) // which has a certificate for 127.0.0.1
	defer web.Close()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"), kfake.TLS(web.TLS))
	with := kgo.DialTLSConfig(web.Client().Transport.(*http.Transport).TLSClientConfig)
	p, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), with)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Options: []kgo.Opt{with}})
	defer s.Close()
	ackAll(t, s, "{}")
}

// With brokers that do not speak TLS it is told that connecting failed, and not only that the time is over.
func TestTLSWithBrokersWithout(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: waiting for as long as opening may take")
	}
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	with := []kgo.Opt{kgo.DialTLS()}
	for what, open := range map[string]func() error{
		"Open": func() error {
			_, err := kafka.Open(kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Options: with})
			return err
		},
		"OpenReplies": func() error {
			_, err := kafka.OpenReplies(kafka.ReplyConfig{Brokers: c.ListenAddrs(), Topic: "jobs", Options: with})
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if err := open(); err == nil || !strings.Contains(err.Error(), "unable to dial") {
				t.Errorf("it returned %v", err)
			}
		})
	}
}

// Brokers that refuse connections for less than the session's time-out, as while they are started again, cost nothing: what is in hand stays.
func TestBrokersGoneForAMoment(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "jobs"))
	if err := admin(t, c.ListenAddrs()).ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	refused := make(chan struct{}, 1000)
	w := &wire{}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := w.dial(ctx, network, addr)
		if err != nil {
			refused <- struct{}{}
			err = &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
		}
		return conn, err
	}
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Options: []kgo.Opt{kgo.Dialer(dial), kgo.HeartbeatInterval(50 * time.Millisecond)}})
	defer s.Close()
	d := fetch(t, s)
	w.crash()
	for range 10 {
		<-refused
	}
	w.mend()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if ds, err := s.Fetch(ctx, 1); err == nil {
		t.Errorf("%s comes again", ds[0].Where)
	}
	if err := s.Ack(t.Context(), d); err != nil {
		t.Error(err)
	}
}

// Who was silent for longer than the session's time-out, because of the network or a process that was stopped, joins again. What comes again, as it
// was not committed, is not sent again, also where it has become a dead letter.
func TestPutOutOfTheGroup(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		const n = 600
		f, c := newFleet(t, brokers, 2)
		f.up.takes = 50 * time.Millisecond
		var rs []*kgo.Record
		for i := range n {
			if i%10 == 0 {
				rs = append(rs, &kgo.Record{Topic: f.topic, Partition: int32(i / 10 % 2), Value: line(fmt.Sprint("bad-", i), i)})
			}
			rs = append(rs, &kgo.Record{Topic: f.topic, Partition: int32(i % 2), Value: line(fmt.Sprint("id-", i), i)})
		}
		if err := c.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		a := f.join(nil)
		f.wait("start", 30*time.Second, func() bool { return f.store.Len() > 50 })
		putOut(t, c, f.topic)
		f.wait("end", 30*time.Second, func() bool { return f.store.Len() == n })
		if err := a.stop(); err != nil {
			t.Error(err)
		}
		for id, times := range f.up.sent {
			if times != 1 {
				t.Errorf("%s was sent %d times", id, times)
			}
		}
		if len(f.up.wrong) > 0 {
			t.Errorf("%d jobs were sent although their results were durable, such as %s", len(f.up.wrong), f.up.wrong[0])
		}
	})
}

// What waited here for its time when its partition went was not handed out, and may be another job than one whose dead letter is known.
func TestPutOutWhileAJobWaits(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("waits")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Options: []kgo.Opt{kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond)}})
		defer s.Close()
		due := time.Now().Add(3 * time.Second)
		for _, r := range []*kgo.Record{
			{Topic: topic, Value: []byte("a")},
			{Topic: topic + ".retry", Value: []byte("b"), Headers: []kgo.RecordHeader{{Key: "x-flyball-not-before", Value: fmt.Append(nil, due.UnixMilli())}}},
		} {
			if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if d := fetch(t, s); string(d.Body) != "a" || d.Again {
			t.Fatalf("%s is first, again %t", d.Body, d.Again)
		}
		ctx, cancel := context.WithDeadline(t.Context(), due.Add(-time.Second))
		defer cancel()
		if ds, err := s.Fetch(ctx, 1); err == nil {
			t.Fatalf("%s came before its time", ds[0].Body)
		}
		putOut(t, c, topic)
		again := map[string]bool{}
		for len(again) < 2 {
			d := fetch(t, s)
			again[string(d.Body)] = d.Again
		}
		if !again["a"] || again["b"] {
			t.Errorf("handed out before: %v, want a alone", again)
		}
	})
}

// Jobs of one key are sent in their order, also when one of them is refused.
func TestOrdered(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		f, c := newFleet(t, brokers, 2)
		f.up.refuse = 0.05
		var rs []*kgo.Record
		for i := range 300 {
			key := i % 7
			rs = append(rs, &kgo.Record{Topic: f.topic, Partition: int32(key % 2), Key: fmt.Append(nil, "key-", key), Value: line(fmt.Sprintf("%d-%03d", key, i), i)})
		}
		if err := c.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		f.join(func(c *drain.Config) { c.Ordered = true })
		f.wait("end", time.Minute, func() bool { return f.store.Len() == 300 })
		last := map[string]string{}
		for _, id := range f.up.order {
			key, n, _ := strings.Cut(id, "-")
			if n < last[key] {
				t.Errorf("%s was sent after %s of the same key", id, last[key])
			}
			last[key] = n
		}
	})
}

// A job that does not end stops its partition, and only that, once MaxGap records are behind it.
func TestGap(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		c := admin(t, brokers)
		topic := name("gap")
		create(t, c, topic, 2)
		for i := range 400 {
			r := &kgo.Record{Topic: topic, Partition: int32(i % 2), Value: line(fmt.Sprint("id-", i), i)}
			c.Produce(t.Context(), r, nil)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic, MaxGap: 50, RevokeWait: -1})
		defer s.Close()
		var stuck *drain.Delivery
		n := [2]int{}
		fetch := func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			for ctx.Err() == nil && n[0]+n[1] < 400 {
				ds, _ := s.Fetch(ctx, 10)
				for _, d := range ds {
					part := int(strings.SplitN(d.Where, "/", 2)[1][0] - '0')
					n[part]++
					if stuck == nil && part == 0 {
						stuck = d
						continue
					}
					if err := s.Ack(t.Context(), d); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for end := time.Now().Add(20 * time.Second); n[1] < 200 && time.Now().Before(end); {
			fetch()
		}
		if n[1] != 200 || n[0] >= 100 {
			t.Errorf("%d and %d records came, want some 50 of the partition that is stuck and 200 of the other", n[0], n[1])
		}
		if err := s.Ack(t.Context(), stuck); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(20 * time.Second); n[0] < 200 && time.Now().Before(end); {
			fetch()
		}
		if n[0] != 200 {
			t.Errorf("%d records of the partition that was stuck, want 200", n[0])
		}
	})
}

// Each member has its part of the jobs, and not in their place what others have to try again, whoever comes and goes.
func TestEachMemberHasJobs(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		const n = 4
		c := admin(t, brokers)
		topic := name("level")
		create(t, c, topic, n)
		join := func() *kafka.Source {
			s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Options: []kgo.Opt{kgo.HeartbeatInterval(100 * time.Millisecond)}})
			t.Cleanup(func() { s.Close() })
			return s
		}
		level := func(members int) {
			t.Helper()
			jobs, retries := map[string]int{}, map[string]int{}
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				all := 0
				for _, m := range waitForGroup(t, c, topic, "Stable", members) {
					parts, err := kgo.ParseConsumerSyncAssignment(m.MemberAssignment)
					if err != nil {
						t.Fatal(err)
					}
					jobs[m.MemberID], retries[m.MemberID] = len(parts[topic]), len(parts[topic+".retry"])
					all += jobs[m.MemberID] + retries[m.MemberID]
				}
				if all == 2*n {
					break
				} else if time.Now().After(end) {
					t.Fatalf("%d partitions of %d have a member", all, 2*n)
				}
				clear(jobs)
				clear(retries)
			}
			for _, of := range []map[string]int{jobs, retries} {
				for _, have := range of {
					if have < n/members {
						t.Errorf("the %d members have %v partitions with jobs and %v with retries, want at least %d each", members, jobs, retries, n/members)
					}
				}
			}
		}
		var ms []*kafka.Source
		for i := range n {
			ms = append(ms, join())
			level(i + 1)
		}
		for i := range 2 {
			ms[i].Close()
			level(n - 1)
			join()
			level(n)
		}
	})
}

// Jobs that wait for hours stay with the brokers, but for some, and all of them come when it is time.
func TestLargeJobsThatWait(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		const n, size = 100, 10 << 10
		topic := name("waits")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		create(t, c, topic+".retry", 1)
		due := time.UnixMilli(time.Now().Add(8 * time.Second).UnixMilli())
		for range n {
			c.Produce(t.Context(), &kgo.Record{Topic: topic + ".retry", Value: make([]byte, size), Headers: []kgo.RecordHeader{{Key: "x-flyball-not-before", Value: fmt.Append(nil, due.UnixMilli())}}}, nil)
		}
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic})
		defer s.Close()
		s.SetMostLater(64 * size)
		early, cancel := context.WithDeadline(t.Context(), due.Add(-time.Second))
		defer cancel()
		if ds, err := s.Fetch(early, 1); err == nil {
			t.Errorf("%s came before its time", ds[0].Where)
		}
		if got := s.Waiting(); got != 64 {
			t.Errorf("%d of %d jobs wait here, want 64", got, n)
		}
		for range n {
			if err := s.Ack(t.Context(), fetch(t, s)); err != nil {
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(10 * time.Second); committed(t, c, topic+".retry", topic) != n; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the offset %d is committed, want %d", committed(t, c, topic+".retry", topic), n)
			}
		}
	})
}

// What a partition has in hand and what waits of its topic keep it from being fetched each by itself.
func TestPausedForTwoReasons(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs", "jobs.dead"), kfake.SeedTopics(2, "jobs.retry"))
	const gap, size = 16, 100
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	put := func(partition int32, n int, due time.Time) {
		t.Helper()
		for range n {
			r := &kgo.Record{Topic: "jobs.retry", Partition: partition, Value: make([]byte, size)}
			r.Headers = []kgo.RecordHeader{{Key: "x-flyball-not-before", Value: fmt.Append(nil, due.UnixMilli())}}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	now := time.Now()
	put(0, 2*gap, now)
	put(1, 6, now.Add(time.Hour))
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", MaxGap: gap})
	defer s.Close()
	s.SetMostLater(10 * size)
	var ds []*drain.Delivery
	for len(ds) < gap {
		ds = append(ds, fetch(t, s))
	}
	for s.Waiting() < 6 { // a partition that is paused is not what Fetch waits for
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		more, _ := s.Fetch(ctx, 1)
		cancel()
		ds = append(ds, more...)
	}
	for _, d := range ds {
		if err := s.Ack(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	for range 2*gap - len(ds) {
		if err := s.Ack(t.Context(), fetch(t, s)); err != nil {
			t.Fatal(err)
		}
	}
}

// holding holds up the first poll that has records until it is let go.
type holding struct {
	once sync.Once
	held chan struct{}
	let  chan struct{}
}

func (h *holding) OnFetchRecordUnbuffered(_ *kgo.Record, polled bool) {
	if polled {
		h.once.Do(func() { close(h.held); <-h.let })
	}
}

// A partition is taken away while the client hands out its records. They are not this member's any more.
func TestRevokedDuringFetch(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		c := admin(t, brokers)
		topic := name("revoked")
		create(t, c, topic, 4)
		create(t, c, topic+".retry", 1) // so that each member has one of the four
		for i := range 20 {
			if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: int32(i % 4), Value: line(fmt.Sprint(i), i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		h := &holding{held: make(chan struct{}), let: make(chan struct{})}
		cfg := kafka.Config{Brokers: brokers, Topic: topic, Group: topic, RevokeWait: -1, Options: []kgo.Opt{
			kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(100 * time.Millisecond),
		}}
		second := cfg
		cfg.Options = append(cfg.Options[:2:2], kgo.WithHooks(h))
		a := open(t, cfg)
		defer a.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		came := make(chan []*drain.Delivery, 1)
		go func() {
			ds, _ := a.Fetch(ctx, 100)
			came <- ds
		}()
		<-h.held
		b := open(t, second)
		defer b.Close()
		theirs := make(chan []*drain.Delivery, 1)
		go func() {
			ds, _ := b.Fetch(ctx, 100)
			theirs <- ds
		}()
		var other []*drain.Delivery
		select {
		case other = <-theirs:
		case <-time.After(2 * time.Second):
		}
		close(h.let)
		mine := <-came
		if other == nil {
			other = <-theirs
		}
		if len(mine) == 0 || len(other) == 0 {
			t.Fatalf("%d and %d records came", len(mine), len(other))
		}
		gone := map[string]bool{}
		for _, d := range other {
			gone[d.Where[:strings.Index(d.Where, "@")]] = true
		}
		n := 0
		for _, d := range mine {
			if gone[d.Where[:strings.Index(d.Where, "@")]] {
				n++
				if err := a.Ack(ctx, d); !errors.Is(err, drain.ErrLost) {
					t.Errorf("%s, which another member has: Ack is %v, want ErrLost", d.Where, err)
				}
			}
		}
		t.Logf("%d of %d records were another member's", n, len(mine))
	})
}

// A record that is as large as a record may be goes to the dead letters all the same.
func TestLargeDeadLetter(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("large")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		sizes := []int{1<<20 - 120, 1<<20 - 20_000}
		for _, n := range sizes {
			if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(strings.Repeat("x", n))}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic})
		defer s.Close()
		for done := 0; done < len(sizes); {
			ds, err := s.Fetch(t.Context(), 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range ds {
				letter := &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused, Detail: "no"}, Answer: []byte(strings.Repeat("y", 40_000))}
				if err := s.Dead(t.Context(), d, letter); err != nil {
					t.Fatal(err)
				}
				done++
			}
		}
		got := read(t, brokers, topic+".dead", len(sizes))
		if len(got) != 2 || len(got[0].Value) != 4<<10 || len(got[1].Value) != sizes[1] {
			t.Fatalf("%d dead letters", len(got))
		}
		for _, r := range got {
			if header(r, "x-flyball-reason") != "refused" || header(r, "x-flyball-where") == "" {
				t.Errorf("headers: %v", r.Headers)
			}
		}
	})
}

// A record that is as large as a record may be has no room for the headers of a retry: it waits here, and comes again with what was counted.
func TestLargeRetry(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("large")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: make([]byte, 1<<20-120)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic})
		defer func() { s.Close() }()
		d := fetch(t, s)
		back := make(chan *drain.Delivery, 1)
		go func() { // what waits for records hears of it
			ds, err := s.Fetch(t.Context(), 1)
			if err != nil || len(ds) != 1 {
				t.Errorf("Fetch returned %d deliveries and %v", len(ds), err)
				close(back)
				return
			}
			back <- ds[0]
		}()
		start := time.Now()
		if err := s.Retry(t.Context(), d, time.Second, "refused"); err != nil {
			t.Fatal(err)
		}
		again := <-back
		if again == nil {
			return
		}
		if e := time.Since(start); e < time.Second || again.Attempts != 1 || again.Retries != 1 || !again.Since.Equal(d.Since) {
			t.Errorf("it came again after %v with %d attempts and %d retries, since %v; want 1, 1, %v", e, again.Attempts, again.Retries, again.Since, d.Since)
		}
		if err := s.Ack(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("next")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s = open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic})
		if next := fetch(t, s); string(next.Body) != "next" {
			t.Errorf("%s came again, which was acknowledged", next.Where)
		}
	})
}

// An answer that is too large for the topic of replies is told as such, and keeps nobody else from getting his.
func TestLargeReply(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("replies")
		create(t, admin(t, brokers), topic, 1)
		r, err := kafka.OpenReplies(kafka.ReplyConfig{Brokers: brokers, Topic: topic})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		large := &drain.Result{ID: "large", Hash: drain.Hash{1}, Status: 200, Body: []byte(`"` + strings.Repeat("x", 2<<20) + `"`)}
		for _, res := range []*drain.Result{large, {ID: "small", Status: 200, Body: []byte(`{}`)}} {
			if err := r.Put(t.Context(), res); err != nil {
				t.Fatalf("%s: %v", res.ID, err)
			}
		}
		got := read(t, brokers, topic, 2)
		if len(got) != 2 || string(got[0].Key) != "large" || string(got[1].Key) != "small" {
			t.Fatalf("%d replies", len(got))
		}
		var line struct {
			ID       string          `json:"id"`
			CustomID string          `json:"custom_id"`
			Response json.RawMessage `json:"response"`
			Error    struct{ Code, Message string }
		}
		if err := json.Unmarshal(got[0].Value, &line); err != nil {
			t.Fatal(err)
		}
		if line.ID != "batch_req_"+large.Hash.String() || line.CustomID != "large" || string(line.Response) != "null" || line.Error.Code != "answer_too_large" ||
			!strings.Contains(line.Error.Message, "2097154 bytes") {
			t.Errorf("in place of the large answer is %s", got[0].Value)
		}
	})
}

// What a topic takes that takes more than the brokers' default goes there whole: jobs as retries and as dead letters, and answers.
func TestLargerThanTheDefault(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("larger")
		c := admin(t, brokers)
		createFor(t, c, topic, "4194304")
		big, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ProducerBatchMaxBytes(4<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
		if err != nil {
			t.Fatal(err)
		}
		defer big.Close()
		job := `{"custom_id":"a","body":"` + strings.Repeat("x", 3<<20) + `"}`
		if err := big.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(job)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		plain := []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression())}
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Options: plain})
		defer s.Close()
		if err := s.Retry(t.Context(), fetch(t, s), time.Second, "refused"); err != nil {
			t.Fatal(err)
		}
		again := fetch(t, s)
		if !strings.HasPrefix(again.Where, topic+".retry/") {
			t.Errorf("the job comes again from %s, want the topic of retries", again.Where)
		}
		if err := s.Dead(t.Context(), again, &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused}}); err != nil {
			t.Fatal(err)
		}
		if got := read(t, brokers, topic+".dead", 1); len(got) != 1 || string(got[0].Value) != job {
			t.Errorf("%d dead letters, the first with %d bytes of %d", len(got), len(got[0].Value), len(job))
		}
		replies := name("replies")
		createFor(t, c, replies, "4194304")
		r, err := kafka.OpenReplies(kafka.ReplyConfig{Brokers: brokers, Topic: replies, Options: plain})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Put(t.Context(), &drain.Result{ID: "a", Status: 200, Body: []byte(`"` + strings.Repeat("x", 3<<20) + `"`)}); err != nil {
			t.Fatal(err)
		}
		if got := read(t, brokers, replies, 1); len(got) != 1 || len(got[0].Value) < 3<<20 {
			t.Errorf("%d replies, the first is %.200s", len(got), got[0].Value)
		}
	})
}

// A topic that is deleted ends the run, also when there is another one of its name: nothing of that would come, for ever.
func TestTopicDeleted(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("deleted")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		var lines atomic.Int64
		s, err := kafka.Open(kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Log: func(string, ...any) { lines.Add(1) }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("1")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := s.Ack(t.Context(), fetch(t, s)); err != nil {
			t.Fatal(err)
		}
		remove(t, c, topic)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if ds, err := s.Fetch(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in the first second there are %d deliveries, and %v", len(ds), err)
		}
		create(t, admin(t, brokers), topic, 1)
		late, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		ds, err := s.Fetch(late, 1)
		if err == nil || !strings.Contains(err.Error(), "was deleted") {
			t.Errorf("there are %d deliveries, and %v", len(ds), err)
		}
		if n := lines.Load(); n > 10 {
			t.Errorf("%d lines are logged of it", n)
		}
	})
}

// A topic that is deleted and made again while jobs of it are in flight begins at its beginning, also where brokers know topics by their names when
// something is committed, as those before 4.1 do, and the client does not know of it yet.
func TestTopicMadeAgainWithJobsInFlight(t *testing.T) {
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(8, 9) // OffsetCommit
	brokers := cluster(t, kfake.NumBrokers(1), kfake.MaxVersions(versions)).ListenAddrs()
	topic := name("again")
	cfg := kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Options: []kgo.Opt{kgo.MetadataMinAge(time.Minute)}}
	fill := func(what string, n int) {
		c := admin(t, brokers)
		create(t, c, topic, 1)
		for i := range n {
			if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: fmt.Append(nil, what, i)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill("old", 1)
	s := open(t, cfg)
	d := fetch(t, s)
	remove(t, admin(t, brokers), topic)
	fill("new", 2)
	if err := s.Ack(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, cfg)
	defer s.Close()
	if d := fetch(t, s); string(d.Body) != "new0" {
		t.Errorf("the first job of the new topic is %s at %s, want new0", d.Body, d.Where)
	}
}

// What one broker says while others know better, as it has just begun or is older than they are, keeps nothing from being committed.
func TestCommitAlthoughABrokerKnowsLess(t *testing.T) {
	t.Parallel()
	old := kversion.Stable() // before 2.8
	for key, version := range map[kmsg.Key]int16{kmsg.Metadata: 9, kmsg.Fetch: 12, kmsg.OffsetCommit: 8, kmsg.OffsetFetch: 7} {
		old.SetMaxKeyVersion(int16(key), version)
	}
	for what, less := range map[string]struct {
		versions *kversion.Versions
		edit     func(*kmsg.MetadataResponseTopic)
		err      error
	}{
		"no topic": {kversion.Stable(), func(rt *kmsg.MetadataResponseTopic) {
			rt.ErrorCode, rt.Partitions = kerr.UnknownTopicOrPartition.Code, nil
		}, nil},
		"no topic ids":            {kversion.Stable(), func(rt *kmsg.MetadataResponseTopic) { rt.TopicID = [16]byte{} }, nil},
		"no broker has topic ids": {old, func(*kmsg.MetadataResponseTopic) {}, errors.New("not to be asked")},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := cluster(t, kfake.NumBrokers(1), kfake.MaxVersions(less.versions))
			topic := name("less")
			a := admin(t, c.ListenAddrs())
			create(t, a, topic, 1)
			if err := a.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("{}")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: topic, Group: topic})
			d := fetch(t, s)
			known, err := kmsg.NewPtrMetadataRequest().RequestWith(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			for i := range known.Topics {
				less.edit(&known.Topics[i])
			}
			c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				resp := *known
				resp.Version = req.GetVersion()
				return &resp, less.err, true
			})
			if err := s.Ack(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			s.Close()
			if n := committed(t, a, topic, topic); n != 1 {
				t.Errorf("%d is committed, want 1", n)
			}
		})
	}
}

// Jobs that the topic keeps no longer, after a long pause or while nothing ran, are told of: nobody does them any more.
func TestRecordsDeletedBeforeTheyWereFetched(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("short")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		lines := make(chan string, 100)
		w := &wire{}
		cfg := kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Options: []kgo.Opt{kgo.Dialer(w.dial)}, Log: func(format string, args ...any) {
			if line := fmt.Sprintf(format, args...); !strings.Contains(line, "connecting to") && !strings.Contains(line, "committing how far") { // what the cut brings
				lines <- line
			}
		}}
		fill := func(n int) {
			for range n {
				if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("{}")}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
		shorten := func(to int64) {
			req := kmsg.NewPtrDeleteRecordsRequest()
			rt := kmsg.NewDeleteRecordsRequestTopic()
			rt.Topic, rt.Partitions = topic, []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: to}}
			req.Topics = append(req.Topics, rt)
			if resp, err := req.RequestWith(t.Context(), c); err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
				t.Fatalf("%v, %v", resp, err)
			}
		}
		next := func(s *kafka.Source, offset int64, line string) {
			t.Helper()
			d := fetch(t, s)
			if want := fmt.Sprintf("%s/0@%d", topic, offset); d.Where != want {
				t.Errorf("the next job is %s, want %s", d.Where, want)
			}
			got := ""
			if len(lines) > 0 {
				got = <-lines
			}
			if line == "" && got != "" || !strings.Contains(got, line) {
				t.Errorf("with %s it is told %q, want %q", d.Where, got, line)
			}
			if err := s.Ack(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		fill(3)
		shorten(1)
		s := open(t, cfg)
		next(s, 1, "") // the group is new
		next(s, 2, "")
		w.crash()
		fill(10)
		shorten(8)
		w.mend()
		next(s, 8, "records from 3 to 7 were deleted")
		next(s, 9, "")
		s.Close()
		shorten(12)
		s = open(t, cfg)
		defer s.Close()
		next(s, 12, "records from 10 to 11 were deleted")
	})
}

// Who may not know how large a record may be has dead letters and answers whole all the same.
func TestLargerThanMayBeKnown(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1))
	for _, topic := range []string{"jobs", "jobs.retry", "jobs.dead", "replies"} {
		createFor(t, admin(t, c.ListenAddrs()), topic, "4194304")
	}
	c.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range req.(*kmsg.DescribeConfigsRequest).Resources {
			r := kmsg.NewDescribeConfigsResponseResource()
			r.ResourceType, r.ResourceName, r.ErrorCode = asked.ResourceType, asked.ResourceName, kerr.TopicAuthorizationFailed.Code
			resp.Resources = append(resp.Resources, r)
		}
		return resp, nil, true
	})
	plain := []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression())}
	big, err := kgo.NewClient(append(plain[:1:1], kgo.SeedBrokers(c.ListenAddrs()...), kgo.ProducerBatchMaxBytes(4<<20))...)
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	job := strings.Repeat("x", 3<<20)
	if err := big.ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte(job)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Options: plain})
	defer s.Close()
	if err := s.Dead(t.Context(), fetch(t, s), &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused}}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c.ListenAddrs(), "jobs.dead", 1); len(got) != 1 || string(got[0].Value) != job {
		t.Errorf("%d dead letters, the first with %d bytes of %d", len(got), len(got[0].Value), len(job))
	}
	r, err := kafka.OpenReplies(kafka.ReplyConfig{Brokers: c.ListenAddrs(), Topic: "replies", Options: plain})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, res := range []*drain.Result{
		{ID: "fits", Status: 200, Body: []byte(`"` + job + `"`)}, {ID: "does not", Status: 200, Body: []byte(`"` + job + job + `"`)},
	} {
		if err := r.Put(t.Context(), res); err != nil {
			t.Fatal(err)
		}
	}
	got := read(t, c.ListenAddrs(), "replies", 2)
	if len(got) != 2 || len(got[0].Value) < len(job) || !strings.Contains(string(got[1].Value), "answer_too_large") {
		t.Errorf("%d replies, the first is %.200s", len(got), got[0].Value)
	}
}

// Topics of retries and of dead letters that are made here take what the brokers let all topics take.
func TestLargerByTheBrokers(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.BrokerConfigs(map[string]string{"message.max.bytes": "4194304"}))
	topic, most := name("brokers"), "4194304"
	create(t, admin(t, c.ListenAddrs()), topic, 1)
	// kfake itself does not say of a topic what it has from the brokers, as Kafka does.
	c.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range req.(*kmsg.DescribeConfigsRequest).Resources {
			r := kmsg.NewDescribeConfigsResponseResource()
			r.ResourceType, r.ResourceName, r.ErrorCode = asked.ResourceType, asked.ResourceName, kerr.UnknownTopicOrPartition.Code
			if asked.ResourceName == topic {
				size := kmsg.NewDescribeConfigsResponseResourceConfig()
				size.Name, size.Value, size.Source = "max.message.bytes", &most, kmsg.ConfigSourceStaticBrokerConfig
				r.ErrorCode, r.Configs = 0, append(r.Configs, size)
			}
			resp.Resources = append(resp.Resources, r)
		}
		return resp, nil, true
	})
	plain := []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(4 << 20)}
	big, err := kgo.NewClient(append(plain, kgo.SeedBrokers(c.ListenAddrs()...))...)
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	job := strings.Repeat("x", 3<<20)
	if err := big.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(job)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: topic, Group: topic, Options: plain[:1]})
	defer s.Close()
	if err := s.Dead(t.Context(), fetch(t, s), &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused}}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c.ListenAddrs(), topic+".dead", 1); len(got) != 1 || string(got[0].Value) != job {
		t.Errorf("%d dead letters, the first with %d bytes of %d", len(got), len(got[0].Value), len(job))
	}
}

// A broker that does not know a topic which is there, as it lags behind, does not end the run.
func TestTopicUnknownToOneBroker(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1))
	topic := name("unknown")
	create(t, admin(t, c.ListenAddrs()), topic, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	there := errors.New("the log says that the topic is there")
	logged, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	soon := []kgo.Opt{kgo.RetryBackoffFn(func(int) time.Duration { return time.Millisecond }), kgo.MetadataMinAge(10 * time.Millisecond)}
	s, err := kafka.Open(kafka.Config{Brokers: c.ListenAddrs(), Topic: topic, Group: topic, Options: soon, Log: func(format string, args ...any) {
		if strings.Contains(fmt.Sprintf(format, args...), "is there") {
			stop(there)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetGoneTime(100 * time.Millisecond)
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := refuseFetch(req, kerr.UnknownTopicID)
		return resp, nil, len(resp.Topics) > 0
	})
	if ds, err := s.Fetch(logged, 1); !errors.Is(err, there) {
		t.Errorf("there are %d deliveries, and %v", len(ds), err)
	}
}

// Answers that come at the same time, of which each is small enough for the topic and all together are not, are told all the same.
func TestSmallRepliesTogether(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("replies")
		c := admin(t, brokers)
		createFor(t, c, topic, "65536")
		r, err := kafka.OpenReplies(kafka.ReplyConfig{Brokers: brokers, Topic: topic, Options: []kgo.Opt{kgo.ProducerBatchCompression(kgo.NoCompression())}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		const n = 20
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				if err := r.Put(t.Context(), &drain.Result{ID: fmt.Sprint(i), Status: 200, Body: []byte(`"` + strings.Repeat("x", 40<<10) + `"`)}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		for _, rec := range read(t, brokers, topic, n) {
			var line struct{ Error json.RawMessage }
			if err := json.Unmarshal(rec.Value, &line); err != nil || string(line.Error) != "null" {
				t.Errorf("%s: %.200s", rec.Key, rec.Value)
			}
		}
	})
}

// A dead letter that somebody copies back is a new job, whatever it went through before; and one that then has to wait goes on from
// there.
func TestDeadLetterCopiedBack(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("copied")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		produce := func(headers []kgo.RecordHeader) {
			t.Helper()
			r := &kgo.Record{Topic: topic, Value: []byte(`{"custom_id":"a","url":"/x","body":{}}`), Headers: headers}
			if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic})
		defer s.Close()
		produce([]kgo.RecordHeader{
			{Key: "x-flyball-attempts", Value: []byte("7")},
			{Key: "x-flyball-since", Value: fmt.Append(nil, time.Now().Add(-25*time.Hour).UnixMilli())},
		})
		d := fetch(t, s)
		if d.Attempts != 7 || time.Since(d.Since) < 24*time.Hour {
			t.Fatalf("a job that was tried before has %d attempts, since %v", d.Attempts, d.Since)
		}
		if err := s.Dead(t.Context(), d, &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonGaveUp}, Attempts: 400, At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		letters := read(t, brokers, topic+".dead", 1)
		if len(letters) != 1 {
			t.Fatalf("there are %d dead letters", len(letters))
		}
		produce(letters[0].Headers)
		d = fetch(t, s)
		if d.Attempts != 0 || d.Retries != 0 || time.Since(d.Since) > time.Minute {
			t.Errorf("copied back it has %d attempts, %d retries, since %v; want a new job", d.Attempts, d.Retries, d.Since)
		}
		if err := s.Retry(t.Context(), d, time.Second, "refused"); err != nil {
			t.Fatal(err)
		}
		if again := fetch(t, s); again.Attempts != 1 || again.Retries != 1 || !again.Since.Equal(time.UnixMilli(d.Since.UnixMilli())) {
			t.Errorf("tried again it has %d attempts, %d retries, since %v; want 1, 1, %v", again.Attempts, again.Retries, again.Since, d.Since)
		}
	})
}

// Nobody waits for brokers that do not answer longer than he wants to.
func TestBrokersThatDoNotAnswer(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "replies"))
	r, err := kafka.OpenReplies(kafka.ReplyConfig{Brokers: c.ListenAddrs(), Topic: "replies"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	t.Cleanup(func() { close(answer) })
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		once.Do(func() { close(asked) })
		<-answer
		return nil, nil, false
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	ended := make(chan error, 1)
	go func() { ended <- r.Put(ctx, &drain.Result{ID: "a", Status: 200, Body: []byte("{}")}) }()
	<-asked
	cancel(enough)
	select {
	case err := <-ended:
		if !errors.Is(err, enough) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("Put waits for brokers that do not answer although its context has ended")
	}
}

// That the brokers do not take note of what is done is told, once, and again when they did in between.
func TestCommitsThatFailAreTold(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	told := make(chan string, 10)
	s, err := kafka.Open(kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs",
		Options: []kgo.Opt{kgo.AutoCommitInterval(100 * time.Millisecond)},
		Log: func(format string, args ...any) {
			if line := fmt.Sprintf(format, args...); strings.Contains(line, "how far") { // a rebalance at the start says something else
				told <- line
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var refuse atomic.Int32
	passed := make(chan struct{}, 10)
	c.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if refuse.Add(-1) < 0 {
			passed <- struct{}{}
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range req.(*kmsg.OffsetCommitRequest).Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.GroupAuthorizationFailed.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	for range 2 {
		refuse.Store(3)
		if err := admin(t, c.ListenAddrs()).ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := s.Ack(t.Context(), fetch(t, s)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-passed:
		case <-time.After(20 * time.Second):
			t.Fatal("what is done is never committed")
		}
	}
	close(told)
	n := 0
	for line := range told {
		if n++; !strings.Contains(line, "jobs/0: GROUP_AUTHORIZATION_FAILED") {
			t.Errorf("the log says %q", line)
		}
	}
	if n != 2 {
		t.Errorf("it is told %d times that commits fail, want twice", n)
	}
}

// When the client begins a partition anew, because its offset is no longer there, what is in hand and what comes again are settled both, and what is
// done is committed.
func TestOffsetsComeAgain(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	produce := func(body string) {
		t.Helper()
		if err := admin(t, c.ListenAddrs()).ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte(body)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs"})
	defer func() { s.Close() }()
	var first, second []*drain.Delivery
	for i := range 3 {
		produce(fmt.Sprint(i))
		first = append(first, fetch(t, s))
	}
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := refuseFetch(req, kerr.OffsetOutOfRange)
		if len(resp.Topics) == 0 {
			c.KeepControl()
		}
		return resp, nil, len(resp.Topics) > 0
	})
	for range 3 {
		second = append(second, fetch(t, s))
	}
	for i := range 3 {
		if first[i].Where != second[i].Where {
			t.Fatalf("%s came, and then %s", first[i].Where, second[i].Where)
		}
		for _, d := range []*drain.Delivery{first[i], second[i]} {
			if err := s.Ack(t.Context(), d); err != nil {
				t.Error(err)
			}
		}
	}
	produce("next")
	s.Close()
	s = open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs"})
	if d := fetch(t, s); string(d.Body) != "next" {
		t.Errorf("%s came again, which was acknowledged", d.Where)
	}
}

// A log that ends before what was committed is read from its beginning, which is told: each job may be paid for again.
func TestLogThatEndsBeforeWhatWasCommitted(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	a := admin(t, c.ListenAddrs())
	for range 3 {
		if err := a.ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = "jobs", -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = "jobs", c.TopicInfo("jobs").TopicID
	rp := kmsg.NewOffsetCommitRequestTopicPartition()
	for _, rp.Offset = range []int64{10, 1} {
		rt.Partitions = []kmsg.OffsetCommitRequestTopicPartition{rp}
		req.Topics = []kmsg.OffsetCommitRequestTopic{rt}
		if resp, err := req.RequestWith(t.Context(), a); err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatalf("%v, %v", resp, err)
		}
		told := make(chan string, 10)
		s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Log: func(format string, args ...any) { told <- fmt.Sprintf(format, args...) }})
		d := fetch(t, s)
		s.Close()
		if want := map[int64]string{10: "jobs/0@0", 1: "jobs/0@1"}[rp.Offset]; d.Where != want || len(told) > 1 || (len(told) == 1) != (rp.Offset == 10) {
			t.Errorf("with %d committed the first job is %s, want %s, and %d lines are told", rp.Offset, d.Where, want, len(told))
		} else if len(told) == 1 {
			if line := <-told; !strings.Contains(line, "jobs/0: the group jobs has committed up to 10, and the log ends before that") {
				t.Errorf("it is told %q", line)
			}
		}
	}
}

// What a producer takes back by aborting its transaction was never a job.
func TestAbortedTransaction(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("transactions")
		create(t, admin(t, brokers), topic, 1)
		p, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID(topic))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for _, body := range []string{"taken back", "a job"} {
			if err := p.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if err := p.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(body)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := p.EndTransaction(t.Context(), body == "a job"); err != nil {
				t.Fatal(err)
			}
		}
		if err := admin(t, brokers).ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("the last")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic})
		defer s.Close()
		ackAll(t, s, "a job", "the last")
	})
}

// What ends a transaction is a record, too. It is passed by, so that there is no lag where nothing is left to be done, and that it is deleted one
// day is no loss.
func TestEndOfATransactionIsCommitted(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("markers")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		p, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID(topic))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic})
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i, commit := range []bool{true, false} {
			if err := p.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			if err := p.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("{}")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := p.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)); err != nil {
				t.Fatal(err)
			}
			if commit {
				ackAll(t, s, "{}")
				go func() {
					if ds, err := s.Fetch(ctx, 1); err == nil {
						t.Errorf("there is %s", ds[0].Where)
					}
				}()
			}
			want := int64(2 * (i + 1))
			for end := time.Now().Add(20 * time.Second); committed(t, c, topic, topic) != want; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("the offset %d is committed, want %d", committed(t, c, topic, topic), want)
				}
			}
		}
	})
}

// What waits for a transaction that its producer does not end looks as if there were no jobs, so that is told, with how to end it.
func TestTransactionThatDoesNotEnd(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("transaction")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		p, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.TransactionalID(topic))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		produce := func(p *kgo.Client, body string) {
			t.Helper()
			if err := p.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(body)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		produce(c, "before")
		if err := p.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(p, "in it")
		produce(c, "behind")
		told := make(chan string, 10)
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Log: func(format string, args ...any) { told <- fmt.Sprintf(format, args...) }})
		defer s.Close()
		all := make(chan string, 10)
		dirty := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic + "-all", Options: []kgo.Opt{kgo.FetchIsolationLevel(kgo.ReadUncommitted())}, Log: func(format string, args ...any) { all <- fmt.Sprintf(format, args...) }})
		ackAll(t, dirty, "before", "in it", "behind")
		dirty.Look(t.Context(), 70*time.Second)
		dirty.Close()
		if len(all) > 0 {
			t.Errorf("who waits for no transaction is told: %s", <-all)
		}
		ackAll(t, s, "before")
		s.Look(t.Context(), 50*time.Second)
		if len(told) > 0 {
			t.Errorf("after 50 s it is told: %s", <-told)
		}
		s.Look(t.Context(), 70*time.Second, 5*time.Minute, 10*time.Minute, 12*time.Minute)
		if len(told) != 2 {
			t.Fatalf("%d lines are told, want 2", len(told))
		}
		line := <-told
		if again := <-told; !strings.Contains(again, "for 12m0s") {
			t.Errorf("it is told %q again, want 10 min later", again)
		}
		for _, want := range []string{topic + "/0: a transaction that begins at offset 1 has not ended for 1m10s", brokers[0] + " abort --topic " + topic + " --partition 0 --start-offset 1"} {
			if !strings.Contains(line, want) {
				t.Errorf("it is told %q, want %q", line, want)
			}
		}
		if err := p.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		ackAll(t, s, "in it", "behind")
		s.Look(t.Context(), 70*time.Second)
		if len(told) > 0 {
			t.Errorf("after the end it is told: %s", <-told)
		}
	})
}

// Topics of retries and of dead letters that are made here keep all that is in them, and those that do not are refused.
func TestCompactedTopics(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		c := admin(t, brokers)
		for _, which := range []string{"", ".retry", ".dead"} {
			topic := name("compacted")
			create(t, c, topic, 1)
			if which != "" {
				createWith(t, c, topic+which, "cleanup.policy", "compact,delete")
			}
			s, err := kafka.Open(kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Log: t.Logf})
			if err == nil {
				defer s.Close()
			}
			if which != "" {
				if err == nil || !strings.Contains(err.Error(), topic+which+" is compacted") {
					t.Errorf("with %s compacted Open returned %v", which, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			req := kmsg.NewPtrDescribeConfigsRequest()
			for _, made := range []string{".retry", ".dead"} {
				r := kmsg.NewDescribeConfigsRequestResource()
				r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, topic+made, []string{"cleanup.policy"}
				req.Resources = append(req.Resources, r)
			}
			resp, err := req.RequestWith(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range resp.Resources {
				// Whatever is the brokers' default.
				if of := r.Configs; len(of) != 1 || *of[0].Value != "delete" || of[0].Source != kmsg.ConfigSourceDynamicTopicConfig {
					t.Errorf("%s has %+v", r.ResourceName, of)
				}
			}
		}
	})
}

// What is moved to another topic is as safe there as among the jobs: the brokers' default may be a single replica.
func TestReplicasOfTopicsThatAreMade(t *testing.T) {
	t.Parallel()
	cl := cluster(t, kfake.NumBrokers(3))
	c := admin(t, cl.ListenAddrs())
	rt := kmsg.NewCreateTopicsRequestTopic()
	rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "jobs", 1, 2
	with, two := kmsg.NewCreateTopicsRequestTopicConfig(), "2"
	with.Name, with.Value = "min.insync.replicas", &two
	rt.Configs = append(rt.Configs, with)
	createTopic(t, c, rt)
	made := make(chan *kmsg.CreateTopicsRequest, 1)
	cl.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		made <- req.(*kmsg.CreateTopicsRequest)
		return nil, nil, false
	})
	s := open(t, kafka.Config{Brokers: cl.ListenAddrs(), Topic: "jobs", Group: "jobs"})
	defer s.Close()
	for _, topic := range (<-made).Topics {
		set := map[string]string{}
		for _, c := range topic.Configs {
			set[c.Name] = *c.Value
		}
		if topic.ReplicationFactor != 2 || set["min.insync.replicas"] != "2" {
			t.Errorf("%s is made with %d replicas, %v", topic.Topic, topic.ReplicationFactor, set)
		}
	}
}

// A record without a value says of a key that it is gone, and is no job.
func TestTombstones(t *testing.T) {
	each(t, func(t *testing.T, brokers []string) {
		topic := name("tombstones")
		c := admin(t, brokers)
		create(t, c, topic, 1)
		for _, value := range [][]byte{nil, []byte("job"), nil, {}, nil} {
			if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte("k"), Value: value}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		var told atomic.Int32
		s := open(t, kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Log: func(format string, args ...any) {
			if strings.Contains(fmt.Sprintf(format, args...), "without a value") {
				told.Add(1)
			}
		}})
		defer s.Close()
		ackAll(t, s, "job", "")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if ds, err := s.Fetch(ctx, 1); err == nil {
			t.Errorf("%s is there", ds[0].Where)
		}
		if n := committed(t, c, topic, topic); n != 5 {
			t.Errorf("the offset %d is committed, want 5", n)
		}
		if told.Load() != 1 {
			t.Errorf("it is told %d times, want once", told.Load())
		}
	})
}

// A dead letter that is on its way when its partition is taken away gets there, and the job does not come again.
func TestRevokedWhileADeadLetterIsProduced(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(2, "jobs", "jobs.retry", "jobs.dead"))
	for i := range int32(2) {
		if err := admin(t, c.ListenAddrs()).ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Partition: i, Value: []byte("poison")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cfg := kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Options: []kgo.Opt{kgo.HeartbeatInterval(100 * time.Millisecond)}}
	second := cfg
	held := make(buffered)
	cfg.Options = append(cfg.Options[:1:1], kgo.WithHooks(held))
	a := open(t, cfg)
	defer a.Close()
	ds := []*drain.Delivery{fetch(t, a), fetch(t, a)}
	var all sync.WaitGroup
	for _, d := range ds {
		all.Go(func() {
			if err := a.Dead(t.Context(), d, &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonBadJSON}}); err != nil {
				t.Error(err)
			}
		})
	}
	b := open(t, second)
	defer b.Close()
	for _, what := range []string{"before", "after"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if ds, err := b.Fetch(ctx, 2); err == nil {
			t.Errorf("%s comes again %s its dead letter is there", ds[0].Where, what)
		}
		if what == "before" {
			<-held
			<-held
			all.Wait()
		}
	}
}

// joins counts how often a member asks to be one.
type joins struct{ atomic.Int32 }

func (n *joins) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if kmsg.Key(key) == kmsg.JoinGroup {
		n.Add(1)
	}
}

// While the group is being rebalanced, which takes long where a member is gone without a word, what is done is committed, at once by who ends.
func TestDoneInARebalance(t *testing.T) {
	for what, most := range map[string]time.Duration{"ends": 5 * time.Second, "goes on": 10 * time.Second} {
		t.Run(what, func(t *testing.T) { doneInARebalance(t, what == "ends", most) })
	}
}

func doneInARebalance(t *testing.T, ends bool, most time.Duration) {
	each(t, func(t *testing.T, brokers []string) { inARebalance(t, brokers, ends, most, func() {}) })
}

// So it is where the coordinator of the group is not known at once.
func TestDoneInARebalanceWithoutACoordinator(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1))
	inARebalance(t, c.ListenAddrs(), true, 8*time.Second, func() {
		c.ControlKey(int16(kmsg.FindCoordinator), func(req kmsg.Request) (kmsg.Response, error, bool) {
			resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
			rc := kmsg.NewFindCoordinatorResponseCoordinator()
			rc.Key, rc.ErrorCode = req.(*kmsg.FindCoordinatorRequest).CoordinatorKeys[0], kerr.CoordinatorNotAvailable.Code
			resp.Coordinators = append(resp.Coordinators, rc)
			return resp, nil, true
		})
	})
}

// inARebalance ends a job in a rebalance, and calls then before.
func inARebalance(t *testing.T, brokers []string, ends bool, most time.Duration, then func()) {
	topic := name("closed")
	c := admin(t, brokers)
	create(t, c, topic, 1)
	for range 2 {
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	w := &wire{}
	cfg := kafka.Config{Brokers: brokers, Topic: topic, Group: topic, Options: []kgo.Opt{kgo.SessionTimeout(30 * time.Second), kgo.HeartbeatInterval(100 * time.Millisecond)}}
	cfg.Log = func(string, ...any) {} // what ends here goes on to when the test is over
	dead, first := cfg, cfg
	dead.Options = append(cfg.Options[:2:2], kgo.Dialer(w.dial))
	var joined joins
	first.Options = append(cfg.Options[:2:2], kgo.WithHooks(&joined))
	a := open(t, first)
	d := fetch(t, a)
	b := open(t, dead)
	waitForGroup(t, c, topic, "Stable", 2)
	before := joined.Load()
	w.crash()
	go b.Close()
	late := open(t, cfg)
	defer func() { go late.Close() }()
	for end := time.Now().Add(20 * time.Second); joined.Load() == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("who is there takes no part in the rebalance")
		}
	}
	then()
	if err := a.Ack(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if ends {
		go a.Close()
	} else {
		defer func() { go a.Close() }()
	}
	wait := time.Now().Add(most)
	for committed(t, c, topic, topic) != 1 && time.Now().Before(wait) {
		time.Sleep(50 * time.Millisecond)
	}
	if n := committed(t, c, topic, topic); n != 1 {
		t.Errorf("the offset %d is committed, want 1", n)
	}
}

// What keeps a partition from being fetched and does not pass is told, although the client tries again and hears now this and now that.
func TestPartitionThatCannotBeFetched(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	told := errors.New("it is told")
	logged, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s, err := kafka.Open(kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Log: func(format string, args ...any) {
		if line := fmt.Sprintf(format, args...); strings.HasPrefix(line, "kafka: jobs/0: ") {
			stop(told)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetFailTime(100 * time.Millisecond)
	n := 0
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		whys := []*kerr.Error{kerr.KafkaStorageError, kerr.NotLeaderForPartition} // of a broker and then of another one, say
		resp := refuseFetch(req, whys[n%2])
		if len(resp.Topics) > 0 {
			n++
		}
		return resp, nil, len(resp.Topics) > 0
	})
	if ds, err := s.Fetch(logged, 1); !errors.Is(err, told) {
		t.Errorf("there are %d deliveries, and %v", len(ds), err)
	}
}

// A broker that fails in a way of its own ends no run: it is told, and asked again.
func TestBrokerThatFails(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.JoinGroup} {
		c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
		if err := admin(t, c.ListenAddrs()).ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		c.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
			if key == kmsg.JoinGroup {
				resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
				resp.ErrorCode = kerr.UnknownServerError.Code
				return resp, nil, true
			}
			resp := refuseFetch(req, kerr.UnknownServerError)
			if len(resp.Topics) == 0 {
				c.KeepControl()
			}
			return resp, nil, len(resp.Topics) > 0
		})
		told := make(chan string, 10)
		s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Log: func(format string, args ...any) { told <- fmt.Sprintf(format, args...) }})
		defer s.Close()
		ackAll(t, s, "{}")
		if len(told) == 0 {
			t.Errorf("nothing is told of what is wrong with %v", key.Name())
		} else if line := <-told; !strings.Contains(line, "UNKNOWN_SERVER_ERROR") {
			t.Errorf("it is told %q", line)
		}
	}
}

// refuseFetch refuses each partition that a request asks for.
func refuseFetch(req kmsg.Request, why *kerr.Error) *kmsg.FetchResponse {
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	for _, asked := range req.(*kmsg.FetchRequest).Topics {
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic, rt.TopicID = asked.Topic, asked.TopicID
		for _, p := range asked.Partitions {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, why.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// A broker that cannot be reached is told, also while another one answers for the group: the client tries again, for ever.
func TestBrokerThatCannotBeReached(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "jobs", "jobs.retry", "jobs.dead"))
	there := c.CoordinatorFor("jobs")
	if err := c.MoveTopicPartition("jobs", 0, 1-there); err != nil {
		t.Fatal(err)
	}
	addrs := c.ListenAddrs()
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != addrs[there] {
			return nil, errors.New("no route")
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	told := make(chan string, 10)
	s, err := kafka.Open(kafka.Config{Brokers: addrs[there : there+1], Topic: "jobs", Group: "jobs", Options: []kgo.Opt{kgo.Dialer(dial)}, Log: func(format string, args ...any) {
		if line := fmt.Sprintf(format, args...); strings.Contains(line, "connecting to") {
			told <- line
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	select {
	case line := <-told:
		if !strings.Contains(line, addrs[1-there]) || !strings.Contains(line, "no route") {
			t.Errorf("the log says %q", line)
		}
	case <-time.After(20 * time.Second):
		t.Error("nothing is told")
	}
}

// That replies cannot go where they should is told at once, and not after the first answers have been paid for.
func TestRepliesThatCannotGo(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1))
	gone := cluster(t, kfake.NumBrokers(1))
	nobody := gone.ListenAddrs()
	gone.Close()
	for what, brokers := range map[string][]string{"there is no topic replies": c.ListenAddrs(), "connection refused": nobody} {
		r, err := kafka.OpenReplies(kafka.ReplyConfig{Brokers: brokers, Topic: "replies"})
		if err == nil {
			r.Close()
		}
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("OpenReplies returned %v, want %s", err, what)
		}
	}
}

// That ACLs forbid what is needed for a job that has been paid for is told at once.
func TestForbidden(t *testing.T) {
	t.Parallel()
	needed := map[string][]kmsg.ACLOperation{
		"jobs": {kmsg.ACLOperationRead}, "jobs.retry": {kmsg.ACLOperationRead, kmsg.ACLOperationWrite}, "jobs.dead": {kmsg.ACLOperationWrite}, "replies": {kmsg.ACLOperationWrite},
	}
	try := func(forbidden string, op kmsg.ACLOperation) error {
		acls := []kfake.ACL{{Resource: kmsg.ACLResourceTypeGroup, Name: "jobs", Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: kmsg.ACLOperationAll, Allow: true}}
		for topic, ops := range needed {
			for _, of := range append(ops, kmsg.ACLOperationDescribe) {
				if topic != forbidden || of != op {
					acls = append(acls, kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: topic, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: of, Allow: true})
				}
			}
		}
		c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs", "jobs.retry", "jobs.dead", "replies"), kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "drain", "secret", acls...))
		with := []kgo.Opt{kgo.SASL(plain.Auth{User: "drain", Pass: "secret"}.AsMechanism())}
		s, err := kafka.Open(kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Options: with})
		if err == nil {
			s.Close()
		}
		r, rerr := kafka.OpenReplies(kafka.ReplyConfig{Brokers: c.ListenAddrs(), Topic: "replies", Options: with})
		if rerr == nil {
			r.Close()
		}
		return errors.Join(err, rerr)
	}
	if err := try("", 0); err != nil {
		t.Errorf("with all that is needed opening returned %v", err)
	}
	for topic, ops := range needed {
		for _, op := range ops {
			want := topic + ": allow the operation " + map[kmsg.ACLOperation]string{kmsg.ACLOperationRead: "Read", kmsg.ACLOperationWrite: "Write"}[op]
			if err := try(topic, op); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("opening returned %v, want %s", err, want)
			}
		}
	}
}

// Why brokers did not take a record for so long is told, too.
func TestLateSaysWhy(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: waiting for as long as brokers may take")
	}
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "replies"))
	r, err := kafka.OpenReplies(kafka.ReplyConfig{Brokers: c.ListenAddrs(), Topic: "replies"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c.Close()
	if err := r.Put(t.Context(), &drain.Result{ID: "a", Status: 200, Body: []byte("{}")}); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Put returned %v", err)
	}
}

// Replicas that are missing are told, as the client tries again without a word.
func TestReplicasThatAreMissing(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: waiting for as long as brokers may take")
	}
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1))
	createWith(t, admin(t, c.ListenAddrs()), "replies", "min.insync.replicas", "2")
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, asked := range req.(*kmsg.ProduceRequest).Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic, rt.TopicID = asked.Topic, asked.TopicID
			for _, p := range asked.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, kerr.NotEnoughReplicas.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	r, err := kafka.OpenReplies(kafka.ReplyConfig{Brokers: c.ListenAddrs(), Topic: "replies"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const want = "partition 0 has 1 of 1 replicas in sync, and min.insync.replicas is 2"
	if err := r.Put(t.Context(), &drain.Result{ID: "a", Status: 200, Body: []byte("{}")}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Put returned %v, want %s", err, want)
	}
}

// A record that was damaged on a broker's disk keeps its partition, and is neither asked for nor told of a thousand times a second.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	var asked, told atomic.Int32
	s, err := kafka.Open(kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Log: func(string, ...any) { told.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	batch := kmsg.NewRecordBatch()
	batch.Magic, batch.Length, batch.CRC, batch.NumRecords = 2, 49, 1, 1
	c.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		for _, of := range req.(*kmsg.FetchRequest).Topics {
			rt := kmsg.NewFetchResponseTopic()
			rt.Topic, rt.TopicID = of.Topic, of.TopicID
			for _, p := range of.Partitions {
				rp := kmsg.NewFetchResponseTopicPartition()
				rp.Partition, rp.HighWatermark, rp.LastStableOffset = p.Partition, 1, 1
				rp.RecordBatches = batch.AppendTo(nil)
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
			asked.Add(1)
		}
		return resp, nil, len(resp.Topics) > 0
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if ds, err := s.Fetch(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("there are %d deliveries, and %v", len(ds), err)
	}
	if a, l := asked.Load(), told.Load(); a == 0 || a > 20 || l == 0 || l > 4 {
		t.Errorf("in 3 s the brokers were asked %d times, and %d lines told of it", a, l)
	}
}

// buffered is told of each record that is to be produced.
type buffered chan struct{}

func (b buffered) OnProduceRecordBuffered(*kgo.Record) { b <- struct{}{} }

// When one job that goes back is given up, so are those that wait for the same partition: they wait here, and the run goes on.
func TestRetryWhenAnotherIsGivenUp(t *testing.T) {
	t.Parallel()
	c := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "jobs"))
	for range 2 {
		if err := admin(t, c.ListenAddrs()).ProduceSync(t.Context(), &kgo.Record{Topic: "jobs", Value: []byte("{}")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	there := make(buffered, 2)
	s := open(t, kafka.Config{Brokers: c.ListenAddrs(), Topic: "jobs", Group: "jobs", Options: []kgo.Opt{kgo.WithHooks(there)}})
	defer s.Close()
	ds := []*drain.Delivery{fetch(t, s), fetch(t, s)}
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		asked <- struct{}{}
		<-answer
		return nil, nil, false
	})
	ctx, cancel := context.WithCancel(t.Context())
	gone, here := make(chan error, 1), make(chan error, 1)
	go func() { gone <- s.Retry(ctx, ds[0], time.Hour, "refused") }()
	<-there
	<-asked
	go func() { here <- s.Retry(t.Context(), ds[1], time.Hour, "refused") }()
	<-there
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("Retry of the one that is given up returned %v", err)
	}
	if err := <-here; err != nil {
		t.Errorf("Retry of the other one returned %v", err)
	}
	close(answer)
}
