package cache

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Redis is a Store in a Redis, which several gateways may share.
type Redis struct {
	client *redis.Client
	prefix string
}

// NewRedis returns a store at the given URL, such as redis://127.0.0.1:6379/0. It does not connect yet.
func NewRedis(url string) (*Redis, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("the URL of Redis cannot be read; it is such as redis://:password@host:6379/0") // the error has the URL
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = storeTimeout, storeTimeout, storeTimeout
	o.MaxRetries, o.ContextTimeoutEnabled = -1, true // the cache leaves a Redis that fails alone
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	quiet.Do(func() { redis.SetLogger(silence{}) }) // it is told what went wrong by errors
	return &Redis{client: redis.NewClient(o), prefix: "flyball:cache:1:"}, nil
}

var quiet sync.Once

// silence is a logger for go-redis.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// wire is how an entry is kept: this as JSON, a line end, and the body.
type wire struct {
	Status int           `json:"status"`
	Header http.Header   `json:"header"`
	Stored time.Time     `json:"stored"`
	TTL    time.Duration `json:"ttl"`
	Length int           `json:"length"`
}

// Get returns the entry of a key.
func (r *Redis) Get(ctx context.Context, k Key) (*Entry, error) {
	b, err := r.client.Get(ctx, r.name(k)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decode(b)
}

// decode reads what Set wrote.
func decode(b []byte) (*Entry, error) {
	head, body, ok := bytes.Cut(b, []byte("\n"))
	var w wire
	if !ok || json.Unmarshal(head, &w) != nil || w.Length != len(body) || w.Status < 200 || w.Status > 599 || w.TTL < 0 {
		return nil, fmt.Errorf("cache: an entry of %d bytes in Redis cannot be read", len(b))
	}
	return &Entry{Status: w.Status, Header: w.Header, Body: body, Stored: w.Stored, TTL: w.TTL}, nil
}

// Set keeps an entry.
func (r *Redis) Set(ctx context.Context, k Key, e *Entry) error {
	head, err := json.Marshal(wire{e.Status, e.Header, e.Stored, e.TTL, len(e.Body)})
	if err != nil {
		return err
	}
	b := append(append(head, '\n'), e.Body...)
	return r.client.Set(ctx, r.name(k), b, e.TTL).Err()
}

func (r *Redis) name(k Key) string { return r.prefix + hex.EncodeToString(k[:]) }

// Close closes the connections.
func (r *Redis) Close() error { return r.client.Close() }
