package httplimit

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// peekMost is how much of a refusal's body is read to see what it means; feedback.Parse
	// looks at no more.
	peekMost = 64 << 10
	// peekTime is how long that may take. An upstream that sends a refusal and then stalls must
	// not keep the permit; the caller then gets what came.
	peekTime = 5 * time.Second
)

// peek returns the beginning of an answer's body, decompressed, and leaves the body as if it had
// not been read.
func peek(resp *http.Response) []byte {
	body := resp.Body
	stop := time.AfterFunc(peekTime, func() { _ = body.Close() })
	sent, err := io.ReadAll(io.LimitReader(body, peekMost))
	stop.Stop()
	// The caller reads the same bytes, and then the rest or the same error.
	rest := io.Reader(body)
	if err != nil {
		rest = failed{err}
	}
	resp.Body = &peeked{io.MultiReader(bytes.NewReader(sent), rest), body}
	if strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		if z, err := gzip.NewReader(bytes.NewReader(sent)); err == nil {
			plain, _ := io.ReadAll(io.LimitReader(z, peekMost)) // cut short is fine
			return plain
		}
	}
	return sent
}

// peeked is a body of which the beginning was read before.
type peeked struct {
	io.Reader
	io.Closer
}

// failed is a reader that fails.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }
