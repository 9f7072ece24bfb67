package cache

import (
	"context"
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
		c := New(Config{MaxEntry: 100, Store: h, OnStoreError: func(error) {}})
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
