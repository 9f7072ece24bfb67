package kafka

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// committedDone returns what metadata say of a partition of which records are done, and the partition.
func committedDone(s *Source, n, share int) (string, *partition) {
	p := &partition{place: place{"jobs", 0}}
	for offset := int64(100); len(p.out) < n; offset += 1 + rand.Int64N(3) {
		p.out = append(p.out, &slot{offset: offset, epoch: int32(3 + len(p.out)/100), done: len(p.out) > 0 && rand.IntN(100) < share})
	}
	return s.done(p, 90), p
}

// What is read is what was written, of as many records as there is room for.
func TestDoneIsWhatWasDone(t *testing.T) {
	id := [16]byte{1, 2, 3}
	s := &Source{ids: map[string][16]byte{"jobs": id}, before: map[place]passed{}}
	for _, n := range []int{1, 10, 1000, 20_000} {
		for _, share := range []int{0, 10, 90, 100} {
			metadata, p := committedDone(s, n, share)
			if len(metadata) > 4096 {
				t.Fatalf("%d bytes", len(metadata))
			}
			d, ok := parseDone(metadata, id, 90)
			if !ok || d.spans[0] != (offsets{90, 100}) {
				t.Fatalf("%q is read as %v, %v", metadata, d, ok)
			}
			s.before[p.place] = d
			last := d.spans[len(d.spans)-1].end
			for _, o := range p.out {
				got := s.wasDone(p.place, &kgo.Record{Offset: o.offset, LeaderEpoch: min(o.epoch, d.epoch)})
				if want := o.done && o.offset < last; got != want {
					t.Fatalf("of %d, %d %% done: %d was done: %v, want %v", n, share, o.offset, got, want)
				}
			}
			if full := len(metadata) > 3900; !full && last <= p.out[len(p.out)-1].offset && p.out[len(p.out)-1].done {
				t.Errorf("the last one of %d is left out of %d bytes", n, len(metadata))
			}
		}
	}
}

// What was done of a log that lost its end, or of a topic of the same name, says nothing of what is there now.
func TestDoneOfAnotherLog(t *testing.T) {
	id := [16]byte{1}
	s := &Source{ids: map[string][16]byte{"jobs": id}, before: map[place]passed{}}
	at := place{"jobs", 0}
	p := &partition{place: at, out: []*slot{{offset: 5, epoch: 7}, {offset: 6, epoch: 7, done: true}}}
	metadata := s.done(p, 5)
	for epoch, want := range map[int32]bool{7: true, 6: true, 8: false, -1: false} {
		d, ok := parseDone(metadata, id, 5)
		if !ok {
			t.Fatalf("%q is not read", metadata)
		}
		s.before[at] = d
		if got := s.wasDone(at, &kgo.Record{Offset: 6, LeaderEpoch: epoch}); got != want {
			t.Errorf("with the epoch %d it was done: %v, want %v", epoch, got, want)
		}
	}
	if _, ok := parseDone(metadata, [16]byte{2}, 5); ok {
		t.Error("it is read for another topic")
	}
	if p.out[1].epoch = -1; s.done(p, 5) != "" {
		t.Error("it is written without an epoch")
	}
}

// What was done before the partition came is handed on where it was not come to yet, and not of a log that has lost its end since.
func TestDoneBeforeIsHandedOn(t *testing.T) {
	id, at := [16]byte{1}, place{"jobs", 0}
	for epoch, want := range map[int32][]offsets{7: {{3, 4}, {5, 8}, {9, 12}}, 8: {{3, 4}}} {
		s := &Source{ids: map[string][16]byte{"jobs": id}, before: map[place]passed{at: {epoch: 7, spans: []offsets{{5, 8}, {9, 12}}}}}
		p := &partition{place: at, out: []*slot{{offset: 2, epoch: 7}, {offset: 3, epoch: 7, done: true}, {offset: 4, epoch: epoch}}}
		if s.wasDone(at, &kgo.Record{Offset: 4, LeaderEpoch: epoch}) {
			t.Error("what was not done was done")
		}
		d, ok := parseDone(s.done(p, 2), id, 2)
		if !ok || d.epoch != 7 || !slices.Equal(d.spans, want) {
			t.Errorf("with the epoch %d it is handed on as %v, want %v", epoch, d, want)
		}
		p.out = p.out[3:]
		if d, ok := parseDone(s.done(p, 6), id, 6); epoch == 7 && (!ok || !slices.Equal(d.spans, []offsets{{6, 8}, {9, 12}})) {
			t.Errorf("with nothing in hand it is handed on as %v", d)
		}
	}
}

func FuzzParseDone(f *testing.F) {
	s := &Source{ids: map[string][16]byte{"jobs": {1}}}
	metadata, _ := committedDone(s, 20, 50)
	f.Add(metadata)
	f.Add("kgo-5e892254")
	f.Fuzz(func(t *testing.T, metadata string) {
		d, ok := parseDone(metadata, [16]byte{1}, 90)
		for i, span := range d.spans {
			if ok && (span.first < 90 || span.end < span.first || i > 0 && span.first < d.spans[i-1].end) {
				t.Errorf("%q is read as %v", metadata, d)
			}
		}
	})
}
