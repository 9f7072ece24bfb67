package scenario

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flyball-go/flyball/internal/report"
	"github.com/flyball-go/flyball/scenarios"
)

// Expectations are what was measured, with room: little for what others wrote and nobody changes, more for ours, whose parameters will be.
const (
	roomOthers = .005 // of goodput
	roomOurs   = .03
)

// expectations writes what a report says of a scenario as the end of its file.
func expectations(r *report.Scenario) string {
	var b strings.Builder
	fmt.Fprintln(&b, "# What was measured with the default parameters and seeds 1 to 3, by go test ./internal/scenario -run TestBuiltin -update. The rivals")
	fmt.Fprintln(&b, "# are what they are, so their ranges are narrow.")
	for _, run := range r.Runs {
		room := roomOthers
		switch run.Controller {
		case "ours":
			room = roomOurs
		case "none", "gcl-aimd":
		default:
			continue
		}
		s := run.Summary
		fmt.Fprintf(&b, "\n[expect.%s]\n", run.Controller)
		if !math.IsNaN(s.Goodput) {
			fmt.Fprintf(&b, "goodput = [%s, %s]\n", short(max(0, s.Goodput-room), false), short(s.Goodput+room, true))
		}
		if !math.IsInf(s.RejectedPerOK, 0) {
			wide := .03*s.RejectedPerOK + .0005
			if run.Ours {
				wide = .3*s.RejectedPerOK + .015
			}
			fmt.Fprintf(&b, "rejected_per_ok = [%s, %s]\n", short(max(0, s.RejectedPerOK-wide), false), short(s.RejectedPerOK+wide, true))
		}
		if run.Ours && s.P99 >= 0 {
			fmt.Fprintf(&b, "p99 = [\"0s\", \"%v\"]\n", (s.P99*5/4 + time.Second).Truncate(time.Second))
		}
	}
	return b.String()
}

// short rounds to three decimals, outwards.
func short(x float64, up bool) string {
	x *= 1000
	if up {
		x = math.Ceil(x - 1e-9)
	} else {
		x = math.Floor(x + 1e-9)
	}
	s := fmt.Sprintf("%.3f", x/1000)
	s = strings.TrimRight(s, "0")
	if strings.HasSuffix(s, ".") {
		s += "0"
	}
	return s
}

// rewrite replaces the expectations at the end of the built-in scenarios' files.
func rewrite(t *testing.T, r *report.Report) {
	for i := range r.Scenarios {
		rs := &r.Scenarios[i]
		for _, s := range Builtin() {
			if s.Name != rs.Name {
				continue
			}
			body := s.Source
			if at := strings.Index(body, "# What was measured"); at >= 0 {
				body = body[:at]
			} else if at := strings.Index(body, "[expect."); at >= 0 {
				body = body[:at]
			}
			body = strings.TrimRight(body, "\n") + "\n\n" + expectations(rs)
			if err := os.WriteFile("../../scenarios/"+scenarios.Path(s.Name), []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
