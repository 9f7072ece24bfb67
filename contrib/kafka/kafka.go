// Package kafka drains a Kafka topic: a drain.Source, and a drain.Sink for a topic of replies.
//
//	src, err := kafka.Open(kafka.Config{Brokers: []string{"localhost:9092"}, Topic: "requests", Group: "drain"})
//	...
//	r, err := drain.New(drain.Config{Source: src, ...})
//
// # How it uses Kafka
//
// Jobs are done in any order, and what is committed is how far a partition is done without a gap, so that a crash repeats jobs
// (which the Store knows) and never skips one. What is done behind a gap is in the metadata of the commit, and passed by. A partition whose first job keeps the others from being committed is paused once
// Config.MaxGap records are behind it. So are those of a topic of which jobs with 64 MiB wait here for their time.
//
// A job that has to wait longer than it may be held goes to the topic of retries, with the time before which it is not to be sent, and
// a dead letter to the topic of dead letters with the reason in its headers; both are on the brokers before the record that they
// replace counts as done. The two topics are made when they are not there, with as many replicas as that of jobs has, and take
// records as large as that does. A job that is too large for the topic of retries waits here.
//
// While the guard is paused, so is fetching, by topic and not by partition: partitions that come with a rebalance meanwhile are paused,
// too, and all of them go on when the pause ends. When partitions are taken away, jobs of theirs that are in flight have
// Config.RevokeWait to end, and what is done is committed before they go. Settling a delivery of a partition that is gone is
// drain.ErrLost.
//
// Kafka does not count deliveries, so drain.Delivery.Attempts counts retries only.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/limiter"
)

// Config is what a Source is made from. Brokers, Topic and Group must be set.
type Config struct {
	// Brokers are some of the brokers, "host:port".
	Brokers []string
	// Topic is the topic of jobs. It must be there.
	Topic string
	// Group is the consumer group.
	Group string
	// Retry and Dead are the topics of retries and of dead letters. Empty means Topic + ".retry" and Topic + ".dead".
	Retry, Dead string
	// MaxGap is how many records of a partition may be fetched and not committed (16 to 1,000,000). Zero means 10,000. Smaller
	// repeats less after a crash; a slow job then stops its partition sooner.
	MaxGap int
	// RevokeWait is how long jobs in flight may take to end when their partition is taken away (0 to 10 min). Zero means 15 s; a
	// negative value means not at all. It must be shorter than the group's rebalance timeout, which is 60 s.
	RevokeWait time.Duration
	// Options are for the client besides: TLS, SASL, timeouts. They come last.
	Options []kgo.Opt
	// Log is told of what goes wrong and is tried again; nil means that nobody is.
	Log func(format string, args ...any)
}

const (
	headerAttempts  = "x-flyball-attempts"
	headerSince     = "x-flyball-since"      // ms since 1970
	headerNotBefore = "x-flyball-not-before" // ms since 1970
	headerID        = "x-flyball-id"
	headerReason    = "x-flyball-reason"
	headerDetail    = "x-flyball-detail"
	headerStatus    = "x-flyball-status"
	headerRequestID = "x-flyball-request-id"
	headerAnswer    = "x-flyball-answer"
	headerAt        = "x-flyball-at"
	headerWhere     = "x-flyball-where"

	commitEvery = time.Second
	// commitLate is after how long without a commit of the client what is done is committed here.
	commitLate  = 3 * time.Second
	fetchWait   = time.Second
	maxBatch    = 1 << 20  // the brokers' default; topics may take more
	mostBatch   = 64 << 20 // of a topic of which it is not known
	configSize  = "max.message.bytes"
	configClean = "cleanup.policy"
	configISR   = "min.insync.replicas"
	// sizeTime is how long brokers may take to say how large records may be, or whether a topic is there.
	sizeTime = 5 * time.Second
	// openTime is how long brokers may take until it is known whether the topics are there.
	openTime = 30 * time.Second
	// produceTime is how long brokers may take to take a record.
	produceTime = 30 * time.Second
	// closeTime is how long brokers may take to take note of the end, and leaveTime how long before what is done is committed without leaving.
	closeTime = 10 * time.Second
	leaveTime = time.Second
	// goneTime is how long a broker may not know a topic before the brokers are asked whether it was deleted, and quietTime after how long without a
	// word of that it knows it.
	goneTime  = 20 * time.Second
	quietTime = 5 * time.Second
	// mostLater is how many bytes of jobs of a topic may wait here for their time before its partitions are paused.
	mostLater = 64 << 20
	// failLine is how often it is told that a partition cannot be fetched or a broker not be reached. failTime is how long a partition may have no
	// leader, say, before that is told, and failGap for how long nobody may hear of it meanwhile.
	failLine = time.Minute
	failTime = 10 * time.Second
	failGap  = 20 * time.Second
)

// letterHeaders are those that only dead letters have.
var letterHeaders = [...]string{headerDetail, headerStatus, headerRequestID, headerAnswer, headerAt, headerWhere}

func (c Config) check() (Config, error) {
	if c.Retry == "" {
		c.Retry = c.Topic + ".retry"
	}
	if c.Dead == "" {
		c.Dead = c.Topic + ".dead"
	}
	if c.MaxGap == 0 {
		c.MaxGap = 10_000
	}
	if c.RevokeWait == 0 {
		c.RevokeWait = 15 * time.Second
	}
	if c.Log == nil {
		c.Log = func(string, ...any) {}
	}
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("kafka: Config.%s is %v, must be %s", field, value, allowed))
	}
	if len(c.Brokers) == 0 {
		bad("Brokers", "empty", "one or more of host:port")
	}
	if c.Topic == "" {
		bad("Topic", "empty", "set")
	}
	if c.Group == "" {
		bad("Group", "empty", "set")
	}
	if c.Retry == c.Topic || c.Dead == c.Topic || c.Retry == c.Dead {
		bad("Retry and Dead", c.Retry+" and "+c.Dead, "two topics other than Topic")
	}
	if c.MaxGap < 16 || c.MaxGap > 1_000_000 {
		bad("MaxGap", c.MaxGap, "0 (default) or 16 to 1000000 records")
	}
	if c.RevokeWait > 10*time.Minute {
		bad("RevokeWait", c.RevokeWait, "at most 10m")
	}
	return c, errors.Join(errs...)
}

// Source is a drain.Source. Make it with Open.
type Source struct {
	cfg    Config
	client *kgo.Client
	out    producer

	running atomic.Bool // it was opened

	mu      sync.Mutex
	parts   map[place]*partition
	ahead   map[place]int64      // all offsets before it were handed out, also of partitions that are gone, or are in later
	before  map[place]passed     // what was done of partitions before they came
	leaving map[place]*partition // taken away, and not committed yet
	bare    bool                 // the brokers take no metadata that say what is done
	later   []*drain.Delivery    // not yet due, of the topic of retries or too large for it; by time
	waiting map[string]int       // the bytes of those in later, by topic
	wake    context.CancelFunc   // of the last poll; later has changed
	missing map[string]span      // topics that a broker does not know now
	faults  map[place]fault      // of partitions that could not be fetched
	closed  bool
	failing bool          // the last commit failed
	commits int           // of the client, that ended somehow
	settled chan struct{} // closed and made anew when a delivery is settled while a revocation waits

	ids      map[string][16]byte // of topics at the start; none with brokers that have none
	goneTime time.Duration
	failTime time.Duration
	most     int // mostLater

	end   context.CancelFunc // of others
	other sync.WaitGroup     // goroutines that Close waits for
}

// place is a partition's name.
type place struct {
	topic string
	n     int32
}

// partition is one that this member of the group has.
type partition struct {
	place
	going bool // to be taken away: what is in flight may end, and nothing more starts
	gone  bool // taken away
	gap   bool // paused because of the gap
	full  bool // paused because of what waits of its topic
	// out are the records that were fetched and are not committed, by offset; done says which of them are settled.
	out  []*slot
	busy int // begun and not settled, also of those that are not in out any more
	// stuck was the first of out the last time that it was committed what is done behind it, and said is its offset and what was said of that.
	stuck *slot
	said  string
}

type slot struct {
	offset int64
	epoch  int32
	done   bool
}

// span is from the first to the last time that something was so.
type span struct{ first, last time.Time }

// fault is for how long a partition cannot be fetched, and when that was told.
type fault struct {
	span
	told time.Time
}

// handle is what a delivery is settled with.
type handle struct {
	part      *partition
	slot      *slot
	record    *kgo.Record
	notBefore time.Time
	begun     bool // it may be in flight, or is being moved
}

// begin is for a delivery that a revocation is to wait for. It needs the lock.
func (h *handle) begin() {
	if !h.begun {
		h.begun = true
		h.part.busy++
	}
}

// end is for a delivery that is settled or waits here. It needs the lock.
func (h *handle) end() {
	if h.begun {
		h.begun = false
		h.part.busy--
	}
}

// Open connects, sees to the topics, and joins the group.
func Open(cfg Config) (*Source, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, parts: map[place]*partition{}, ahead: map[place]int64{}, before: map[place]passed{}, waiting: map[string]int{}, missing: map[string]span{}, faults: map[place]fault{}, ids: map[string][16]byte{}, goneTime: goneTime, failTime: failTime, most: mostLater}
	others, err := dialing(append([]kgo.Opt{kgo.ConsumerGroup(cfg.Group)}, cfg.Options...), &s.running)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	s.client, err = kgo.NewClient(append([]kgo.Opt{
		kgo.WithContext(s.checked(context.Background())),
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ConsumeTopics(cfg.Topic, cfg.Retry),
		kgo.Balancers(newLevel()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // what a producer took back is no job
		kgo.KeepControlRecords(),                     // so that what is committed goes beyond the ends of transactions, too
		// A partition that is taken up again joins the next fetch, so that one must not be far away.
		kgo.FetchMaxWait(fetchWait),
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(commitEvery),
		kgo.AutoCommitCallback(s.committed),
		// Between the client's handing out of records and their being known here, no partition may go: it would seem to be held
		// afterwards, and come back with what was in flight before.
		kgo.BlockRebalanceOnPoll(),
		kgo.OnOffsetsFetched(s.fetched),
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
		kgo.KeepRetryableFetchErrors(),
	}, s.out.producing(others)...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	s.out.client = s.client
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	if err := s.topics(ctx); err != nil {
		s.client.Close()
		return nil, err
	}
	s.out.tell(cfg.Log)
	s.running.Store(true)
	life, end := context.WithCancel(context.Background())
	s.end = end
	s.other.Go(func() { s.commitMeanwhile(life) })
	s.other.Go(func() { s.watchStuck(life) })
	s.other.Go(func() { s.watchTransactions(life) })
	return s, nil
}

// commitMeanwhile commits what is done while the client does not: not while the group is being rebalanced, which takes as long as the session's time-out
// after a member was killed. Whoever is killed then, too, would have all of that time done again.
func (s *Source) commitMeanwhile(ctx context.Context) {
	tick := time.NewTicker(commitLate)
	defer tick.Stop()
	for last := -1; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		n := s.commits
		s.mu.Unlock()
		if n == last {
			_ = s.commit(ctx) // the client tells what is wrong
		}
		last = n
	}
}

// producing returns the options of a client that produces, and then others.
func (p *producer) producing(others []kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{
		kgo.ProducerBatchMaxBytesFn(p.size),
		kgo.AllowIdempotentProduceCancellation(), // a record may be there twice, but nobody waits for ever for brokers that are gone
		kgo.WithHooks(p),
	}, others...)
}

// metadata asks which topics there are.
func metadata(topics ...string) *kmsg.MetadataRequest {
	meta := kmsg.NewPtrMetadataRequest()
	for _, t := range topics {
		mt := kmsg.NewMetadataRequestTopic()
		mt.Topic = kmsg.StringPtr(t)
		meta.Topics = append(meta.Topics, mt)
	}
	return meta
}

// topics makes the topics of retries and of dead letters, like that of jobs, when they are not there.
func (s *Source) topics(ctx context.Context) error {
	meta := metadata(s.cfg.Topic, s.cfg.Retry, s.cfg.Dead)
	meta.IncludeTopicAuthorizedOperations = true
	got, err := meta.RequestWith(ctx, s.client)
	if err != nil {
		return fmt.Errorf("kafka: asking for the topics: %w", s.out.because(err))
	}
	note := func(topic string, id [16]byte) {
		if id != [16]byte{} {
			s.ids[topic] = id
		}
	}
	parts, replicas := map[string]int32{}, int16(-1)
	for _, t := range got.Topics {
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case err == nil:
			parts[*t.Topic] = int32(len(t.Partitions))
			if *t.Topic == s.cfg.Topic && len(t.Partitions) > 0 {
				replicas = int16(len(t.Partitions[0].Replicas))
			}
			var err error
			if *t.Topic != s.cfg.Dead {
				err = may(&t, kmsg.ACLOperationRead, "consume", "Read")
			}
			if err == nil && *t.Topic != s.cfg.Topic {
				err = may(&t, kmsg.ACLOperationWrite, "produce to", "Write")
			}
			if err != nil {
				return err
			}
			note(*t.Topic, t.TopicID)
		case !errors.Is(err, kerr.UnknownTopicOrPartition):
			return fmt.Errorf("kafka: the topic %s: %w", *t.Topic, err)
		}
	}
	if parts[s.cfg.Topic] == 0 {
		return fmt.Errorf("kafka: there is no topic %s", s.cfg.Topic)
	}
	own, err := s.out.ask(ctx, s.cfg.Topic, s.cfg.Retry, s.cfg.Dead)
	if err != nil {
		s.cfg.Log("kafka: asking how large records may be: %v", err)
	}
	for _, name := range []string{s.cfg.Retry, s.cfg.Dead} {
		if own[name].compacted {
			return fmt.Errorf("kafka: the topic %s is compacted, and would keep the last job of each key only: set its %s to delete", name, configClean)
		}
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	for _, name := range []string{s.cfg.Retry, s.cfg.Dead} {
		if parts[name] == 0 {
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = name, parts[s.cfg.Topic], replicas // the brokers' default is one
			set := func(name, value string) {
				c := kmsg.NewCreateTopicsRequestTopicConfig()
				c.Name, c.Value = name, &value
				t.Configs = append(t.Configs, c)
			}
			set(configClean, "delete")
			for name, value := range own[s.cfg.Topic].same {
				set(name, value)
			}
			s.out.like(name, s.cfg.Topic) // what the one takes by the brokers' default, the other does, too
			create.Topics = append(create.Topics, t)
		}
	}
	if len(create.Topics) == 0 {
		return nil
	}
	made, err := create.RequestWith(ctx, s.client)
	if err != nil {
		return fmt.Errorf("kafka: making topics: %w", err)
	}
	for _, t := range made.Topics {
		note(t.Topic, t.TopicID)
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("kafka: making the topic %s: %w; make it by hand", t.Topic, err)
		}
	}
	return nil
}

// may returns an error when the brokers say that something may not be done with a topic. Otherwise that would show when a job has been paid for whose
// result or dead letter is to go there, and again in each run.
func may(t *kmsg.MetadataResponseTopic, op kmsg.ACLOperation, do, name string) error {
	allowed := func(op kmsg.ACLOperation) bool { return t.AuthorizedOperations&(1<<op) != 0 }
	// Who may not describe it would not hear of it: then nothing is known of what is allowed.
	if allowed(kmsg.ACLOperationDescribe) && !allowed(op) {
		return fmt.Errorf("kafka: the ACLs do not allow to %s the topic %s: allow the operation %s", do, *t.Topic, name)
	}
	return nil
}

// Fetch implements drain.Source.
func (s *Source) Fetch(ctx context.Context, n int) ([]*drain.Delivery, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		poll, cancel := context.WithCancel(ctx)
		due, next := s.due(n, cancel)
		if len(due) > 0 {
			cancel()
			return due, nil
		}
		at := cancel
		if !next.IsZero() {
			poll, at = context.WithDeadline(poll, next)
		}
		fetches := s.client.PollRecords(poll, n)
		at()
		cancel()
		if fetches.IsClientClosed() {
			return nil, errors.New("kafka: the source is closed")
		}
		var fatal, unknown error
		var gone string
		failed := false
		fetches.EachError(func(topic string, n int32, err error) {
			var e *kerr.Error
			switch {
			case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			case putOut(err):
				s.cfg.Log("kafka: the group %s has gone on without this member, which joins again: %v", s.cfg.Group, err)
			case errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.UnknownTopicOrPartition):
				failed = true
				if s.unknown(topic) {
					gone, unknown = topic, err
				}
				s.failed(place{topic, -1}, err)
			case errors.As(err, &e) && !e.Retriable && e != kerr.UnknownServerError && fatal == nil: // which says nothing, and passes
				fatal = fmt.Errorf("kafka: %v: %w", place{topic, n}, err)
			default: // the client tries again, at once
				failed = true
				s.failed(place{topic, n}, err)
			}
		})
		var ds []*drain.Delivery
		none := map[place]bool{}
		var moved []string
		s.mu.Lock()
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if m := s.moved(&p); m != "" {
				moved = append(moved, m)
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			if d := s.delivery(r); d != nil {
				ds = append(ds, d)
			} else if r.Value == nil && !r.Attrs.IsControl() {
				none[place{r.Topic, r.Partition}] = true
			}
		})
		s.mu.Unlock()
		s.client.AllowRebalance()
		for at := range none {
			s.failed(at, errNoValue)
		}
		for _, m := range moved {
			s.cfg.Log("kafka: %s", m)
		}
		if len(ds) > 0 {
			return ds, nil
		}
		if fatal == nil && gone != "" {
			fatal = s.deleted(ctx, gone, unknown)
		}
		if fatal != nil {
			return nil, fatal
		}
		if failed {
			_ = limiter.Sleep(ctx, fetchWait)
		}
	}
}

// moved returns what is to be told of a partition that does not go on where it was: of records that the brokers have deleted before they were fetched, as
// after a pause that was longer than they are kept, or of a log that ends before what the group has committed. The client goes on with the first that
// is there. It is called before these are handed out, and needs the lock.
func (s *Source) moved(p *kgo.FetchTopicPartition) string {
	at := place{p.Topic, p.FetchPartition.Partition}
	next, known := s.ahead[at]
	if len(p.Records) == 0 || known && p.LogStartOffset <= next {
		return ""
	}
	committed := s.client.CommittedOffsets()[at.topic][at.n].Offset
	if first := p.Records[0].Offset; !known && first < committed {
		return fmt.Sprintf("%s: the group %s has committed up to %d, and the log ends before that, as one that lost its end or was restored: what is there comes again, from %d on", at, s.cfg.Group, committed, first)
	}
	next = max(next, committed)                // another one may have had it meanwhile
	if next <= 0 || p.LogStartOffset <= next { // a group that is new expects nothing
		return ""
	}
	return fmt.Sprintf("%s: the records from %d to %d were deleted before they were fetched, as the topic keeps them no longer: those that were not done are lost", at, next, p.LogStartOffset-1)
}

// failed tells that a partition cannot be fetched, each failLine while it stays so. What may pass by itself, as another broker takes the partition
// over, is told only when it does not; why may change from one time to the next, as brokers know more or less of it.
func (s *Source) failed(at place, err error) {
	now := time.Now()
	s.mu.Lock()
	f := s.faults[at]
	if now.Sub(f.last) > failGap {
		f.first = now
	}
	f.last = now
	tell := now.Sub(f.told) >= failLine && (!kerr.IsRetriable(err) || now.Sub(f.first) >= s.failTime)
	if tell {
		f.told = now
	}
	s.faults[at] = f
	s.mu.Unlock()
	if tell {
		s.cfg.Log("kafka: %s: %v", at, err)
	}
}

// String names a partition, a topic without one, or the group.
func (p place) String() string {
	switch {
	case p.topic == "":
		return "the group"
	case p.n < 0:
		return p.topic
	}
	return fmt.Sprintf("%s/%d", p.topic, p.n)
}

// unknown notes that a broker does not know a topic, and reports whether that was so for so long that it may have been deleted.
func (s *Source) unknown(topic string) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.missing[topic]
	if !ok || now.Sub(m.last) > quietTime {
		m.first = now
	}
	m.last = now
	s.missing[topic] = m
	return now.Sub(m.first) >= s.goneTime
}

// deleted returns err as what ends the run when a topic was deleted, and nil when it is there, as one broker that lags behind may not know it. The
// client waits for one that was deleted for ever, also when there is another one of its name, whose offsets are others.
func (s *Source) deleted(ctx context.Context, topic string, err error) error {
	asking, cancel := context.WithTimeout(ctx, sizeTime)
	defer cancel()
	got, aerr := metadata(topic).RequestWith(asking, s.client)
	if aerr == nil && len(got.Topics) == 1 {
		aerr = kerr.ErrorForCode(got.Topics[0].ErrorCode)
		if errors.Is(aerr, kerr.UnknownTopicOrPartition) || s.replaced(&got.Topics[0]) {
			return fmt.Errorf("kafka: the topic %s %w: open it anew: %w", topic, errDeleted, err)
		}
	}
	s.mu.Lock()
	delete(s.missing, topic) // asked again after as long
	s.mu.Unlock()
	if aerr != nil {
		s.cfg.Log("kafka: asking whether the topic %s was deleted: %v", topic, aerr)
	} else {
		s.cfg.Log("kafka: the topic %s is there, and a broker does not know it", topic)
	}
	return nil
}

var errDeleted = errors.New("was deleted, and perhaps made again")

// replaced reports whether brokers have another topic of a name than at the start. Those that are older than others, in the midst of an upgrade, may know no ids.
func (s *Source) replaced(t *kmsg.MetadataResponseTopic) bool {
	if t.Topic == nil || t.TopicID == [16]byte{} {
		return false
	}
	id, known := s.ids[*t.Topic]
	return known && t.TopicID != id
}

// checked returns a context whose commits are checked.
func (s *Source) checked(ctx context.Context) context.Context {
	return kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error { return s.check(ctx, req) })
}

// check takes out of a commit the topics that were deleted and made again. Brokers before 4.1 know a topic by its name there: the next run would begin where
// this one was with the old one, and never see the jobs before that. The client may not hear of it for minutes. A topic that is not there stays in: who has
// the offsets knows that best, and another broker may just have begun.
func (s *Source) check(ctx context.Context, req *kmsg.OffsetCommitRequest) error {
	ctx, cancel := context.WithTimeout(ctx, sizeTime)
	defer cancel()
	var names []string
	for _, t := range req.Topics {
		if _, known := s.ids[t.Topic]; known {
			names = append(names, t.Topic)
		}
	}
	if len(names) == 0 { // brokers before 2.8 have no ids
		return nil
	}
	got, err := metadata(names...).RequestWith(ctx, s.client)
	if err != nil {
		return fmt.Errorf("asking whether the topics are there: %w", err)
	}
	for i := range got.Topics {
		t := &got.Topics[i]
		if !s.replaced(t) {
			continue
		}
		s.failed(place{*t.Topic, -1}, errDeleted)
		req.Topics = slices.DeleteFunc(req.Topics, func(c kmsg.OffsetCommitRequestTopic) bool { return c.Topic == *t.Topic })
	}
	s.annotate(req)
	return nil
}

// putOut reports whether an error says that the brokers no longer count on this member, as after a silence that was longer than the session's
// time-out. The client joins again by itself, and what it had was lost.
func putOut(err error) bool {
	return errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.RebalanceInProgress)
}

// due returns deliveries whose time has come, and when the next one is due; wake ends the wait for others when that changes.
func (s *Source) due(n int, wake context.CancelFunc) (ds []*drain.Delivery, next time.Time) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake = wake
	for len(s.later) > 0 && len(ds) < n {
		h := s.later[0].Handle.(*handle)
		if h.notBefore.After(now) {
			return ds, h.notBefore
		}
		if !h.part.gone {
			ds = append(ds, s.later[0])
		}
		s.unkept(h)
		s.later = s.later[1:]
	}
	return ds, time.Time{}
}

// errNoValue is what is told of a record that only says that what has its key is gone, of a topic that is compacted, most likely.
var errNoValue = errors.New("records without a value (tombstones) are no jobs and count as done")

// delivery makes a delivery of a record; nil when it is for later, or no job. It needs the lock.
func (s *Source) delivery(r *kgo.Record) *drain.Delivery {
	at := place{r.Topic, r.Partition}
	p := s.part(at)
	// A log that lost its end, or whose beginning the client went back to, has offsets again that are in hand. How far it is done is then
	// told by those that come now.
	for n := len(p.out); n > 0 && p.out[n-1].offset >= r.Offset; n-- {
		p.out = p.out[:n-1]
	}
	own := &slot{offset: r.Offset, epoch: r.LeaderEpoch}
	p.out = append(p.out, own)
	s.pace(p)
	again := r.Offset < s.ahead[at]
	s.ahead[at] = max(s.ahead[at], r.Offset+1)
	if r.Value == nil || r.Attrs.IsControl() || s.wasDone(at, r) {
		own.done = true
		s.advance(p)
		return nil
	}
	h := &handle{part: p, slot: own, record: r}
	d := &drain.Delivery{
		ID: header(r, headerID), Key: string(r.Key), Body: r.Value, Where: fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset), Since: time.Now(), Handle: h,
		Again: again,
	}
	if d.ID == "" {
		d.ID = d.Where
	}
	d.Place = true // also where it is the one of the record that this is a copy of
	// A dead letter that somebody copied back is a new job: what was counted before is why it was dead.
	if header(r, headerAt) != "" {
		d.Again = false
	} else {
		if n, err := strconv.Atoi(header(r, headerAttempts)); err == nil && n > 0 {
			d.Attempts, d.Retries = n, n
		}
		if ms, err := strconv.ParseInt(header(r, headerSince), 10, 64); err == nil && ms > 0 {
			d.Since = time.UnixMilli(ms)
		}
	}
	ms, err := strconv.ParseInt(header(r, headerNotBefore), 10, 64)
	if r.Topic != s.cfg.Retry || err != nil || !time.UnixMilli(ms).After(time.Now()) {
		return d
	}
	h.notBefore = time.UnixMilli(ms)
	s.keep(d)
	return nil
}

// keep keeps a delivery until its time has come. It needs the lock.
func (s *Source) keep(d *drain.Delivery) {
	i, _ := slices.BinarySearchFunc(s.later, d, func(a, b *drain.Delivery) int {
		return a.Handle.(*handle).notBefore.Compare(b.Handle.(*handle).notBefore)
	})
	s.later = slices.Insert(s.later, i, d)
	h := d.Handle.(*handle)
	s.waiting[h.part.topic] += len(h.record.Value)
	s.pace(h.part)
}

// unkept is for a delivery that is no longer kept. It needs the lock.
func (s *Source) unkept(h *handle) {
	topic, n := h.part.topic, len(h.record.Value)
	was := s.waiting[topic]
	s.waiting[topic] -= n
	if was >= s.most/2 && was-n < s.most/2 {
		for _, p := range s.parts {
			s.pace(p)
		}
	}
}

// pace pauses a partition of which too much is in hand, and takes it up again. It needs the lock.
func (s *Source) pace(p *partition) {
	n, waiting, was := len(p.out), s.waiting[p.topic], p.paused()
	// Each lasts until half of it is gone.
	p.gap = n >= s.cfg.MaxGap || p.gap && n >= s.cfg.MaxGap/2
	p.full = waiting >= s.most || p.full && waiting >= s.most/2
	if p.paused() == was {
		return
	}
	if of := map[string][]int32{p.topic: {p.n}}; was {
		s.client.ResumeFetchPartitions(of)
	} else {
		s.client.PauseFetchPartitions(of)
	}
}

func (p *partition) paused() bool { return p.gap || p.full }

func header(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// Ack implements drain.Source. What is committed is how far the partition is done.
func (s *Source) Ack(_ context.Context, d *drain.Delivery) error {
	h := d.Handle.(*handle)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := h.part
	if p.gone {
		return fmt.Errorf("kafka: the partition of %s was taken away: %w", d.Where, drain.ErrLost)
	}
	if h.slot.done {
		return fmt.Errorf("kafka: %s was settled before", d.Where)
	}
	h.slot.done = true
	h.end()
	s.advance(p)
	s.change()
	return nil
}

// advance has the client commit how far a partition is done. It needs the lock.
func (s *Source) advance(p *partition) {
	done := 0
	for done < len(p.out) && p.out[done].done {
		done++
	}
	if done > 0 {
		last := p.out[done-1]
		p.out = p.out[done:]
		s.client.MarkCommitOffsets(map[string]map[int32]kgo.EpochOffset{p.topic: {p.n: {Epoch: last.epoch, Offset: last.offset + 1}}})
	}
	s.pace(p)
}

// Lost implements drain.Keeper. Since it is asked right before a job is sent, it tells which deliveries may be in flight.
func (s *Source) Lost(d *drain.Delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := d.Handle.(*handle)
	if h.part.going || h.part.gone {
		return true
	}
	h.begin()
	return false
}

// Waits implements drain.Waiter.
func (s *Source) Waits(d *drain.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.Handle.(*handle).end()
	s.change()
}

// change tells a revocation that waits that something was settled. It needs the lock.
func (s *Source) change() {
	if s.settled != nil {
		close(s.settled)
		s.settled = nil
	}
}

// Release implements drain.Source: the record and those behind it come again, to whoever has the partition next.
func (s *Source) Release(_ context.Context, d *drain.Delivery) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := d.Handle.(*handle); !h.part.gone {
		h.end()
		s.change()
	}
	return nil
}

// Retry implements drain.Source: the record goes to the topic of retries. One that is too large for it, with the headers, or that the brokers
// do not take for now, waits here: its partition is not committed beyond it meanwhile, and when it goes, the record comes again to whoever has
// the partition next.
func (s *Source) Retry(ctx context.Context, d *drain.Delivery, after time.Duration, reason string) error {
	h := d.Handle.(*handle)
	until := time.Now().Add(after)
	err := s.move(ctx, d, s.cfg.Retry, h.record.Value,
		headerAttempts, strconv.Itoa(d.Attempts+1),
		headerSince, strconv.FormatInt(d.Since.UnixMilli(), 10),
		headerNotBefore, strconv.FormatInt(until.UnixMilli()+1, 10),
		headerReason, reason)
	if !errors.Is(err, kerr.MessageTooLarge) && !errors.Is(err, errLate) {
		return err
	}
	again := *d
	again.Attempts++
	again.Retries++
	again.Handle = &handle{part: h.part, slot: h.slot, record: h.record, notBefore: until}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.part.gone {
		return fmt.Errorf("kafka: the partition of %s was taken away: %w", d.Where, drain.ErrLost)
	}
	s.keep(&again)
	h.end()
	s.change()
	if s.wake != nil {
		s.wake()
	}
	return nil
}

// Dead implements drain.Source: the record goes to the topic of dead letters, with the reason in its headers. When the brokers say
// that it is too large then, it goes without the answer; and if that is not enough, with its first 4 KiB only.
func (s *Source) Dead(ctx context.Context, d *drain.Delivery, letter *drain.DeadLetter) error {
	value := d.Handle.(*handle).record.Value
	err := s.dead(ctx, d, letter, value)
	if errors.Is(err, kerr.MessageTooLarge) {
		less := *letter
		less.Answer, less.Detail = nil, less.Detail[:min(len(less.Detail), 256)]
		if err = s.dead(ctx, d, &less, value); errors.Is(err, kerr.MessageTooLarge) {
			less.Detail += fmt.Sprintf(" (the record is too large for the topic %s: its first bytes are kept of %d)", s.cfg.Dead, len(value))
			err = s.dead(ctx, d, &less, value[:min(len(value), 4<<10)])
		}
	}
	return err
}

func (s *Source) dead(ctx context.Context, d *drain.Delivery, letter *drain.DeadLetter, value []byte) error {
	return s.move(ctx, d, s.cfg.Dead, value,
		headerReason, string(letter.Reason), headerDetail, letter.Detail[:min(len(letter.Detail), 8<<10)],
		headerAttempts, strconv.Itoa(letter.Attempts), headerStatus, strconv.Itoa(letter.Status),
		headerRequestID, letter.RequestID, headerAnswer, string(letter.Answer[:min(len(letter.Answer), 32<<10)]),
		headerAt, letter.At.UTC().Format(time.RFC3339Nano), headerWhere, d.Where)
}

// move produces a copy of a record, with a value, to a topic and then counts the record as done.
func (s *Source) move(ctx context.Context, d *drain.Delivery, topic string, value []byte, headers ...string) error {
	h := d.Handle.(*handle)
	s.mu.Lock()
	gone := h.part.gone
	if !gone {
		h.begin()
	}
	s.mu.Unlock()
	if gone {
		return fmt.Errorf("kafka: the partition of %s was taken away: %w", d.Where, drain.ErrLost)
	}
	r := &kgo.Record{Topic: topic, Key: h.record.Key, Value: value}
	own := append([]string{headerID, d.ID}, headers...)
	for _, old := range h.record.Headers {
		mine := false
		for i := 0; i < len(own); i += 2 {
			mine = mine || old.Key == own[i]
		}
		if !mine && old.Key != headerNotBefore && !slices.Contains(letterHeaders[:], old.Key) {
			r.Headers = append(r.Headers, old)
		}
	}
	for i := 0; i < len(own); i += 2 {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: own[i], Value: []byte(own[i+1])})
	}
	if err := s.out.produce(ctx, r); err != nil {
		return err
	}
	return s.Ack(ctx, d)
}

// producer produces records one by one for many callers.
type producer struct {
	client *kgo.Client
	// alone is held for writing by who has a record go in a batch of its own, and for reading by the others.
	alone sync.RWMutex

	mu     sync.Mutex
	sizes  map[string]int32     // of topics, as far as it is known
	broken error                // of the last attempt to connect; nil when it succeeded
	told   map[string]time.Time // when it was told that a broker cannot be reached, by address
	log    func(format string, args ...any)
}

// tell has log be told of brokers that cannot be reached.
func (p *producer) tell(log func(string, ...any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told, p.log = map[string]time.Time{}, log
}

// OnBrokerConnect implements kgo.HookBrokerConnect. The client tries again without a word, also when it never will succeed.
func (p *producer) OnBrokerConnect(broker kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	now, addr := time.Now(), net.JoinHostPort(broker.Host, strconv.Itoa(int(broker.Port)))
	p.mu.Lock()
	p.broken = err
	log := p.log
	if err == nil || log == nil || now.Sub(p.told[addr]) < failLine {
		log = nil
	} else {
		p.told[addr] = now
	}
	p.mu.Unlock()
	if log != nil {
		log("kafka: connecting to %s: %v", addr, err)
	}
}

// size returns how large a batch of a topic may be. The client asks once, before it first produces to the topic, and takes no larger record from
// then on. So where nobody says it, who may not know it or whose question got lost, the brokers are to say what is too large.
func (p *producer) size(topic string) int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.sizes[topic]
	if !ok && topic != "" { // for which the client asks as it is made
		return mostBatch
	}
	return max(maxBatch, n) // of a topic that takes less, the brokers know what it is when it is compressed
}

// take notes how large a batch of a topic may be.
func (p *producer) take(topic, most string) {
	n, err := strconv.ParseInt(most, 10, 32)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sizes == nil {
		p.sizes = map[string]int32{}
	}
	p.sizes[topic] = int32(min(n, 1<<30)) // the most that the client takes
}

// like notes that batches of a topic may be as large as those of another one.
func (p *producer) like(topic, other string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n, ok := p.sizes[other]; ok {
		p.sizes[topic] = n
	}
}

// setting is what brokers say of a topic.
type setting struct {
	same      map[string]string // what is set for the topic itself and has to be the same where its jobs go: they fit, and are as safe
	compacted bool              // of records with one key the last one stays
	least     int               // how many replicas must be in sync for it to take records
}

// ask asks the brokers how large batches of topics may be, and whether they are compacted.
func (p *producer) ask(ctx context.Context, topics ...string) (own map[string]setting, err error) {
	ctx, cancel := context.WithTimeout(ctx, sizeTime)
	defer cancel()
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, topic := range topics {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, topic, []string{configSize, configClean, configISR}
		req.Resources = append(req.Resources, r)
	}
	got, err := req.RequestWith(ctx, p.client)
	if err != nil {
		return nil, err
	}
	own = map[string]setting{}
	for _, r := range got.Resources {
		of := setting{same: map[string]string{}}
		for _, c := range r.Configs {
			if c.Value == nil {
				continue
			}
			switch c.Name {
			case configClean:
				of.compacted = strings.Contains(*c.Value, "compact")
				continue
			case configSize:
				p.take(r.ResourceName, *c.Value)
			case configISR:
				of.least, _ = strconv.Atoi(*c.Value)
			}
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				of.same[c.Name] = *c.Value
			}
		}
		own[r.ResourceName] = of
	}
	return own, nil
}

// produce produces a record. Records that come at the same time are a batch, and brokers refuse one that is too large for the topic as a whole,
// small records and all. So one that was refused goes once more, alone: it is too large only when it is refused again.
func (p *producer) produce(ctx context.Context, r *kgo.Record) error {
	p.alone.RLock()
	err := p.once(ctx, r)
	p.alone.RUnlock()
	if errors.Is(err, kerr.MessageTooLarge) {
		p.alone.Lock()
		err = p.once(ctx, r)
		p.alone.Unlock()
	}
	if err != nil {
		return fmt.Errorf("kafka: producing to %s: %w", r.Topic, err)
	}
	return nil
}

// short returns what is to be said of brokers that a topic waits for. The client says nothing of it, and tries again.
func (p *producer) short(ctx context.Context, topic string) (why string) {
	own, _ := p.ask(ctx, topic) // who may not know it hears of leaders only
	ctx, cancel := context.WithTimeout(ctx, sizeTime)
	defer cancel()
	got, err := metadata(topic).RequestWith(ctx, p.client)
	if err != nil {
		return ""
	}
	for _, t := range got.Topics {
		for _, n := range t.Partitions {
			switch least := own[topic].least; {
			case n.Leader < 0:
				return fmt.Sprintf(": partition %d has no leader", n.Partition)
			case len(n.ISR) < least:
				why = fmt.Sprintf(": partition %d has %d of %d replicas in sync, and %s is %d", n.Partition, len(n.ISR), len(n.Replicas), configISR, least)
			}
		}
	}
	return why
}

// errLate is that it is not known whether a record was produced.
var errLate = fmt.Errorf("the brokers did not take the record within %v", produceTime)

// once produces a record. The client itself would wait for brokers that do not answer, for as long as it takes.
func (p *producer) once(caller context.Context, r *kgo.Record) error {
	ctx, cancel := context.WithTimeoutCause(caller, produceTime, errLate)
	defer cancel()
	r.Context = ctx // and not that of a time before
	produced := make(chan error, 1)
	p.client.Produce(ctx, r, func(_ *kgo.Record, err error) { produced <- err })
	select {
	case err := <-produced:
		switch {
		case !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded):
			return err
		case ctx.Err() == nil: // another one of its partition was given up, and with it all that were there
			return errLate
		}
	case <-ctx.Done():
	}
	err := context.Cause(ctx)
	if !errors.Is(err, errLate) {
		return err
	}
	if broken := p.unconnected(); broken != nil {
		return fmt.Errorf("%w: %w", err, broken)
	}
	return fmt.Errorf("%w%s", err, p.short(caller, r.Topic))
}

// unconnected returns why the last attempt to connect failed; nil when it did not.
func (p *producer) unconnected() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// because returns an error of the start, with why there was no connection when the time was over.
func (p *producer) because(err error) error {
	if broken := p.unconnected(); broken != nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", err, broken)
	}
	return err
}

// committed tells of commits that fail, once until one succeeds: what is done goes into the next one, and nobody else would hear of it.
func (s *Source) committed(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
	if err == nil {
		err = s.refused(resp)
	}
	s.mu.Lock()
	s.commits++
	s.mu.Unlock()
	if errors.Is(err, context.Canceled) || putOut(err) {
		return // the group goes on with others, or with this member anew
	}
	s.mu.Lock()
	said := s.failing
	s.failing = err != nil
	s.mu.Unlock()
	if err != nil && !said {
		s.cfg.Log("kafka: committing how far the group %s is: %v; what is done from now on comes again after a crash", s.cfg.Group, err)
	}
}

// assigned notes partitions that this member has now.
func (s *Source) assigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, ns := range parts {
		for _, n := range ns {
			s.part(place{topic, n})
		}
	}
}

// part returns a partition that this member has. It needs the lock.
func (s *Source) part(at place) *partition {
	p := s.parts[at]
	if p == nil {
		p = &partition{place: at}
		s.parts[at] = p
	}
	return p
}

// revoked gives partitions up: once what is in flight has ended or has had its time, and with what is done committed.
func (s *Source) revoked(ctx context.Context, _ *kgo.Client, parts map[string][]int32) {
	wait := time.NewTimer(max(0, s.cfg.RevokeWait))
	defer wait.Stop()
	s.mu.Lock()
	s.each(parts, func(p *partition) { p.going = true })
	s.mu.Unlock()
	for waiting := s.cfg.RevokeWait > 0; waiting; {
		s.mu.Lock()
		busy := 0
		s.each(parts, func(p *partition) { busy += p.busy })
		if s.settled == nil {
			s.settled = make(chan struct{})
		}
		settled := s.settled
		waiting = busy > 0 && !s.closed
		s.mu.Unlock()
		if waiting {
			select {
			case <-settled:
			case <-wait.C:
				waiting = false
			case <-ctx.Done():
				waiting = false
			}
		}
	}
	// Nobody marks any more from here on, so what is committed is all that will be.
	leaving := map[place]*partition{}
	s.mu.Lock()
	s.each(parts, func(p *partition) { leaving[p.place] = p })
	s.leaving = leaving
	s.mu.Unlock()
	s.forget(parts)
	commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	err := s.client.CommitMarkedOffsets(s.checked(commit))
	if s.tooLarge(err) {
		err = s.client.CommitMarkedOffsets(s.checked(commit))
	}
	if err != nil {
		s.cfg.Log("kafka: committing before partitions go: %v", err)
	}
	if err := s.commitStuck(commit, leaving, true); err != nil {
		s.cfg.Log("kafka: committing before partitions go what is done of them with gaps: %v", err)
	}
	s.mu.Lock()
	s.leaving = nil
	s.mu.Unlock()
}

// lost forgets partitions that somebody else may have by now.
func (s *Source) lost(_ context.Context, _ *kgo.Client, parts map[string][]int32) { s.forget(parts) }

// forget makes partitions gone. One that comes back is a new one, and not paused because of what was before: the client would
// remember that it was.
func (s *Source) forget(parts map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.each(parts, func(p *partition) {
		p.gone = true
		delete(s.parts, p.place)
		if p.paused() {
			s.client.ResumeFetchPartitions(map[string][]int32{p.topic: {p.n}})
		}
	})
	s.later = slices.DeleteFunc(s.later, func(d *drain.Delivery) bool {
		h := d.Handle.(*handle)
		if h.part.gone && h.part.topic == s.cfg.Retry { // others are there because they were handed out
			s.ahead[h.part.place] = min(s.ahead[h.part.place], h.record.Offset)
		}
		if h.part.gone {
			s.unkept(h)
		}
		return h.part.gone
	})
}

// each calls f with those of the partitions that are known. It needs the lock.
func (s *Source) each(parts map[string][]int32, f func(*partition)) {
	for topic, ns := range parts {
		for _, n := range ns {
			if p := s.parts[place{topic, n}]; p != nil {
				f(p)
			}
		}
	}
}

// Pause implements drain.Pauser: nothing is fetched, of any partition that this member has or gets.
func (s *Source) Pause(time.Time) {
	s.client.PauseFetchTopics(s.cfg.Topic, s.cfg.Retry)
}

// Resume implements drain.Pauser.
func (s *Source) Resume() {
	s.client.ResumeFetchTopics(s.cfg.Topic, s.cfg.Retry)
}

// Close commits what is done and leaves the group.
func (s *Source) Close() error {
	s.mu.Lock()
	s.closed = true
	s.change()
	s.mu.Unlock()
	s.end()
	s.other.Wait()
	left := make(chan struct{})
	go func() { // ends when the client has given up brokers that do not answer, which takes minutes
		defer close(left)
		s.client.CloseAllowingRebalance()
	}()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	soon := time.NewTimer(leaveTime)
	defer soon.Stop()
	said := "what was not committed comes again"
	for {
		select {
		case <-left:
			return nil
		case <-soon.C:
			if err := s.commit(ctx); err == nil {
				said = "what is done is committed"
			} else {
				said = fmt.Sprintf("what was not committed comes again: %v", err)
				soon.Reset(leaveTime) // the coordinator may be another one by then
			}
		case <-ctx.Done():
			s.cfg.Log("kafka: the brokers did not take note of the end within %v; %s", closeTime, said)
			return nil
		}
	}
}

// commit commits what is done while the group is being rebalanced. The client does not before that is over, and leaves no sooner: it takes as
// long as the slowest member takes, and one that is gone its session's time-out.
func (s *Source) commit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	req := s.marked()
	if len(req.Topics) == 0 {
		return nil
	}
	if err := s.check(ctx, req); err != nil || len(req.Topics) == 0 {
		return err
	}
	// It is sent once only: the client would send it again when the coordinator was gone, after its own commits that are newer.
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey, find.CoordinatorKeys = s.cfg.Group, []string{s.cfg.Group}
	found, err := find.RequestWith(ctx, s.client)
	if err != nil {
		return err
	}
	node, code := found.NodeID, found.ErrorCode
	if len(found.Coordinators) > 0 {
		node, code = found.Coordinators[0].NodeID, found.Coordinators[0].ErrorCode
	}
	if err := kerr.ErrorForCode(code); err != nil {
		return err
	}
	// The client may have committed newer ones since.
	there := req.Topics
	req = s.marked()
	req.Topics = slices.DeleteFunc(req.Topics, func(t kmsg.OffsetCommitRequestTopic) bool {
		return !slices.ContainsFunc(there, func(c kmsg.OffsetCommitRequestTopic) bool { return c.Topic == t.Topic })
	})
	if len(req.Topics) == 0 {
		return nil
	}
	s.annotate(req)
	resp, err := s.client.Broker(int(node)).Request(ctx, req)
	if err != nil {
		return err
	}
	return s.refused(resp.(*kmsg.OffsetCommitResponse))
}

// marked returns a commit of what is done and not committed.
func (s *Source) marked() *kmsg.OffsetCommitRequest {
	req := s.newCommit()
	for topic, parts := range s.client.MarkedOffsets() {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.TopicID = topic, s.ids[topic]
		for n, at := range parts {
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch = n, at.Offset, at.Epoch
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	return req
}

// newCommit returns a commit of this member's.
func (s *Source) newCommit() *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = s.cfg.Group
	req.MemberID, req.Generation = s.client.GroupMetadata()
	if id, _ := s.client.OptValue(kgo.InstanceID).(string); id != "" {
		req.InstanceID = &id
	}
	return req
}

// refused returns why the brokers did not take an offset, if there is one.
func refused(resp *kmsg.OffsetCommitResponse) error {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("%s/%d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// ReplyConfig is what Replies are made from. Brokers and Topic must be set.
type ReplyConfig struct {
	// Brokers are some of the brokers, "host:port".
	Brokers []string
	// Topic gets the results. It must be there.
	Topic string
	// Options are for the client besides: TLS, SASL, timeouts. They come last.
	Options []kgo.Opt
}

// Replies is a drain.Sink: each result is a record, the line that a file of results would have, with the job's id as its key. In the
// place of one that is too large for the topic is a line without an answer, whose error has the code answer_too_large. Make it with
// OpenReplies.
type Replies struct {
	out   producer
	topic string
	asked atomic.Bool // how large records may be
}

// OpenReplies connects, and sees whether the topic is there.
func OpenReplies(cfg ReplyConfig) (*Replies, error) {
	if len(cfg.Brokers) == 0 || cfg.Topic == "" {
		return nil, errors.New("kafka: ReplyConfig.Brokers and ReplyConfig.Topic must be set")
	}
	r := &Replies{topic: cfg.Topic}
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(cfg.Brokers...)}, r.out.producing(cfg.Options)...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	r.out.client = client
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	if err := r.there(ctx); err != nil {
		client.Close()
		return nil, err
	}
	return r, nil
}

// there returns why results cannot go to the topic, as far as that shows before there are any: each has been paid for.
func (r *Replies) there(ctx context.Context) error {
	meta := metadata(r.topic)
	meta.IncludeTopicAuthorizedOperations = true
	got, err := meta.RequestWith(ctx, r.out.client)
	if err != nil {
		return fmt.Errorf("kafka: asking for the topic %s: %w", r.topic, r.out.because(err))
	}
	for _, t := range got.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); errors.Is(err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("kafka: there is no topic %s", r.topic)
		} else if err != nil {
			return fmt.Errorf("kafka: the topic %s: %w", r.topic, err)
		}
		if err := may(&t, kmsg.ACLOperationWrite, "produce to", "Write"); err != nil {
			return err
		}
	}
	return nil
}

// Put implements drain.Sink.
func (r *Replies) Put(ctx context.Context, res *drain.Result) error {
	if !r.asked.Load() {
		if _, err := r.out.ask(ctx, r.topic); err == nil {
			r.asked.Store(true)
		}
	}
	rec := &kgo.Record{Topic: r.topic, Key: []byte(res.ID), Value: res.AppendJSON(nil)}
	err := r.out.produce(ctx, rec)
	if errors.Is(err, kerr.MessageTooLarge) {
		// It will not fit the next time either, and no other job would get by.
		rec.Value = res.AppendTooLarge(nil, "the topic "+r.topic)
		err = r.out.produce(ctx, rec)
	}
	return err
}

// Close ends the client.
func (r *Replies) Close() error {
	r.out.client.Close()
	return nil
}
