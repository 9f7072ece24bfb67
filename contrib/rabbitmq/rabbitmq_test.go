package rabbitmq_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/contrib/rabbitmq"
	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/drain/draintest"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// admin is a connection of the test's own.
func admin(t *testing.T, url string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	return ch
}

func publish(t *testing.T, ch *amqp.Channel, queue string, bodies ...string) {
	t.Helper()
	var waits []*amqp.DeferredConfirmation
	for _, b := range bodies {
		c, err := ch.PublishWithDeferredConfirm("", queue, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(b)})
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, c)
	}
	for _, c := range waits {
		if !c.Wait() {
			t.Fatal("a job was not confirmed")
		}
	}
}

func open(t *testing.T, cfg rabbitmq.Config) *rabbitmq.Source {
	t.Helper()
	cfg.Log = t.Logf
	s, err := rabbitmq.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func letters(t *testing.T, ch *amqp.Channel, queue string, n int) (all []draintest.Letter) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); len(all) < n && time.Now().Before(end); {
		m, ok, err := ch.Get(queue+".dead", true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		all = append(all, draintest.Letter{Body: m.Body, Reason: drain.Reason(m.Headers["x-flyball-reason"].(string)), Detail: m.Headers["x-flyball-detail"].(string)})
	}
	return all
}

// Dead letters and replies stay, however often somebody looks at them: RabbitMQ 4 drops a message of a quorum queue that came back more than 20 times.
func TestLookedAtOften(t *testing.T) {
	u := url(t)
	cfg := rabbitmq.Config{URL: u, Queue: fmt.Sprint("looked-", time.Now().UnixNano())}
	if err := open(t, cfg).Close(); err != nil {
		t.Fatal(err)
	}
	replies, err := rabbitmq.OpenReplies(rabbitmq.ReplyConfig{URL: u, Queue: cfg.Queue + ".replies"})
	if err != nil {
		t.Fatal(err)
	}
	if err := replies.Close(); err != nil {
		t.Fatal(err)
	}
	ch := admin(t, u)
	for _, queue := range []string{cfg.Queue + ".dead", cfg.Queue + ".replies"} {
		publish(t, ch, queue, "kept")
		for range 25 {
			m, _, err := ch.Get(queue, false)
			for end := time.Now().Add(5 * time.Second); err == nil && m.Body == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				m, _, err = ch.Get(queue, false) // it comes back a moment later
			}
			if err != nil || m.Body == nil {
				t.Fatalf("what was in %s is gone, %v", queue, err)
			}
			if err := m.Nack(false, true); err != nil {
				t.Fatal(err)
			}
		}
		// Where no broker has a limit of its own, the queue has one all the same.
		if _, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": int64(1_000_000_000), "x-overflow": "reject-publish"}); err != nil {
			t.Fatal(err)
		}
	}
}

// A queue that was just made is not relied on, whoever made it: what the broker has confirmed is gone when it is killed right then.
func TestYoungQueues(t *testing.T) {
	u := url(t)
	queue := fmt.Sprint("young-", time.Now().UnixNano())
	s := open(t, rabbitmq.Config{URL: u, Queue: queue})
	defer s.Close()
	opened := time.Now()
	publish(t, admin(t, u), queue, "1", "2", "3", "4", "5")
	var ds []*drain.Delivery
	for len(ds) < 5 {
		more, err := s.Fetch(t.Context(), 5-len(ds))
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, more...)
	}
	if err := s.Dead(t.Context(), ds[4], &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused}}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(opened); d < 900*time.Millisecond {
		t.Errorf("a dead letter is in its queue %v after that was made", d)
	}
	began := time.Now()
	var all sync.WaitGroup
	for i, d := range ds[:4] {
		all.Go(func() {
			time.Sleep(time.Duration(i) * 100 * time.Millisecond)
			if err := s.Retry(t.Context(), d, time.Minute, ""); err != nil {
				t.Error(err)
			}
			if d := time.Since(began); d < time.Second {
				t.Errorf("a job is in a queue for retries %v after that was made", d)
			}
		})
	}
	all.Wait()
}

func TestSource(t *testing.T) {
	u := url(t)
	n := 0
	draintest.Run(t, func(t *testing.T) *draintest.Fixture {
		n++
		queue := fmt.Sprintf("conformance-%d-%d", time.Now().UnixNano(), n)
		ch := admin(t, u)
		var conn net.Conn
		cfg := rabbitmq.Config{URL: u, Queue: queue, Dial: func(network, addr string) (c net.Conn, err error) {
			c, err = amqp.DefaultDial(10*time.Second)(network, addr)
			conn = c
			return c, err
		}}
		return &draintest.Fixture{
			Publish: func(t *testing.T, bodies ...string) {
				if err := open(t, cfg).Close(); err != nil { // makes the queue
					t.Fatal(err)
				}
				publish(t, ch, queue, bodies...)
			},
			Open:  func(t *testing.T) drain.Source { return open(t, cfg) },
			Crash: func(t *testing.T, s drain.Source) { conn.Close(); s.(*rabbitmq.Source).Close() },
			Close: func(t *testing.T, s drain.Source) {
				if err := s.(*rabbitmq.Source).Close(); err != nil {
					t.Error(err)
				}
			},
			Letters: func(t *testing.T, n int) []draintest.Letter { return letters(t, ch, queue, n) },
		}
	})
}

func TestConfig(t *testing.T) {
	_, err := rabbitmq.Open(rabbitmq.Config{URL: "http://x:secret@y", Prefetch: -1, ConsumerTimeout: time.Second, DeliveryLimit: -1})
	for _, want := range []string{"URL", "Queue", "Prefetch", "ConsumerTimeout", "DeliveryLimit"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	if strings.Contains(fmt.Sprint(err), "secret") {
		t.Errorf("the password is in %v", err)
	}
	for url, want := range map[string]string{
		"amqp://x:secret%zz@h/":                 "cannot be read",
		"amqp://x:secret/a@h/":                  "cannot be read",
		"amqp://h/?cacertfile=ca.pem":           "cacertfile is for amqps://",
		"amqps://h/?certfile=c.pem":             "certfile and keyfile go together",
		"amqps://h/?ca_certfile=ca.pem":         "the parameter ca_certfile is not known",
		"amqp://x:secret@h/?consumer_timeout=1": "the parameter consumer_timeout is not known",
		"amqps://h/?verify=verify_none":         "must be verify_peer",
		"amqp://h/?verify=verify_peer":          "verify is for amqps://",
		"amqps://h/?verify=verify_peer":         "it was dialled",
		"amqp://h/?heartbeat=30&connection_timeout=5000&frame_max=131072&blocked_connection_timeout=300": "it was dialled",
	} {
		dial := func(string, string) (net.Conn, error) { return nil, errors.New("it was dialled") }
		_, err := rabbitmq.Open(rabbitmq.Config{URL: url, Queue: "q", Dial: dial})
		_, rerr := rabbitmq.OpenReplies(rabbitmq.ReplyConfig{URL: url, Queue: "q", Dial: dial})
		for _, err := range []error{err, rerr} {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: %v, want one with %q and without the password", url, err, want)
			}
		}
	}
}

// A stream keeps what was done, and hands out only what comes later: jobs would wait in it for ever.
func TestStream(t *testing.T) {
	u := url(t)
	for i, args := range []amqp.Table{{}, {"x-max-length-bytes": int64(1 << 30)}} {
		queue := fmt.Sprintf("stream-%d-%d", i, time.Now().UnixNano())
		args["x-queue-type"] = "stream"
		if _, err := admin(t, u).QueueDeclare(queue, true, false, false, false, args); err != nil {
			t.Fatal(err)
		}
		src, err := rabbitmq.Open(rabbitmq.Config{URL: u, Queue: queue})
		if err == nil {
			src.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "it is a stream") {
			t.Errorf("a stream with %v is opened: %v", args, err)
		}
	}
}

// strict starts a broker whose user "reader" may not publish, that ends a channel when a delivery is out for 3 s, and whose queues with names that begin with
// "short" have two messages at most.
func strict(t *testing.T) *broker {
	t.Helper()
	b := start(t)
	definitions := filepath.Join(b.dir, "definitions.json")
	for name, text := range map[string]string{
		definitions: `{
			"vhosts": [{"name": "/"}],
			"users": [{"name": "guest", "password": "guest", "tags": "administrator"}, {"name": "reader", "password": "reader", "tags": ""}],
			"policies": [{"vhost": "/", "name": "short", "pattern": "^short", "apply-to": "queues", "definition": {"max-length": 2}, "priority": 0}],
			"permissions": [
				{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
				{"user": "reader", "vhost": "/", "configure": ".*", "write": "^[^a]", "read": ".*"}]}`,
		filepath.Join(b.dir, "advanced.config"): fmt.Sprintf(`[{rabbit, [{consumer_timeout, 3000}, {channel_tick_interval, 500}, {load_definitions, %q}]}].`, definitions),
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// A broker that is short of memory confirms what was written when it no longer is: each try that is written meanwhile is one more copy.
func TestCopiesForABrokerThatIsShort(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("short-%d", time.Now().UnixNano())
	ch := admin(t, u)
	r, err := rabbitmq.OpenReplies(rabbitmq.ReplyConfig{URL: u, Queue: queue})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rabbitmq.Block(r, "low on memory")
	for range 3 {
		if err := r.Put(t.Context(), &drain.Result{ID: "a", Body: []byte("{}")}); err == nil || !strings.Contains(err.Error(), "low on memory") {
			t.Errorf("a broker that is short of memory: %v", err)
		}
	}
	if q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil); err != nil || q.Messages > 0 {
		t.Errorf("%d copies were written (%v), want none", q.Messages, err)
	}
}

// An answer that is larger than the broker takes will not fit the next time either, and no other job would get by. It costs the channel once.
func TestLargeReply(t *testing.T) {
	b := start(t)
	b.limit(100_000)
	u := b.url()
	var lines atomic.Int64
	r, err := rabbitmq.OpenReplies(rabbitmq.ReplyConfig{URL: u, Queue: "replies", Log: func(string, ...any) { lines.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	large := []byte(`"` + strings.Repeat("x", 100_000) + `"`)
	for _, res := range []*drain.Result{{ID: "large", Body: large}, {ID: "small", Body: []byte("{}")}, {ID: "again", Body: large}} {
		if err := r.Put(t.Context(), res); err != nil {
			t.Fatalf("%s: %v", res.ID, err)
		}
	}
	if n := lines.Load(); n != 1 {
		t.Errorf("%d lines are logged of it, want 1", n)
	}
	ch := admin(t, u)
	for _, want := range []struct{ id, has string }{{"large", `"response":null,"error":{"code":"answer_too_large"`}, {"small", `"body":{}`}, {"again", "100002 bytes, too many for the queue replies"}} {
		m, ok, err := ch.Get("replies", true)
		if err != nil || !ok || m.MessageId != want.id || !json.Valid(m.Body) || !strings.Contains(string(m.Body), want.has) {
			t.Errorf("%s is %.200s, %v; want %s with %s", m.MessageId, m.Body, err, want.id, want.has)
		}
	}
	b.stop()
	b.limit(200_000) // the last line counts
	ch = admin(t, b.url())
	if err := r.Put(t.Context(), &drain.Result{ID: "fits", Body: large}); err != nil {
		t.Fatal(err)
	}
	if m, ok, err := ch.Get("replies", true); err != nil || !ok || len(m.Body) < 100_000 {
		t.Errorf("an answer that fits since the broker takes more is %.200s, %v", m.Body, err)
	}
}

// A job that came before the broker took less, and becomes a dead letter after that, costs the connection once and not for good.
func TestLargeDeadLetter(t *testing.T) {
	b := start(t)
	src := open(t, rabbitmq.Config{URL: b.url(), Queue: "large"})
	publish(t, admin(t, b.url()), "large", strings.Repeat("x", 200_000))
	src.Close()
	b.stop()
	b.limit(100_000)
	u := b.url()
	src = open(t, rabbitmq.Config{URL: u, Queue: "large"})
	defer src.Close()
	letter := &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonBadJSON, Detail: "no JSON"}}
	if err := src.Dead(t.Context(), fetchOne(t, src), letter); !errors.Is(err, drain.ErrLost) {
		t.Fatalf("a dead letter that is too large: %v", err)
	}
	if err := src.Dead(t.Context(), fetchOne(t, src), letter); err != nil {
		t.Fatal(err)
	}
	got := letters(t, admin(t, u), "large", 1)
	if len(got) != 1 || len(got[0].Body) != 4096 || !strings.Contains(got[0].Detail, "no JSON (the message is too large for the broker: its first bytes are kept of 200000)") {
		t.Errorf("%d dead letters: %.300v", len(got), got)
	}
}

// Nor does one that has to wait: no copy of it can be made, so the broker has it back where it was, and the connection lives.
func TestLargeJobThatHasToWait(t *testing.T) {
	b := start(t)
	open(t, rabbitmq.Config{URL: b.url(), Queue: "large"}).Close()
	publish(t, admin(t, b.url()), "large", strings.Repeat("x", 200_000), strings.Repeat("y", 200_000))
	b.stop()
	b.limit(100_000)
	src := open(t, rabbitmq.Config{URL: b.url(), Queue: "large", Prefetch: 2})
	defer src.Close()
	if err := src.Retry(t.Context(), fetchOne(t, src), time.Second, ""); !errors.Is(err, drain.ErrLost) {
		t.Fatalf("a copy that is too large: %v", err)
	}
	d := fetchOne(t, src)
	began := time.Now()
	if err := src.Retry(t.Context(), d, time.Minute, ""); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("it goes back after %v, want 1 s or more", took)
	}
	ds := []*drain.Delivery{fetchOne(t, src), fetchOne(t, src)}
	for _, d := range ds {
		counted := d.Attempts - d.Retries
		if want := 1 - strings.Count(string(d.Body[:1]), "y"); counted != want || len(d.Body) != 200_000 {
			t.Errorf("%.1s comes again with %d attempts, %d of them no fault of it, want all but %d", d.Body, d.Attempts, d.Retries, want)
		}
	}
	for _, d := range ds {
		if err := src.Release(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	for rabbitmq.Came(src) < 2 {
		time.Sleep(time.Millisecond)
	}
	src.Pause(time.Now().Add(time.Hour))
	if n := rabbitmq.Came(src); n > 0 {
		t.Errorf("%d are out in a long pause", n)
	}
	src.Resume()
	for range ds {
		d := fetchOne(t, src)
		counted := d.Attempts - d.Retries
		if want := 2 - strings.Count(string(d.Body[:1]), "y"); counted != want {
			t.Errorf("after a pause %.1s has %d attempts, %d of them no fault of it, want all but %d", d.Body, d.Attempts, d.Retries, want)
		}
	}
}

// Where a policy says how many messages a queue may have, dead letters and replies do not push out those before them.
func TestQueuesThatAreFull(t *testing.T) {
	u := strict(t).url()
	ch := admin(t, u)
	src := open(t, rabbitmq.Config{URL: u, Queue: "short"})
	defer src.Close()
	replies, err := rabbitmq.OpenReplies(rabbitmq.ReplyConfig{URL: u, Queue: "short.replies"})
	if err != nil {
		t.Fatal(err)
	}
	defer replies.Close()
	var dead, put error
	for n := 0; n < 20 && (dead == nil || put == nil); n++ { // a quorum queue notices a little late
		if dead == nil {
			publish(t, ch, "short", fmt.Sprint(n))
			dead = src.Dead(t.Context(), fetchOne(t, src), &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused}})
		}
		if put == nil {
			put = replies.Put(t.Context(), &drain.Result{ID: fmt.Sprint(n), Body: []byte("{}")})
		}
	}
	for queue, err := range map[string]error{"short.dead": dead, "short.replies": put} {
		if err == nil || !strings.Contains(err.Error(), "is it full?") {
			t.Errorf("%s, which is full: %v", queue, err)
		}
	}
	if got := letters(t, ch, "short", 1); len(got) != 1 || string(got[0].Body) != "0" {
		t.Errorf("the first dead letter is %v, want 0", got)
	}
}

// A user who may not publish can put nothing aside. To connect again would be of no use, and have all jobs delivered again each time.
func TestNotAllowedToPublish(t *testing.T) {
	b := strict(t)
	u := b.url()
	reader := strings.Replace(u, "guest:guest", "reader:reader", 1)
	open(t, rabbitmq.Config{URL: u, Queue: "rights"}).Close() // the reader may not make a queue with dead letters, either
	src := open(t, rabbitmq.Config{URL: reader, Queue: "rights"})
	defer src.Close()
	publish(t, admin(t, u), "rights", `{"custom_id":"a","url":"/x","body":{}}`)
	d := fetchOne(t, src)
	if err := src.Dead(t.Context(), d, &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused}}); !errors.Is(err, drain.ErrLost) {
		t.Errorf("a dead letter that may not be published: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if ds, err := src.Fetch(ctx, 1); err == nil || !strings.Contains(err.Error(), "ACCESS_REFUSED") {
		t.Errorf("Fetch returned %d deliveries and %v, want the broker's refusal", len(ds), err)
	}

	replies, err := rabbitmq.OpenReplies(rabbitmq.ReplyConfig{URL: reader, Queue: "replies"})
	if err != nil {
		t.Fatal(err)
	}
	defer replies.Close()
	if err := replies.Put(t.Context(), &drain.Result{ID: "a", Body: []byte("{}")}); err == nil || !strings.Contains(err.Error(), "ACCESS_REFUSED") {
		t.Errorf("a reply that may not be published: %v", err)
	}
}

// More messages than are worked on within the broker's consumer_timeout wait here one after another. It must not end the channel for them each time
// that it has passed, which counts deliveries; and that it is shorter than in Config is learned from the first time.
func TestConsumerTimeout(t *testing.T) {
	b := strict(t)
	u := b.url()
	lost, learned := make(chan string, 100), make(chan string, 100)
	src, err := rabbitmq.Open(rabbitmq.Config{URL: u, Queue: "slow", Log: func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		t.Log(line)
		switch {
		case strings.Contains(line, "timed out"):
			lost <- line
		case strings.Contains(line, "consumer_timeout is 3000 ms"):
			learned <- line
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	const jobs = 8
	for i := range jobs {
		publish(t, admin(t, u), "slow", fmt.Sprintf(`{"custom_id":"%d","url":"/x","body":{}}`, i))
	}
	seen := map[string]bool{}
	for began := time.Now(); len(seen) < jobs && time.Since(began) < time.Minute; {
		d := fetchOne(t, src)
		time.Sleep(1500 * time.Millisecond) // one at a time is worked on: less than the broker allows, and all of them more
		if err := src.Ack(t.Context(), d); err != nil && !errors.Is(err, drain.ErrLost) {
			t.Fatal(err)
		} else if err == nil {
			seen[string(d.Body)] = true
		}
	}
	if len(seen) < jobs || len(learned) != 1 || len(lost) != 1 {
		t.Errorf("%d of %d jobs were done; the broker ended the channel %d times, and its time-out was learned %d times; want once", len(seen), jobs, len(lost), len(learned))
	}
}

// What was held for long and cannot be handed back, as the broker takes no messages, is worked on like the rest.
func TestOverdueAndNotHandedBack(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("overdue-%d", time.Now().UnixNano())
	failed := make(chan string, 100)
	src, err := rabbitmq.Open(rabbitmq.Config{URL: u, Queue: queue, ConsumerTimeout: 3 * time.Second, Log: func(format string, args ...any) {
		failed <- fmt.Sprintf(format, args...)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	rabbitmq.BlockSource(src, "low on memory")
	publish(t, admin(t, u), queue, "a", "b")
	select {
	case line := <-failed:
		if !strings.Contains(line, "low on memory") {
			t.Fatal(line)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was handed back")
	}
	for i, d := range fetch(t, src, 2) {
		if want := [...]string{"a", "b"}[i]; string(d.Body) != want || d.Attempts != 0 {
			t.Errorf("%s came with %d attempts, want %s", d.Body, d.Attempts, want)
		}
		if err := src.Ack(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
}

// upstream answers jobs, counts how often each was sent, and refuses some.
type upstream struct {
	mu      sync.Mutex
	sent    map[string]int
	durable func(id string) bool
	wrong   []string
	refuse  float64
	takes   time.Duration
}

func (u *upstream) Send(ctx context.Context, j *drain.Job) (a drain.Answer) {
	u.mu.Lock()
	if u.sent == nil {
		u.sent = map[string]int{}
	}
	u.sent[j.ID]++
	if u.durable(j.ID) {
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

// The broker is killed and started again while jobs are in flight, and with FLYBALL_LONG then stopped in order and started again. Each id is exactly once in the results, nothing is sent whose
// result was durable, the poison is with the dead letters, and everybody who waits for a reply has one.
func TestBrokerRestarts(t *testing.T) {
	b := start(t)
	u := b.url()
	const queue, n = "requests", 2000
	cfg := rabbitmq.Config{URL: u, Queue: queue, Prefetch: 64}
	src := open(t, cfg)
	defer src.Close()
	ch := admin(t, u)
	var bodies []string
	for i := range n {
		bodies = append(bodies, fmt.Sprintf(`{"custom_id":"id-%d","url":"/v1/x","body":{"n":%d}}`, i, i))
		switch i % 500 {
		case 100:
			bodies = append(bodies, "poison")
		case 200:
			bodies = append(bodies, fmt.Sprintf(`{"custom_id":"bad-%d","url":"/v1/x","body":{"n":%d}}`, i, i))
		case 300:
			bodies = append(bodies, bodies[len(bodies)-1]) // twice
		}
	}
	publish(t, ch, queue, bodies...)
	store, err := drain.OpenFile(filepath.Join(t.TempDir(), "results.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	replies, err := rabbitmq.OpenReplies(rabbitmq.ReplyConfig{URL: u, Queue: "replies"})
	if err != nil {
		t.Fatal(err)
	}
	defer replies.Close()
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(32), MaxWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	up := &upstream{durable: func(id string) bool { _, ok := store.Has(id); return ok }, refuse: 0.02, takes: 40 * time.Millisecond}
	r, err := drain.New(drain.Config{Source: src, Store: store, Reply: replies, Upstream: up, Guard: guard, Patience: 2 * time.Minute,
		ProgressEvery: 5 * time.Second, OnProgress: func(p drain.Progress) { t.Logf("%+v", p) }})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // RabbitMQ 3.10 loses a queue that is made just before a kill
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	wait := func(what string, f func(p drain.Progress) bool) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); !f(r.Progress()); time.Sleep(20 * time.Millisecond) {
			select {
			case err := <-ended:
				t.Fatalf("the run ended: %v", err)
			default:
			}
			if time.Now().After(end) {
				cancel()
				t.Fatalf("no %s: %+v; %v", what, r.Progress(), <-ended)
			}
		}
	}
	times := 1
	if os.Getenv("FLYBALL_LONG") != "" {
		times = 2
	}
	for i := range times {
		wait("progress", func(p drain.Progress) bool { return p.Done > int64(300+i*500) })
		if i == 0 {
			b.kill()
		} else {
			b.stop()
		}
		// While it is away, no result is taken.
		away, cancel := context.WithTimeout(t.Context(), time.Second)
		if replies.Put(away, &drain.Result{ID: "away", Status: 200, Body: []byte("{}")}) == nil {
			t.Error("a result was taken by a broker that is dead")
		}
		cancel()
		b.up()
	}
	wait("end", func(p drain.Progress) bool { return store.Len() == n && p.Dead >= 8 && p.InFlight == 0 })
	dead := letters(t, admin(t, u), queue, 8)
	// Nothing is left: what comes again is known.
	left := func() int {
		q, err := admin(t, u).QueueDeclarePassive(queue, true, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		return q.Messages
	}
	for end := time.Now().Add(30 * time.Second); left() > 0 && time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
	}
	cancel()
	<-ended
	p := r.Progress()
	t.Logf("%+v", p)
	if p.Lost == 0 {
		t.Error("no delivery was lost in the restart: it tested nothing")
	}
	if len(up.wrong) > 0 {
		t.Errorf("%d jobs were sent although their results were durable", len(up.wrong))
	}
	reasons := map[drain.Reason]int{}
	for _, l := range dead {
		reasons[l.Reason]++
	}
	if reasons[drain.ReasonBadJSON] < 4 || reasons[drain.ReasonRefused] < 4 {
		t.Errorf("dead letters %v", reasons)
	}
	if n := left(); n > 0 {
		t.Errorf("%d messages are left", n)
	}
	got := map[string]bool{}
	rch := admin(t, u)
	for {
		m, ok, err := rch.Get("replies", true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		var line struct {
			ID string `json:"custom_id"`
		}
		if err := json.Unmarshal(m.Body, &line); err != nil || line.ID != m.CorrelationId {
			t.Fatalf("%v in %s", err, m.Body)
		}
		if line.ID != "away" { // it may have been taken all the same
			got[line.ID] = true
		}
	}
	if len(got) != n {
		t.Errorf("replies to %d jobs, want %d", len(got), n)
	}
	results(t, store, n)
}

func results(t *testing.T, store *drain.File, n int) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(store.Path())
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]int{}
	for l := range strings.Lines(string(data)) {
		var line struct {
			ID string `json:"custom_id"`
		}
		if err := json.Unmarshal([]byte(l), &line); err != nil {
			t.Fatal(err)
		}
		ids[line.ID]++
	}
	for id, k := range ids {
		if k != 1 {
			t.Errorf("%s is %d times in the results", id, k)
		}
	}
	if len(ids) != n {
		t.Errorf("results for %d ids, want %d", len(ids), n)
	}
}

// In a pause that is longer than a delivery may be held, nothing is with the consumer; all of it comes back.
func TestLongPause(t *testing.T) {
	// A broker that has just started sometimes does not confirm what is published for longer than a minute.
	for _, key := range []string{"", "user"} {
		through := longPause(t, key)
		if through = through || longPause(t, key); !through {
			t.Error("twice nothing came through")
		}
	}
}

// longPause reports whether anything came through in a minute. With the header for a key, the jobs of one key come through in their order.
func longPause(t *testing.T, key string) bool {
	t.Helper()
	u := url(t)
	queue := fmt.Sprintf("pause-%d", time.Now().UnixNano())
	src := open(t, rabbitmq.Config{URL: u, Queue: queue, KeyHeader: key, Prefetch: 64, ConsumerTimeout: 6 * time.Second})
	defer src.Close()
	ch := admin(t, u)
	for i := range 100 {
		m := amqp.Publishing{Headers: amqp.Table{"user": int32(i % 7)}, Body: fmt.Appendf(nil, `{"custom_id":"id-%d","url":"/v1/x","body":{"n":%d}}`, i, i)}
		c, err := ch.PublishWithDeferredConfirm("", queue, true, false, m)
		if err != nil || !c.Wait() {
			t.Fatal("a job was not confirmed", err)
		}
	}
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(4), MaxWait: time.Hour, MaxPause: time.Hour, PauseJitter: -1})
	if err != nil {
		t.Fatal(err)
	}
	store := &draintest.Results{}
	var mu sync.Mutex
	var order []int
	sent := 0
	up := answer(func(j *drain.Job) drain.Answer {
		var n int
		_, err := fmt.Sscanf(j.ID, "id-%d", &n)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if sent++; sent == 20 {
			return drain.Answer{Status: 429, Retryable: true, Outcome: limiter.Outcome{Class: feedback.Throttled, HasRetryAfter: true, RetryAfter: 5 * time.Second}}
		}
		order = append(order, n)
		return drain.Answer{Status: 200, Body: []byte("{}")}
	})
	r, err := drain.New(drain.Config{
		Source: src, Store: store, Upstream: up, Guard: guard, PauseAfter: 100 * time.Millisecond, InHand: 8, Ordered: key != "",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	consumers := func() int {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		return q.Consumers
	}
	quiet := false
	for store.Len() < 100 {
		if guard.Stats().Paused > 0 && consumers() == 0 {
			quiet = true
		}
		if ctx.Err() != nil && store.Len() == 0 {
			t.Logf("no results after a minute: %+v", r.Progress())
			<-ended
			return false
		}
		if ctx.Err() != nil {
			t.Fatalf("%d results after a minute: %+v", store.Len(), r.Progress())
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !quiet {
		t.Error("it consumed all through a pause that is longer than it may hold a delivery")
	}
	cancel()
	<-ended
	if p := r.Progress(); p.Dead != 0 || store.Puts != 100 {
		t.Errorf("%+v, %d results written", p, store.Puts)
	}
	last := map[int]int{}
	for _, n := range order {
		if key != "" && n < last[n%7] {
			t.Errorf("%d was sent after %d, of the same key", n, last[n%7])
		}
		last[n%7] = n
	}
	return true
}

// answer is an upstream that is a function.
type answer func(*drain.Job) drain.Answer

func (f answer) Send(_ context.Context, j *drain.Job) drain.Answer { return f(j) }

// A retry queue that somebody has deleted, or a message that no queue takes, is an error and no loss.
func TestUnroutable(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("unroutable-%d", time.Now().UnixNano())
	src := open(t, rabbitmq.Config{URL: u, Queue: queue})
	defer src.Close()
	ch := admin(t, u)
	publish(t, ch, queue, `{"custom_id":"a","url":"/x","body":{}}`)
	ds, err := src.Fetch(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDelete(queue+".dead", false, false, false); err != nil {
		t.Fatal(err)
	}
	err = src.Dead(t.Context(), ds[0], &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused}})
	if err == nil || !strings.Contains(err.Error(), queue+".dead") {
		t.Fatalf("a dead letter that nobody keeps: %v", err)
	}
	src.Close()
	src = open(t, rabbitmq.Config{URL: u, Queue: queue})
	defer src.Close()
	if ds, err := src.Fetch(t.Context(), 1); err != nil || len(ds) != 1 {
		t.Errorf("the job is gone: %v", err)
	}
}

// A queue that somebody has deleted while it is in use is made again for who tries again.
func TestQueueDeleted(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("deleted-%d", time.Now().UnixNano())
	src := open(t, rabbitmq.Config{URL: u, Queue: queue})
	defer src.Close()
	replies, err := rabbitmq.OpenReplies(rabbitmq.ReplyConfig{URL: u, Queue: queue + ".replies"})
	if err != nil {
		t.Fatal(err)
	}
	defer replies.Close()
	ch := admin(t, u)
	publish(t, ch, queue, `{"custom_id":"a"}`, `{"custom_id":"b"}`, `{"custom_id":"c"}`)
	ds := fetch(t, src, 3)
	if err := src.Retry(t.Context(), ds[0], time.Minute, "refused"); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func() error{
		".retry.64": func() error { return src.Retry(t.Context(), ds[1], time.Minute, "refused") },
		".dead": func() error {
			return src.Dead(t.Context(), ds[2], &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused}, At: time.Now()})
		},
		".replies": func() error { return replies.Put(t.Context(), &drain.Result{ID: "a", Status: 200, Body: []byte("{}")}) },
	} {
		if _, err := ch.QueueDelete(queue+name, false, false, false); err != nil {
			t.Fatal(err)
		}
		if err := put(); err == nil || !strings.Contains(err.Error(), "NO_ROUTE") {
			t.Errorf("%s: the first time: %v", name, err)
		}
		if err := put(); err != nil {
			t.Errorf("%s: the second time: %v", name, err)
		}
		if _, ok, err := ch.Get(queue+name, true); err != nil || !ok {
			t.Errorf("%s: nothing is there: %v", name, err)
		}
	}
}

// Why the broker has ended a connection is told: what it says is how somebody finds out that the consumer's time-out is another one, say.
func TestReasonOfALostConnection(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("reason-%d", time.Now().UnixNano())
	said := make(chan string, 100)
	src, err := rabbitmq.Open(rabbitmq.Config{URL: u, Queue: queue, Log: func(format string, args ...any) { said <- fmt.Sprintf(format, args...) }})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	publish(t, admin(t, u), queue, "a")
	d := fetch(t, src, 1)[0]
	for range 2 { // the broker ends the channel for the second one
		if err := src.Ack(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = src.Fetch(ctx, 1)
	}()
	if line := <-said; !strings.Contains(line, "unknown delivery tag") {
		t.Errorf("the log says %q", line)
	}
	cancel()
	<-ended
}

// A dead letter that somebody moves back into the queue is a new job, whatever it went through before; and one that then has to wait
// goes on from there.
func TestDeadLetterMovedBack(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("moved-%d", time.Now().UnixNano())
	src := open(t, rabbitmq.Config{URL: u, Queue: queue})
	defer src.Close()
	ch := admin(t, u)
	long := time.Now().Add(-25 * time.Hour).UnixMilli()
	if err := ch.Publish("", queue, true, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, Body: []byte(`{"custom_id":"a","url":"/x","body":{}}`),
		Headers: amqp.Table{"x-flyball-attempts": int64(7), "x-flyball-retries": int64(7), "x-flyball-since": long},
	}); err != nil {
		t.Fatal(err)
	}
	fetch := func() *drain.Delivery { t.Helper(); return fetchOne(t, src) }
	d := fetch()
	if d.Attempts != 7 || d.Retries != 7 || time.Since(d.Since) < 24*time.Hour {
		t.Fatalf("a job that was tried before has %d attempts, %d retries, since %v", d.Attempts, d.Retries, d.Since)
	}
	if err := src.Dead(t.Context(), d, &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonGaveUp}, Attempts: 400, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	m, ok, err := ch.Get(queue+".dead", true)
	if err != nil || !ok {
		t.Fatalf("there is no dead letter: %v", err)
	}
	// What the management page of the broker does, and a shovel.
	if err := ch.Publish("", queue, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: m.Body, Headers: m.Headers}); err != nil {
		t.Fatal(err)
	}
	d = fetch()
	if d.Again || d.Attempts != 0 || d.Retries != 0 || time.Since(d.Since) > time.Minute {
		t.Errorf("moved back it has %d attempts, %d retries, since %v; want a new job", d.Attempts, d.Retries, d.Since)
	}
	if err := src.Retry(t.Context(), d, time.Second, "refused"); err != nil {
		t.Fatal(err)
	}
	if again := fetch(); again.Attempts != 1 || again.Retries != 1 || !again.Since.Equal(time.UnixMilli(d.Since.UnixMilli())) {
		t.Errorf("tried again it has %d attempts, %d retries, since %v; want 1, 1, %v", again.Attempts, again.Retries, again.Since, d.Since)
	}
}

// deaf is a connection over which nothing reaches the broker any more once it is cut.
type deaf struct {
	net.Conn
	cut *atomic.Bool
}

func (d deaf) Write(b []byte) (int, error) {
	if d.cut.Load() {
		return len(b), nil
	}
	return d.Conn.Write(b)
}

// A message that comes again although it was acknowledged is known as such. One that was only handed out may be what somebody has put there anew, and
// is not.
func TestDeliveredAgain(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("again-%d", time.Now().UnixNano())
	var last deaf
	src := open(t, rabbitmq.Config{URL: u, Queue: queue, Dial: func(network, address string) (net.Conn, error) {
		c, err := amqp.DefaultDial(10*time.Second)(network, address)
		last = deaf{c, new(atomic.Bool)}
		return last, err
	}})
	defer src.Close()
	publish(t, admin(t, u), queue, "acknowledged", "handed out", "waiting")
	ds := fetch(t, src, 2)
	last.cut.Store(true)
	if err := src.Ack(t.Context(), ds[0]); err != nil || ds[0].Again || ds[1].Again {
		t.Errorf("the first time: %v, %t, %t", err, ds[0].Again, ds[1].Again)
	}
	last.Conn.Close()
	for _, d := range fetch(t, src, 3) {
		if want := string(d.Body) == "acknowledged"; d.Again != want {
			t.Errorf("%s: again %t, want %t", d.Body, d.Again, want)
		}
	}
	last.Conn.Close()
	for _, d := range fetch(t, src, 3) {
		if d.Again {
			t.Errorf("%s was not acknowledged", d.Body)
		}
	}
}

// That it was acknowledged is known, too, of one that is handed back before it is fetched.
func TestDeliveredAgainAndHandedBack(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("again-%d", time.Now().UnixNano())
	var last deaf
	src := open(t, rabbitmq.Config{URL: u, Queue: queue, ConsumerTimeout: 3 * time.Second, Dial: func(network, address string) (net.Conn, error) {
		c, err := amqp.DefaultDial(10*time.Second)(network, address)
		last = deaf{c, new(atomic.Bool)}
		return last, err
	}})
	defer src.Close()
	ch := admin(t, u)
	publish(t, ch, queue, "first", "acknowledged")
	ds := fetch(t, src, 2)
	last.cut.Store(true)
	if err := src.Ack(t.Context(), ds[1]); err != nil {
		t.Error(err)
	}
	last.Conn.Close()
	if ds := fetch(t, src, 1); string(ds[0].Body) != "first" || ds[0].Again {
		t.Fatalf("%s came, again %t", ds[0].Body, ds[0].Again)
	}
	out(t, ch, queue)
	src.Pause(time.Now().Add(1500 * time.Millisecond))
	src.Resume()
	if ds := fetch(t, src, 1); string(ds[0].Body) != "acknowledged" || !ds[0].Again {
		t.Errorf("%s came, again %t", ds[0].Body, ds[0].Again)
	}
}

// out waits until all of a queue is with its consumer.
func out(t *testing.T, ch *amqp.Channel, queue string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		if err != nil || time.Now().After(end) {
			t.Fatalf("not all is with the consumer: %+v, %v", q, err)
		}
		if q.Messages == 0 && q.Consumers == 1 {
			return
		}
	}
}

// fetch fetches n jobs.
func fetch(t *testing.T, src *rabbitmq.Source, n int) (ds []*drain.Delivery) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(ds) < n {
		more, err := src.Fetch(ctx, n-len(ds))
		if err != nil {
			t.Fatalf("after %d of %d jobs: %v", len(ds), n, err)
		}
		ds = append(ds, more...)
	}
	return ds
}

// together settles deliveries at the same time.
func together(t *testing.T, ds []*drain.Delivery, settle func(*drain.Delivery) error) {
	t.Helper()
	var all sync.WaitGroup
	for _, d := range ds {
		all.Go(func() {
			if err := settle(d); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// What was acknowledged just before the end does not come again, however much of it, also when the run ends in a long pause.
func TestAcknowledgedAtTheEnd(t *testing.T) {
	u := url(t)
	for _, paused := range []bool{false, true} {
		cfg := rabbitmq.Config{URL: u, Queue: fmt.Sprintf("ends-%d", time.Now().UnixNano())}
		src := open(t, cfg)
		ch := admin(t, u)
		var bodies []string
		for i := range 250 {
			bodies = append(bodies, fmt.Sprintf(`{"custom_id":"%d","url":"/x","body":{}}`, i))
		}
		publish(t, ch, cfg.Queue, bodies...)
		ds := fetch(t, src, len(bodies))
		if paused {
			src.Pause(time.Now().Add(time.Hour))
		}
		together(t, ds, func(d *drain.Delivery) error { return src.Ack(t.Context(), d) })
		if err := src.Close(); err != nil {
			t.Fatal(err)
		}
		publish(t, ch, cfg.Queue, "last") // what comes again is at the head
		src = open(t, cfg)
		again := 0
		for string(fetch(t, src, 1)[0].Body) != "last" {
			again++
		}
		if again > 0 {
			t.Errorf("paused: %t: %d of %d jobs that were acknowledged come again", paused, again, len(bodies))
		}
		src.Close()
	}
}

// plugged is a connection to a broker that does not read, as its memory is short, while it is plugged.
type plugged struct {
	net.Conn
	plug  *atomic.Bool
	ended chan struct{}
	once  *sync.Once
}

func (p plugged) Write(b []byte) (int, error) {
	if p.plug.Load() {
		<-p.ended
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: net.ErrClosed}
	}
	return p.Conn.Write(b)
}

func (p plugged) Close() error {
	p.once.Do(func() { close(p.ended) })
	return p.Conn.Close()
}

// pluggable returns a configuration for a queue of its own, and what plugs its connections.
func pluggable(u string) (rabbitmq.Config, *atomic.Bool) {
	plug := new(atomic.Bool)
	return rabbitmq.Config{URL: u, Queue: fmt.Sprintf("alarm-%d", rand.Uint64()), Dial: func(network, address string) (net.Conn, error) {
		c, err := amqp.DefaultDial(10*time.Second)(network, address)
		return plugged{c, plug, make(chan struct{}), new(sync.Once)}, err
	}}, plug
}

// What listens in the broker's place and says nothing holds up neither the end of a run nor the next attempt.
func TestConnectingToWhoSaysNothing(t *testing.T) {
	t.Parallel()
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	var mu sync.Mutex
	var conns []net.Conn
	cfg := rabbitmq.Config{URL: url(t), Queue: fmt.Sprintf("mute-%d", rand.Uint64()), Dial: func(network, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if n := len(conns); n == 1 || n == 2 {
			address = mute.Addr().String()
		}
		c, err := net.Dial(network, address)
		conns = append(conns, c)
		return c, err
	}}
	src := open(t, cfg)
	defer src.Close()
	mu.Lock()
	conns[0].Close()
	mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if ds, err := src.Fetch(ctx, 1); err == nil {
			t.Errorf("Fetch returned %d deliveries", len(ds))
		}
	}()
	select {
	case <-ended:
	case <-time.After(9 * time.Second):
		t.Fatal("the end of a run waits for who says nothing")
	}
	publish(t, admin(t, cfg.URL), cfg.Queue, "a")
	if err := <-comes(t.Context(), src, "a"); err != nil {
		t.Error(err)
	}
}

// A broker that takes no messages does not keep a run from its end, which hands back what it has.
func TestHandingBackToABrokerThatDoesNotRead(t *testing.T) {
	u := url(t)
	for name, settle := range map[string]func(*rabbitmq.Source, context.Context, *drain.Delivery) error{
		"Release": (*rabbitmq.Source).Release,
		"Retry": func(s *rabbitmq.Source, ctx context.Context, d *drain.Delivery) error {
			return s.Retry(ctx, d, time.Minute, "") // to a queue that is not there yet
		},
	} {
		t.Run(name, func(t *testing.T) { handBack(t, u, settle) })
	}
}

func handBack(t *testing.T, u string, settle func(*rabbitmq.Source, context.Context, *drain.Delivery) error) {
	t.Helper()
	cfg, plug := pluggable(u)
	src := open(t, cfg)
	publish(t, admin(t, u), cfg.Queue, "1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
	release := func(d *drain.Delivery) error { return src.Release(t.Context(), d) }
	together(t, fetch(t, src, 10), release)
	ds := fetch(t, src, 10) // counted once, so they go back as copies
	plug.Store(true)
	over := make(chan bool)
	go func() {
		defer close(over)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		together(t, ds, func(d *drain.Delivery) error {
			if err := settle(src, ctx, d); !errors.Is(err, drain.ErrLost) {
				return fmt.Errorf("%w, want %w", err, drain.ErrLost)
			}
			return nil
		})
		src.Close()
	}()
	select {
	case <-over:
	case <-time.After(12 * time.Second): // the broker misses a heartbeat after 20 s
		t.Error("the end waits for the broker")
		plug.Store(false)
		_ = src.Close()
	}
	plug.Store(false)
	src = open(t, cfg)
	defer src.Close()
	fetch(t, src, 10) // they come again
}

// Nor does it when a long pause begins or ends meanwhile, which the run waits for.
func TestPauseAtABrokerThatDoesNotRead(t *testing.T) {
	u := url(t)
	var all sync.WaitGroup
	for name, do := range map[string]func(*rabbitmq.Source, *atomic.Bool){
		"Pause": func(s *rabbitmq.Source, plug *atomic.Bool) {
			plug.Store(true)
			s.Pause(time.Now().Add(time.Hour))
		},
		"Resume": func(s *rabbitmq.Source, plug *atomic.Bool) {
			s.Pause(time.Now().Add(time.Hour))
			plug.Store(true)
			s.Resume()
		},
	} {
		cfg, plug := pluggable(u)
		src := open(t, cfg)
		all.Go(func() {
			over := make(chan bool)
			go func() {
				defer close(over)
				do(src, plug)
			}()
			select {
			case <-over:
			case <-time.After(12 * time.Second): // the broker misses a heartbeat after 20 s
				t.Errorf("%s waits for the broker", name)
			}
			_ = src.Close()
			<-over
		})
	}
	all.Wait()
}

// A consumer that is started and ended again and again, because of a key that the upstream does not accept for instance, makes no poison of
// what it was given and has not sent.
func TestHandedBackIsNoPoison(t *testing.T) {
	u := url(t)
	cfg := rabbitmq.Config{URL: u, Queue: fmt.Sprintf("again-%d", time.Now().UnixNano())}
	open(t, cfg).Close() // makes the queue
	ch := admin(t, u)
	const jobs, starts = 20, 12
	for i := range jobs {
		publish(t, ch, cfg.Queue, fmt.Sprintf(`{"custom_id":"%d","url":"/x","body":{}}`, i))
	}
	for range starts {
		src := open(t, cfg)
		// The others have come as well, and are not fetched.
		together(t, fetch(t, src, jobs/2), func(d *drain.Delivery) error { return src.Release(t.Context(), d) })
		if err := src.Close(); err != nil {
			t.Fatal(err)
		}
	}
	src := open(t, cfg)
	defer src.Close()
	bodies := map[string]bool{}
	for _, d := range fetch(t, src, jobs) {
		bodies[string(d.Body)] = true
		if n := d.Attempts - d.Retries; n > 2 {
			t.Errorf("%s has come to nothing %d times in %d starts, and was never sent", d.Body, n, starts)
		}
		if err := src.Ack(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
	if len(bodies) != jobs {
		t.Errorf("%d jobs are left of %d", len(bodies), jobs)
	}
	// The source goes on after a run that has ended.
	publish(t, ch, cfg.Queue, `{"custom_id":"last","url":"/x","body":{}}`)
	for range 2 {
		if err := src.Release(t.Context(), fetch(t, src, 1)[0]); err != nil {
			t.Error(err)
		}
	}
}

// What is handed back before a long pause comes again with what was counted of it: a job that takes its process with it is found out.
func TestHandedBackBeforeAPause(t *testing.T) {
	u := url(t)
	cfg := rabbitmq.Config{URL: u, Queue: fmt.Sprintf("back-%d", time.Now().UnixNano()), ConsumerTimeout: 3 * time.Second}
	open(t, cfg).Close() // makes the queue
	ch := admin(t, u)
	publish(t, ch, cfg.Queue, `{"custom_id":"a","url":"/x","body":{}}`)
	for range 3 {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			m, ok, err := ch.Get(cfg.Queue, false)
			if err != nil || time.Now().After(end) {
				t.Fatalf("the message is not in its queue: %v", err)
			}
			if !ok {
				continue
			}
			if err := m.Nack(false, true); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	src := open(t, cfg)
	defer src.Close()
	out(t, ch, cfg.Queue)
	src.Pause(time.Now().Add(1500 * time.Millisecond))
	src.Resume()
	ds, err := src.Fetch(t.Context(), 1)
	if err != nil || len(ds) != 1 {
		t.Fatalf("Fetch returned %d deliveries and %v", len(ds), err)
	}
	if m, ok, err := ch.Get(cfg.Queue+".retry.2", true); err != nil || ok {
		t.Fatalf("%s is still there, %v", m.Body, err) // it went there, or there is no such queue
	}
	if d := ds[0]; d.Attempts != 3 || d.Retries != 0 {
		t.Errorf("delivered three times before, it comes with %d attempts and %d retries", d.Attempts, d.Retries)
	}
}

// Where order counts, what goes back to the queue, before a long pause and at the end of a run, comes again in its order.
func TestOrderOfWhatGoesBack(t *testing.T) {
	u := url(t)
	for _, kind := range []string{"quorum", "classic"} {
		for name, back := range map[string]func(*rabbitmq.Source, []*drain.Delivery){
			"pause": func(src *rabbitmq.Source, _ []*drain.Delivery) {
				src.Pause(time.Now().Add(time.Hour))
				src.Resume()
			},
			"end": func(src *rabbitmq.Source, ds []*drain.Delivery) {
				for _, i := range []int{2, 0, 1} {
					if err := src.Release(t.Context(), ds[i]); err != nil {
						t.Error(err)
					}
				}
			},
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				cfg := rabbitmq.Config{URL: u, Queue: fmt.Sprintf("order-%d", time.Now().UnixNano()), KeyHeader: "user", Prefetch: 6}
				ch := admin(t, u)
				if _, err := ch.QueueDeclare(cfg.Queue, true, false, false, false, amqp.Table{"x-queue-type": kind}); err != nil {
					t.Fatal(err)
				}
				publish(t, ch, cfg.Queue, "0", "1", "2", "3", "4", "5", "6", "7")
				src := open(t, cfg)
				defer src.Close()
				ds := fetch(t, src, 3) // three more have come, or will
				back(src, ds)
				var order []string
				for _, d := range fetch(t, src, 6) {
					order = append(order, string(d.Body))
				}
				if got := strings.Join(order, " "); got != "0 1 2 3 4 5" {
					t.Errorf("they come again as %s", got)
				}
			})
		}
	}
}

// What was released comes again, also when what a connection before had is released after it.
func TestReleasedAfterALoss(t *testing.T) {
	u := url(t)
	cfg := rabbitmq.Config{URL: u, Queue: fmt.Sprintf("released-%d", time.Now().UnixNano()), KeyHeader: "user"}
	src := open(t, cfg)
	defer src.Close()
	publish(t, admin(t, u), cfg.Queue, "0")
	before := fetch(t, src, 1)[0]
	src.Pause(time.Now().Add(time.Hour))
	src.Resume()
	if err := src.Release(t.Context(), fetch(t, src, 1)[0]); err != nil {
		t.Fatal(err)
	}
	if err := src.Release(t.Context(), before); !errors.Is(err, drain.ErrLost) {
		t.Errorf("releasing what was lost: %v", err)
	}
	fetch(t, src, 1)
}

// A consumer that lives on after a pause is not what its jobs take with them: for a source that pauses again and again they are no poison.
func TestPausesAreNoDeliveries(t *testing.T) {
	u := url(t)
	cfg := rabbitmq.Config{URL: u, Queue: fmt.Sprintf("pauses-%d", time.Now().UnixNano()), KeyHeader: "user", Prefetch: 6}
	src := open(t, cfg)
	ch := admin(t, u)
	publish(t, ch, cfg.Queue, "0", "1", "2", "3")
	for range 3 {
		fetch(t, src, 2) // two more have come, or will
		src.Pause(time.Now().Add(time.Hour))
		src.Resume()
	}
	for _, d := range fetch(t, src, 4) {
		if d.Attempts != 3 || d.Retries != 3 {
			t.Errorf("%s has %d attempts, %d of them retries, want 3 and 3", d.Body, d.Attempts, d.Retries)
		}
		if string(d.Body) == "0" {
			if err := src.Ack(t.Context(), d); err != nil {
				t.Error(err)
			}
		}
	}
	// Another process may have what takes it along.
	src.Close()
	src = open(t, cfg)
	defer src.Close()
	for _, d := range fetch(t, src, 3) {
		if d.Attempts != 4 || d.Retries != 0 {
			t.Errorf("%s has %d attempts, %d of them retries, want 4 and 0", d.Body, d.Attempts, d.Retries)
		}
	}
}

// Neither is what was out when a connection was lost, or when the broker ended the channel as its consumer_timeout had passed: with an upstream that
// refuses everything for ten hours, jobs of one key were poison before they were sent. A process that ends in order tells the next one so.
func TestLossesAreNoDeliveries(t *testing.T) {
	u := url(t)
	for _, key := range []string{"", "user"} {
		var last net.Conn
		cfg := rabbitmq.Config{URL: u, Queue: fmt.Sprintf("losses%s-%d", key, time.Now().UnixNano()), KeyHeader: key, Dial: func(network, address string) (net.Conn, error) {
			c, err := net.Dial(network, address)
			last = c
			return c, err
		}}
		src := open(t, cfg)
		publish(t, admin(t, u), cfg.Queue, "0")
		d := fetchOne(t, src)
		for range 2 {
			last.Close()
			for end := time.Now().Add(10 * time.Second); !src.Lost(d) && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			d = fetchOne(t, src)
		}
		if d.Attempts != 2 || d.Retries != 2 {
			t.Errorf("with the key %q there are %d attempts, %d of them retries, want 2 and 2", key, d.Attempts, d.Retries)
		}
		if err := src.Release(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		src.Close()
		src = open(t, cfg)
		want := 1 // the copy that was released comes to this consumer once more, perhaps
		if key != "" {
			want = 3 // the broker's count is all that there is
		}
		if d = fetchOne(t, src); d.Attempts < 3 || d.Attempts-d.Retries > want {
			t.Errorf("with the key %q the next process has %d attempts, %d of them retries, want 3 or more and all but %d", key, d.Attempts, d.Retries, want)
		}
		src.Close()
	}
}

// comes tells whether the next delivery is a body, once there is one.
func comes(ctx context.Context, src *rabbitmq.Source, body string) <-chan error {
	came := make(chan error, 1)
	go func() {
		ds, err := src.Fetch(ctx, 1)
		if err == nil && string(ds[0].Body) != body {
			err = fmt.Errorf("%s came", ds[0].Body)
		}
		came <- err
	}()
	return came
}

// A consumer that the broker ends, because its queue was deleted or the node of it is gone, is made again, and its queue with it.
func TestConsumerEndedByTheBroker(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("ended-%d", time.Now().UnixNano())
	src := open(t, rabbitmq.Config{URL: u, Queue: queue})
	defer src.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	came := comes(ctx, src, "job")
	if _, err := admin(t, u).QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	for there := false; !there && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		_, err := admin(t, u).QueueDeclarePassive(queue, true, false, false, false, nil)
		there = err == nil
	}
	if ctx.Err() != nil {
		t.Fatal("the queue is not made again")
	}
	publish(t, admin(t, u), queue, "job")
	if err := <-came; err != nil {
		t.Error(err)
	}
}

// consumes is a connection that calls back before it lets the request to consume through.
type consumes struct {
	net.Conn
	before func()
}

func (c *consumes) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte{0, 60, 0, 20}) { // basic.consume
		c.before()
	}
	return c.Conn.Write(b)
}

// A pause that begins while a lost connection is made again holds for the new one.
func TestPausedWhileConnecting(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("pausing-%d", time.Now().UnixNano())
	var src *rabbitmq.Source
	var first net.Conn
	var pause sync.Once
	dials, third := 0, make(chan struct{})
	src = open(t, rabbitmq.Config{URL: u, Queue: queue, ConsumerTimeout: 3 * time.Second, Dial: func(network, addr string) (net.Conn, error) {
		raw, err := amqp.DefaultDial(time.Second)(network, addr)
		if dials++; dials == 1 {
			first = raw
			return raw, err
		}
		if dials == 3 {
			close(third)
		}
		if err != nil {
			return nil, err
		}
		return &consumes{raw, func() { pause.Do(func() { src.Pause(time.Now().Add(time.Hour)) }) }}, nil
	}})
	defer src.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	first.Close()
	came := comes(ctx, src, "job")
	select {
	case <-third: // the second one was about to consume when the pause began
	case <-ctx.Done():
		t.Fatal("it consumes in the pause")
	}
	publish(t, admin(t, u), queue, "job")
	src.Resume()
	if err := <-came; err != nil {
		t.Error(err)
	}
}

// A message whose headers leave no room for those of a dead letter is put aside all the same, and the connection stays.
func TestDeadLetterOfLargeHeaders(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("headers-%d", time.Now().UnixNano())
	src := open(t, rabbitmq.Config{URL: u, Queue: queue})
	defer src.Close()
	ch := admin(t, u)
	for name, size := range map[string]int{"some": 100 << 10, "nearly all": 127 << 10} {
		if err := ch.Publish("", queue, true, false, amqp.Publishing{
			DeliveryMode: amqp.Persistent, Body: []byte(`{"custom_id":"` + name + `"}`), Headers: amqp.Table{"large": strings.Repeat("x", size), "small": "kept"},
		}); err != nil {
			t.Fatal(err)
		}
		ds, err := src.Fetch(t.Context(), 1)
		if err != nil || len(ds) != 1 {
			t.Fatalf("%s: %v", name, err)
		}
		letter := &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused, Detail: strings.Repeat("d", 8<<10)}, Answer: []byte(strings.Repeat("a", 32<<10)), At: time.Now()}
		if err := src.Dead(t.Context(), ds[0], letter); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m, ok, err := ch.Get(queue+".dead", true)
		if err != nil || !ok {
			t.Fatalf("%s: there is no dead letter: %v", name, err)
		}
		if m.Headers["x-flyball-reason"] != string(drain.ReasonRefused) || m.Headers["small"] != "kept" || !strings.Contains(string(m.Body), name) {
			t.Errorf("%s: the dead letter says %v, small is %v, its body %s", name, m.Headers["x-flyball-reason"], m.Headers["small"], m.Body)
		}
	}
}

// A copy of a message goes to the queue that it is for and to no other, as urgent as it was.
func TestCopies(t *testing.T) {
	u := url(t)
	queue := fmt.Sprintf("copies-%d", time.Now().UnixNano())
	ch := admin(t, u)
	if _, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-max-priority": int32(5)}); err != nil {
		t.Fatal(err)
	}
	src := open(t, rabbitmq.Config{URL: u, Queue: queue})
	defer src.Close()
	// The sender has it go to two queues (sender-selected distribution).
	if err := ch.Publish("", queue+".other", false, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent, Body: []byte(`{"custom_id":"a"}`), Priority: 3, Headers: amqp.Table{"CC": []any{queue}, "kept": "yes"},
	}); err != nil {
		t.Fatal(err)
	}
	fetch := func() *drain.Delivery { t.Helper(); return fetchOne(t, src) }
	if err := src.Retry(t.Context(), fetch(), time.Second, "refused"); err != nil {
		t.Fatal(err)
	}
	d := fetch()
	if d.Attempts != 1 {
		t.Errorf("the job has %d attempts, want 1: it came twice", d.Attempts)
	}
	if err := src.Dead(t.Context(), d, &drain.DeadLetter{Fault: drain.Fault{Reason: drain.ReasonRefused}, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	m, ok, err := ch.Get(queue+".dead", true)
	if err != nil || !ok {
		t.Fatalf("there is no dead letter: %v", err)
	}
	if m.Priority != 3 || m.Headers["kept"] != "yes" || m.Headers["CC"] != nil {
		t.Errorf("the dead letter has the priority %d and the headers %v", m.Priority, m.Headers)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if ds, err := src.Fetch(ctx, 1); err == nil {
		t.Errorf("the job is there again: %s", ds[0].Where)
	}
}

// fetchOne returns the next job.
func fetchOne(t *testing.T, src *rabbitmq.Source) *drain.Delivery {
	t.Helper()
	ds, err := src.Fetch(t.Context(), 1)
	if err != nil || len(ds) != 1 {
		t.Fatalf("Fetch returned %d deliveries and %v", len(ds), err)
	}
	return ds[0]
}
