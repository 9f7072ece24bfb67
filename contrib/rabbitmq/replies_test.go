package rabbitmq_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/flyball-go/flyball/contrib/rabbitmq"
	"github.com/flyball-go/flyball/drain"
)

// A sink goes on after its broker was stopped and is back.
func TestRepliesAfterRestart(t *testing.T) {
	b := start(t)
	r, err := rabbitmq.OpenReplies(rabbitmq.ReplyConfig{URL: b.url(), Queue: "replies"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	put := func(i int) error {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		return r.Put(ctx, &drain.Result{ID: fmt.Sprint("id-", i), Status: 200, Body: []byte("{}")})
	}
	for i := range 20 {
		if err := put(i); err != nil {
			t.Fatal(err)
		}
	}
	b.stop()
	if put(20) == nil {
		t.Error("a result was taken by a broker that is dead")
	}
	b.up()
	for i := range 20 {
		var err error
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if err = put(100 + i); err == nil {
				break
			}
			t.Log(err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
