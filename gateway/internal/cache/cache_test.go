package cache

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// hanging is a Store that answers when its caller gives up.
type hanging struct{ asked int }

func (h *hanging) Get(ctx context.Context, _ Key) (*Entry, error) {
	h.asked++
	<-ctx.Done()
	return nil, ctx.Err()
}
func (h *hanging) Set(context.Context, Key, *Entry) error { return nil }
func (h *hanging) Close() error                           { return nil }

// A caller that leaves is not the store's fault; a store that does not answer in time is.
func TestStoreIsLeftAloneOnlyWhenItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{}
		c := New(Config{MaxEntry: 100, Store: h, OnStoreError: func(error, bool) {}})
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for range 3 {
			c.Get(gone, Key{}, -1)
		}
		if n := c.Counts().StoreErrors; n != 0 || h.asked != 3 {
			t.Errorf("asked %d times, want 3; %d failures, want 0", h.asked, n)
		}
		began := time.Now()
		c.Get(t.Context(), Key{}, -1)
		c.Get(t.Context(), Key{}, -1)
		if n := c.Counts().StoreErrors; n != 1 || h.asked != 4 || time.Since(began) < storeTimeout {
			t.Errorf("asked %d times, want 4; %d failures, want 1", h.asked, n)
		}
	})
}

// full is a Store that has one entry, and takes no more.
type full struct {
	holding
	sets int
}

func (f *full) Set(context.Context, Key, *Entry) error {
	f.sets++
	return errors.New("OOM")
}

// A store that takes nothing more, because it is full or a replica, has what it was given all the same.
func TestAFullStoreIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, said := &full{holding: holding{Entry{Status: 200, Stored: time.Now(), TTL: time.Minute}}}, 0
		c := New(Config{MaxEntry: 100, Store: f, OnStoreError: func(_ error, read bool) {
			if said++; !read {
				t.Error("it is said that the cache goes on without it")
			}
		}})
		defer c.Close()
		for range 3 {
			c.Set(t.Context(), Key{1}, &Entry{Status: 200, TTL: time.Minute})
			if c.Get(t.Context(), Key{}, -1) == nil {
				t.Error("what it has is not found")
			}
		}
		if f.sets != 1 || said != 1 {
			t.Errorf("it was asked to take more %d times, and that it cannot was told %d times, want 1", f.sets, said)
		}
		time.Sleep(storeAway)
		c.Set(t.Context(), Key{1}, &Entry{Status: 200, TTL: time.Minute})
		if f.sets != 2 {
			t.Error("it is not asked again")
		}
	})
}

// holding is a Store that has one entry.
type holding struct{ Entry }

func (h *holding) Get(context.Context, Key) (*Entry, error) { e := h.Entry; return &e, nil }
func (h *holding) Set(context.Context, Key, *Entry) error   { return nil }
func (h *holding) Close() error                             { return nil }

// The clock of the gateway that stored an entry may be ahead of this one's: the entry is new then, and neither younger than that nor kept for longer
// than its time.
func TestStoredByAClockThatIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &holding{Entry{Status: 200, Stored: time.Now().Add(time.Hour).Round(0), TTL: time.Minute}}
		c := New(Config{MaxBytes: 1 << 20, MaxEntry: 100, Store: h})
		defer c.Close()
		e := c.Get(t.Context(), Key{}, -1)
		if e == nil || time.Since(e.Stored) < 0 {
			t.Errorf("the entry is %+v, want one that was not stored later than now, %v", e, time.Now())
		}
		h.TTL = 0 // it is in memory only
		time.Sleep(59 * time.Second)
		if c.Get(t.Context(), Key{}, -1) == nil {
			t.Error("it is gone before its time")
		}
		time.Sleep(2 * time.Second)
		if c.Get(t.Context(), Key{}, -1) != nil {
			t.Error("it is there after its time")
		}
	})
}

func TestVaries(t *testing.T) {
	for vary, want := range map[string]bool{
		"": false, "Accept-Encoding, Origin": false, "accept-language": false, "*": true, "Origin, user-agent": true, "X-Forwarded-For": true, "forwarded": true, "X-Forwarded-Host": false,
	} {
		if got := Varies(http.Header{"Vary": {vary}}); got != want {
			t.Errorf("Varies(%q) = %v", vary, got)
		}
	}
}
