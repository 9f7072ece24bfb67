package limiter_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/limiter"
)

// A call that is no HTTP request says itself what is wrong with a key.
func ExamplePool() {
	pool, err := limiter.NewPool(limiter.PoolConfig{
		Guard: limiter.Config{Name: "search"},
		Keys:  []limiter.Secret{limiter.NewSecret("revoked"), limiter.NewSecret("good")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	errBadKey := errors.New("bad key")
	search := func(_ context.Context, key string) error {
		if key == "revoked" {
			return errBadKey
		}
		return nil
	}

	err = pool.Do(context.Background(), limiter.Request{}, func(ctx context.Context, key limiter.Secret) error {
		err := search(ctx, key.Reveal())
		if errors.Is(err, errBadKey) {
			return limiter.FailKey(limiter.KeyUnauthorized, err) // the next key is used at once
		}
		return err
	})
	fmt.Println(err)

	permit, err := pool.Acquire(context.Background(), limiter.Request{})
	if err != nil {
		fmt.Println(err) // a *limiter.NoKeyError says what is the matter with each key
		return
	}
	err = search(context.Background(), permit.Secret().Reveal())
	if errors.Is(err, errBadKey) {
		permit.Release(limiter.Outcome{Class: feedback.ClientError}, limiter.KeyUnauthorized)
	} else {
		permit.Release(limiter.OutcomeOf(context.Background(), err), limiter.KeyFine)
	}
	fmt.Println(err, pool.Stats().InService)
	// Output:
	// <nil>
	// <nil> 1
}
