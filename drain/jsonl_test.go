package drain_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/drain/draintest"
)

func TestJSONLSource(t *testing.T) {
	draintest.Run(t, func(t *testing.T) *draintest.Fixture {
		path := filepath.Join(t.TempDir(), "in.jsonl")
		return &draintest.Fixture{
			Publish: func(t *testing.T, bodies ...string) {
				write(t, path, strings.Join(bodies, "\n")+"\n")
			},
			Open: func(t *testing.T) drain.Source {
				s, err := drain.OpenJSONL(path, drain.JSONLConfig{})
				if err != nil {
					t.Fatal(err)
				}
				return s
			},
			Crash: func(t *testing.T, s drain.Source) { s.(*drain.JSONL).Close() }, // it has nothing to flush
			Close: func(t *testing.T, s drain.Source) {
				if err := s.(*drain.JSONL).Close(); err != nil {
					t.Error(err)
				}
			},
			Letters: func(t *testing.T, n int) (all []draintest.Letter) {
				for _, l := range deadLines(t, strings.TrimSuffix(path, ".jsonl")+".dead.jsonl") {
					body := []byte(l.Input)
					var s string
					if json.Unmarshal(l.Input, &s) == nil {
						body = []byte(s)
					}
					all = append(all, draintest.Letter{Body: body, Reason: l.Error.Code, Detail: l.Error.Message})
				}
				return all
			},
			Forgets: true,
		}
	})
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func deadLines(t testing.TB, path string) (all []drain.DeadLine) {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var l drain.DeadLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, l)
	}
	return all
}
