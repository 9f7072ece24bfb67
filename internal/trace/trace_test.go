package trace

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n" +
		"2023-11-16 18:17:03.9799600,4808,10\n" +
		"2023-11-16 18:17:04.0319600,3180,8\n"
	azure2024 = "TIMESTAMP,ContextTokens,GeneratedTokens\n" +
		"2024-05-10 00:00:00.009930+00:00,2162,5\n" +
		"2024-05-10 00:00:00.017335+00:00,2399,6\n"
	burst = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n" +
		"5,ChatGPT,472,18,490,Conversation log\n" +
		"45,GPT-4,1087,0,1087,API log\n"
	mooncake = `{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48]}` + "\n" +
		`{"timestamp": 27582, "input_length": 700, "output_length": 26, "hash_ids": [46, 49]}` + "\n"
	own = `{"t":0,"in":100,"out":20,"key":"key-1","send":0.25,"first":0.5,"end":1.5,"status":200}` + "\n" +
		`{"t":1.000000001,"in":50,"cached":40,"tenant":"a","prio":3,"deadline":30,"end":1.1,"status":429,"retry_after":2,"hdr":{"retry-after":"2"}}` + "\n"
)

func read(t *testing.T, text string, opt Options) *Trace {
	t.Helper()
	tr, err := Read("f", strings.NewReader(text), opt)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestFormats(t *testing.T) {
	ms := time.Millisecond
	for _, c := range []struct {
		text, format string
		opt          Options
		want         []Row
	}{
		{azure, Azure, Options{}, []Row{{In: 4808, Out: 10}, {At: 52 * ms, In: 3180, Out: 8}}},
		{azure2024, Azure, Options{}, []Row{{In: 2162, Out: 5}, {At: 7405 * time.Microsecond, In: 2399, Out: 6}}},
		{burst, BurstGPT, Options{}, []Row{{In: 472, Out: 18, Tenant: "ChatGPT"}, {At: 40 * time.Second, In: 1087, Tenant: "GPT-4"}}},
		{mooncake, Mooncake, Options{}, []Row{{In: 6955, Out: 52}, {At: 100 * ms, In: 700, Out: 26}}},
		{mooncake, Mooncake, Options{PrefixCache: true}, []Row{{In: 6955, Out: 52}, {At: 100 * ms, In: 700, Out: 26, Cached: 512}}},
		{"\xef\xbb\xbfwhen,p,c\n1000,5,6\n1500,7,8\n", CSV, Options{Columns: Columns{"t": {"when", ms}, "in": {Name: "p"}, "out": {Name: "c"}}},
			[]Row{{In: 5, Out: 6}, {At: 500 * ms, In: 7, Out: 8}}},
		{`{"ts":"2026-01-01T00:00:00Z","tok":3,"d":1500,"code":200}`, JSONL,
			Options{Columns: Columns{"t": {Name: "ts"}, "in": {Name: "tok"}, "latency": {"d", ms}, "status": {Name: "code"}}},
			[]Row{{In: 3, Seen: true, End: 1500 * ms, Status: 200}}},
		{"1500000000,200,250000000,x\n1500500000,429,1000000,y\n", CSV, Options{Columns: Columns{"t": {"#1", time.Nanosecond}, "status": {Name: "#2"}, "latency": {"#3", time.Nanosecond}}}, // vegeta's
			[]Row{{Seen: true, End: 250 * ms, Status: 200}, {At: ms / 2, Seen: true, Sent: ms / 2, End: ms + ms/2, Status: 429}}},
		{"t,in\n2,5\n1,6\n", CSV, Options{Sort: true}, []Row{{In: 6}, {At: time.Second, In: 5}}},
		{own, Flyball, Options{}, []Row{
			{In: 100, Out: 20, Key: "key-1", Seen: true, Sent: 250 * ms, First: 500 * ms, End: 1500 * ms, Status: 200},
			{At: time.Second + 1, In: 50, Cached: 40, Tenant: "a", Priority: 3, Deadline: 30 * time.Second, Seen: true, Sent: time.Second + 1, End: 1100 * ms,
				Status: 429, RetryAfter: 2 * time.Second, Header: map[string]string{"retry-after": "2"}},
		}},
	} {
		tr := read(t, c.text, c.opt)
		for i := range c.want {
			if c.want[i].RetryAfter == 0 {
				c.want[i].RetryAfter = -1
			}
		}
		if tr.Format != c.format || !reflect.DeepEqual(tr.Rows, c.want) {
			t.Errorf("%s\nread as %s: %+v\nwant %s: %+v", c.text, tr.Format, tr.Rows, c.format, c.want)
		}
	}
}

// Whatever cannot be a request is refused with its row, and with what to do.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		text string
		opt  Options
		row  int
		want string
	}{
		{"", Options{}, 1, "empty"},
		{"\n \n", Options{}, 1, "empty"},
		{"TIMESTAMP,ContextTokens\n2023-11-16 18:17:03,1\n", Options{}, 1, `no column "GeneratedTokens" for out, only "TIMESTAMP", "ContextTokens"`},
		{"a,b\n1,2\n", Options{}, 1, `no column "t" for t`},
		{"when,b\n1,2\n", Options{Columns: Columns{"t": {Name: "when"}, "in": {Name: "c"}}}, 1, `no column "c" for in`},
		{"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,2\n2023-11-16 18:17:02,1,2\n", Options{}, 3, "is 1s before that of row 2: sort the file by time, or read it with --sort"},
		{"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,NaN\n", Options{}, 2, `GeneratedTokens is "NaN", which is no number of tokens`},
		{"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,\n", Options{}, 2, "GeneratedTokens is empty"},
		{"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1\n", Options{}, 2, "has 2 cells, the header names 3"},
		{"TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n", Options{}, 2, "neither a number nor a date"},
		{"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1000000000,2\n", Options{}, 2, `ContextTokens is "1000000000", more than the 10000000 tokens`},
		{"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,-1,2\n", Options{}, 2, "negative"},
		{"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1.5,2\n", Options{}, 2, "whole number"},
		{"t,in\nNaN,1\n", Options{}, 2, `t is "NaN", which is no time`},
		{"t,in\n,1\n", Options{}, 2, "t is empty"},
		{"t,in\n1,1\n1e300,1\n", Options{}, 3, "too large"},
		{"t,in\n1,1\n1000000000,1\n", Options{}, 3, "is its unit right"},
		{"t,t\n1,1\n", Options{}, 1, "name of two columns"},
		{"t,in\n1,\"1\n", Options{}, 2, "is no CSV"},
		{"1,2\n1,2\n", Options{Columns: Columns{"t": {Name: "#3"}}}, 1, `no column "#3"`},
		{"1,x\n", Options{Columns: Columns{"t": {Name: "#1"}, "in": {Name: "#2"}}}, 1, "no number of tokens"},
		{"t,in\n", Options{}, 1, "has no request"},
		{"\x1f\x8b\x08\x00\x00", Options{}, 1, "is compressed with gzip"},
		{"\xff\xfet\x00,\x00", Options{}, 1, "is UTF-16"},
		{`{"t":0}` + "\n\n" + `{"t":1`, Options{}, 3, "is no JSON object"},
		{`{"x":0}`, Options{}, 1, "t is missing"},
		{`{"t":null}`, Options{}, 1, "t is missing"},
		{`{"t":-1}`, Options{}, 1, "from the start"},
		{`{"t":1}` + "\n" + `{"t":0.5}`, Options{}, 2, "is 500ms before that of row 1"},
		{`{"t":1,"in":1e10}`, Options{}, 1, "in is \"1e10\", more than"},
		{`{"t":1,"in":{}}`, Options{}, 1, "no number of tokens"},
		{`{"t":1,"in":1,"cached":2}`, Options{}, 1, "cached is 2, more than the 1 tokens"},
		{`{"t":1,"prio":8}`, Options{}, 1, "from 0 to 7"},
		{`{"t":1,"end":0.5}`, Options{}, 1, "after the request came"},
		{`{"t":1,"send":2,"end":1.5}`, Options{}, 1, "does not come after"},
		{`{"t":1,"end":2,"status":42}`, Options{}, 1, "HTTP status"},
		{`{"t":1,"end":2,"hdr":[]}`, Options{}, 1, "object of strings"},
		{`{"t":1,"deadline":-1}`, Options{}, 1, "31 days"},
		{`{"timestamp":1,"input_length":2}`, Options{}, 1, "output_length is missing"},
		{"{" + strings.Repeat(" ", maxLine), Options{Format: Flyball}, 1, "longer than"},
	} {
		_, err := Read("f.csv", strings.NewReader(c.text), c.opt)
		var re *RowError
		if !errors.As(err, &re) || re.Row != c.row || !strings.Contains(err.Error(), c.want) {
			text := c.text
			if len(text) > 200 {
				text = text[:200] + "…"
			}
			t.Errorf("%q gives %v\nwant row %d and %q", text, err, c.row, c.want)
		}
	}
}

func TestParseColumns(t *testing.T) {
	c, err := ParseColumns("t=time stamp:ms, in=a:b ,out=c")
	want := Columns{"t": {"time stamp", time.Millisecond}, "in": {Name: "a:b"}, "out": {Name: "c"}}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%v, %v", c, err)
	}
	for bad, want := range map[string]string{
		"": "no column", "t": "no column", "t=": "no column", "in=x": "for t", "x=y,t=z": `no field "x"`, "t=a,t=b": "twice",
	} {
		if _, err := ParseColumns(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseColumns(%q) gives %v, want %q", bad, err, want)
		}
	}
}

// "Mooncake timestamps come in 3 s lumps (every gap is 2999–3002 ms): spread uniformly on import."
func TestSpread(t *testing.T) {
	var b strings.Builder
	for tick := range 200 {
		for range 10 {
			fmt.Fprintf(&b, `{"timestamp": %d, "input_length": 1, "output_length": %d}`+"\n", tick*3000+tick%3, tick)
		}
	}
	tr := read(t, b.String(), Options{})
	if len(tr.Rows) != 2000 || len(tr.Notes) != 1 || !strings.Contains(tr.Notes[0], "200 lumps") {
		t.Fatalf("%d rows, notes %q", len(tr.Rows), tr.Notes)
	}
	var bins [30]int
	for i, r := range tr.Rows {
		if i > 0 && r.At < tr.Rows[i-1].At {
			t.Fatalf("row %d comes before the one before", i)
		}
		if lo := time.Duration(r.Out) * 3 * time.Second; r.At < lo || r.At > lo+3*time.Second+10*time.Millisecond {
			t.Fatalf("row %d of lump %d came at %v", i, r.Out, r.At)
		}
		bins[int(r.At%(3*time.Second)/(100*time.Millisecond))]++
	}
	chi := 0.0
	for _, n := range bins {
		chi += math.Pow(float64(n)-2000.0/30, 2) / (2000.0 / 30)
	}
	if chi > 60 { // 29 degrees of freedom: p = 0.0006
		t.Errorf("not uniform within the lumps: chi² = %.0f, bins %v", chi, bins)
	}
	if again := read(t, b.String(), Options{}); !reflect.DeepEqual(again.Rows, tr.Rows) {
		t.Error("reading twice gives two traces")
	}
}

func TestDemand(t *testing.T) {
	tr := read(t, "t,in\n0,1\n1,2\n2,3\n4,4\n", Options{}) // a span of 4 s, a mean gap of 1 s: a period of 5 s
	at := func(d *Demand) (s string) {
		for _, r := range d.Rows {
			s += fmt.Sprintf("%v/%d ", r.At.Seconds(), r.In)
		}
		return s + d.Duration.String()
	}
	for _, c := range []struct {
		opt  DemandOptions
		want string
	}{
		{DemandOptions{}, "0/1 1/2 2/3 4/4 5s"},
		{DemandOptions{TimeScale: 2}, "0/1 2/2 4/3 8/4 10s"},
		{DemandOptions{RateScale: 2}, "0/1 0.5/1 1/2 1.5/2 2/3 3/3 4/4 4.5/4 5s"},
		{DemandOptions{RateScale: 0.5}, "0/1 2/3 5s"},
		{DemandOptions{Duration: 7 * time.Second}, "0/1 1/2 2/3 4/4 5/1 6/2 7s"},
		{DemandOptions{Duration: 1500 * time.Millisecond}, "0/1 1/2 1.5s"},
	} {
		d, err := tr.Demand(c.opt)
		if err != nil || at(d) != c.want {
			t.Errorf("%+v: %s, %v, want %s", c.opt, at(d), err, c.want)
		}
	}
	for _, bad := range []DemandOptions{{TimeScale: -1}, {RateScale: math.NaN()}, {Duration: -1}, {RateScale: 1e9}} {
		if _, err := tr.Demand(bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
	w, err := tr.Window(time.Second, 3*time.Second)
	if err != nil || len(w.Rows) != 2 || w.Rows[0].At != 0 || w.Rows[1].In != 3 {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := tr.Window(10*time.Second, 0); err == nil || !strings.Contains(err.Error(), "lasts 4s") {
		t.Errorf("%v", err)
	}
}

// What is written is read again as it was.
func TestRoundTrip(t *testing.T) {
	tr := read(t, own, Options{})
	var b strings.Builder
	if err := Write(&b, tr.Rows); err != nil {
		t.Fatal(err)
	}
	if again := read(t, b.String(), Options{}); !reflect.DeepEqual(again.Rows, tr.Rows) {
		t.Errorf("%+v\nwritten as\n%s\nread as %+v", tr.Rows, b.String(), again.Rows)
	}
}

// No file makes Read panic, and what it accepts is sound: in order, within the bounds, and the same when written and read again.
func FuzzRead(f *testing.F) {
	for _, s := range []string{azure, azure2024, burst, mooncake, own, "t,in\n1,2\n", "when;x\n", `{"t":1e9}`, `{"timestamp":3000,"input_length":1,"output_length":1}`,
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"1","endTimeUnixNano":2,"attributes":[{"key":"gen_ai.x","value":{"intValue":"1"}}]}]}]}]}`} {
		f.Add(s, uint8(0), false)
	}
	for i := range Formats() {
		f.Add("t,in,latency\n1,2,3\n2,3,4\n", uint8(i), true)
	}
	f.Fuzz(func(t *testing.T, text string, format uint8, sorted bool) {
		opt := Options{Format: Formats()[int(format)%len(Formats())], Sort: sorted, PrefixCache: true}
		tr, err := Read("f", strings.NewReader(text), opt)
		if err != nil {
			return
		}
		for i, r := range tr.Rows {
			switch {
			case i > 0 && r.At < tr.Rows[i-1].At, r.At < 0, r.At > 2*MaxAt+lump:
				t.Fatalf("row %d at %v", i, r.At)
			case r.In < 0 || r.In > MaxTokens || r.Out < 0 || r.Out > MaxTokens || r.Cached < 0 || r.Cached > r.In:
				t.Fatalf("row %d has tokens %d, %d, %d", i, r.In, r.Out, r.Cached)
			case r.Seen && (r.End < r.Sent || r.Sent < r.At):
				t.Fatalf("row %d: %+v", i, r)
			}
		}
		var b strings.Builder
		if err := Write(&b, tr.Rows); err != nil {
			t.Fatal(err)
		}
		again, err := Read("f", strings.NewReader(b.String()), Options{Format: Flyball})
		if err != nil {
			if tr.Rows[len(tr.Rows)-1].At > MaxAt { // sorted after a first row in the middle
				return
			}
			t.Fatalf("%v\nin\n%s", err, b.String())
		}
		if len(again.Rows) != len(tr.Rows) {
			t.Fatalf("%d rows became %d", len(tr.Rows), len(again.Rows))
		}
	})
}

// Spans of language models are requests, in the order of their start; others are left out.
func TestOTel(t *testing.T) {
	span := func(start, end, more string) string {
		return `{"name":"chat","startTimeUnixNano":"` + start + `","endTimeUnixNano":"` + end + `","attributes":[{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}}` + more + `]}`
	}
	line := func(spans ...string) string {
		return `{"resourceSpans":[{"resource":{},"scopeSpans":[{"spans":[` + strings.Join(spans, ",") + `]}]}]}` + "\n"
	}
	text := line(
		span("1763000002000000000", "1763000003500000000", `,{"key":"gen_ai.usage.input_tokens","value":{"intValue":"120"}},{"key":"gen_ai.usage.output_tokens","value":{"intValue":30}},{"key":"gen_ai.request.model","value":{"stringValue":"m"}}`),
		`{"name":"GET","startTimeUnixNano":"1","endTimeUnixNano":"2","attributes":[]}`,
	) + line(span("1763000001000000000", "1763000001250000000", `,{"key":"http.response.status_code","value":{"intValue":"429"}}`))
	tr, err := Read("spans.json", strings.NewReader(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if tr.Format != OTel || len(tr.Rows) != 2 {
		t.Fatalf("%s, %d rows", tr.Format, len(tr.Rows))
	}
	a, b := tr.Rows[0], tr.Rows[1]
	if a.At != 0 || a.Status != 429 || a.Latency() != 250*time.Millisecond || b.At != time.Second || b.In != 120 || b.Out != 30 || b.Tenant != "m" || b.Status != 200 || b.Latency() != 1500*time.Millisecond {
		t.Errorf("%+v\n%+v", a, b)
	}
	for text, want := range map[string]string{
		line(`{"startTimeUnixNano":"1","endTimeUnixNano":"2"}`):      "no span with an attribute gen_ai",
		line(span("x", "2", "")):                                     ":1: t is",
		line(span("1763000002000000000", "1763000001000000000", "")): ":1: end is",
		line(span("1763000002000000000", "1763000003000000000", `,{"key":"gen_ai.usage.input_tokens","value":{"intValue":"1000000000"}}`)): ":1: in is",
		"{\"resourceSpans\":[}\n": ":1: is no OTLP",
	} {
		if _, err := Read("spans.json", strings.NewReader(text), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, want %q", text, err, want)
		}
	}
}

// Spans of agents and tools go around those of models and are no calls; a refusal is one also where only the name of an exception tells.
func TestOTelAgents(t *testing.T) {
	text := ""
	for i, c := range []struct{ operation, more string }{
		{"invoke_agent", ""}, {"chat", ""}, {"execute_tool", ""}, {"retrieval", ""},
		{"chat", `,{"key":"error.type","value":{"stringValue":"RateLimitError"}}`},
		{"chat", `,{"key":"error.type","value":{"stringValue":"rate_limit_exceeded"}}`},
		{"chat", `,{"key":"error.type","value":{"stringValue":"ThrottlingException"}}`},
		{"chat", `,{"key":"error.type","value":{"stringValue":"503"}}`},
		{"embeddings", `,{"key":"error.type","value":{"stringValue":"timeout"}}`},
	} {
		text += fmt.Sprintf(`{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[{"key":"gen_ai.operation.name","value":{"stringValue":"%s"}}%s]}]}]}]}`+"\n",
			i+1, i+10, c.operation, c.more)
	}
	var statuses []int
	for _, r := range read(t, text, Options{}).Rows {
		statuses = append(statuses, r.Status)
	}
	if want := []int{200, 429, 429, 429, 503, 0}; !slices.Equal(statuses, want) {
		t.Errorf("%v, want %v", statuses, want)
	}
}

// A collector writes a batch of thousands of spans in one line, and one that is sent again is there twice: each call counts once.
func TestOTelBatches(t *testing.T) {
	const spans = 8192
	var batch strings.Builder
	prompt := strings.Repeat("x", maxLine/spans+1)
	for i := range spans {
		fmt.Fprintf(&batch, `,{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"%016x","startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[{"key":"gen_ai.input.messages","value":{"stringValue":"%s"}}]}`,
			i, 1_000_000_000+i, 2_000_000_000+i, prompt)
	}
	line := `{"resourceSpans":[{"scopeSpans":[{"spans":[` + batch.String()[1:] + `]}]}]}` + "\n"
	tr := read(t, line+line, Options{})
	if tr.spans != nil {
		t.Errorf("the ids of %d spans are kept", len(tr.spans))
	}
	if len(tr.Rows) != spans || len(tr.Notes) != 1 || !strings.Contains(tr.Notes[0], "8192 spans were there before") {
		t.Errorf("%d requests, notes %q", len(tr.Rows), tr.Notes)
	}
}

// A trace of months, a thousand times slower, lasts longer than a duration can be, and ends all the same.
func TestDemandOfCenturies(t *testing.T) {
	tr := &Trace{Name: "t", Rows: []Row{{At: 0}, {At: 120 * 24 * time.Hour}}}
	d, err := tr.Demand(DemandOptions{TimeScale: 1000, Duration: time.Minute})
	if err != nil || len(d.Rows) != 1 || d.Rows[0].At != 0 {
		t.Errorf("%+v, %v; want one request at 0", d, err)
	}
}

// A part of a trace keeps its rate, also where no request came at its ends.
func TestWindowKeepsRate(t *testing.T) {
	tr := &Trace{Name: "t", Rows: []Row{{At: 0}, {At: 100 * time.Second}, {At: 101 * time.Second}, {At: 1000 * time.Second}}}
	for _, c := range []struct {
		from, to, duration, lasts time.Duration
		at                        []time.Duration
	}{
		{50 * time.Second, 250 * time.Second, 0, 200 * time.Second, []time.Duration{50 * time.Second, 51 * time.Second}},
		{50 * time.Second, 250 * time.Second, 400 * time.Second, 400 * time.Second, []time.Duration{50 * time.Second, 51 * time.Second, 250 * time.Second, 251 * time.Second}},
		{990 * time.Second, 0, 0, 260 * time.Second, []time.Duration{10 * time.Second}}, // and the mean gap after the last
		{990 * time.Second, time.Hour, 0, 260 * time.Second, []time.Duration{10 * time.Second}},
	} {
		w, err := tr.Window(c.from, c.to)
		if err != nil {
			t.Fatal(err)
		}
		d, err := w.Demand(DemandOptions{Duration: c.duration})
		if err != nil {
			t.Fatal(err)
		}
		var at []time.Duration
		for _, r := range d.Rows {
			at = append(at, r.At)
		}
		if d.Duration != c.lasts || !slices.Equal(at, c.at) {
			t.Errorf("from %v to %v: %v in %v, want %v in %v", c.from, c.to, at, d.Duration, c.at, c.lasts)
		}
	}
}
