package server

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/flyball-go/flyball/internal/draw"
	"github.com/flyball-go/flyball/internal/modelserver"
	"github.com/flyball-go/flyball/internal/upstream"
)

// demo is the upstream of a gateway that was started without one: the simulator's model of an LLM API, in real time.
type demo struct {
	model *modelserver.Server
	http  *http.Server
	base  string // its base URL
}

// startDemo starts the demonstration's upstream. It has limits that can be met by hand, so that there is something to see.
func startDemo() (*demo, error) {
	model, err := modelserver.New(modelserver.Config{
		Upstream: upstream.Config{
			Seed:        1,
			Dialect:     upstream.OpenAI,
			Refusal:     draw.Of(20 * time.Millisecond),
			Concurrency: upstream.Concurrency{Limit: 8},
			Quotas:      []upstream.Quota{{Counter: upstream.Requests, Limit: 1200, Burst: 40}}, // 20 a second
			Server:      upstream.Server{Service: draw.Of(150 * time.Millisecond), OutputToken: 4 * time.Millisecond, KnowsHangups: true},
		},
		Models: []string{"demo"},
		Output: draw.Of(60),
	})
	if err != nil {
		return nil, fmt.Errorf("the demonstration's upstream: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = model.Close()
		return nil, fmt.Errorf("the demonstration's upstream: %w", err)
	}
	d := &demo{model: model, http: &http.Server{Handler: model, ReadHeaderTimeout: 10 * time.Second}, base: "http://" + l.Addr().String() + "/v1"}
	go func() { _ = d.http.Serve(l) }()
	return d, nil
}

func (d *demo) close() {
	_ = d.http.Close()
	_ = d.model.Close()
}
