package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What is here commits what is done behind the first record of a partition that is not, in the metadata of the offset. Who has the partition next passes
// it by. Otherwise one call of minutes would have all that ended meanwhile done again, as soon as another member joins.

const (
	doneMark = "flyball-done-1"
	// mostDone is how long metadata may be; brokers take 4096 bytes (offset.metadata.max.bytes).
	mostDone = 4000
)

// passed are records that were done before their partition came here: those in spans, up to a leader's epoch. Where a log lost its end, the
// records that are there later have a higher one.
type passed struct {
	epoch  int32
	spans  []offsets
	unread string // metadata that were not read yet, of a commit up to the offset at
	at     int64
}

// offsets are those from first on and before end.
type offsets struct{ first, end int64 }

// done returns metadata for a commit that a partition is done up to an offset; empty when nothing behind it is. It needs the lock.
func (s *Source) done(p *partition, at int64) string {
	id, known := s.ids[p.topic]
	if !known || s.bare {
		return ""
	}
	var runs []byte
	epoch, pos := int32(-1), at
	span := func(first, end int64, of int32) bool {
		if first = max(first, pos); first >= end {
			return true
		}
		was := len(runs)
		runs = append(runs, ' ')
		runs = strconv.AppendInt(runs, first-pos, 36)
		runs = append(runs, '+')
		runs = strconv.AppendInt(runs, end-first, 36)
		if len(runs) > mostDone-len(doneMark)-40 {
			runs = runs[:was]
			return false
		}
		pos, epoch = end, max(epoch, of)
		return true
	}
	if len(p.out) > 0 {
		span(at, p.out[0].offset, p.out[0].epoch) // more was done since
	}
	room := true
	for i := 0; room && i < len(p.out); {
		j := i
		for j < len(p.out) && p.out[j].done {
			j++
		}
		if j > i {
			room = span(p.out[i].offset, p.out[j-1].offset+1, p.out[j-1].epoch)
		}
		i = j + 1
	}
	// What was done before the partition came, and was not come to yet.
	behind := at
	if n := len(p.out); n > 0 {
		behind = max(at, p.out[n-1].offset+1)
	}
	d, _ := s.passed(p.place)
	for i := 0; room && i < len(d.spans); i++ {
		room = span(max(behind, d.spans[i].first), d.spans[i].end, d.epoch)
	}
	if epoch < 0 {
		return ""
	}
	return doneMark + " " + base64.RawURLEncoding.EncodeToString(id[:]) + " " + strconv.Itoa(int(epoch)) + string(runs)
}

// parseDone reads metadata of a commit up to an offset, of the topic with an id.
func parseDone(metadata string, id [16]byte, at int64) (d passed, ok bool) {
	parts := strings.Split(metadata, " ")
	if len(parts) < 4 || parts[0] != doneMark || parts[1] != base64.RawURLEncoding.EncodeToString(id[:]) {
		return d, false
	}
	epoch, err := strconv.ParseInt(parts[2], 10, 32)
	if err != nil || epoch < 0 {
		return d, false
	}
	d.epoch = int32(epoch)
	for _, run := range parts[3:] {
		gap, n, _ := strings.Cut(run, "+")
		skip, err := strconv.ParseUint(gap, 36, 40)
		if err != nil {
			return d, false
		}
		size, err := strconv.ParseUint(n, 36, 40)
		if err != nil {
			return d, false
		}
		first := at + int64(skip)
		at = first + int64(size)
		d.spans = append(d.spans, offsets{first, at})
	}
	return d, true
}

// fetched notes what was done of partitions that come. It may be called before it is known which topics there are.
func (s *Source) fetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				at := place{t.Topic, p.Partition}
				delete(s.before, at)
				if p.Metadata != nil && p.Offset >= 0 && p.ErrorCode == 0 {
					s.before[at] = passed{unread: *p.Metadata, at: p.Offset}
				}
			}
		}
	}
	return nil
}

// passed returns what was done of a partition before it came, and is not known to be past. It needs the lock.
func (s *Source) passed(at place) (d passed, ok bool) {
	d, ok = s.before[at]
	if ok && d.unread != "" {
		id, known := s.ids[at.topic]
		if d, ok = parseDone(d.unread, id, d.at); !known || !ok {
			delete(s.before, at)
			return passed{}, false
		}
		s.before[at] = d
	}
	return d, ok
}

// wasDone reports whether a record was done before its partition came. It needs the lock.
func (s *Source) wasDone(at place, r *kgo.Record) bool {
	d, ok := s.passed(at)
	if !ok {
		return false
	}
	for len(d.spans) > 0 && d.spans[0].end <= r.Offset {
		d.spans = d.spans[1:]
	}
	if len(d.spans) == 0 || r.LeaderEpoch > d.epoch { // the log lost its end before what is left
		delete(s.before, at)
		return false
	}
	s.before[at] = d
	return d.spans[0].first <= r.Offset && r.LeaderEpoch >= 0
}

// annotate adds what is done to a commit.
func (s *Source) annotate(req *kmsg.OffsetCommitRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range req.Topics {
		for i := range t.Partitions {
			c := &t.Partitions[i]
			at := place{t.Topic, c.Partition}
			p := s.parts[at]
			if p == nil {
				p = s.leaving[at]
			}
			if p == nil {
				continue
			}
			if done := s.done(p, c.Offset); done != "" {
				c.Metadata = &done
			}
		}
	}
}

// commitStuck commits what is done behind the first record of partitions that is not, where that is still the same one as the last time, or they
// leave: the client commits only what is done without a gap. It has the client commit that, too: one commit at a time, and what is sent again after
// the coordinator was gone does not take back a newer one.
func (s *Source) commitStuck(ctx context.Context, of map[place]*partition, leave bool) error {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	stuck := map[string]map[int32]kgo.EpochOffset{}
	said := map[*partition]string{}
	s.mu.Lock()
	for at, p := range of {
		was := p.stuck
		p.stuck = nil
		if len(p.out) > 0 {
			p.stuck = p.out[0]
		}
		if p.stuck == nil || !leave && p.stuck != was {
			continue
		}
		done := s.done(p, p.stuck.offset)
		if done == "" {
			continue
		}
		if said[p] = strconv.FormatInt(p.stuck.offset, 10) + " " + done; said[p] == p.said {
			continue
		}
		if stuck[at.topic] == nil {
			stuck[at.topic] = map[int32]kgo.EpochOffset{}
		}
		stuck[at.topic][at.n] = kgo.EpochOffset{Epoch: p.stuck.epoch, Offset: p.stuck.offset}
	}
	s.mu.Unlock()
	if len(stuck) == 0 {
		return nil
	}
	ended := make(chan error, 1)
	// It waits for the commit before it for as long as that takes.
	go s.client.CommitOffsetsSync(s.checked(ctx), stuck, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err == nil {
			err = s.refused(resp)
		}
		ended <- err
	})
	select {
	case err := <-ended:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, done := range said {
		p.said = done
	}
	return nil
}

// watchStuck commits what is done behind records that are not, each few seconds.
func (s *Source) watchStuck(ctx context.Context) {
	tick := time.NewTicker(commitLate)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		parts := maps.Clone(s.parts)
		s.mu.Unlock()
		_ = s.commitStuck(ctx, parts, false) // again the next time
	}
}

// refused returns why the brokers did not take an offset, if there is one.
func (s *Source) refused(resp *kmsg.OffsetCommitResponse) error {
	err := refused(resp)
	s.tooLarge(err)
	return err
}

// tooLarge reports whether the brokers take less metadata than by default. There are none from then on.
func (s *Source) tooLarge(err error) bool {
	if !errors.Is(err, kerr.OffsetMetadataTooLarge) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bare = true
	return true
}
