package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// lookEvery is how often it is asked which partitions wait for a transaction, openLong for how long one may before that is told, and openAgain
	// how often it is told then. Those of some producers take minutes each.
	lookEvery = 20 * time.Second
	openLong  = time.Minute
	openAgain = 10 * time.Minute
)

// stable is what a partition has waited at, the first record of a transaction that has not ended, since when, and when that was told.
type stable struct {
	at    int64
	since time.Time
	told  time.Time
}

// watchTransactions looks for transactions that do not end.
func (s *Source) watchTransactions(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	waits := map[place]stable{}
	for {
		select {
		case <-tick.C:
			waits = s.look(ctx, time.Now(), waits)
		case <-ctx.Done():
			return
		}
	}
}

// look tells of partitions that wait for the same transaction for long, and returns all that wait for one. Nothing else would tell: what is
// behind a transaction that its producer does not end is not handed out, as if there were no jobs. The brokers end it after the time that the
// producer has asked for, 15 min at most by default, and never once they have lost count of it.
func (s *Source) look(ctx context.Context, now time.Time, before map[place]stable) map[place]stable {
	if level, ok := s.client.OptValue(kgo.FetchIsolationLevel).(int8); ok && level == 0 {
		return nil // by Config.Options nothing waits
	}
	ends, err := s.lastOffsets(ctx, 0)
	if err != nil {
		return before
	}
	// Asked later, so that what ends meanwhile is behind the others.
	stables, err := s.lastOffsets(ctx, 1)
	if err != nil {
		return before
	}
	waits := map[place]stable{}
	for at, end := range ends {
		n, ok := stables[at]
		if !ok || n >= end {
			continue
		}
		w := before[at]
		if w.since.IsZero() || w.at != n {
			w = stable{at: n, since: now}
		}
		if open := now.Sub(w.since); open >= openLong && now.Sub(w.told) >= openAgain {
			w.told = now
			s.cfg.Log("kafka: %s: a transaction that begins at offset %d has not ended for %v, and the %d records from there on wait for it; "+
				"when its producer is gone for good, end it: kafka-transactions.sh --bootstrap-server %s abort --topic %s --partition %d --start-offset %d",
				at, n, open.Round(time.Second), end-n, s.cfg.Brokers[0], at.topic, at.n, n)
		}
		waits[at] = w
	}
	return waits
}

// lastOffsets returns where the partitions end that this member has, for readers of an isolation level.
func (s *Source) lastOffsets(ctx context.Context, isolation int8) (map[place]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, sizeTime)
	defer cancel()
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = isolation
	topics := map[string]int{}
	s.mu.Lock()
	for at := range s.parts {
		i, ok := topics[at.topic]
		if !ok {
			i = len(req.Topics)
			topics[at.topic] = i
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = at.topic
			req.Topics = append(req.Topics, t)
		}
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp = at.n, -1
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, p)
	}
	s.mu.Unlock()
	ends := map[place]int64{}
	if len(req.Topics) == 0 {
		return ends, nil
	}
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return nil, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if kerr.ErrorForCode(p.ErrorCode) == nil {
				ends[place{t.Topic, p.Partition}] = p.Offset
			}
		}
	}
	return ends, nil
}
