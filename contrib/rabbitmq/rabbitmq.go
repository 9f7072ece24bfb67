// Package rabbitmq drains a RabbitMQ queue: a drain.Source, and a drain.Sink for a queue of replies.
//
//	src, err := rabbitmq.Open(rabbitmq.Config{URL: "amqp://localhost/", Queue: "requests"})
//	...
//	r, err := drain.New(drain.Config{Source: src, ...})
//
// # How it uses the broker
//
// The prefetch is fixed; how many jobs are in flight is the guard's business. A message is acknowledged after its result is
// durable. A job that has to wait longer than a delivery may be held goes into a queue with a time to live, from which the
// broker hands it back to the queue of jobs, and is never requeued at its head: that is a hot loop. Dead letters go into a
// queue of their own with the reason in their headers. What is published is confirmed by the broker before the message that it
// replaces is acknowledged, so a crash in between can double a job, which the Store then knows, and never loses one.
//
// The queues are made when they are not there, as quorum queues; a queue of jobs that is there stays as it is. A lost
// connection is made again, with all of it; deliveries that were out come again, and settling one of those is drain.ErrLost.
package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/limiter"
)

// Config is what a Source is made from. URL and Queue must be set.
type Config struct {
	// URL is the broker, "amqp://user:password@host:5672/vhost", or amqps, which may have the parameters cacertfile, certfile and keyfile
	// (paths), server_name_indication, and auth_mechanism (external: the certificate says who it is). Files are read for each connection. The
	// password is in no error.
	URL string
	// Queue is the queue of jobs. Its dead letters are in Queue + ".dead", and jobs that wait in Queue + ".retry." + seconds.
	Queue string
	// Prefetch is how many messages may be with this consumer (1 to 65,535). Zero means 256. Take the most that may be in
	// flight and a half more: smaller starves the guard, larger keeps messages from other consumers.
	Prefetch int
	// ConsumerTimeout is the broker's consumer_timeout: how long a delivery may be out before the broker closes the channel
	// (3 s or more). Zero means RabbitMQ's default, 30 min. A delivery is held for a third of it. When it is shorter at the broker, that is
	// learned from the first channel that the broker closes.
	ConsumerTimeout time.Duration
	// DeliveryLimit is after how many deliveries that came to nothing the broker itself makes a dead letter of a message (1 or
	// more), in a queue that this package makes. Zero means 100: the runner's own limit comes first.
	DeliveryLimit int
	// KeyHeader is the header that holds a job's drain.Delivery.Key. Empty means none.
	KeyHeader string
	// Dial connects; nil means TCP with a time-out of 10 s. The handshake may take as long again.
	Dial func(network, address string) (net.Conn, error)
	// Log is told of lost connections; nil means that nobody is.
	Log func(format string, args ...any)
}

const (
	headerAttempts  = "x-flyball-attempts"
	headerRetries   = "x-flyball-retries" // how many of the attempts
	headerSince     = "x-flyball-since"   // ms since 1970
	headerReason    = "x-flyball-reason"
	headerDetail    = "x-flyball-detail"
	headerStatus    = "x-flyball-status"
	headerRequestID = "x-flyball-request-id"
	headerAnswer    = "x-flyball-answer"
	headerAt        = "x-flyball-at"
	headerWhere     = "x-flyball-where"
	headerAgain     = "x-flyball-again" // a copy of one with drain.Delivery.Again
	headerSeq       = "x-flyball-seq"
	headerDelivery  = "x-delivery-count" // of quorum queues

	// bootTime is how long a new connection is left alone after a lost one: no queue is asked, consumed or published to. A broker that
	// starts listens before its quorum queues have elected leaders, which takes up to a second.
	bootTime = 2 * time.Second
	// registerTime is how long a queue that was just made is not relied on. RabbitMQ 3.10.8 writes the list of its quorum queues' members
	// (ra 2.2.0: names.dets, auto_save) half a second after the last change. A queue that is not on it when the broker is killed comes back
	// empty, what was confirmed is gone, and it never elects a leader: "leader not known" in the broker's log, and whoever publishes to it is
	// stuck. Four queues of which the last one was made just before a kill -9: three came back with their messages, the last one like that.
	registerTime = time.Second
	// mostMoving is how many messages are on their way to another queue at a time. RabbitMQ (3.10.8: rabbit_fifo_client) keeps acknowledgements
	// back while 32 are not yet written down, and forgets those when the channel ends: the messages would be in both queues.
	mostMoving = 8
	// mostKnown is after how many messages that went back, or may have, as connections ended, these are forgotten when the next one does. Most come again
	// at once or never: another consumer has got them, or the broker had heard of them after all.
	mostKnown = 100_000
	// leastBack is how long a job that has to wait, and goes back to where it was, is kept first: it comes again at once.
	leastBack      = time.Second
	leastTimeout   = 3 * time.Second
	reconnectFirst = 100 * time.Millisecond
	reconnectMost  = 5 * time.Second
	// maxDelay is the longest time in a retry queue; a job that has to wait longer makes several rounds.
	maxDelay = 4096 * time.Second
	// All headers of a message must fit into one frame, of 128 KiB unless the broker says otherwise, beside its other properties.
	mostDetail = 8 << 10
	mostAnswer = 32 << 10
	properties = 4 << 10
)

// letterHeaders are those that only dead letters have.
var letterHeaders = [...]string{headerReason, headerDetail, headerStatus, headerRequestID, headerAnswer, headerAt, headerWhere}

func (c Config) check() (Config, error) {
	if c.Prefetch == 0 {
		c.Prefetch = 256
	}
	if c.ConsumerTimeout == 0 {
		c.ConsumerTimeout = 30 * time.Minute
	}
	if c.DeliveryLimit == 0 {
		c.DeliveryLimit = 100
	}
	if c.Log == nil {
		c.Log = func(string, ...any) {}
	}
	var errs []error
	if err := checkURL(c.URL); err != nil {
		errs = append(errs, fmt.Errorf("rabbitmq: Config.URL: %w", err))
	}
	if c.Queue == "" || len(c.Queue) > 200 {
		errs = append(errs, fmt.Errorf("rabbitmq: Config.Queue has %d bytes, must have 1 to 200", len(c.Queue)))
	}
	if c.Prefetch < 1 || c.Prefetch > 65535 {
		errs = append(errs, fmt.Errorf("rabbitmq: Config.Prefetch is %d, must be 0 (default) or 1 to 65535", c.Prefetch))
	}
	if c.ConsumerTimeout < leastTimeout {
		errs = append(errs, fmt.Errorf("rabbitmq: Config.ConsumerTimeout is %v, must be 0 (default) or at least 3s", c.ConsumerTimeout))
	}
	if c.DeliveryLimit < 1 {
		errs = append(errs, fmt.Errorf("rabbitmq: Config.DeliveryLimit is %d, must be 0 (default) or at least 1", c.DeliveryLimit))
	}
	return c, errors.Join(errs...)
}

// checkURL returns what is wrong with a broker's URL, without its password.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err == nil {
		_, err = amqp.ParseURI(s)
	} else {
		err = errors.New("it cannot be read") // the text of that error has all of it
	}
	if err != nil {
		return fmt.Errorf(`%w; it must be like "amqp://user:password@localhost:5672/", and what is special in a name or password be written as %%40`, err)
	}
	q := u.Query()
	for name := range q {
		switch name {
		case "cacertfile", "certfile", "keyfile", "server_name_indication", "verify":
			if u.Scheme != "amqps" {
				return fmt.Errorf("%s is for amqps://, and %s:// sends everything in the clear", name, u.Scheme)
			}
			if v := q.Get(name); name == "verify" && v != "verify_peer" {
				return fmt.Errorf("verify is %q, must be verify_peer: a certificate is always verified", v)
			}
		case "auth_mechanism", "heartbeat", "channel_max":
		case "connection_timeout", "frame_max", "locale", "fail_if_no_peer_cert", "connection_attempts", "retry_delay", "socket_timeout", "stack_timeout",
			"blocked_connection_timeout", "frameMax", "channelMax", "name":
			// One URL is often that of several programs. Other clients take these, and none of them is there to secure what is sent here.
		default:
			return fmt.Errorf("the parameter %s is not known; cacertfile, certfile, keyfile, server_name_indication, auth_mechanism, heartbeat and channel_max are", name)
		}
	}
	if (q.Get("certfile") == "") != (q.Get("keyfile") == "") {
		return errors.New("certfile and keyfile go together")
	}
	return nil
}

// Source is a drain.Source. Make it with Open.
type Source struct {
	cfg     Config
	young   young
	timeout atomic.Int64 // of the broker for deliveries, as far as it was told; see learn
	most    most
	// declaring is held by who makes a retry queue, so that who finds it there knows since when.
	declaring sync.Mutex

	mu     sync.Mutex
	link   *link // nil while there is no connection
	paused bool  // nothing is consumed
	kept   *link // has deliveries that were released and are still out; see Release
	// out is what came over link and is not settled, by acks.content, and spared how often of that went back as a connection ended: the broker counts it
	// as delivered, which a consumer that lives on is no reason for.
	out     map[uint64]bool
	spared  map[uint64]int
	closed  bool
	came    []arrived // not yet fetched; all of link
	arrival chan struct{}
	acks    acks
}

const (
	// unsureTime is how long the broker may not have heard what was sent when a connection is known to be lost; heartbeats take 20 s for it.
	unsureTime = time.Minute
	// againTime is how long what it has not heard may take to come again, with other losses and pauses in between.
	againTime = time.Hour
)

// acks knows which messages were acknowledged here and may come again all the same. The broker says no more of a message than that it was handed out
// before, as it was, too, when it waited for its turn, here or in another process, or was put there anew after it was a dead letter.
type acks struct {
	seed   maphash.Seed
	sent   []ack          // over the connection that there is, in order of time
	unsure map[uint64]int // over those that were lost: how many of a content
	lost   time.Time      // when the last of these was
}

type ack struct {
	content uint64
	at      time.Time
}

func (a *acks) content(m *amqp.Delivery) uint64 {
	return 31*maphash.String(a.seed, m.MessageId) + maphash.Bytes(a.seed, m.Body)
}

// note notes an acknowledgement that was sent just now.
func (a *acks) note(content uint64) {
	now := time.Now()
	a.sent = append(a.sent, ack{content, now})
	for now.Sub(a.sent[0].at) > unsureTime {
		a.sent = a.sent[1:]
	}
}

// drop notes that the connection was lost.
func (a *acks) drop() {
	now := time.Now()
	if a.unsure == nil || now.Sub(a.lost) > againTime || len(a.unsure) > mostKnown {
		a.unsure = map[uint64]int{}
	}
	a.lost = now
	for _, k := range a.sent {
		if now.Sub(k.at) <= unsureTime {
			a.unsure[k.content]++
		}
	}
	a.sent = nil
}

// again reports whether a message that was handed out before is one of them, and forgets that.
func (a *acks) again(content uint64) bool {
	n := a.unsure[content]
	if n == 0 || time.Since(a.lost) > againTime {
		return false
	}
	if n == 1 {
		delete(a.unsure, content)
	} else {
		a.unsure[content] = n - 1
	}
	return true
}

// young is when queues were made that are not relied on yet (see registerTime). The zero value is none.
type young struct {
	mu   sync.Mutex
	made map[string]time.Time
}

// note notes that a queue was made just now.
func (y *young) note(queue string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.made == nil {
		y.made = map[string]time.Time{}
	}
	y.made[queue] = time.Now()
}

// wait waits until a queue may be relied on.
func (y *young) wait(ctx context.Context, queue string) error {
	y.mu.Lock()
	made, ok := y.made[queue]
	left := registerTime - time.Since(made)
	if ok && left <= 0 {
		delete(y.made, queue)
	}
	y.mu.Unlock()
	if !ok || left <= 0 {
		return nil
	}
	return limiter.Sleep(ctx, left)
}

// arrived is a message that the broker has sent.
type arrived struct {
	msg   amqp.Delivery
	at    time.Time
	again bool // see delivery
}

// link is one connection with what belongs to it.
type link struct {
	conn   *connection
	jobs   *amqp.Channel // consumes and acknowledges
	out    *publisher
	tag    string          // of the consumer; empty while there is none
	pumps  sync.WaitGroup  // goroutines that hand messages from consumers to Source.came; they end with their consumer
	known  map[string]bool // queues for retries and of dead letters that are there
	moving chan struct{}   // has a token for each message on its way to another queue
	ended  []chan *amqp.Error
}

// why returns why the broker has ended the connection or a channel of it, as far as it said so. It is called after close.
func (l *link) why() string {
	for _, c := range l.ended {
		select {
		case e := <-c:
			if e != nil {
				return ": " + e.Error()
			}
		default:
		}
	}
	return ""
}

// handle is what a delivery is settled with.
type handle struct {
	link *link
	msg  amqp.Delivery
}

// Open connects and sees to the queues. Afterwards lost connections are made again for as long as it takes.
func Open(cfg Config) (*Source, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, arrival: make(chan struct{}, 1), acks: acks{seed: maphash.MakeSeed()}, out: map[uint64]bool{}, spared: map[uint64]int{}}
	l, err := s.dial(context.Background(), false)
	if err != nil {
		return nil, err
	}
	s.link = l
	return s, nil
}

func (c *Config) deadQueue() string { return c.Queue + ".dead" }

// dialTime is how long connecting may take, and the handshake after it.
const dialTime = 10 * time.Second

// heartbeat is how often each side says that it is there, at least; the URL may say more often (see unsureTime).
const heartbeat = 10 * time.Second

// beating returns a broker's URL without a heartbeat that is longer, or off: a connection whose other end is gone without a word would be waited
// for, for minutes or for good.
func beating(broker string) string {
	u, err := url.Parse(broker)
	if err != nil {
		return broker // and is refused
	}
	q := u.Query()
	if n, err := strconv.Atoi(q.Get("heartbeat")); err == nil && (n <= 0 || time.Duration(n)*time.Second > heartbeat) {
		q.Del("heartbeat")
		u.RawQuery = q.Encode()
		return u.String()
	}
	return broker
}

// connect makes a connection.
func connect(ctx context.Context, url string, dial func(network, address string) (net.Conn, error), log func(string, ...any)) (*connection, error) {
	if dial == nil {
		dial = amqp.DefaultDial(dialTime)
	}
	c, shaken := &connection{}, func() {}
	conn, err := amqp.DialConfig(beating(url), amqp.Config{Heartbeat: heartbeat, Locale: "en_US", Dial: func(network, address string) (net.Conn, error) {
		raw, err := dial(network, address)
		if err != nil {
			return nil, err
		}
		c.raw = raw
		// There are no heartbeats yet.
		inTime, within := c.hurry(dialTime), c.within(ctx)
		shaken = func() { inTime(); within() }
		return raw, nil
	}})
	shaken()
	if err != nil {
		return nil, fmt.Errorf("rabbitmq: connecting: %w", err)
	}
	c.Connection = conn
	blocked := conn.NotifyBlocked(make(chan amqp.Blocking, 1))
	go func() { // ends with the connection
		for b := range blocked {
			if !b.Active {
				c.blocked.Store(nil)
				log("rabbitmq: the broker takes messages again")
				continue
			}
			c.blocked.Store(&b.Reason)
			log("rabbitmq: the broker takes no messages for now: %s", b.Reason)
		}
	}()
	return c, nil
}

// connection is one that can be closed although the broker does not answer.
type connection struct {
	*amqp.Connection
	raw net.Conn
	// blocked is why the broker takes no messages now: its memory or disk is short. nil when it does.
	blocked atomic.Pointer[string]
}

// taken returns why the broker takes no messages now; nil when it does.
func (c *connection) taken() error {
	if why := c.blocked.Load(); why != nil {
		return fmt.Errorf("the broker takes no messages for now: %s", *why)
	}
	return nil
}

// closeTime is how long a broker may take to say farewell.
const closeTime = 3 * time.Second

// hurry ends the connection without the broker, unless done is called in time.
func (c *connection) hurry(most time.Duration) (done func()) {
	t := time.AfterFunc(most, func() { _ = c.raw.Close() })
	return func() { t.Stop() }
}

// within has what is done from now on until done is called cost the connection when it lasts for closeTime after ctx has ended. A broker whose memory
// or disk is short does not read what comes, and a write or a question lasts for as long as that; nothing else can be done meanwhile, either.
func (c *connection) within(ctx context.Context) (done func()) {
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer c.hurry(closeTime)()
		<-over
	})
	return func() {
		stop()
		close(over)
	}
}

// Close ends the connection in order, or without the broker when that takes too long.
func (c *connection) Close() error {
	defer c.hurry(closeTime)()
	return c.Connection.Close()
}

// dial connects, makes what queues are missing, and begins to consume unless it is paused. After a lost connection it lets the broker come
// to itself first.
func (s *Source) dial(ctx context.Context, lost bool) (*link, error) {
	conn, err := connect(ctx, s.cfg.URL, s.cfg.Dial, s.cfg.Log)
	if err != nil {
		return nil, err
	}
	defer conn.within(ctx)()
	if lost && limiter.Sleep(ctx, bootTime) != nil {
		_ = conn.Close()
		return nil, context.Cause(ctx)
	}
	l := &link{conn: conn, known: map[string]bool{s.cfg.deadQueue(): true}, moving: make(chan struct{}, mostMoving)}
	fail := func(what string, err error) (*link, error) {
		_ = conn.Close()
		return nil, fmt.Errorf("rabbitmq: %s: %w", what, err)
	}
	made, err := declare(conn, s.cfg.deadQueue(), endless)
	if err != nil {
		return fail("the queue "+s.cfg.deadQueue(), err)
	}
	if made {
		s.young.note(s.cfg.deadQueue())
	}
	_, err = declare(conn, s.cfg.Queue, amqp.Table{
		"x-dead-letter-exchange": "", "x-dead-letter-routing-key": s.cfg.deadQueue(), "x-delivery-limit": int64(s.cfg.DeliveryLimit),
		"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
	})
	if err != nil {
		return fail("the queue "+s.cfg.Queue, err)
	}
	if l.out, err = newPublisher(conn); err != nil {
		return fail("a channel", err)
	}
	if l.jobs, err = conn.Channel(); err != nil {
		return fail("a channel", err)
	}
	for _, ch := range []*amqp.Channel{l.jobs, l.out.ch} {
		l.ended = append(l.ended, ch.NotifyClose(make(chan *amqp.Error, 1)))
	}
	if err := l.jobs.Qos(s.cfg.Prefetch, 0, false); err != nil {
		return fail("the prefetch", err)
	}
	s.mu.Lock()
	paused := s.paused
	s.mu.Unlock()
	if !paused {
		if err := s.consume(l); err != nil {
			return fail("consuming "+s.cfg.Queue, err)
		}
	}
	return l, nil
}

// endless is a queue in which a message stays however often it was looked at. RabbitMQ 4 drops one of a quorum queue that has no limit of its own
// when it comes back for the 21st time, as from its page for people; -1, which is no limit there, is refused by those before.
// Nor does it give way to the next one where a policy says how many there may be: who publishes hears of it.
var endless = amqp.Table{"x-delivery-limit": int64(1_000_000_000), "x-overflow": "reject-publish"}

// declare makes a quorum queue when there is none of this name; made says that there was none.
func declare(conn *connection, name string, args amqp.Table) (made bool, err error) {
	ch, err := conn.Channel()
	if err != nil {
		return false, err
	}
	_, err = ch.QueueDeclarePassive(name, true, false, false, false, nil)
	if err == nil {
		return false, ch.Close()
	}
	var e *amqp.Error
	if !errors.As(err, &e) || e.Code != amqp.NotFound {
		return false, err
	}
	if ch, err = conn.Channel(); err != nil { // the broker has closed the one that asked
		return false, err
	}
	defer ch.Close()
	all := amqp.Table{"x-queue-type": "quorum"}
	for k, v := range args {
		all[k] = v
	}
	_, err = ch.QueueDeclare(name, true, false, false, false, all)
	return err == nil, err
}

// consume begins to consume.
func (s *Source) consume(l *link) error {
	tag := "flyball-" + strconv.FormatUint(rand.Uint64(), 36)
	// Zero is the priority of who names none. A stream has no priorities, so it refuses the consumer, which it would else give only what comes later.
	msgs, err := l.jobs.Consume(s.cfg.Queue, tag, false, false, false, false, amqp.Table{"x-priority": int32(0)})
	if err != nil {
		var e *amqp.Error
		if errors.As(err, &e) && e.Code == amqp.PreconditionFailed && strings.Contains(e.Reason, "of queue type rabbit_stream_queue") {
			return fmt.Errorf("it is a stream, which keeps what was done: its messages cannot be taken out (%w)", err)
		}
		return err
	}
	l.tag = tag
	ctx, cancel := context.WithCancel(context.Background())
	l.pumps.Go(func() { s.overdue(ctx, l) })
	l.pumps.Go(func() {
		defer cancel()
		for m := range msgs { // ends with the consumer or its channel
			content := s.acks.content(&m)
			s.mu.Lock()
			s.came = append(s.came, arrived{msg: m, at: time.Now()})
			s.out[content] = true
			s.mu.Unlock()
			s.wake()
		}
		s.mu.Lock()
		ours := l.tag != tag || s.closed
		s.mu.Unlock()
		if !ours && !l.dead() {
			s.cfg.Log("rabbitmq: the broker has ended the consumer of %s: the queue was deleted, or its node is gone", s.cfg.Queue)
			_ = l.conn.Close() // Fetch makes it again, with the queue
		}
		s.wake()
	})
	return nil
}

func (s *Source) wake() {
	select {
	case s.arrival <- struct{}{}:
	default:
	}
}

// live returns the connection, made again when it was lost.
func (s *Source) live(ctx context.Context) (*link, error) {
	for wait := reconnectFirst; ; wait = min(2*wait, reconnectMost) {
		s.mu.Lock()
		l, kept, closed := s.link, s.kept, s.closed
		s.mu.Unlock()
		if closed {
			return nil, errors.New("rabbitmq: the source is closed")
		}
		if l != nil && !l.dead() && l != kept {
			return l, nil
		}
		if l != nil {
			s.most.lost(l.conn)
			s.drop(l)
			if err := l.out.forbidden(); err != nil {
				return nil, fmt.Errorf("rabbitmq: what has to wait, and dead letters, cannot be put aside: %w", err) // it would be so each time
			}
			why := l.why()
			s.cfg.Log("rabbitmq: the connection was lost; connecting again%s", why)
			s.learn(why)
		}
		l, err := s.dial(ctx, true)
		if ctx.Err() != nil {
			if err == nil {
				l.close()
			}
			return nil, context.Cause(ctx)
		}
		if err == nil {
			s.mu.Lock()
			s.link = l
			closed, fits := s.closed, s.paused == (l.tag == "")
			s.mu.Unlock()
			if closed {
				l.close()
			} else if !fits { // a pause has begun or ended since it was made
				_ = l.conn.Close()
			}
			continue
		}
		s.cfg.Log("%v", err)
		t := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, context.Cause(ctx)
		case <-t.C:
		}
	}
}

// drop forgets a connection and what came over it; the broker delivers that again.
func (s *Source) drop(l *link) {
	l.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == l {
		s.link, s.came = nil, nil
		s.acks.drop()
		s.wentBack()
	}
}

// wentBack notes that all that is out goes back as the connection ends. It needs the lock.
func (s *Source) wentBack() {
	if len(s.spared) > mostKnown {
		maps.DeleteFunc(s.spared, func(content uint64, _ int) bool { return !s.out[content] })
	}
	for content := range s.out {
		s.spared[content]++
	}
	clear(s.out)
}

// spare notes that a message is about to go back, which is no fault of it.
func (s *Source) spare(m *amqp.Delivery) {
	content := s.acks.content(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spared[content]++
	delete(s.out, content)
}

func (l *link) dead() bool { return l.conn.IsClosed() || l.jobs.IsClosed() || l.out.dead() }

func (l *link) close() {
	_ = l.conn.Close()
	l.pumps.Wait()
}

// Fetch implements drain.Source.
func (s *Source) Fetch(ctx context.Context, n int) ([]*drain.Delivery, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		l, err := s.live(ctx)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		var got []arrived
		if s.link == l {
			got = s.came[:min(n, len(s.came)):min(n, len(s.came))]
			s.came = s.came[len(got):]
		}
		s.mu.Unlock()
		if len(got) > 0 {
			ds := make([]*drain.Delivery, len(got))
			for i := range got {
				ds[i] = s.delivery(l, &got[i])
			}
			return ds, nil
		}
		// A channel that the broker has closed tells nobody who waits only for messages.
		look := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-s.arrival:
		case <-look.C:
		}
		look.Stop()
	}
}

func (s *Source) delivery(l *link, a *arrived) *drain.Delivery {
	m := &a.msg
	d := &drain.Delivery{
		ID: m.MessageId, Body: m.Body, Where: fmt.Sprintf("%s@%d", s.cfg.Queue, m.DeliveryTag),
		Attempts:  int(number(m.Headers[headerDelivery])),
		Since:     a.at,
		HoldUntil: a.at.Add(s.hold()),
		Handle:    &handle{l, *m},
	}
	// A dead letter that somebody moved back is a new job: what was counted before is why it was dead.
	if _, dead := m.Headers[headerReason]; !dead {
		_, copied := m.Headers[headerAgain]
		a.again = a.again || copied || m.Redelivered && s.again(m) // which can be asked once
		d.Again = a.again
		d.Attempts += int(number(m.Headers[headerAttempts]))
		d.Retries = int(number(m.Headers[headerRetries]))
		if ms := number(m.Headers[headerSince]); ms > 0 {
			d.Since = time.UnixMilli(ms)
		}
	}
	if s.cfg.KeyHeader != "" {
		if v, ok := m.Headers[s.cfg.KeyHeader]; ok {
			d.Key = fmt.Sprint(v)
		}
	}
	if d.Attempts > d.Retries {
		content := s.acks.content(m)
		s.mu.Lock()
		d.Retries = min(d.Attempts, d.Retries+s.spared[content])
		s.mu.Unlock()
	}
	return d
}

func (s *Source) again(m *amqp.Delivery) bool {
	content := s.acks.content(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acks.again(content)
}

// hold returns how long a delivery is held.
func (s *Source) hold() time.Duration {
	if t := time.Duration(s.timeout.Load()); t > 0 && t < s.cfg.ConsumerTimeout {
		return t / 3
	}
	return s.cfg.ConsumerTimeout / 3
}

// learn notes the broker's consumer_timeout, which it names when it has ended a channel for it.
func (s *Source) learn(why string) {
	_, rest, ok := strings.Cut(why, "Timeout value used: ")
	if !ok {
		return
	}
	ms, _, _ := strings.Cut(rest, " ms")
	n, err := strconv.ParseInt(ms, 10, 32)
	t := max(time.Duration(n)*time.Millisecond, leastTimeout)
	if err != nil || t >= 3*s.hold() {
		return
	}
	s.timeout.Store(int64(t))
	s.cfg.Log("rabbitmq: the broker's consumer_timeout is %d ms: a delivery is held for %v from now on", n, s.hold())
}

// number reads a header that holds a number, however the client that set it wrote it; anything else is 0.
func number(v any) int64 {
	switch v := v.(type) {
	case int64:
		return max(0, v)
	case int32:
		return max(0, int64(v))
	case int16:
		return max(0, int64(v))
	case int:
		return max(0, int64(v))
	case uint8:
		return int64(v)
	}
	return 0
}

// lost is err, or drain.ErrLost besides when it is because the connection is no more.
func (h *handle) lost(err error) error {
	if err == nil {
		return nil
	}
	// A write that failed may be known here before the client has seen that its connection is gone.
	var broken *net.OpError
	if errors.As(err, &broken) {
		_ = h.link.conn.raw.Close()
		return fmt.Errorf("%w: %w", drain.ErrLost, err)
	}
	if h.link.dead() || errors.Is(err, amqp.ErrClosed) || errors.Is(err, errUnconfirmed) {
		return fmt.Errorf("%w: %w", drain.ErrLost, err)
	}
	return fmt.Errorf("rabbitmq: %w", err)
}

// Lost implements drain.Keeper: what came over a connection that is no more comes again.
func (s *Source) Lost(d *drain.Delivery) bool { return d.Handle.(*handle).link.dead() }

// Ack implements drain.Source.
func (s *Source) Ack(_ context.Context, d *drain.Delivery) error {
	return s.ack(d.Handle.(*handle))
}

func (s *Source) ack(h *handle) error {
	if err := h.link.jobs.Ack(h.msg.DeliveryTag, false); err != nil {
		return h.lost(err)
	}
	content := s.acks.content(&h.msg)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acks.note(content)
	delete(s.out, content)
	delete(s.spared, content)
	if s.link != h.link {
		s.acks.drop() // it was lost meanwhile
	}
	return nil
}

// hasCount reports whether deliveries of a message that came to nothing are known, also those that were no fault of it: the next process would not know
// that of what the broker counts.
func hasCount(d *drain.Delivery) bool {
	return d.Attempts > d.Retries || number(d.Handle.(*handle).msg.Headers[headerDelivery]) > 0
}

// Release implements drain.Source: the broker has the message back, where it was, and counts a delivery. One that was counted before goes to
// the end of the queue as a copy, which carries on what was counted: a consumer that is started again and again, with a key that the upstream
// does not accept for instance, would else make poison of jobs that it never sent. Where KeyHeader is set, order comes first: a quorum queue hands
// out what it has back in the order in which it came back, so all goes back together, when the connection ends.
func (s *Source) Release(ctx context.Context, d *drain.Delivery) error {
	h := d.Handle.(*handle)
	if s.cfg.KeyHeader != "" {
		s.mu.Lock()
		if s.link == h.link {
			s.kept = h.link
		}
		s.mu.Unlock()
		if h.link.dead() {
			return h.lost(amqp.ErrClosed)
		}
		return nil
	}
	if hasCount(d) {
		ctx, cancel := context.WithTimeout(ctx, confirmTime) // nobody waits at the end for a broker that takes no messages
		defer cancel()
		err := s.move(ctx, h, s.cfg.Queue, func(p *amqp.Publishing) { counted(p, d.Attempts+1, d.Retries+1) })
		if err == nil || errors.Is(err, drain.ErrLost) {
			return err
		}
	}
	return h.back()
}

// Retry implements drain.Source: the message waits in a queue with a time to live, rounded up to a power of two of seconds,
// and of 68 min at the most.
// A message of which no copy can be made goes back to where it was, and the broker counts a delivery.
func (s *Source) Retry(ctx context.Context, d *drain.Delivery, after time.Duration, _ string) error {
	h := d.Handle.(*handle)
	err := s.delay(ctx, h, after, func(p *amqp.Publishing) {
		counted(p, d.Attempts+1, d.Retries+1)
		p.Headers[headerSince] = d.Since.UnixMilli()
	})
	if !errors.Is(err, errTooLarge) {
		return err
	}
	if err := limiter.Sleep(ctx, min(after, leastBack)); err != nil {
		return err
	}
	return h.back()
}

// back has the broker have a message back where it was.
func (h *handle) back() error { return h.lost(h.link.jobs.Nack(h.msg.DeliveryTag, false, true)) }

// counted has a copy of a message carry on what was counted of it; the broker begins anew.
func counted(p *amqp.Publishing, attempts, retries int) {
	if _, dead := p.Headers[headerReason]; dead { // it was a dead letter before
		delete(p.Headers, headerSince)
	}
	for _, name := range letterHeaders {
		delete(p.Headers, name)
	}
	delete(p.Headers, headerAgain)
	p.Headers[headerAttempts], p.Headers[headerRetries] = int64(attempts), int64(retries)
}

// delay publishes a message for later and acknowledges it.
func (s *Source) delay(ctx context.Context, h *handle, after time.Duration, change func(*amqp.Publishing)) error {
	rung := time.Second
	for rung < after && rung < maxDelay {
		rung *= 2
	}
	queue := fmt.Sprintf("%s.retry.%d", s.cfg.Queue, int(rung.Seconds()))
	if err := s.make(ctx, h.link, queue, amqp.Table{
		"x-message-ttl": rung.Milliseconds(), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": s.cfg.Queue,
		"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
	}); err != nil {
		return h.lost(err)
	}
	return s.move(ctx, h, queue, change)
}

// make makes a queue when it is not known to be there.
func (s *Source) make(ctx context.Context, l *link, queue string, args amqp.Table) error {
	s.declaring.Lock()
	defer s.declaring.Unlock()
	s.mu.Lock()
	known := l.known[queue]
	s.mu.Unlock()
	if known {
		return nil
	}
	defer l.conn.within(ctx)()
	made, err := declare(l.conn, queue, args)
	if err != nil {
		return fmt.Errorf("the queue %s: %w", queue, err)
	}
	if made {
		s.young.note(queue)
	}
	s.mu.Lock()
	l.known[queue] = true
	s.mu.Unlock()
	return nil
}

// Dead implements drain.Source: the message goes into the queue of dead letters, with the reason in its headers. Of one that is larger than the broker takes by
// now (max_message_size, which an upgrade may make less) go the first 4 KiB.
func (s *Source) Dead(ctx context.Context, d *drain.Delivery, letter *drain.DeadLetter) error {
	h := d.Handle.(*handle)
	if err := s.make(ctx, h.link, s.cfg.deadQueue(), endless); err != nil {
		return h.lost(err)
	}
	return s.move(ctx, h, s.cfg.deadQueue(), func(p *amqp.Publishing) {
		detail := cut(letter.Detail, mostDetail)
		if s.most.tooLarge(p.Body) {
			detail += fmt.Sprintf(" (the message is too large for the broker: its first bytes are kept of %d)", len(p.Body))
			p.Body = p.Body[:min(len(p.Body), 4<<10)]
		}
		p.Headers[headerReason] = string(letter.Reason)
		p.Headers[headerDetail] = detail
		p.Headers[headerAttempts] = int64(letter.Attempts)
		p.Headers[headerStatus] = int64(letter.Status)
		p.Headers[headerRequestID] = cut(letter.RequestID, 256)
		p.Headers[headerAnswer] = cut(string(letter.Answer), mostAnswer)
		p.Headers[headerAt] = letter.At
		p.Headers[headerWhere] = d.Where
	})
}

func cut(s string, most int) string { return s[:min(len(s), most)] }

// fit takes headers out until the rest has no more than so many bytes: the answer first, then the largest of those that are not of this package. It
// returns which. A frame that is too large would cost the connection, and all that is on it, each time that it is tried.
func fit(h amqp.Table, most int) (out []string) {
	for size(h) > most {
		largest, n := "", 0
		for k, v := range h {
			if k == headerAnswer {
				largest = k
				break
			}
			if s := size(v); s > n && !strings.HasPrefix(k, "x-flyball-") {
				largest, n = k, s
			}
		}
		if largest == "" {
			return out
		}
		delete(h, largest)
		out = append(out, largest)
	}
	return out
}

// size returns how many bytes a header has at most.
func size(v any) int {
	const least = 16 // of what has a fixed length
	n := least
	switch v := v.(type) {
	case string:
		n += len(v)
	case []byte:
		n += len(v)
	case amqp.Table:
		for k, e := range v {
			n += 1 + len(k) + size(e)
		}
	case []any:
		for _, e := range v {
			n += size(e)
		}
	}
	return n
}

// errTooLarge is that a copy of a message would be larger than the broker takes by now.
var errTooLarge = errors.New("rabbitmq: the message is larger than the broker takes (max_message_size)")

// move publishes a copy of a message to a queue and then acknowledges it. One that is larger than the broker takes would cost the connection, and all that is
// on it, each time that it is tried.
func (s *Source) move(ctx context.Context, h *handle, queue string, change func(*amqp.Publishing)) error {
	m := &h.msg
	p := amqp.Publishing{
		Headers: amqp.Table{}, ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, DeliveryMode: amqp.Persistent,
		CorrelationId: m.CorrelationId, ReplyTo: m.ReplyTo, MessageId: m.MessageId, Timestamp: m.Timestamp, Type: m.Type,
		AppId: m.AppId, Priority: m.Priority, Body: m.Body,
	}
	for k, v := range m.Headers {
		switch k {
		case headerDelivery, "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason":
			// The broker's own: a message that was published is a new one to it.
		case "CC", "BCC":
			// The other queues that its sender had it go to: they have it, and the queue of jobs may be one of them.
		default:
			p.Headers[k] = v
		}
	}
	change(&p)
	if s.most.tooLarge(p.Body) {
		return errTooLarge
	}
	if frame := h.link.conn.Config.FrameSize; frame > properties { // else it has no bound
		if out := fit(p.Headers, frame-properties); len(out) > 0 {
			s.cfg.Log("rabbitmq: the headers of %s@%d are too large for one frame; without %s", s.cfg.Queue, m.DeliveryTag, strings.Join(out, ", "))
		}
	}
	if err := s.young.wait(ctx, queue); err != nil {
		return h.lost(err)
	}
	select {
	case h.link.moving <- struct{}{}:
		defer func() { <-h.link.moving }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := h.link.out.publish(ctx, queue, p); err != nil {
		s.most.learn(err, s.cfg.Log)
		if errors.Is(err, errNoQueue) { // somebody has deleted it; it is made again the next time
			s.mu.Lock()
			delete(h.link.known, queue)
			s.mu.Unlock()
		}
		return h.lost(err)
	}
	return s.ack(h)
}

// Pause implements drain.Pauser. For a pause that is longer than a delivery may be held, nothing more is consumed, and what came
// and was not fetched goes to the queues with a time to live. Where KeyHeader is set, the connection ends instead: what waits there would come
// again behind those that it was before.
func (s *Source) Pause(until time.Time) {
	left := time.Until(until)
	if left <= s.hold() {
		return
	}
	s.mu.Lock()
	l, tag := s.link, ""
	s.paused = true
	if l != nil {
		tag, l.tag = l.tag, ""
	}
	s.mu.Unlock()
	if tag == "" || l.dead() {
		return
	}
	// A run that is to end waits for this, and the broker may not read for hours.
	done := l.conn.hurry(confirmTime)
	came, err := s.rest(l, tag)
	done()
	if err == nil && s.cfg.KeyHeader != "" {
		_ = l.conn.Close() // all goes back in its order, what was fetched, too
	}
	if err != nil || s.cfg.KeyHeader != "" {
		return // the connection is lost, and is made again without a consumer
	}
	s.handBack(context.Background(), l, came, left, "before a pause") // what is left stays out, and comes again with the next connection
}

// handBack puts what was not fetched into the queues with a time to live, until ctx ends or that fails, and returns what is left.
func (s *Source) handBack(ctx context.Context, l *link, came []arrived, after time.Duration, when string) (left []arrived) {
	for i := range came {
		if ctx.Err() != nil {
			return came[i:]
		}
		d := s.delivery(l, &came[i])
		h := d.Handle.(*handle)
		// The one that is on its way when ctx ends is not left half done: it would be there twice.
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*confirmTime)
		err := s.delay(one, h, after, func(p *amqp.Publishing) {
			counted(p, d.Attempts, d.Retries)
			if d.Again {
				p.Headers[headerAgain] = true
			}
		})
		cancel()
		if errors.Is(err, errTooLarge) {
			s.spare(&h.msg)
			err = h.back()
		}
		if err != nil {
			s.cfg.Log("rabbitmq: handing back %s: %v", when, err)
			return came[i:]
		}
	}
	return nil
}

// overdue hands back what was not fetched for as long as a delivery is held, until ctx ends: with more of them than are worked on in that time, the
// broker would end the channel again and again, and count a delivery of each. Where KeyHeader is set, order comes first.
func (s *Source) overdue(ctx context.Context, l *link) {
	for s.cfg.KeyHeader == "" && limiter.Sleep(ctx, s.hold()/4) == nil {
		s.mu.Lock()
		n := 0
		for s.link == l && n < len(s.came) && time.Since(s.came[n].at) > s.hold() {
			n++
		}
		old := s.came[:n:n]
		s.came = s.came[n:]
		s.mu.Unlock()
		left := s.handBack(ctx, l, old, time.Second, "what was held for long")
		s.mu.Lock()
		if s.link == l || s.closed { // else drop has forgotten them
			s.came = append(left, s.came...)
		}
		s.mu.Unlock()
		s.wake()
	}
}

// rest ends a consumer, and returns what came and was not fetched.
func (s *Source) rest(l *link, tag string) (came []arrived, err error) {
	if err := l.jobs.Cancel(tag, false); err != nil {
		return nil, err
	}
	l.pumps.Wait() // everything that was sent has come
	s.mu.Lock()
	defer s.mu.Unlock()
	came, s.came = s.came, nil
	return came, nil
}

// Resume implements drain.Pauser.
func (s *Source) Resume() {
	s.mu.Lock()
	l := s.link
	was := s.paused
	s.paused = false
	s.mu.Unlock()
	if !was || l == nil || l.dead() {
		return
	}
	defer l.conn.hurry(confirmTime)()
	if err := s.consume(l); err != nil {
		s.cfg.Log("rabbitmq: consuming again: %v", err)
		_ = l.conn.Close() // Fetch makes it again
	}
}

// release hands back what came, was counted before and was not fetched; the rest is the broker's when the connection has ended. To end the
// consumer first is also what has the broker write down the acknowledgements that it keeps back (see mostMoving). Where a pause has ended it
// before, there is one more, of one message at the most, to be ended.
func (s *Source) release(l *link, tag string) {
	done := l.conn.hurry(closeTime)
	var err error
	if tag == "" {
		if err = l.jobs.Qos(1, 0, false); err == nil {
			err = s.consume(l)
		}
		tag = l.tag
	}
	var came []arrived
	if err == nil {
		came, err = s.rest(l, tag)
	}
	done()
	if err != nil {
		return
	}
	var all sync.WaitGroup
	for i := range came {
		if d := s.delivery(l, &came[i]); hasCount(d) && s.cfg.KeyHeader == "" {
			all.Go(func() { _ = s.Release(context.Background(), d) }) // it stays out, if anything, and comes again
		}
	}
	all.Wait()
}

// Close ends the consumer. The broker has back what was not settled.
func (s *Source) Close() error {
	s.mu.Lock()
	l, tag := s.link, ""
	s.closed, s.link = true, nil
	if l != nil {
		tag = l.tag
	}
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	if !l.dead() {
		s.release(l, tag)
	}
	err := l.conn.Close()
	l.pumps.Wait()
	if errors.Is(err, amqp.ErrClosed) {
		return nil
	}
	return err
}
