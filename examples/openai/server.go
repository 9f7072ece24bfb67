package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// server answers chat completions in OpenAI's form, and 429 beyond its limits.
type server struct {
	inFlight int           // how many requests it bears at a time
	rate     float64       // how many it takes a second; as many may come at once
	service  time.Duration // how long an answer takes, on average

	mu              sync.Mutex
	now, most       int
	served, refused int
	bucket          float64
	filled          time.Time
}

func newServer(inFlight int, rate float64, service time.Duration) *server {
	return &server{inFlight: inFlight, rate: rate, service: service, bucket: rate, filled: time.Now()}
}

// seen returns how many requests were served and refused, and the most that were in flight.
func (s *server) seen() (served, refused, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served, s.refused, s.most
}

// enter takes a request in; it returns why not otherwise.
func (s *server) enter() (refusal string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.bucket = min(s.rate, s.bucket+s.rate*now.Sub(s.filled).Seconds())
	s.filled = now
	switch {
	case s.now >= s.inFlight:
		s.refused++
		return fmt.Sprintf("Too many concurrent requests: concurrency limit of %d reached.", s.inFlight)
	case s.bucket < 1:
		s.refused++
		return "Rate limit reached for requests per second. Please try again in 20ms."
	}
	s.bucket--
	s.now++
	s.most = max(s.most, s.now)
	return ""
}

func (s *server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now--
	s.served++
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	if refusal := s.enter(); refusal != "" {
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprintf(w, `{"error":{"message":%q,"type":"requests","code":"rate_limit_exceeded"}}`, refusal)
		return
	}
	defer s.leave()
	time.Sleep(time.Duration((0.5 + rand.Float64()) * float64(s.service)))
	fmt.Fprint(w, `{"id":"chatcmpl-1","object":"chat.completion","created":0,"model":"demo",`+
		`"choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],`+
		`"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`)
}
