package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// raw starts an upstream that sends each caller these bytes, and closes the connection.
func raw(t *testing.T, answer string) string {
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, answer)
	})
	return table(s, "")
}

// What no server may answer, with a status that is none or a change of the protocol that nobody asked for, is told as what it is. The caller got
// an empty 200, or nothing, and behind the cache a connection that said nothing kept a place for the route's longest.
func TestAnswersThatAreNone(t *testing.T) {
	checkGoroutines(t)
	for _, answer := range []string{
		"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: odd\r\n\r\nhello",
	} {
		g := start(t, raw(t, answer))
		for name, c := range map[string]*http.Client{"HTTP/1": client(t), "HTTP/2": h2c(t)} {
			for _, path := range []string{"chat/completions", "embeddings"} { // alone, and shared
				resp := post(t, c, g.url+"/up/"+path, chat)
				if body := read(t, resp); resp.StatusCode != 502 || !strings.Contains(body, fmt.Sprintf("status %s", answer[9:12])) {
					t.Errorf("%s of %.20q for %s: %s %s, want a 502 that names the status", path, answer, name, resp.Status, body)
				}
			}
		}
		g.idle()
	}
}
