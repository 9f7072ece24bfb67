package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A call that panics is in the log, whatever its level: the server itself tells it among what strangers' connections do.
func TestPanicIsLogged(t *testing.T) {
	g := start(t, "")
	h := g.handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/left" {
			panic(http.ErrAbortHandler) // the caller is gone, or must not take what it has for the whole
		}
		panic("a mistake")
	}))
	for _, path := range []string{"/left", "/mistake"} {
		logged := path == "/mistake"
		func() {
			defer func() {
				if v := recover(); v != http.ErrAbortHandler {
					t.Errorf("%s: the handler panics with %v, want %v", path, v, http.ErrAbortHandler)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		}()
		log := g.logged()
		if got := strings.Contains(log, `"level":"ERROR"`) && strings.Contains(log, "a mistake") && strings.Contains(log, "panic_test.go"); got != logged {
			t.Errorf("%s: the log tells a panic: %v, want %v\n%s", path, got, logged, log)
		}
	}
}
