package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
)

// batchAPI is OpenAI's Batch API of a gateway, as one caller sees it.
type batchAPI struct {
	t         *testing.T
	base, key string
}

func (a batchAPI) do(method, path, kind string, body io.Reader, into any) int {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.base+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if a.key != "" {
		req.Header.Set("Authorization", "Bearer "+a.key)
	}
	resp, err := client(a.t).Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	if s, ok := into.(*string); ok {
		*s = string(b)
	} else if into != nil {
		if err := json.Unmarshal(b, into); err != nil {
			a.t.Fatalf("%s %s: %s: %v in %s", method, path, resp.Status, err, b)
		}
	}
	return resp.StatusCode
}

// batch uploads requests and makes a batch of them.
func (a batchAPI) batch(lines string) (file, id string) {
	a.t.Helper()
	return a.batchTo("/v1/chat/completions", lines)
}

func (a batchAPI) batchTo(endpoint, lines string) (file, id string) {
	a.t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	_ = m.WriteField("purpose", "batch")
	w, _ := m.CreateFormFile("file", "in.jsonl")
	_, _ = io.WriteString(w, lines)
	_ = m.Close()
	var f, made struct{ ID string }
	if s := a.do("POST", "/files", m.FormDataContentType(), &b, &f); s != 200 {
		a.t.Fatalf("the upload has status %d", s)
	}
	in := fmt.Sprintf(`{"input_file_id":%q,"endpoint":%q,"completion_window":"24h"}`, f.ID, endpoint)
	if s := a.do("POST", "/batches", "application/json", strings.NewReader(in), &made); s != 200 {
		a.t.Fatalf("the batch has status %d", s)
	}
	return f.ID, made.ID
}

// results waits until a batch has ended and returns its results.
func (a batchAPI) results(id string) (text string) {
	a.t.Helper()
	var b struct {
		Status       string
		OutputFileID string                                 `json:"output_file_id"`
		Counts       struct{ Total, Completed, Failed int } `json:"request_counts"`
	}
	eventually(a.t, "the batch ends", func() bool {
		a.do("GET", "/batches/"+id, "", nil, &b)
		return b.Status != "in_progress" && b.Status != "finalizing"
	})
	if b.Status != "completed" || b.Counts.Failed > 0 {
		a.t.Fatalf("the batch is %+v", b)
	}
	a.do("GET", "/files/"+b.OutputFileID+"/content", "", nil, &text)
	return text
}

func batchLines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"r-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}`+"\n", i)
	}
	return b.String()
}

// The gateway takes batches itself: below the paths of their upstream, and at /v1. They share the guard with callers who wait, and go
// with the upstream's keys.
func TestBatches(t *testing.T) {
	checkGoroutines(t)
	t.Setenv("FLYBALL_TEST_KEY_A", "sk-a")
	t.Setenv("FLYBALL_TEST_KEY_B", "sk-b")
	var now, most, bad atomic.Int64
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		if r.Header.Get("Authorization") != "Bearer sk-a" && r.Header.Get("Authorization") != "Bearer sk-b" || r.URL.Path != "/v1/chat/completions" {
			bad.Add(1)
		}
		ok(w, r)
	})
	g := start(t, table(s, "law='fixed'\ninitial_limit=3\n[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY_A'\n[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY_B'\n[gateway.batches]\ndir='{dir}/spool'"))
	for _, base := range []string{"/v1", "/up", "/up/v1"} {
		a := batchAPI{t, g.url + base, ""}
		file, id := a.batch(batchLines(20))
		text := a.results(id)
		if n := strings.Count(text, "\n"); n != 20 || strings.Count(text, `"status_code":200`) != 20 {
			t.Errorf("%s: %d results: %s", base, n, text)
		}
		if s := a.do("GET", "/files/"+file, "", nil, nil); s != 200 {
			t.Errorf("%s: the file has status %d", base, s)
		}
	}
	// Calls pass as ever.
	if resp := post(t, client(t), g.url+"/up/chat/completions", chat); resp.StatusCode != 200 {
		t.Errorf("a call has status %d: %s", resp.StatusCode, read(t, resp))
	} else {
		read(t, resp)
	}
	if most.Load() > 6 || bad.Load() > 0 {
		t.Errorf("%d in flight at most, want 3 for each of two keys; %d without a key or at another path", most.Load(), bad.Load())
	}
}

// Callers see their own files and batches only, and strangers none.
func TestBatchesOfCallers(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, "")+"[gateway.batches]\ndir='{dir}/spool'\n"+caller("ann", "a-key-of-ann-that-is-long-enough-0001", "")+caller("bob", "a-key-of-bob-that-is-long-enough-0002", ""))
	ann := batchAPI{t, g.url + "/v1", "a-key-of-ann-that-is-long-enough-0001"}
	bob := batchAPI{t, g.url + "/v1", "a-key-of-bob-that-is-long-enough-0002"}
	file, id := ann.batch(batchLines(3))
	ann.results(id)
	for _, path := range []string{"/files/" + file, "/files/" + file + "/content", "/batches/" + id} {
		if s := bob.do("GET", path, "", nil, nil); s != 404 {
			t.Errorf("another caller's %s has status %d, want 404", path, s)
		}
		if s := ann.do("GET", path, "", nil, nil); s != 200 {
			t.Errorf("one's own %s has status %d, want 200", path, s)
		}
		if s := (batchAPI{t, g.url + "/v1", ""}).do("GET", path, "", nil, nil); s != 401 {
			t.Errorf("a stranger's %s has status %d, want 401", path, s)
		}
	}
	var list struct{ Data []any }
	for _, path := range []string{"/files", "/batches"} {
		if bob.do("GET", path, "", nil, &list); len(list.Data) != 0 {
			t.Errorf("another caller's list at %s has %d entries", path, len(list.Data))
		}
		if ann.do("GET", path, "", nil, &list); len(list.Data) == 0 {
			t.Errorf("one's own list at %s is empty", path)
		}
	}
	in := fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/chat/completions","completion_window":"24h"}`, file)
	if s := bob.do("POST", "/batches", "application/json", strings.NewReader(in), nil); s != 400 {
		t.Errorf("a batch of another caller's file has status %d, want 400", s)
	}
	if s := bob.do("POST", "/batches/"+id+"/cancel", "", nil, nil); s != 404 {
		t.Errorf("cancelling another caller's batch has status %d, want 404", s)
	}
}

// Who has more batches than are sent at a time keeps none of another caller from being sent.
func TestBatchesOfOneCallerHoldUpNobody(t *testing.T) {
	var held atomic.Int64
	release := make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); bytes.Contains(body, []byte("long")) {
			held.Add(1)
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		ok(w, r)
	})
	g := start(t, table(s, "law='fixed'\ninitial_limit=20")+"[gateway.batches]\ndir='{dir}/spool'\n"+caller("ann", "a-key-of-ann-that-is-long-enough-0001", "")+caller("bob", "a-key-of-bob-that-is-long-enough-0002", ""))
	ann := batchAPI{t, g.url + "/v1", "a-key-of-ann-that-is-long-enough-0001"}
	bob := batchAPI{t, g.url + "/v1", "a-key-of-bob-that-is-long-enough-0002"}
	var ids []string
	for range 6 {
		_, id := ann.batch(strings.ReplaceAll(batchLines(1), `"m"`, `"long"`))
		ids = append(ids, id)
	}
	eventually(t, "four are sent", func() bool { return held.Load() == 4 })
	_, id := bob.batch(batchLines(3))
	bob.results(id)
	if n := held.Load(); n != 4 {
		t.Errorf("%d batches of one caller are sent at a time, want 4", n)
	}
	close(release)
	for _, id := range ids {
		ann.results(id)
	}
}

// A gateway that ends lets calls of a batch end; what is left goes on with the next start.
func TestBatchesGoOn(t *testing.T) {
	checkGoroutines(t)
	var calls atomic.Int64
	hold := make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) > 5 {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		ok(w, r)
	})
	dir := t.TempDir()
	toml := table(s, "law='fixed'\ninitial_limit=2") + "[gateway.batches]\ndir='" + dir + "'"
	g := start(t, toml)
	_, id := batchAPI{t, g.url + "/v1", ""}.batch(batchLines(20))
	eventually(t, "calls are held", func() bool { return calls.Load() == 7 })
	ended := make(chan error)
	go func() { ended <- g.stop() }()
	eventually(t, "the gateway ends", func() bool { return g.draining.Load() })
	close(hold)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := calls.Load(); n != 7 {
		t.Errorf("%d calls, want 7: none may begin at the end", n)
	}
	g = start(t, toml)
	if text := (batchAPI{t, g.url + "/v1", ""}).results(id); strings.Count(text, "\n") != 20 {
		t.Errorf("results: %s", text)
	}
	if n := calls.Load(); n != 20 {
		t.Errorf("%d calls, want 20: none is sent twice", n)
	}
}

// Calls of batches may take as long to end as those of callers, and no longer.
func TestBatchesEndInTime(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, hold(t, make(chan bool), ok))
	g := start(t, table(s, "")+"[gateway.batches]\ndir='{dir}/spool'\n[gateway.server]\ndrain_timeout='100ms'\n")
	batchAPI{t, g.url + "/v1", ""}.batch(batchLines(1))
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	if err := g.stop(); err != nil { // which does not wait for half a minute
		t.Error(err)
	}
}

// Batches go where their upstream is now, and no key gets to another host than its own.
func TestBatchesAfterReload(t *testing.T) {
	checkGoroutines(t)
	t.Setenv("FLYBALL_TEST_KEY_A", "sk-a")
	t.Setenv("FLYBALL_TEST_KEY_B", "sk-b")
	var wrong atomic.Int64
	var calls [2]atomic.Int64
	keyed := func(i int, key string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			calls[i].Add(1)
			if r.Header.Get("Authorization") != "Bearer "+key {
				wrong.Add(1)
			}
			ok(w, r)
		}
	}
	a, b := upstreamServer(t, keyed(0, "sk-a")), upstreamServer(t, keyed(1, "sk-b"))
	const batches = "[gateway.batches]\ndir='{dir}/spool'"
	g := start(t, table(a, "[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY_A'\n"+batches))
	api := batchAPI{t, g.url + "/v1", ""}
	_, id := api.batch(batchLines(3))
	api.results(id)
	g.write(table(b, "[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY_B'\n"+batches))
	g.onReload(g.limits.Reload())
	_, id = api.batch(batchLines(3))
	api.results(id)
	if wrong.Load() > 0 || calls[0].Load() != 3 || calls[1].Load() != 3 {
		t.Errorf("%d calls to the first host and %d to the second, want 3 each; %d of them with the other's key", calls[0].Load(), calls[1].Load(), wrong.Load())
	}
}

// A batch that is being sent goes on with the keys that the file has now, and by the pool that keeps to its limits: it may take a day, and a key that was
// taken out is not to be paid for until then.
func TestBatchesGoOnWithOtherKeys(t *testing.T) {
	checkGoroutines(t)
	t.Setenv("FLYBALL_TEST_KEY_A", "sk-a")
	t.Setenv("FLYBALL_TEST_KEY_B", "sk-b")
	reloaded := make(chan bool)
	var calls [2]atomic.Int64
	a := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer sk-a" {
			calls[0].Add(1)
			<-reloaded
		} else {
			calls[1].Add(1)
		}
		ok(w, r)
	})
	file := func(key string) string {
		return table(a, one+"[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY_"+key+"'\n[gateway.batches]\ndir='{dir}/spool'")
	}
	g := start(t, file("A"))
	api := batchAPI{t, g.url + "/v1", ""}
	const n = 200
	_, id := api.batch(batchLines(n))
	eventually(t, "a request is sent", func() bool { return calls[0].Load() == 1 })
	g.write(file("B"))
	g.onReload(g.limits.Reload())
	close(reloaded)
	if got := strings.Count(api.results(id), "\n"); got != n {
		t.Errorf("%d results, want %d", got, n)
	}
	if before, after := calls[0].Load(), calls[1].Load(); before > 50 || before+after != n {
		t.Errorf("%d requests are sent with the key that was taken out, and %d with the other, want those that were taken up and no more, and %d together", before, after, n)
	}
}

// A reload changes nothing of batches before the gateway is started again: who asks for one that goes on does not come to the upstream's own.
func TestBatchesStayInAReload(t *testing.T) {
	checkGoroutines(t)
	var strayed atomic.Int64
	a := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/chat/completions") {
			strayed.Add(1)
		}
		ok(w, r)
	})
	file := table(a, "[upstream.other]\nbase_url='"+a.URL+"/v1'\n")
	g := start(t, file+"[gateway.batches]\ndir='{dir}/spool'\nupstream='up'")
	api := batchAPI{t, g.url + "/up/v1", ""}
	_, id := api.batch(batchLines(3))
	api.results(id)
	for _, now := range []string{"[gateway.batches]\ndir='{dir}/spool'\nupstream='other'", ""} {
		g.write(file + now)
		g.onReload(g.limits.Reload())
		var b struct{ Status string }
		if api.do("GET", "/batches/"+id, "", nil, &b); b.Status != "completed" {
			t.Errorf("after a reload with %q the batch is %q, want completed", now, b.Status)
		}
	}
	if n := strayed.Load(); n > 0 {
		t.Errorf("%d calls of the Batch API came to the upstream", n)
	}
}

// The upstream's own files and batches are not reached, however their paths are written.
func TestBatchesByOtherPaths(t *testing.T) {
	var strayed atomic.Int64
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		strayed.Add(1)
		ok(w, r)
	})
	g := start(t, table(s, "[gateway.batches]\ndir='{dir}/spool'"))
	for _, path := range []string{"/v1/files", "/v1/%66iles", "/v1//files", "//v1/files", "/up/files", "/up/v1/%62atches", "/up//v1/files", "/up/v1/files/", "/up/v1%2ffiles", "/up/v1/./files"} {
		var list struct{ Object string }
		if status := (batchAPI{t, g.url, ""}).do("GET", path, "", nil, &list); list.Object != "list" {
			t.Errorf("GET %s has status %d and %+v, want the list", path, status, list)
		}
	}
	if n := strayed.Load(); n > 0 {
		t.Errorf("%d calls came to the upstream", n)
	}
}

// The upstream's key opens what is below its base URL, and nothing beside it.
func TestBatchesBesideTheAPI(t *testing.T) {
	t.Setenv("FLYBALL_TEST_KEY_A", "sk-a")
	var calls atomic.Int64
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		ok(w, r)
	})
	g := start(t, table(s, "[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY_A'\n[gateway.batches]\ndir='{dir}/spool'"))
	a := batchAPI{t, g.url + "/v1", ""}
	for _, endpoint := range []string{"/admin/keys", "/v1x/y"} {
		_, id := a.batchTo(endpoint, strings.ReplaceAll(batchLines(2), "/v1/chat/completions", endpoint))
		var b struct {
			Status string
			Errors struct{ Data []struct{ Message string } }
		}
		eventually(t, "the batch ends", func() bool {
			a.do("GET", "/batches/"+id, "", nil, &b)
			return b.Status != "in_progress"
		})
		if b.Status != "failed" || len(b.Errors.Data) != 1 || !strings.Contains(b.Errors.Data[0].Message, "is not below /v1/") {
			t.Errorf("%s: %+v", endpoint, b)
		}
	}
	if n := calls.Load(); n > 0 {
		t.Errorf("%d calls with the key went beside the API", n)
	}
}

// A page of another site whose name leads here reads no files, whether there is a key to lend or not.
func TestBatchesByAnotherName(t *testing.T) {
	s := upstreamServer(t, ok)
	for more, want := range map[string]int{"": 401, "[gateway]\nopen=true\n": 200} {
		g := start(t, table(s, more)+"[gateway.batches]\ndir='{dir}/spool'")
		for host, want := range map[string]int{"evil.example": want, "localhost": 200} {
			req, _ := http.NewRequestWithContext(t.Context(), "GET", g.url+"/v1/files", nil)
			req.Host = host
			resp, err := client(t).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if text := read(t, resp); resp.StatusCode != want {
				t.Errorf("%q: a caller of %s has status %d, want %d: %s", more, host, resp.StatusCode, want, text)
			}
		}
	}
}

// A caller that stops in the middle of a file holds nothing, and one whose file is too large is told.
func TestBatchesHostile(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, "")+"[gateway.batches]\ndir='{dir}/spool'\nmax_file=2048\n[gateway.server]\nbody_timeout='200ms'")
	conn := dial(t, g.Addr())
	fmt.Fprint(conn, "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n"+
		"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n{")
	if b, err := io.ReadAll(conn); err != nil || !bytes.HasPrefix(b, []byte("HTTP/1.1 4")) {
		t.Errorf("an upload that stops: %v, %q", err, b)
	}
	files, err := os.ReadDir(strings.TrimSuffix(g.file, "limits.toml") + "spool/files")
	if err != nil || len(files) > 0 {
		t.Errorf("it leaves %v, %v", files, err)
	}
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	_ = m.WriteField("purpose", "batch")
	w, _ := m.CreateFormFile("file", "in.jsonl")
	_, _ = w.Write(make([]byte, 4096))
	_ = m.Close()
	if s := (batchAPI{t, g.url + "/v1", ""}).do("POST", "/files", m.FormDataContentType(), &b, nil); s != 413 {
		t.Errorf("a file that is too large has status %d, want 413", s)
	}
	// A page of another site has no business here.
	resp, err := tryPost(context.Background(), client(t), g.url+"/v1/batches", "{}", "Origin", "http://elsewhere.example", "Sec-Fetch-Site", "cross-site")
	if err != nil {
		t.Fatal(err)
	}
	if read(t, resp); resp.StatusCode != 403 && resp.StatusCode != 401 {
		t.Errorf("a page of another site gets status %d", resp.StatusCode)
	}
}

// Who uploads, reads and deletes files is in the log, as who calls an upstream is, and who may not.
func TestBatchCallsAreLogged(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, "")+"[gateway.batches]\ndir='{dir}/spool'\n"+caller("ann", "a-key-of-ann-that-is-long-enough-0001", ""))
	ann := batchAPI{t, g.url + "/v1", "a-key-of-ann-that-is-long-enough-0001"}
	file, id := ann.batch(batchLines(1))
	ann.results(id)
	ann.do("DELETE", "/files/"+file, "", nil, nil)
	batchAPI{t, g.url + "/v1", "nobody"}.do("GET", "/files", "", nil, nil)
	for _, want := range []string{
		`"method":"POST","path":"/v1/files","caller":"ann","priority":0,"status":200,`, `"method":"POST","path":"/v1/batches","caller":"ann",`,
		`"method":"DELETE","path":"/v1/files/` + file + `","caller":"ann","priority":0,"status":200,`, `"method":"GET","path":"/v1/files","status":401,`,
	} {
		eventually(t, "the log has the call", func() bool { return strings.Contains(g.logged(), want) })
	}
}
