package batches

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// crossOrigin keeps pages that a browser on this machine shows from making batches where no token is asked for.
var crossOrigin = http.NewCrossOriginProtection()

// ServeHTTP is the API: /v1/files and /v1/batches.
func (q *Queue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if q.cfg.Token != "" {
		got, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if subtle.ConstantTimeCompare([]byte(got), []byte(q.cfg.Token)) != 1 {
			// The server reads what a stranger sends, and would wait for it.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Second))
			refuse(w, 401, "the bearer token is wrong or missing")
			return
		}
	}
	q.ServeFor("", w, r)
}

// ServeFor is the API for a caller who is known already, by a name: it sees what it made itself, and nothing else. Without a
// name it sees what was made without one.
func (q *Queue) ServeFor(owner string, w http.ResponseWriter, r *http.Request) {
	if err := crossOrigin.Check(r); err != nil {
		refuse(w, 403, "pages of other sites may not use this: "+err.Error())
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), ownerKey{}, owner))
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/files", unhurried(q.upload))
	mux.HandleFunc("GET /v1/files", unhurried(q.listFiles))
	mux.HandleFunc("GET /v1/files/{id}", unhurried(q.getFile))
	mux.HandleFunc("GET /v1/files/{id}/content", q.content)
	mux.HandleFunc("DELETE /v1/files/{id}", unhurried(q.deleteFile))
	mux.HandleFunc("POST /v1/batches", unhurried(q.create))
	mux.HandleFunc("GET /v1/batches", unhurried(q.listBatches))
	mux.HandleFunc("GET /v1/batches/{id}", unhurried(q.getBatch))
	mux.HandleFunc("POST /v1/batches/{id}/cancel", unhurried(q.cancel))
	if _, pattern := mux.Handler(r); pattern == "" {
		refuse(w, 404, "there is no "+r.Method+" "+r.URL.Path+" here, but /v1/files and /v1/batches")
		return
	}
	mux.ServeHTTP(w, r)
}

type ownerKey struct{}

// owner returns for whom a request is served.
func owner(r *http.Request) string {
	name, _ := r.Context().Value(ownerKey{}).(string)
	return name
}

// later is an answer that is sent when all of it is there.
type later struct {
	http.ResponseWriter
	status int
	body   []byte
}

func (l *later) WriteHeader(status int) { l.status = status }

func (l *later) Write(b []byte) (int, error) {
	l.body = append(l.body, b...)
	return len(b), nil
}

// unhurried has answers of h sent when h has returned, without its lock: who takes one slowly holds up nobody else.
func unhurried(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		l := &later{ResponseWriter: w, status: http.StatusOK}
		h(l, r)
		w.WriteHeader(l.status)
		_, _ = w.Write(l.body) // the caller has gone, if anything
	}
}

func refuse(w http.ResponseWriter, status int, message string) {
	kind := "invalid_request_error"
	if status >= 500 {
		kind = "server_error"
	}
	answer(w, status, map[string]any{"error": map[string]any{"message": message, "type": kind, "param": nil, "code": nil}})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller has gone, if anything
}

// upload keeps a file.
func (q *Queue) upload(w http.ResponseWriter, r *http.Request) {
	mr, err := r.MultipartReader()
	if err != nil {
		refuse(w, 400, "send the file as multipart/form-data, with the fields purpose and file")
		return
	}
	f := &File{ID: newID("file-"), Owner: owner(r), Object: "file", CreatedAt: *now(), Status: "processed"}
	stored, kept := false, false
	for {
		part, err := mr.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			refuse(w, 400, "the form ends in the middle")
			return
		}
		switch part.FormName() {
		case "purpose":
			b, err := io.ReadAll(io.LimitReader(part, 100))
			if err != nil {
				refuse(w, 400, "the form ends in the middle")
				return
			}
			f.Purpose = string(b)
		case "file":
			if stored {
				refuse(w, 400, "there are two files; send one at a time")
				return
			}
			status, err := q.store(f, part)
			if err != nil {
				refuse(w, status, err.Error())
				return
			}
			stored = true
			defer func() {
				if !kept {
					_ = remove(q.data(f.ID))
				}
			}()
		}
	}
	if !stored || f.Purpose != "batch" {
		refuse(w, 400, "the form must have a file, and the purpose batch")
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.saveFile(f); err != nil {
		refuse(w, 500, err.Error())
		return
	}
	kept = true
	q.files[f.ID] = f
	answer(w, 200, f)
}

// store writes an uploaded file to the disk.
func (q *Queue) store(f *File, part *multipart.Part) (status int, err error) {
	tmp, err := os.CreateTemp(filepath.Join(q.cfg.Dir, "files"), "tmp-")
	if err != nil {
		return 500, err
	}
	n, err := io.Copy(tmp, io.LimitReader(part, q.cfg.MaxFile+1))
	if err == nil && n > q.cfg.MaxFile {
		err = fmt.Errorf("the file has more than %d bytes", q.cfg.MaxFile)
		status = 413
	} else if disk := (*fs.PathError)(nil); err != nil && !errors.As(err, &disk) {
		status = 400 // the upload broke off
	} else {
		status = 500
	}
	f.Bytes = n
	if f.Filename = filepath.Base(part.FileName()); f.Filename == "." || len(f.Filename) > longestName {
		f.Filename = f.ID + ".jsonl"
	}
	return status, place(tmp, q.data(f.ID), err)
}

func (q *Queue) file(w http.ResponseWriter, r *http.Request) (f File, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.files[r.PathValue("id")]
	if p == nil || p.Owner != owner(r) {
		refuse(w, 404, "there is no file "+strconv.Quote(r.PathValue("id")))
		return f, false
	}
	return *p, true
}

func (q *Queue) getFile(w http.ResponseWriter, r *http.Request) {
	if f, ok := q.file(w, r); ok {
		answer(w, 200, f)
	}
}

func (q *Queue) content(w http.ResponseWriter, r *http.Request) {
	f, ok := q.file(w, r)
	if !ok {
		return
	}
	data, err := os.Open(q.data(f.ID))
	if err != nil {
		refuse(w, 500, "the file cannot be read")
		return
	}
	defer data.Close()
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Unix(f.CreatedAt, 0), data)
}

func (q *Queue) deleteFile(w http.ResponseWriter, r *http.Request) {
	f, ok := q.file(w, r)
	if !ok {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, b := range q.batches {
		if !b.ended() && (b.InputFileID == f.ID || *b.OutputFileID == f.ID || *b.ErrorFileID == f.ID) {
			refuse(w, 409, "the batch "+b.ID+" needs the file")
			return
		}
	}
	// The data go first: what has a name can be deleted again.
	err := remove(q.data(f.ID))
	if err == nil {
		err = remove(filepath.Join(q.cfg.Dir, "files", f.ID+".json"))
	}
	if err != nil {
		refuse(w, 500, err.Error())
		return
	}
	delete(q.files, f.ID)
	answer(w, 200, map[string]any{"id": f.ID, "object": "file", "deleted": true})
}

func (q *Queue) listFiles(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	purpose := r.URL.Query().Get("purpose")
	mine := func(f *File) bool { return f.Owner == owner(r) && (purpose == "" || f.Purpose == purpose) }
	list(w, r, 10_000, 10_000, sorted(q.files, mine, func(f *File) (int64, string) { return f.CreatedAt, f.ID }), func(f *File) (string, any) { return f.ID, f })
}

func (q *Queue) listBatches(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	list(w, r, 20, 100, sorted(q.batches, func(b *Batch) bool { return b.Owner == owner(r) }, func(b *Batch) (int64, string) { return b.CreatedAt, b.ID }), func(b *Batch) (string, any) { return b.ID, q.show(b) })
}

// list answers with a page of a list, of limit entries when the request does not say otherwise; most is what it may say.
func list[T any](w http.ResponseWriter, r *http.Request, limit, most int, all []T, show func(T) (id string, v any)) {
	query := r.URL.Query() // and not r.FormValue, which would read a body, and keep it on the disk
	if s := query.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > most {
			refuse(w, 400, fmt.Sprintf("limit must be 1 to %d", most))
			return
		}
		limit = n
	}
	switch query.Get("order") {
	case "", "desc":
	case "asc":
		slices.Reverse(all)
	default:
		refuse(w, 400, "order must be asc or desc")
		return
	}
	after := query.Get("after")
	page := []any{}
	var first, last any
	more := false
	for _, v := range all {
		id, shown := show(v)
		if after != "" {
			if id == after {
				after = ""
			}
			continue
		}
		if len(page) == limit {
			more = true
			break
		}
		if len(page) == 0 {
			first = id
		}
		last = id
		page = append(page, shown)
	}
	if after != "" { // an empty page would be the end of the list
		refuse(w, 400, fmt.Sprintf("after names nothing in this list, or what was deleted meanwhile: %.100q", after))
		return
	}
	answer(w, 200, map[string]any{"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": more})
}

// mostBatch is how many bytes may say what a batch is to be, longestEndpoint how many its endpoint and longestName how many a file's name may
// have. The metadata may be as much as at OpenAI. All but the first stay in memory.
const (
	mostBatch       = 64 << 10
	longestEndpoint = 2 << 10
	longestName     = 255

	mostPairs    = 16
	longestKey   = 64  // characters
	longestValue = 512 // characters
)

// fits reports whether metadata are as much as they may be.
func fits(metadata map[string]string) bool {
	for k, v := range metadata {
		if utf8.RuneCountInString(k) > longestKey || utf8.RuneCountInString(v) > longestValue {
			return false
		}
	}
	return len(metadata) <= mostPairs
}

// open returns how many batches of an owner have not ended. It needs the lock.
func (q *Queue) open(owner string) (n int) {
	for _, b := range q.batches {
		if b.Owner == owner && !b.ended() {
			n++
		}
	}
	return n
}

// clean reports whether a path leads nowhere else than it says.
func clean(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	plain, err := url.PathUnescape(path)
	if err != nil {
		return false
	}
	for part := range strings.SplitSeq(strings.ReplaceAll(plain, `\`, "/"), "/") {
		if part == "." || part == ".." {
			return false
		}
	}
	return true
}

// create makes a batch.
func (q *Queue) create(w http.ResponseWriter, r *http.Request) {
	var in struct {
		InputFileID      string            `json:"input_file_id"`
		Endpoint         string            `json:"endpoint"`
		CompletionWindow string            `json:"completion_window"`
		Metadata         map[string]string `json:"metadata"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostBatch)).Decode(&in); err != nil {
		refuse(w, 400, "the body is not as it should be: "+err.Error())
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	f := q.files[in.InputFileID]
	switch {
	case f == nil || f.Owner != owner(r) || f.Purpose != "batch":
		refuse(w, 400, "input_file_id names no file with the purpose batch")
		return
	case !strings.HasPrefix(in.Endpoint, "/") || strings.HasPrefix(in.Endpoint, "//"):
		refuse(w, 400, "endpoint must be a path, such as /v1/chat/completions")
		return
	case !clean(in.Endpoint):
		refuse(w, 400, `endpoint has "." or ".." in it`)
		return
	case len(in.Endpoint) > longestEndpoint:
		refuse(w, 400, fmt.Sprintf("endpoint has more than %d bytes", longestEndpoint))
		return
	case !fits(in.Metadata):
		refuse(w, 400, fmt.Sprintf("metadata may have %d pairs, of keys of %d characters and values of %d", mostPairs, longestKey, longestValue))
		return
	case in.CompletionWindow != "24h":
		refuse(w, 400, "completion_window must be 24h")
		return
	case q.open(f.Owner) >= q.cfg.Most:
		refuse(w, 429, fmt.Sprintf("there are %d batches that have not ended, as many as may be", q.cfg.Most))
		return
	}
	t := time.Now()
	output, failures := newID("file-"), newID("file-")
	b := &Batch{
		ID: newID("batch_"), Owner: owner(r), Object: "batch", Endpoint: in.Endpoint, InputFileID: f.ID, CompletionWindow: in.CompletionWindow, Status: inProgress,
		OutputFileID: &output, ErrorFileID: &failures, CreatedAt: t.Unix(), InProgressAt: now(), ExpiresAt: t.Add(window).Unix(), Metadata: in.Metadata,
	}
	if err := q.saveBatch(b); err != nil {
		refuse(w, 500, err.Error())
		return
	}
	q.batches[b.ID] = b
	q.wake()
	answer(w, 200, q.show(b))
}

func (q *Queue) batch(w http.ResponseWriter, r *http.Request) *Batch {
	b := q.batches[r.PathValue("id")]
	if b == nil || b.Owner != owner(r) {
		refuse(w, 404, "there is no batch "+strconv.Quote(r.PathValue("id")))
		return nil
	}
	return b
}

func (q *Queue) getBatch(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if b := q.batch(w, r); b != nil {
		answer(w, 200, q.show(b))
	}
}

// cancel stops a batch; calls in flight end first.
func (q *Queue) cancel(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.batch(w, r)
	if b == nil {
		return
	}
	if b.ended() {
		refuse(w, 409, "the batch has ended: "+b.Status)
		return
	}
	out := *b
	out.Status, out.CancellingAt = cancelling, now()
	if err := q.saveBatch(&out); err != nil {
		refuse(w, 500, err.Error())
		return
	}
	*b = out
	if r := q.running[b.ID]; r != nil {
		r.cancel(errCancelled)
	}
	q.wake()
	answer(w, 200, q.show(b))
}
