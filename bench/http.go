package main

import (
	"io"
	"net/http"
	"net/url"
)

// canned is a RoundTripper that answers without a network, and allocates what a caller cannot do
// without: the answer and its body.
type canned struct{ header http.Header }

func (c *canned) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: c.header, Body: &cannedBody{left: 64}, ContentLength: 64, Request: req,
	}, nil
}

// cannedBody is a body of some bytes.
type cannedBody struct{ left int }

func (b *cannedBody) Read(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	if b.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (b *cannedBody) Close() error { return nil }

// header returns a header of the given fields.
func header(fields ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(fields); i += 2 {
		h.Set(fields[i], fields[i+1])
	}
	return h
}

// roundTrips returns a loop of requests through t, each answer read to its end and closed.
func roundTrips(t http.RoundTripper) func(n int) {
	u := &url.URL{Scheme: "http", Host: "upstream.test", Path: "/"}
	req := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}, Host: u.Host}).WithContext(live)
	buf := make([]byte, 512)
	return func(n int) {
		for range n {
			resp, err := t.RoundTrip(req)
			if err != nil {
				panic(err)
			}
			for err == nil {
				_, err = resp.Body.Read(buf)
			}
			_ = resp.Body.Close()
		}
	}
}

// overHTTP measures what a guarded RoundTripper adds to a canned one.
func overHTTP(b *bench) error {
	short := &canned{header("Content-Type", "application/json", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", "X-Request-Id", "req_0123456789")}
	stated := &canned{header("Content-Type", "application/json", "Date", "Mon, 23 Nov 2026 12:00:00 GMT", "X-Request-Id", "req_0123456789",
		"X-Ratelimit-Limit-Requests", "10000", "X-Ratelimit-Remaining-Requests", "9999", "X-Ratelimit-Reset-Requests", "6ms",
		"X-Ratelimit-Limit-Tokens", "2000000", "X-Ratelimit-Remaining-Tokens", "1999000", "X-Ratelimit-Reset-Tokens", "30ms")}
	names := []string{
		"canned", "flyball", "failsafe-go adaptive limiter",
		"canned, with rate limit fields", "flyball, with rate limit fields",
	}
	fs := []func(int){
		roundTrips(short), roundTrips(ourTransport(short)), roundTrips(failsafeTransport(short)),
		roundTrips(stated), roundTrips(ourTransport(stated)),
	}
	base := []int{0, 0, 0, 3, 3}
	all := solo(fs, b.budget)
	t := b.table("http", "an HTTP request, answer read and closed, over a canned RoundTripper", "ns", "added ns", "objects allocated", "added objects")
	objects := make([]float64, len(fs))
	for i, f := range fs {
		objects[i] = allocations(f, 10_000)
		t.add(names[i], plain(all.of(i)), quartiles(all.added(i, base[i])), plain(exact(objects[i])), plain(exact(whole(objects[i]-objects[base[i]]))))
	}
	b.target(atMost("RoundTripper over a canned one: time", 150, "ns added", all.added(1, 0)))
	b.target(atMost("RoundTripper over a canned one: objects", 1, "added", exact(whole(objects[1]-objects[0]))))
	return nil
}

// whole rounds a count of objects that is a whole number but for what the harness itself allocated.
func whole(x float64) float64 {
	if r := float64(int(x + 0.5)); x-r < 0.02 && r-x < 0.02 {
		return r
	}
	return x
}
