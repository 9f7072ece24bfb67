package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/limiter"
)

// errUnconfirmed is that the broker did not say that it has a message.
var errUnconfirmed = errors.New("the broker did not confirm a message")

// errNoQueue is that the broker has no queue for a message.
var errNoQueue = errors.New("there is no such queue")

// errStuck is errUnconfirmed in time.
var errStuck = fmt.Errorf("%w within %v; if that goes on and the broker's log says \"leader not known\", the queue was made just before the broker was killed: delete it", errUnconfirmed, confirmTime)

// confirmTime is how long a broker may take to confirm a message. A channel that waits for a quorum queue without a leader (see registerTime)
// does nothing else any more.
const confirmTime = 5 * time.Second

// publisher publishes to queues, and returns once the broker has a message safely. It may be used by any number of goroutines.
type publisher struct {
	conn  *connection
	ch    *amqp.Channel
	stuck atomic.Bool // the broker does not confirm; the connection is of no use any more

	turn chan struct{} // has a token of who writes a message
	seq  int64         // of the last message; whoever has the turn may touch it

	mu       sync.Mutex
	returned map[int64]string // messages for which there was no queue
	returns  chan amqp.Return
	end      *amqp.Error // why the broker has ended the channel, as far as it was looked for
	ends     chan *amqp.Error
}

func newPublisher(conn *connection) (*publisher, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, err
	}
	p := &publisher{conn: conn, ch: ch, turn: make(chan struct{}, 1), returned: map[int64]string{}}
	p.returns = ch.NotifyReturn(make(chan amqp.Return, 1<<12))
	p.ends = ch.NotifyClose(make(chan *amqp.Error, 1))
	return p, nil
}

// ended returns why the broker has ended the channel; nil when it did not say so. It needs the lock.
func (p *publisher) ended() *amqp.Error {
	select {
	case e := <-p.ends:
		if e != nil {
			p.end = e
		}
	default:
	}
	return p.end
}

// forbidden returns the broker's word when the user may not publish.
func (p *publisher) forbidden() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.ended(); e != nil && e.Code == amqp.AccessRefused {
		return e
	}
	return nil
}

// dead reports whether nothing can be published any more.
func (p *publisher) dead() bool { return p.stuck.Load() || p.ch.IsClosed() }

// write writes a message and returns its number.
func (p *publisher) write(ctx context.Context, queue string, m amqp.Publishing) (seq int64, c *amqp.DeferredConfirmation, err error) {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return 0, nil, context.Cause(ctx)
	}
	defer p.conn.within(ctx)()
	p.seq++
	m.Headers[headerSeq] = p.seq
	// Confirmations are numbered in the order of publishing.
	c, err = p.ch.PublishWithDeferredConfirmWithContext(ctx, "", queue, true, false, m)
	return p.seq, c, err
}

// publish publishes a message to a queue.
func (p *publisher) publish(ctx context.Context, queue string, m amqp.Publishing) error {
	if err := p.conn.taken(); err != nil {
		return err // what is written now may be confirmed much later, when nobody waits for it: one more copy for each try
	}
	seq, c, err := p.write(ctx, queue, m)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, confirmTime)
	defer cancel()
	ok, err := c.WaitContext(wait)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.conn.taken(); err != nil {
			// A connection of its own would be blocked as well. The message may still be confirmed, so whoever tries again may publish it twice.
			return err
		}
		if !p.stuck.Swap(true) {
			go func() { _ = p.conn.Close() }() // ends within closeTime, whatever the broker does
		}
		return errStuck
	}
	// The broker returns a message before it confirms it, so whoever waits for the confirmation finds it here.
	p.mu.Lock()
	defer p.mu.Unlock()
	for more := true; more; {
		select {
		case r, open := <-p.returns:
			if more = open; open {
				p.returned[number(r.Headers[headerSeq])] = r.ReplyText
			}
		default:
			more = false
		}
	}
	why, back := p.returned[seq]
	delete(p.returned, seq)
	switch {
	case back:
		return fmt.Errorf("the queue %s: %w: %s", queue, errNoQueue, why)
	case !ok && p.ch.IsClosed():
		if e := p.ended(); e != nil {
			return fmt.Errorf("%w: %w", errUnconfirmed, e)
		}
		return errUnconfirmed
	case !ok:
		return fmt.Errorf("the broker refused a message for the queue %s; is it full?", queue)
	}
	return nil
}

// most is how large a message may be, in bytes, as far as the broker has said so; 0 when it has not. The broker ends a channel for a message that is larger,
// also for those on it that would have fit.
type most struct{ n atomic.Int64 }

func (m *most) tooLarge(body []byte) bool {
	n := m.n.Load()
	return n > 0 && int64(len(body)) > n
}

// lost forgets what is known when a connection was lost, and not a channel of it alone, as for a message that is too large: the broker may have been started
// again, and take more.
func (m *most) lost(conn *connection) {
	if conn.IsClosed() {
		m.n.Store(0)
	}
}

// learn notes what the broker says as it ends a channel, and reports whether that was about a message that is too large.
func (m *most) learn(err error, log func(string, ...any)) bool {
	var e *amqp.Error
	if !errors.As(err, &e) || e.Code != amqp.PreconditionFailed || !strings.Contains(e.Reason, "message size ") {
		return false
	}
	_, size, _ := strings.Cut(e.Reason, " max size ")
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || n <= 0 {
		return false
	}
	if m.n.Swap(n) != n {
		log("rabbitmq: the broker takes messages of %d bytes at most (max_message_size)", n)
	}
	return true
}

// ReplyConfig is what Replies are made from. URL and Queue must be set.
type ReplyConfig struct {
	// URL is the broker, as in Config.
	URL string
	// Queue gets the results. It is made when it is not there, as a quorum queue.
	Queue string
	// Dial connects; nil means TCP with a time-out of 10 s. The handshake may take as long again.
	Dial func(network, address string) (net.Conn, error)
	// Log is told when the broker takes no messages, and when it does again. nil tells nobody.
	Log func(format string, args ...any)
}

// Replies is a drain.Sink: each result is a message, the line that a file of results would have, with the job's id as its
// correlation id and message id. In the place of one that is larger than the broker takes (max_message_size) is a line without an answer, whose error
// has the code answer_too_large. Make it with OpenReplies.
type Replies struct {
	cfg   ReplyConfig
	young young
	most  most

	mu     sync.Mutex
	conn   *connection
	out    *publisher
	closed bool
}

// OpenReplies connects, and makes the queue when it is not there.
func OpenReplies(cfg ReplyConfig) (*Replies, error) {
	if cfg.Queue == "" {
		return nil, errors.New("rabbitmq: ReplyConfig.Queue is empty")
	}
	if err := checkURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("rabbitmq: ReplyConfig.URL: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	r := &Replies{cfg: cfg}
	_, err := r.live(context.Background())
	if err != nil {
		return nil, err
	}
	return r, nil
}

// live returns a publisher, over a new connection when the old one was lost.
func (r *Replies) live(ctx context.Context) (*publisher, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("rabbitmq: the sink is closed")
	}
	if r.conn != nil && !r.conn.IsClosed() && !r.out.dead() {
		return r.out, nil
	}
	again := r.out != nil
	if r.conn != nil {
		r.most.lost(r.conn)
		_ = r.conn.Close()
		r.conn = nil
	}
	conn, err := connect(ctx, r.cfg.URL, r.cfg.Dial, r.cfg.Log)
	if err != nil {
		return nil, err
	}
	defer conn.within(ctx)()
	if again && limiter.Sleep(ctx, bootTime) != nil {
		_ = conn.Close()
		return nil, context.Cause(ctx)
	}
	err = r.make(conn)
	if err == nil {
		r.out, err = newPublisher(conn)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("rabbitmq: the queue %s: %w", r.cfg.Queue, err)
	}
	r.conn = conn
	return r.out, nil
}

// make makes the queue when it is not there.
func (r *Replies) make(conn *connection) error {
	made, err := declare(conn, r.cfg.Queue, endless)
	if made {
		r.young.note(r.cfg.Queue)
	}
	return err
}

// Put implements drain.Sink. An error may be passing: the next call connects again.
func (r *Replies) Put(ctx context.Context, res *drain.Result) error {
	if _, err := r.live(ctx); err != nil { // first, as a broker that was started again may take more
		return err
	}
	line := res.AppendJSON(nil)
	if r.most.tooLarge(line) {
		return r.put(ctx, res.ID, res.AppendTooLarge(nil, "the queue "+r.cfg.Queue))
	}
	err := r.put(ctx, res.ID, line)
	if r.most.learn(err, r.cfg.Log) && r.most.tooLarge(line) {
		return r.Put(ctx, res)
	}
	return err
}

func (r *Replies) put(ctx context.Context, id string, line []byte) error {
	out, err := r.live(ctx)
	if err != nil {
		return err
	}
	if err := r.young.wait(ctx, r.cfg.Queue); err != nil {
		return err
	}
	err = out.publish(ctx, r.cfg.Queue, amqp.Publishing{
		Headers: amqp.Table{}, ContentType: "application/json", DeliveryMode: amqp.Persistent,
		CorrelationId: shortString(id), MessageId: shortString(id), Body: line,
	})
	if errors.Is(err, errNoQueue) { // somebody has deleted it
		err = errors.Join(err, r.again(ctx, out))
	}
	if err != nil {
		return fmt.Errorf("rabbitmq: %w", err)
	}
	return nil
}

// again makes the queue again, over the connection of a publisher that has not found it.
func (r *Replies) again(ctx context.Context, out *publisher) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out != out || r.conn == nil || r.closed { // the next message connects again, or has done so
		return nil
	}
	defer r.conn.within(ctx)()
	return r.make(r.conn)
}

// shortString is s when it fits into a property, which has 255 bytes at most.
func shortString(s string) string {
	if len(s) > 255 {
		return ""
	}
	return s
}

// Close ends the connection.
func (r *Replies) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.conn == nil || r.conn.IsClosed() {
		return nil
	}
	return r.conn.Close()
}
