package batches_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/gateway/internal/batches"
	"github.com/flyball-go/flyball/limiter"
)

type upstream struct {
	sent  atomic.Int64
	hold  chan struct{} // nil: answers at once
	takes time.Duration
}

func (u *upstream) Send(ctx context.Context, j *drain.Job) drain.Answer {
	u.sent.Add(1)
	if u.hold != nil {
		select {
		case <-u.hold:
		case <-ctx.Done():
			return drain.Answer{Err: ctx.Err(), Unsent: true, Outcome: limiter.Outcome{Class: feedback.Canceled}}
		}
	}
	time.Sleep(u.takes)
	return drain.Answer{Status: 200, Body: fmt.Appendf(nil, `{"id":%q}`, j.ID)}
}

// api is a queue that runs, and a client of it.
type api struct {
	t    *testing.T
	url  string
	q    *batches.Queue
	stop func()
}

func start(t *testing.T, dir string, up drain.Upstream) *api {
	t.Helper()
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(4), MaxWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	q, err := batches.Open(batches.Config{Dir: dir, Upstream: up, Guard: guard, Token: "token-of-the-test", Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(q)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			srv.Close()
		}
	}
	t.Cleanup(stop)
	return &api{t, srv.URL, q, stop}
}

func (a *api) do(method, path, kind string, body io.Reader, into any) int {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, body)
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer token-of-the-test")
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	if s, ok := into.(*string); ok {
		*s = string(data)
	} else if into != nil {
		if err := json.Unmarshal(data, into); err != nil {
			a.t.Fatalf("%v in %s", err, data)
		}
	}
	return resp.StatusCode
}

func (a *api) upload(text string) (f batches.File) {
	a.t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	_ = m.WriteField("purpose", "batch")
	w, _ := m.CreateFormFile("file", "../in.jsonl")
	_, _ = io.WriteString(w, text)
	_ = m.Close()
	if code := a.do("POST", "/v1/files", m.FormDataContentType(), &b, &f); code != 200 || f.Bytes != int64(len(text)) || f.Filename != "in.jsonl" {
		a.t.Fatalf("uploading: %d, %+v", code, f)
	}
	return f
}

func (a *api) create(file string) (b batches.Batch) {
	a.t.Helper()
	body := fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/x","completion_window":"24h","metadata":{"a":"b"}}`, file)
	if code := a.do("POST", "/v1/batches", "application/json", strings.NewReader(body), &b); code != 200 || b.Metadata["a"] != "b" {
		a.t.Fatalf("creating: %d, %+v", code, b)
	}
	return b
}

// until waits for a status.
func (a *api) until(id, status string) (b batches.Batch) {
	a.t.Helper()
	for end := time.Now().Add(20 * time.Second); b.Status != status; time.Sleep(10 * time.Millisecond) {
		if a.do("GET", "/v1/batches/"+id, "", nil, &b); time.Now().After(end) {
			a.t.Fatalf("the batch is not %s: %+v", status, b)
		}
	}
	return b
}

func requests(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"r-%d","method":"POST","url":"/v1/x","body":{"n":%d}}`+"\n", i, i)
	}
	return b.String()
}

func TestBatch(t *testing.T) {
	up := &upstream{}
	a := start(t, t.TempDir(), up)
	f := a.upload(requests(50) + "nonsense\n" + `{"custom_id":"other","url":"/v1/y","body":{}}` + "\n")
	b := a.until(a.create(f.ID).ID, "completed")
	if b.Counts != (batches.Counts{Total: 52, Completed: 50, Failed: 2}) || b.OutputFileID == nil || b.ErrorFileID == nil {
		t.Fatalf("%+v", b)
	}
	var out, errs string
	a.do("GET", "/v1/files/"+*b.OutputFileID+"/content", "", nil, &out)
	a.do("GET", "/v1/files/"+*b.ErrorFileID+"/content", "", nil, &errs)
	if strings.Count(out, "\n") != 50 || !strings.Contains(out, `"custom_id":"r-49"`) || strings.Count(errs, "\n") != 2 || !strings.Contains(errs, "bad_json") {
		t.Errorf("results %s, errors %s", out, errs)
	}
	var all struct {
		Data    []batches.Batch
		HasMore bool `json:"has_more"`
	}
	if a.do("GET", "/v1/batches?limit=1", "", nil, &all); len(all.Data) != 1 || all.Data[0].ID != b.ID || all.HasMore {
		t.Errorf("%+v", all)
	}
	files := func(query string) []string {
		var page struct{ Data []batches.File }
		if code := a.do("GET", "/v1/files?"+query, "", nil, &page); code != 200 {
			t.Errorf("%s: %d", query, code)
		}
		ids := []string{}
		for _, f := range page.Data {
			ids = append(ids, f.ID)
		}
		return ids
	}
	// Who cleans up deletes what is listed: results are not among what was uploaded.
	for query, want := range map[string][]string{"purpose=batch": {f.ID}, "purpose=batch&limit=10000": {f.ID}, "purpose=other": {}, "purpose=batch&after=" + f.ID: {}} {
		if got := files(query); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	newest, oldest := files("order=desc"), files("order=asc")
	if slices.Reverse(oldest); len(newest) != 3 || !slices.Equal(newest, oldest) {
		t.Errorf("%q from the newest to the oldest, and %q", newest, oldest)
	}
	if code := a.do("DELETE", "/v1/files/"+f.ID, "", nil, nil); code != 200 {
		t.Errorf("deleting: %d", code)
	}
	if code := a.do("GET", "/v1/files/"+f.ID, "", nil, nil); code != 404 {
		t.Errorf("after deleting: %d", code)
	}
}

// A process that ends goes on where it was.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	up := &upstream{takes: 2 * time.Millisecond}
	a := start(t, dir, up)
	b := a.create(a.upload(requests(1500)).ID)
	for end := time.Now().Add(10 * time.Second); up.sent.Load() < 50 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	a.stop()
	if n := up.sent.Load(); n < 50 || n >= 1500 {
		t.Fatalf("%d were sent before the end of the first process", n)
	}
	a = start(t, dir, up)
	b = a.until(b.ID, "completed")
	if b.Counts.Completed != 1500 || up.sent.Load() != 1500 {
		t.Errorf("%+v, %d sent", b.Counts, up.sent.Load())
	}
}

// Results that could not be recorded when their batch ended, because the disk was full, are found by the next start.
func TestResultsThatWereNotRecorded(t *testing.T) {
	dir := t.TempDir()
	a := start(t, dir, &upstream{})
	b := a.until(a.create(a.upload(requests(3)).ID).ID, "completed")
	a.stop()
	if err := os.Remove(filepath.Join(dir, "files", *b.OutputFileID+".json")); err != nil {
		t.Fatal(err)
	}
	a = start(t, dir, &upstream{})
	var text string
	if code := a.do("GET", "/v1/files/"+*b.OutputFileID+"/content", "", nil, &text); code != 200 || strings.Count(text, "\n") != 3 {
		t.Errorf("the results have status %d: %s", code, text)
	}
	if got := a.until(b.ID, "completed"); got.OutputFileID == nil || *got.OutputFileID != *b.OutputFileID {
		t.Errorf("the batch does not name its results: %+v", got)
	}
}

func TestCancel(t *testing.T) {
	up := &upstream{hold: make(chan struct{})}
	a := start(t, t.TempDir(), up)
	f := a.upload(requests(100))
	b := a.create(f.ID)
	for end := time.Now().Add(10 * time.Second); up.sent.Load() < 4 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if code := a.do("DELETE", "/v1/files/"+f.ID, "", nil, nil); code != 409 {
		t.Errorf("deleting a file that is in use: %d", code)
	}
	var c batches.Batch
	if code := a.do("POST", "/v1/batches/"+b.ID+"/cancel", "", nil, &c); code != 200 || c.Status != "cancelling" {
		t.Errorf("cancelling: %d, %+v", code, c)
	}
	close(up.hold) // calls in flight end well, and are kept
	c = a.until(b.ID, "cancelled")
	if c.Counts.Completed != 4 || up.sent.Load() != 4 {
		t.Errorf("%+v, %d sent", c.Counts, up.sent.Load())
	}
	if code := a.do("POST", "/v1/batches/"+b.ID+"/cancel", "", nil, nil); code != 409 {
		t.Errorf("cancelling twice: %d", code)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	a := start(t, dir, &upstream{})
	f := a.upload(requests(1))
	for _, test := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/v1/files", "x", 400},
		{"GET", "/v1/files/..%2F..%2Fetc%2Fpasswd/content", "", 404},
		{"GET", "/v1/files/file-x/content", "", 404},
		{"POST", "/v1/batches", "{", 400},
		{"POST", "/v1/batches", `{"input_file_id":"../x","endpoint":"/v1/x","completion_window":"24h"}`, 400},
		{"POST", "/v1/batches", `{"input_file_id":"` + f.ID + `","endpoint":"https://evil.example","completion_window":"24h"}`, 400},
		{"POST", "/v1/batches", `{"input_file_id":"` + f.ID + `","endpoint":"/v1/x","completion_window":"1h"}`, 400},
		{"GET", "/v1/batches?limit=x", "", 400},
		{"GET", "/v1/files?after=file-x", "", 400},
		{"GET", "/v1/files?order=x", "", 400},
		{"GET", "/v1/batches/batch_x", "", 404},
		{"GET", "/v1/models", "", 404},
	} {
		var e struct{ Error struct{ Message string } }
		if code := a.do(test.method, test.path, "application/json", strings.NewReader(test.body), &e); code != test.want || e.Error.Message == "" {
			t.Errorf("%s %s %s: %d %q, want %d", test.method, test.path, test.body, code, e.Error.Message, test.want)
		}
	}
	resp, err := http.Get(a.url + "/v1/batches")
	if err != nil || resp.StatusCode != 401 {
		t.Errorf("without a token: %v, %v", resp.StatusCode, err)
	}
	resp.Body.Close()
	if _, err := batches.Open(batches.Config{Dir: dir, Upstream: &upstream{}, Guard: &limiter.Guard{}}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a directory that a process has: %v", err)
	}
	a.stop()
	if err := os.WriteFile(filepath.Join(dir, "batches", "batch_1.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := batches.Open(batches.Config{Dir: dir, Upstream: &upstream{}, Guard: &limiter.Guard{}}); err == nil || !strings.Contains(err.Error(), "batch_1.json") {
		t.Errorf("a directory that is damaged: %v", err)
	}
}

// What a killed process left half written goes, and a batch that was spoiled is an error that names it, not a panic later.
func TestSpoiledDirectory(t *testing.T) {
	dir := t.TempDir()
	start(t, dir, &upstream{}).stop()
	half := filepath.Join(dir, "files", "tmp-123")
	spoiled := filepath.Join(dir, "batches", "batch_A.json")
	for path, text := range map[string]string{half: "{", spoiled: `{"id":"batch_A","status":"in_progress","input_file_id":"file-A"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	guard, err := limiter.New(limiter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := batches.Open(batches.Config{Dir: dir, Upstream: &upstream{}, Guard: guard}); err == nil || !strings.Contains(err.Error(), spoiled) {
		t.Errorf("%v, want an error that names %s", err, spoiled)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half file: %v", err)
	}
}

// The end of the process cuts an upload when its data are in place and nothing names them yet, and a deletion between its two steps. The next
// start ends both, and leaves the results that a batch names, of which no record could be written.
func TestUploadsAndDeletionsThatWereCut(t *testing.T) {
	dir := t.TempDir()
	a := start(t, dir, &upstream{})
	gone := a.upload(requests(1))
	b := a.until(a.create(a.upload(requests(3)).ID).ID, "completed")
	a.stop()
	files := filepath.Join(dir, "files")
	orphan, mine := filepath.Join(files, "file-ORPHAN.jsonl"), filepath.Join(files, "notes.jsonl")
	for _, path := range []string{orphan, mine} {
		if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{gone.ID + ".jsonl", *b.OutputFileID + ".json"} {
		if err := os.Remove(filepath.Join(files, name)); err != nil {
			t.Fatal(err)
		}
	}
	var told strings.Builder
	q, err := batches.Open(batches.Config{
		Dir: dir, Log: func(format string, args ...any) { fmt.Fprintf(&told, format+"\n", args...) },
		Way: func() (batches.Way, error) { return batches.Way{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.Count(told.String(), "\n") != 2 || !strings.Contains(told.String(), orphan) || !strings.Contains(told.String(), gone.ID+".json") {
		t.Errorf("the log tells of %q, want the two files that were removed", told.String())
	}
	a = start(t, dir, &upstream{})
	if _, err := os.Stat(orphan); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what nothing names: %v, want it to be gone", err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("what is not the queue's: %v", err)
	}
	for id, want := range map[string]int{gone.ID: 404, b.InputFileID: 200, *b.OutputFileID: 200} {
		if code := a.do("GET", "/v1/files/"+id+"/content", "", nil, nil); code != want {
			t.Errorf("%s has status %d, want %d", id, code, want)
		}
	}
}

// Data that cannot be deleted keep their name, by which they can be deleted later: without it they would be there for good, or, as the results of a
// batch, back with the next start.
func TestDeletionThatFails(t *testing.T) {
	dir := t.TempDir()
	a := start(t, dir, &upstream{})
	f := a.upload(requests(1))
	data := filepath.Join(dir, "files", f.ID+".jsonl")
	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(data, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if code := a.do("DELETE", "/v1/files/"+f.ID, "", nil, nil); code != 500 {
		t.Errorf("data that cannot be removed: %d, want 500", code)
	}
	if _, err := os.Stat(filepath.Join(dir, "files", f.ID+".json")); err != nil {
		t.Errorf("their name: %v", err)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if code := a.do("DELETE", "/v1/files/"+f.ID, "", nil, nil); code != 200 {
		t.Errorf("the second time: %d, want 200", code)
	}
}

// One caller cannot have batches without end that are still to be sent.
func TestMostBatches(t *testing.T) {
	up := &upstream{hold: make(chan struct{})}
	guard, err := limiter.New(limiter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	q, err := batches.Open(batches.Config{Dir: t.TempDir(), Upstream: up, Guard: guard, Most: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	owner := "ann"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { q.ServeFor(owner, w, r) }))
	defer srv.Close()
	a := &api{t: t, url: srv.URL, q: q}
	make := func() int {
		in := fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/x","completion_window":"24h"}`, a.upload(requests(1)).ID)
		return a.do("POST", "/v1/batches", "application/json", strings.NewReader(in), nil)
	}
	for i, want := range []int{200, 200, 429} {
		if code := make(); code != want {
			t.Errorf("batch %d has status %d, want %d", i, code, want)
		}
	}
	owner = "bob"
	if code := make(); code != 200 {
		t.Errorf("another caller's has status %d, want 200", code)
	}
}

// A page of another site cannot make batches where no token is asked for.
func TestOtherSites(t *testing.T) {
	guard, err := limiter.New(limiter.Config{})
	if err != nil {
		t.Fatal(err)
	}
	q, err := batches.Open(batches.Config{Dir: t.TempDir(), Upstream: &upstream{}, Guard: guard})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/v1/batches", strings.NewReader("{}"))
	r.Header.Set("Origin", "https://evil.test")
	w := httptest.NewRecorder()
	if q.ServeHTTP(w, r); w.Code != 403 {
		t.Errorf("it is told %d, want 403", w.Code)
	}
}

// notRead is a body that nobody should read.
type notRead struct{ t *testing.T }

func (n notRead) Read([]byte) (int, error) {
	n.t.Error("the body is read")
	return 0, io.ErrUnexpectedEOF
}

// A form that comes with a question for a list is not read: it would be kept on the disk, however large.
func TestListsReadNoForms(t *testing.T) {
	a := start(t, t.TempDir(), &upstream{})
	for _, path := range []string{"/v1/files?limit=1", "/v1/batches?limit=1"} {
		r := httptest.NewRequest("GET", path, notRead{t})
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		w := httptest.NewRecorder()
		if a.q.ServeFor("", w, r); w.Code != 200 {
			t.Errorf("%s has status %d: %s", path, w.Code, w.Body)
		}
	}
}

// slowTaker is a caller that takes its answer only when it is told to.
type slowTaker struct {
	*httptest.ResponseRecorder
	begun, take chan struct{}
}

func (s *slowTaker) Write(b []byte) (int, error) {
	close(s.begun)
	<-s.take
	return s.ResponseRecorder.Write(b)
}

// Who takes an answer slowly holds up nobody else.
func TestSlowTakers(t *testing.T) {
	a := start(t, t.TempDir(), &upstream{})
	for _, path := range []string{"/v1/files", "/v1/batches", "/v1/batches/batch_x"} {
		slow := &slowTaker{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			a.q.ServeFor("", slow, httptest.NewRequest("GET", path, nil))
		}()
		<-slow.begun
		other := make(chan struct{})
		go func() {
			defer close(other)
			a.q.ServeFor("", httptest.NewRecorder(), httptest.NewRequest("GET", "/v1/files", nil))
		}()
		select {
		case <-other:
		case <-time.After(5 * time.Second):
			t.Errorf("%s: somebody else waits for a slow taker", path)
		}
		close(slow.take)
		<-ended
		<-other
	}
}

// What is large, or leads elsewhere than it says, makes no batch.
func TestRefusedBatches(t *testing.T) {
	a := start(t, t.TempDir(), &upstream{})
	f := a.upload(`{"custom_id":"a","url":"/v1/x","body":{}}` + "\n")
	for _, in := range []string{
		`{"input_file_id":"` + f.ID + `","endpoint":"/v1/../admin","completion_window":"24h"}`,
		`{"input_file_id":"` + f.ID + `","endpoint":"/v1/%2e%2E/admin","completion_window":"24h"}`,
		`{"input_file_id":"` + f.ID + `","endpoint":"/v1/./x","completion_window":"24h"}`,
		`{"input_file_id":"` + f.ID + `","endpoint":"/v1/..\\admin","completion_window":"24h"}`,
		`{"input_file_id":"` + f.ID + `","endpoint":"/v1/x","completion_window":"24h","metadata":{"a":"` + strings.Repeat("a", 100_000) + `"}}`,
		`{"input_file_id":"` + f.ID + `","endpoint":"/v1/x","completion_window":"24h","metadata":{"a":"` + strings.Repeat("ä", 513) + `"}}`,
		`{"input_file_id":"` + f.ID + `","endpoint":"/v1/x","completion_window":"24h","metadata":{"` + strings.Repeat("a", 65) + `":""}}`,
		`{"input_file_id":"` + f.ID + `","endpoint":"/v1/x","completion_window":"24h","metadata":{"1":"","2":"","3":"","4":"","5":"","6":"","7":"","8":"","9":"","10":"","11":"","12":"","13":"","14":"","15":"","16":"","17":""}}`,
		`{"input_file_id":"` + f.ID + `","endpoint":"/v1/` + strings.Repeat("x", 2048) + `","completion_window":"24h"}`,
	} {
		if s := a.do("POST", "/v1/batches", "application/json", strings.NewReader(in), nil); s != 400 {
			t.Errorf("%.100s has status %d, want 400", in, s)
		}
	}
	for _, in := range []string{"/v1/x?a=../b", "/v1/x.y/...z"} {
		if s := a.do("POST", "/v1/batches", "application/json", strings.NewReader(`{"input_file_id":"`+f.ID+`","endpoint":"`+in+`","completion_window":"24h"}`), nil); s != 200 {
			t.Errorf("%s has status %d, want 200", in, s)
		}
	}
}

// A stranger that sends no body does not hold its connection.
func TestStrangerThatSendsNothing(t *testing.T) {
	a := start(t, t.TempDir(), &upstream{})
	defer a.stop()
	conn, err := net.Dial("tcp", strings.TrimPrefix(a.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(conn, "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
	if got, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 401 ") {
		t.Errorf("%q, %v", got, err)
	}
}

// A form that is refused leaves nothing on the disk.
func TestRefusedUploads(t *testing.T) {
	dir := t.TempDir()
	a := start(t, dir, &upstream{})
	for name, end := range map[string]string{
		"two files": "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b\"\r\n\r\nb\r\n--x--\r\n",
		"torn":      "--x\r\nContent-Disp",
		"purpose":   "--x\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nfun\r\n--x--\r\n",
	} {
		form := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\na\r\n" + end
		if code := a.do("POST", "/v1/files", "multipart/form-data; boundary=x", strings.NewReader(form), nil); code != 400 {
			t.Errorf("%s: %d", name, code)
		}
		if left, err := os.ReadDir(filepath.Join(dir, "files")); err != nil || len(left) > 0 {
			t.Errorf("%s: it left %v, %v", name, left, err)
		}
	}
}

// unpaid refuses the key for a while.
type unpaid struct {
	upstream
	refuse atomic.Int64
}

func (u *unpaid) Send(ctx context.Context, j *drain.Job) drain.Answer {
	if u.refuse.Add(-1) >= 0 {
		return drain.Answer{Status: 401, Body: []byte("{}"), Outcome: limiter.Outcome{Class: feedback.ClientError}}
	}
	return u.upstream.Send(ctx, j)
}

// A key that is not accepted is not the batch's fault: it goes on when the key is.
func TestKeyThatIsRefused(t *testing.T) {
	up := &unpaid{}
	up.refuse.Store(20)
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(4), MaxWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	q, err := batches.Open(batches.Config{Dir: t.TempDir(), Upstream: up, Guard: guard, Token: "token-of-the-test", Again: 20 * time.Millisecond, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(q)
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	a := &api{t: t, url: srv.URL, q: q}
	b := a.until(a.create(a.upload(requests(30)).ID).ID, "completed")
	if b.Counts != (batches.Counts{Total: 30, Completed: 30}) || up.sent.Load() != 30 {
		t.Errorf("%+v, %d sent", b.Counts, up.sent.Load())
	}
}

// runs runs a queue that asks again soon and cuts off calls at its end, whose log goes to log.
func runs(t *testing.T, dir string, up drain.Upstream, log func(format string, args ...any)) *api {
	t.Helper()
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(4), MaxWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	q, err := batches.Open(batches.Config{Dir: dir, Upstream: up, Guard: guard, Token: "token-of-the-test", Again: 20 * time.Millisecond, Grace: time.Millisecond, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(q)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = q.Run(ctx) }()
	stop := func() { cancel(); <-ended; srv.Close() }
	t.Cleanup(stop)
	return &api{t, srv.URL, q, stop}
}

// A file that cannot be opened for now is not the batch's fault, either.
func TestFileThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	up := &upstream{}
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(4)})
	if err != nil {
		t.Fatal(err)
	}
	q, err := batches.Open(batches.Config{Dir: dir, Upstream: up, Guard: guard, Token: "token-of-the-test"})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(q)
	a := &api{t: t, url: srv.URL, q: q}
	b := a.create(a.upload(requests(3)).ID)
	srv.Close()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "batches", b.ID+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &b); err != nil {
		t.Fatal(err)
	}
	results := filepath.Join(dir, "files", *b.OutputFileID+".jsonl")
	if err := os.Mkdir(results, 0o700); err != nil { // root can open anything else
		t.Fatal(err)
	}
	said := make(chan string, 100)
	a = runs(t, dir, up, func(format string, args ...any) { said <- fmt.Sprintf(format, args...) })
	if line := <-said; !strings.Contains(line, results) || !strings.Contains(line, "again in") {
		t.Errorf("the log says %q, want the file that cannot be opened", line)
	}
	if err := os.Remove(results); err != nil {
		t.Fatal(err)
	}
	if got := a.until(b.ID, "completed").Counts; got != (batches.Counts{Total: 3, Completed: 3}) {
		t.Errorf("%+v", got)
	}
}

// What failed before a batch was stopped counts while it goes on, too.
func TestCountsGoOn(t *testing.T) {
	up := &unpaid{upstream: upstream{hold: make(chan struct{})}}
	up.refuse.Store(1)
	a := runs(t, t.TempDir(), up, t.Logf)
	b := a.create(a.upload("nonsense\n" + requests(1)).ID)
	eventually(t, func() bool { return up.sent.Load() == 1 }) // after the key was refused once
	if got := a.until(b.ID, "in_progress").Counts; got.Failed != 1 {
		t.Errorf("while it goes on the batch counts %+v, want one that failed", got)
	}
	close(up.hold)
	if got := a.until(b.ID, "completed").Counts; got != (batches.Counts{Total: 2, Completed: 1, Failed: 1}) {
		t.Errorf("%+v", got)
	}
}

// Nobody hears of the end of a batch, or that it is to be cancelled, before that is on the disk: the next start would send again what was fetched
// and deleted meanwhile.
func TestEndThatIsNotOnTheDisk(t *testing.T) {
	dir := t.TempDir()
	said := make(chan string, 1000)
	up := &upstream{hold: make(chan struct{})}
	a := runs(t, dir, up, func(format string, args ...any) { said <- fmt.Sprintf(format, args...) })
	b := a.create(a.upload(requests(4)).ID)
	eventually(t, func() bool { return up.sent.Load() == 4 })
	kept := filepath.Join(dir, "batches")
	if err := os.Rename(kept, kept+"-gone"); err != nil {
		t.Fatal(err)
	}
	if code := a.do("POST", "/v1/batches/"+b.ID+"/cancel", "", nil, nil); code != 500 {
		t.Errorf("cancelling what cannot be saved: %d", code)
	}
	close(up.hold)
	if line := <-said; !strings.Contains(line, "no such file") || !strings.Contains(line, "again in") {
		t.Errorf("the log says %q, want that the end cannot be saved", line)
	}
	if a.do("GET", "/v1/batches/"+b.ID, "", nil, &b); b.Status != "in_progress" || b.Counts.Completed != 4 {
		t.Errorf("it is not on the disk, and the batch is %s with %+v", b.Status, b.Counts)
	}
	if code := a.do("DELETE", "/v1/files/"+b.InputFileID, "", nil, nil); code != 409 {
		t.Errorf("deleting what the next start will ask for: %d", code)
	}
	if err := os.Rename(kept+"-gone", kept); err != nil {
		t.Fatal(err)
	}
	a.until(b.ID, "completed")
	if text, err := os.ReadFile(filepath.Join(kept, b.ID+".json")); err != nil || !strings.Contains(string(text), `"status":"completed"`) || up.sent.Load() != 4 {
		t.Errorf("on the disk it is %s, %v; %d sent", text, err, up.sent.Load())
	}
}

// What was done before a restart counts, also in a batch that is cancelled before it comes to all of it.
func TestCountsOfACancelledBatch(t *testing.T) {
	dir := t.TempDir()
	up := &upstream{hold: make(chan struct{})}
	a := runs(t, dir, up, t.Logf)
	b := a.create(a.upload(requests(10)).ID)
	for range 3 {
		up.hold <- struct{}{}
	}
	eventually(t, func() bool { a.do("GET", "/v1/batches/"+b.ID, "", nil, &b); return b.Counts.Completed == 3 })
	a.stop()
	file := filepath.Join(dir, "batches", b.ID+".json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// As when the process dies right after it was cancelled.
	if err := os.WriteFile(file, bytes.Replace(text, []byte("in_progress"), []byte("cancelling"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	a = runs(t, dir, up, t.Logf)
	if got := a.until(b.ID, "cancelled"); got.Counts != (batches.Counts{Total: 10, Completed: 3}) || got.OutputFileID == nil {
		t.Errorf("%+v", got)
	}
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("after 20 s, still not")
		}
	}
}

// gone is an upstream that nobody can reach for a while.
type gone struct {
	upstream
	until time.Time
}

func (u *gone) Send(ctx context.Context, j *drain.Job) drain.Answer {
	if time.Now().Before(u.until) {
		return drain.Answer{Unsent: true, Err: errors.New("connection refused"), Outcome: limiter.Outcome{Class: feedback.Overloaded}}
	}
	return u.upstream.Send(ctx, j)
}

// open opens a queue.
func open(t *testing.T, dir string, up drain.Upstream, log func(format string, args ...any)) *batches.Queue {
	t.Helper()
	guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(4), MaxWait: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	q, err := batches.Open(batches.Config{Dir: dir, Upstream: up, Guard: guard, Token: "token-of-the-test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// queued leaves a batch of n requests in a directory, for a queue that runs in virtual time.
func queued(t *testing.T, dir string, n int) {
	t.Helper()
	q := open(t, dir, &upstream{}, t.Logf)
	srv := httptest.NewServer(q)
	a := &api{t: t, url: srv.URL, q: q}
	a.create(a.upload(requests(n)).ID)
	srv.Close()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

// A batch of which nothing gets through says why, and does not only stay in progress for a day.
func TestBatchThatIsStuck(t *testing.T) {
	dir := t.TempDir()
	queued(t, dir, 3)
	synctest.Test(t, func(t *testing.T) {
		var said []string
		q := open(t, dir, &gone{until: time.Now().Add(time.Hour)}, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		_ = q.Run(ctx)
		if len(said) != 2 || !strings.Contains(said[0], "nothing got through for 1m") || !strings.Contains(said[0], "connection refused") || !strings.Contains(said[1], "completed, 3 of 3") {
			t.Errorf("the log is %q, want why nothing gets through, once, and the end", said)
		}
	})
}

// spent has no quota left.
type spent struct{}

func (spent) Send(context.Context, *drain.Job) drain.Answer {
	return drain.Answer{Status: 429, Err: errors.New("429"), Outcome: limiter.Outcome{Class: feedback.QuotaExhausted}}
}

// Requests that wait where nothing gets through, which may be why there is another way, go by that as soon as it is there.
func TestBatchThatIsStuckGoesByAnotherWay(t *testing.T) {
	dir := t.TempDir()
	queued(t, dir, 30)
	synctest.Test(t, func(t *testing.T) {
		var to atomic.Pointer[batches.Way]
		lead := func(up drain.Upstream) {
			guard, err := limiter.New(limiter.Config{Law: adaptive.NewFixed(4), MaxWait: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			to.Store(&batches.Way{Upstream: up, Guard: guard})
		}
		lead(spent{})
		ended := make(chan string, 10)
		q, err := batches.Open(batches.Config{Dir: dir, Way: func() (batches.Way, error) { return *to.Load(), nil }, Token: "token-of-the-test", Log: func(format string, args ...any) {
			if said := fmt.Sprintf(format, args...); strings.Contains(said, "done") {
				ended <- said
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() { defer close(over); _ = q.Run(ctx) }()
		defer func() { cancel(); <-over }()
		time.Sleep(5*time.Minute + 30*time.Second)
		lead(&upstream{})
		q.Renew()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		select {
		case said := <-ended:
			if !strings.Contains(said, "completed, 30 of 30 done, 0 failed") {
				t.Errorf("the log says %s", said)
			}
		default:
			t.Error("it does not go on by the other way")
		}
	})
}
