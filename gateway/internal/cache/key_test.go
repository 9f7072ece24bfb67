package cache

import (
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func key(t *testing.T, body string, header ...string) Key {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	k, err := KeyOf(&Request{Scope: []string{"a"}, Method: "POST", URL: "/x", Body: []byte(body), Header: h})
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return k
}

func TestKeys(t *testing.T) {
	base := key(t, `{"a":1,"b":[1,2,{"c":null}]}`)
	for _, same := range []string{`{"b":[1,2,{"c":null}],"a":1}`, " {\n\"a\" : 1, \"b\":[ 1,2,{\"c\":null} ] } ", `{"\u0061":1,"b":[1,2,{"c":null}]}`} {
		if key(t, same) != base {
			t.Errorf("%s has another key", same)
		}
	}
	seen := map[Key]string{base: "base"}
	for _, other := range []string{
		`{"a":1.0,"b":[1,2,{"c":null}]}`, `{"a":"1","b":[1,2,{"c":null}]}`, `{"a":1,"b":[2,1,{"c":null}]}`, `{"a":1,"b":[1,2,{"c":false}]}`, `{"a":1,"b":[1,2,{"c":"null"}]}`,
		`{"a":1}`, `{}`, `[]`, `{"a":[]}`, `{"a":{}}`, `{"a":[[]]}`, `{"a":["1,2"]}`, `{"a":["1","2"]}`, `{"a":["12"]}`, `{"a":[["1"],"2"]}`, `{"a":["#1,"]}`, `{"a":[1]}`, `{"a":[true]}`, `{"a":["true"]}`,
	} {
		k := key(t, other)
		if before, twice := seen[k]; twice {
			t.Errorf("%s has the key of %s", other, before)
		}
		seen[k] = other
	}
	if key(t, "{}", "User-Agent", "x", "X-Stainless-Lang", "js", "Traceparent", "y") != key(t, "{}") {
		t.Error("a field that says nothing changes the key")
	}
	if key(t, "{}", "A", "bc") == key(t, "{}", "Ab", "c") || key(t, "{}", "A", "b", "A", "c") == key(t, "{}", "A", "b", "C", "c") || key(t, "{}", "A", "") == key(t, "{}") {
		t.Error("fields run into each other")
	}
	// Servers behind several names make their links from these.
	for _, f := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
		if key(t, "{}", f, "elsewhere.example") == key(t, "{}") {
			t.Errorf("%s does not change the key", f)
		}
	}
	// What Forwarded says besides, of who asked, is in no link.
	if a := key(t, "{}", "Forwarded", "for=1.2.3.4;host=a;proto=https, by=_x"); a != key(t, "{}", "Forwarded", `For="[2001:db8::1]:80";host=a;proto=https, for=unknown`) ||
		a == key(t, "{}", "Forwarded", "for=1.2.3.4;host=b;proto=https, by=_x") || a == key(t, "{}", "Forwarded", "for=1.2.3.4 host=b;host=a;proto=https, by=_x") {
		t.Error("of Forwarded, who asked changes the key, or the host does not")
	}
	// A caller must not have its answer be that of another request by what it puts into one field.
	if key(t, "{}", "A", "x", "A", "", "A", "B", "A", "c") == key(t, "{}", "A", "x", "B", "c") || key(t, "{}", "A", "x", "A", "") == key(t, "{}", "A", "x") {
		t.Error("the values of a field stand for other fields")
	}
	for _, bad := range []string{`{"a":1,"a":2}`, `{"a":1}{"b":2}`, `{"a":`, ``, `{"x":{"a":1,"a":1}}`, strings.Repeat("[", 300) + strings.Repeat("]", 300)} {
		if _, err := KeyOf(&Request{Body: []byte(bad)}); err == nil {
			t.Errorf("%.40s has a key", bad)
		}
	}
}

// Two bodies have the same key exactly when they are the same value.
func TestKeysAreCanonical(t *testing.T) {
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		leaf := rapid.OneOf(rapid.Map(rapid.StringOf(rapid.SampledFrom([]rune("ab\"\\:,{}[]#1é"))), func(s string) any { return s }),
			rapid.Map(rapid.IntRange(0, 2), func(i int) any { return i }), rapid.Map(rapid.Bool(), func(b bool) any { return b }), rapid.Just[any](nil))
		if depth == 0 {
			return leaf
		}
		return rapid.OneOf(leaf,
			rapid.Map(rapid.SliceOfN(value(depth-1), 0, 3), func(v []any) any { return v }),
			rapid.Map(rapid.MapOfN(rapid.StringOfN(rapid.SampledFrom([]rune("ab\":")), 0, 2, -1), value(depth-1), 0, 3), func(m map[string]any) any { return m }))
	}
	rapid.Check(t, func(rt *rapid.T) {
		a, b := value(3).Draw(rt, "a"), value(3).Draw(rt, "b")
		ja, _ := json.Marshal(a)
		jb, _ := json.Marshal(b)
		pretty, _ := json.MarshalIndent(a, " ", "\t")
		if key(t, string(ja)) != key(t, string(pretty)) {
			rt.Fatalf("space changes the key of %s", ja)
		}
		if (string(ja) == string(jb)) != (key(t, string(ja)) == key(t, string(jb))) {
			rt.Fatalf("%s and %s", ja, jb)
		}
	})
}

func FuzzKeyOf(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":"c"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		k, err := KeyOf(&Request{Body: body})
		if err != nil {
			return
		}
		var v any
		if json.Unmarshal(body, &v) != nil {
			t.Errorf("%q is no JSON, and has the key %x", body, k)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("{\"status\":200,\"length\":1}\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := decode(b); err == nil && (e.Status < 200 || e.TTL < 0) {
			t.Errorf("%+v", e)
		}
	})
}

// Strings that JSON's decoder takes for the same, but an upstream need not, have no key.
func TestBrokenTextHasNoKey(t *testing.T) {
	for _, body := range []string{`{"input":"\ud83d"}`, `{"input":"\uDE00x"}`, "{\"input\":\"\xff\"}", `{"\ud800":1}`} {
		if _, err := KeyOf(&Request{Body: []byte(body)}); err == nil {
			t.Errorf("%q has a key", body)
		}
	}
	for _, body := range []string{`{"input":"\ud83d\ude00"}`, `{"input":"�"}`, `{"input":"\ufffd"}`} {
		if _, err := KeyOf(&Request{Body: []byte(body)}); err != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// What is read of a body is not kept: many callers at a time may send large ones, and a list of numbers took sixteen
// times its length for each.
func TestKeysTakeNoMemory(t *testing.T) {
	const n = 500_000
	body := []byte("[" + strings.Repeat("0,", n-1) + "0]")
	before := inUse()
	w := &weighing{at: n / 2}
	if err := canonical(w, body); err != nil {
		t.Fatal(err)
	}
	if takes, most := w.inUse-before, int64(4<<20); takes > most {
		t.Errorf("in the middle of a body of %d bytes its key takes %d bytes, want %d at most", len(body), takes, most)
	}
}

// weighing is a writer that finds out how much memory is in use at one of its writes.
type weighing struct {
	at, writes int
	inUse      int64
}

func (w *weighing) Write(p []byte) (int, error) {
	if w.writes++; w.writes == w.at {
		w.inUse = inUse()
	}
	return len(p), nil
}

// inUse returns how many bytes of the heap are in use.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
