// Package batches is a durable queue behind OpenAI's Batch API: files of requests are uploaded, made into batches, sent by package
// drain, and their results fetched.
//
// Everything is in one directory, and on the disk before the caller hears of it: a process that dies goes on where it was when it is
// started again. A batch that ends has a file of results and, when there are any, a file of errors.
package batches

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flyball-go/flyball/drain"
	"github.com/flyball-go/flyball/feedback"
	"github.com/flyball-go/flyball/gateway/internal/stuck"
	"github.com/flyball-go/flyball/limiter"
)

// Config is what a Queue is made from. Dir, and Upstream and Guard or Way, must be set.
type Config struct {
	// Dir is where everything is kept. It is made when it is not there, for its owner only.
	Dir string
	// Upstream sends, and Guard says when. Way stands in the place of both where they may change: it is asked for each batch.
	Upstream drain.Upstream
	Guard    *limiter.Guard
	Way      func() (Way, error)
	// Request is as in drain.Config.
	Request func(*drain.Job) limiter.Request
	// Token is what callers must send as a bearer token. Empty lets everybody in.
	Token string
	// MaxFile is the largest file, in bytes. Zero means 200 MB, as at OpenAI.
	MaxFile int64
	// Idempotent is as in drain.Config.
	Idempotent bool
	// Grace is as in drain.Config: how long calls in flight may take to end when Run is to end.
	Grace time.Duration
	// AtOnce is how many batches of one owner are sent at a time; all share the guard. Zero means 4.
	AtOnce int
	// Most is how many batches of one owner may be there that have not ended. Zero means 10,000.
	Most int
	// Again is after how long a batch goes on that was stopped by what is not its fault: a key that the upstream does not accept, a
	// disk that is full. Zero means 1 min.
	Again time.Duration
	// Log is told of batches that end, and of files that Open removes; nil means that nobody is.
	Log func(format string, args ...any)
}

// Way is how requests get to where they go: what sends them, and the guard that says when, or the pool, which has keys besides.
// They belong together, because a key must not get to another host than its own.
type Way struct {
	Upstream drain.Upstream
	Guard    *limiter.Guard
	Pool     *limiter.Pool
	// Below is what endpoints must begin with; empty lets them be any path.
	Below string
}

// Queue is the files and batches of one directory. It is an http.Handler.
type Queue struct {
	cfg  Config
	lock *drain.File   // an empty one, which keeps other processes out
	work chan struct{} // takes a token when there may be work
	ways atomic.Uint64 // calls of Renew

	mu      sync.Mutex
	files   map[string]*File
	batches map[string]*Batch
	running map[string]*running
}

// running is a batch that is being sent.
type running struct {
	cancel context.CancelCauseFunc
	runner *drain.Runner // nil until it is made
	before Counts        // what was done when it was
}

// File is a file as the API shows it.
type File struct {
	ID        string `json:"id"`
	Owner     string `json:"owner,omitempty"` // who alone may see it, as ServeFor was told
	Object    string `json:"object"`
	Bytes     int64  `json:"bytes"`
	CreatedAt int64  `json:"created_at"`
	Filename  string `json:"filename"`
	Purpose   string `json:"purpose"`
	Status    string `json:"status"`
}

// Batch is a batch as the API shows it.
type Batch struct {
	ID               string            `json:"id"`
	Owner            string            `json:"owner,omitempty"`
	Object           string            `json:"object"`
	Endpoint         string            `json:"endpoint"`
	Errors           *Errors           `json:"errors"`
	InputFileID      string            `json:"input_file_id"`
	CompletionWindow string            `json:"completion_window"`
	Status           string            `json:"status"`
	OutputFileID     *string           `json:"output_file_id"`
	ErrorFileID      *string           `json:"error_file_id"`
	CreatedAt        int64             `json:"created_at"`
	InProgressAt     *int64            `json:"in_progress_at"`
	ExpiresAt        int64             `json:"expires_at"`
	FinalizingAt     *int64            `json:"finalizing_at"`
	CompletedAt      *int64            `json:"completed_at"`
	FailedAt         *int64            `json:"failed_at"`
	ExpiredAt        *int64            `json:"expired_at"`
	CancellingAt     *int64            `json:"cancelling_at"`
	CancelledAt      *int64            `json:"cancelled_at"`
	Counts           Counts            `json:"request_counts"`
	Metadata         map[string]string `json:"metadata"`
}

// Errors is why a batch failed.
type Errors struct {
	Object string  `json:"object"`
	Data   []Error `json:"data"`
}

// Error is one of them.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Counts is how far a batch is.
type Counts struct {
	Total     int64 `json:"total"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
}

// The states of a batch.
const (
	inProgress = "in_progress"
	finalizing = "finalizing"
	completed  = "completed"
	failed     = "failed"
	expired    = "expired"
	cancelling = "cancelling"
	cancelled  = "cancelled"
)

const window = 24 * time.Hour // what OpenAI offers

var (
	errCancelled = errors.New("batches: cancelled")
	errExpired   = errors.New("batches: expired")
	errStopped   = errors.New("stopped")
	errMoved     = errors.New("the way is another one")
	idPattern    = regexp.MustCompile(`^(file-|batch_)[A-Za-z0-9]{1,64}$`)
)

// Open opens the directory, and keeps other processes out of it until Run has returned.
func Open(cfg Config) (_ *Queue, err error) {
	if cfg.MaxFile == 0 {
		cfg.MaxFile = 200e6
	}
	if cfg.AtOnce == 0 {
		cfg.AtOnce = 4
	}
	if cfg.Most == 0 {
		cfg.Most = 10_000
	}
	if cfg.Again == 0 {
		cfg.Again = time.Minute
	}
	if cfg.Log == nil {
		cfg.Log = func(string, ...any) {}
	}
	if fixed := cfg.Upstream != nil && cfg.Guard != nil; cfg.Dir == "" || fixed == (cfg.Way != nil) || cfg.AtOnce < 1 || cfg.Most < 1 || cfg.MaxFile < 1 {
		return nil, errors.New("batches: Config needs Dir, either Upstream and Guard or Way, and AtOnce, Most and MaxFile that are not negative")
	}
	if cfg.Way == nil {
		way := Way{Upstream: cfg.Upstream, Guard: cfg.Guard}
		cfg.Way = func() (Way, error) { return way, nil }
	}
	q := &Queue{cfg: cfg, work: make(chan struct{}, 1), files: map[string]*File{}, batches: map[string]*Batch{}, running: map[string]*running{}}
	for _, dir := range []string{"files", "batches"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("batches: %w", err)
		}
	}
	if q.lock, err = drain.OpenFile(filepath.Join(cfg.Dir, "lock")); err != nil {
		return nil, fmt.Errorf("batches: %w", err)
	}
	defer func() {
		if err != nil {
			_ = q.lock.Close()
		}
	}()
	if err := readAll(filepath.Join(cfg.Dir, "files"), func(f *File) string { q.files[f.ID] = f; return f.ID }); err != nil {
		return nil, err
	}
	if err := readAll(filepath.Join(cfg.Dir, "batches"), func(b *Batch) string { q.batches[b.ID] = b; return b.ID }); err != nil {
		return nil, err
	}
	for id, b := range q.batches {
		for _, file := range []*string{&b.InputFileID, b.OutputFileID, b.ErrorFileID} {
			if file == nil || !idPattern.MatchString(*file) {
				return nil, fmt.Errorf("batches: %s does not name its three files as it should: put it right, or remove it", filepath.Join(cfg.Dir, "batches", id+".json"))
			}
		}
		if b.ended() {
			q.record(b) // the disk was full when it ended, perhaps
		}
	}
	return q, q.sweep()
}

// sweep ends what the end of a process has cut: an upload that has data and no name yet, and a deletion of which the name is left. It says what
// it removes.
func (q *Queue) sweep() error {
	results := map[string]bool{} // of batches, which have no name before their batch has ended
	for _, b := range q.batches {
		results[*b.OutputFileID], results[*b.ErrorFileID] = true, true
	}
	dir := filepath.Join(q.cfg.Dir, "files")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("batches: %w", err)
	}
	data := map[string]bool{}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".jsonl")
		if !ok || !idPattern.MatchString(id) {
			continue
		}
		data[id] = true
		if q.files[id] == nil && !results[id] {
			path := filepath.Join(dir, e.Name())
			if err := remove(path); err != nil {
				return err
			}
			q.cfg.Log("%s is removed: no upload and no batch names it", path)
		}
	}
	for id := range q.files {
		if !data[id] {
			path := filepath.Join(dir, id+".json")
			if err := remove(path); err != nil {
				return err
			}
			delete(q.files, id)
			q.cfg.Log("%s is removed: the file that it names is gone", path)
		}
	}
	return nil
}

// readAll reads what save wrote.
func readAll[T any](dir string, add func(*T) (id string)) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("batches: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			if strings.HasPrefix(name, "tmp-") { // what a process that was killed had begun
				if err := remove(filepath.Join(dir, name)); err != nil {
					return err
				}
			}
			continue
		}
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("batches: %w", err)
		}
		var v T
		if err := json.Unmarshal(data, &v); err != nil {
			return fmt.Errorf("batches: %s: %w", path, err)
		}
		if id := add(&v); id != name || !idPattern.MatchString(id) {
			return fmt.Errorf("batches: %s has the id %q", path, id)
		}
	}
	return nil
}

// save writes a value so that it is there whole or not at all.
func save(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("batches: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "tmp-")
	if err != nil {
		return fmt.Errorf("batches: %w", err)
	}
	_, err = tmp.Write(data)
	return place(tmp, path, err)
}

// place puts a temporary file, written with err, in its place, durably.
func place(tmp *os.File, path string, err error) error {
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("batches: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("batches: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("batches: %w", err)
	}
	return nil
}

func (q *Queue) data(id string) string { return filepath.Join(q.cfg.Dir, "files", id+".jsonl") }

func (q *Queue) saveFile(f *File) error {
	return save(filepath.Join(q.cfg.Dir, "files", f.ID+".json"), f)
}

// saveBatch needs the lock.
func (q *Queue) saveBatch(b *Batch) error {
	return save(filepath.Join(q.cfg.Dir, "batches", b.ID+".json"), b)
}

func now() *int64 {
	t := time.Now().Unix()
	return &t
}

func newID(kind string) string { return kind + rand.Text() }

// ended reports whether nothing is left to do for a batch.
func (b *Batch) ended() bool {
	return b.Status == completed || b.Status == failed || b.Status == expired || b.Status == cancelled
}

// Close lets other processes into the directory, for a Queue that is not run.
func (q *Queue) Close() error { return q.lock.Close() }

// Run sends batches until ctx ends, the oldest of each owner first. What has not ended then goes on with the next Run of this directory.
func (q *Queue) Run(ctx context.Context) error {
	defer q.lock.Close()
	var all sync.WaitGroup
	defer all.Wait()
	for ctx.Err() == nil {
		b := q.next()
		if b == nil {
			select {
			case <-q.work:
			case <-ctx.Done():
			}
			continue
		}
		all.Go(func() {
			q.run(ctx, b)
			q.wake() // its owner may have another one
		})
	}
	return context.Cause(ctx)
}

// next takes the oldest batch that is to be sent and is not; nil when there is none, or none of an owner that may have another one sent.
func (q *Queue) next() *Batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	sent := map[string]int{} // by owner: who has many batches does not keep others from having theirs sent
	for id := range q.running {
		sent[q.batches[id].Owner]++
	}
	var first *Batch
	for id, b := range q.batches {
		if b.ended() || q.running[id] != nil || sent[b.Owner] >= q.cfg.AtOnce {
			continue
		}
		if first == nil || b.CreatedAt < first.CreatedAt || b.CreatedAt == first.CreatedAt && b.ID < first.ID {
			first = b
		}
	}
	if first != nil {
		q.running[first.ID] = &running{cancel: func(error) {}}
	}
	return first
}

func (q *Queue) wake() {
	select {
	case q.work <- struct{}{}:
	default:
	}
}

// run sends a batch.
func (q *Queue) run(ctx context.Context, b *Batch) {
	call, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	q.mu.Lock()
	q.running[b.ID].cancel = cancel
	stopped := b.Status == cancelling
	deadline := time.Unix(b.ExpiresAt, 0)
	input, output, failures, endpoint := b.InputFileID, *b.OutputFileID, *b.ErrorFileID, b.Endpoint
	q.mu.Unlock()
	if stopped {
		cancel(errCancelled)
	}
	call, end := context.WithDeadlineCause(call, deadline, errExpired)
	defer end()
	counts, err := q.send(call, b.ID, input, output, failures, endpoint)
	for (errors.Is(err, errStopped) || errors.Is(err, errMoved)) && call.Err() == nil {
		if errors.Is(err, errMoved) {
			counts, err = q.send(call, b.ID, input, output, failures, endpoint)
			continue
		}
		q.cfg.Log("batch %s: %v; again in %v", b.ID, err, q.cfg.Again)
		if limiter.Sleep(call, q.cfg.Again) == nil {
			counts, err = q.send(call, b.ID, input, output, failures, endpoint)
		}
	}
	if errors.Is(err, errStopped) || errors.Is(err, errMoved) {
		err = context.Cause(call) // what stopped it for now is no longer why it ends
	}
	if ctx.Err() != nil && !errors.Is(err, errCancelled) && !errors.Is(err, errExpired) && err != nil {
		q.leave(b)
		return // the process ends; the batch does not
	}
	for {
		saving := q.end(b, counts, err)
		if saving == nil {
			return
		}
		// The disk is full, most likely. Nobody must hear of an end that the next start does not know of: it would send again what was fetched and
		// deleted meanwhile.
		q.cfg.Log("batch %s: %v; again in %v", b.ID, saving, q.cfg.Again)
		if limiter.Sleep(ctx, q.cfg.Again) != nil {
			q.leave(b)
			return
		}
	}
}

// leave has a batch go on with the next start.
func (q *Queue) leave(b *Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, b.ID)
}

// end ends a batch, with err, once that is on the disk.
func (q *Queue) end(b *Batch, counts Counts, err error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := *b
	out.Counts = counts
	out.FinalizingAt = now()
	switch {
	case err == nil:
		out.Status, out.CompletedAt = completed, now()
	case errors.Is(err, errCancelled):
		out.Status, out.CancelledAt = cancelled, now()
	case errors.Is(err, errExpired):
		out.Status, out.ExpiredAt = expired, now()
	default:
		out.Status, out.FailedAt = failed, now()
		out.Errors = &Errors{Object: "list", Data: []Error{{Code: "run_stopped", Message: err.Error()}}}
	}
	if err := q.saveBatch(&out); err != nil {
		return err
	}
	*b = out
	delete(q.running, b.ID)
	q.record(b)
	q.cfg.Log("batch %s: %s, %d of %d done, %d failed", b.ID, b.Status, b.Counts.Completed, b.Counts.Total, b.Counts.Failed)
	return nil
}

// record makes files of what a batch that has ended came to. It needs the lock.
func (q *Queue) record(b *Batch) {
	for _, id := range []string{*b.OutputFileID, *b.ErrorFileID} {
		info, err := os.Stat(q.data(id))
		if err != nil || info.Size() == 0 || q.files[id] != nil {
			continue
		}
		f := &File{ID: id, Owner: b.Owner, Object: "file", Bytes: info.Size(), CreatedAt: *now(), Filename: id + ".jsonl", Purpose: "batch_output", Status: "processed"}
		if err := q.saveFile(f); err != nil {
			q.cfg.Log("%v; what is in the file is durable, and the next start records it", err)
		}
		q.files[id] = f
	}
}

// send sends what of a batch is not done.
func (q *Queue) send(ctx context.Context, id, input, output, failures, endpoint string) (c Counts, err error) {
	src, err := drain.OpenJSONL(q.data(input), drain.JSONLConfig{Dead: q.data(failures)})
	if err != nil {
		return c, passing(err)
	}
	defer src.Close()
	c.Failed = src.DeadBefore()
	store, err := drain.OpenFile(q.data(output))
	if err != nil {
		return c, passing(err)
	}
	defer store.Close()
	c.Completed = int64(store.Len())
	if c.Total, _ = src.Total(); c.Total < 0 {
		c.Total = 0
	}
	if err := q.writable(); err != nil {
		return c, fmt.Errorf("%w: %w", errStopped, err)
	}
	from := &movable{JSONL: src, since: q.ways.Load(), ways: &q.ways}
	way, err := q.cfg.Way()
	if err != nil {
		return c, fmt.Errorf("%w: %w", errStopped, err)
	}
	if !strings.HasPrefix(endpoint, way.Below) {
		return c, fmt.Errorf("batches: the endpoint %.200q is not below %s, where the upstream's API is", endpoint, way.Below)
	}
	var up drain.Upstream = only{way.Upstream, endpoint}
	if keyed, ok := way.Upstream.(drain.KeyUpstream); ok {
		up = onlyKeyed{keyed, only{way.Upstream, endpoint}}
	}
	var watch stuck.Watch
	run, move := context.WithCancelCause(ctx)
	defer move(nil)
	r, err := drain.New(drain.Config{
		Source: from, Store: store, Upstream: up, Guard: way.Guard, Pool: way.Pool, Request: q.cfg.Request, Idempotent: q.cfg.Idempotent,
		Grace: q.cfg.Grace, QuotaPause: time.Minute, StopAfter: -1,
		OnProgress: func(p drain.Progress) {
			if said := watch.Look(p); said != "" {
				q.cfg.Log("batch %s: %s", id, said)
			}
			if p.InFlight == 0 && from.another() {
				move(errMoved) // those that wait may do so for the reason why there is another way
			}
		},
	})
	if err != nil {
		return c, err
	}
	q.mu.Lock()
	q.running[id].runner, q.running[id].before = r, c
	q.mu.Unlock()
	switch err = r.Run(run); {
	case err == nil && from.moved, err != nil && ctx.Err() == nil && from.another():
		err = errMoved
	case err != nil && ctx.Err() == nil:
		err = fmt.Errorf("%w: %w", errStopped, err)
	}
	return c.after(r.Progress()), err
}

// Renew has batches that are being sent go on by the Way of now, once the requests that were taken up have ended by theirs, or wait there and none is
// in flight. It may be called at any time.
func (q *Queue) Renew() { q.ways.Add(1) }

// movable is a file of requests that has no more when there is another way for them.
type movable struct {
	*drain.JSONL
	since uint64
	ways  *atomic.Uint64
	moved bool // Fetch said so; it is read when the run has ended
}

// another reports whether there is another way.
func (m *movable) another() bool { return m.ways.Load() != m.since }

// Fetch implements drain.Source.
func (m *movable) Fetch(ctx context.Context, n int) ([]*drain.Delivery, error) {
	if m.another() {
		m.moved = true
		return nil, io.EOF
	}
	return m.JSONL.Fetch(ctx, n)
}

// after returns the counts that a run began with as they are now. Those that it has not come to yet are done all the same.
func (c Counts) after(p drain.Progress) Counts {
	return Counts{Total: c.Total, Completed: max(p.Known, c.Completed) + p.Done, Failed: p.Dead + c.Failed}
}

// room is how much must fit on the disk for a batch to be sent.
const room = 1 << 20

// writable reports why what comes of a batch could not be kept. It would be paid for in vain.
func (q *Queue) writable() error {
	tmp, err := os.CreateTemp(filepath.Join(q.cfg.Dir, "files"), "tmp-")
	if err != nil {
		return fmt.Errorf("batches: %w", err)
	}
	_, err = tmp.Write(make([]byte, room))
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name())); err != nil {
		return fmt.Errorf("batches: %w", err)
	}
	return nil
}

// passing is err as what stopped a batch for now, when it comes from the system: too many open files, a disk that is full or does not
// answer. A file that is gone does not come back.
func passing(err error) error {
	var system *fs.PathError
	if errors.As(err, &system) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errStopped, err)
	}
	return err
}

// only sends requests to one endpoint.
type only struct {
	drain.Upstream
	endpoint string
}

// Send implements drain.Upstream.
func (o only) Send(ctx context.Context, j *drain.Job) drain.Answer {
	if j.URL != o.endpoint {
		return o.refuse()
	}
	return o.Upstream.Send(ctx, j)
}

func (o only) refuse() drain.Answer {
	return drain.Answer{
		Status: 400, Body: fmt.Appendf(nil, `{"error":{"message":%q}}`, "url is not the endpoint of the batch, "+o.endpoint),
		Outcome: limiter.Outcome{Class: feedback.ClientError}, Unsent: true,
	}
}

// onlyKeyed is only with keys.
type onlyKeyed struct {
	drain.KeyUpstream
	only only
}

// Send implements drain.Upstream.
func (o onlyKeyed) Send(ctx context.Context, j *drain.Job) drain.Answer { return o.only.Send(ctx, j) }

// SendWith implements drain.KeyUpstream.
func (o onlyKeyed) SendWith(ctx context.Context, j *drain.Job, key limiter.Secret) drain.Answer {
	if j.URL != o.only.endpoint {
		return o.only.refuse()
	}
	return o.KeyUpstream.SendWith(ctx, j, key)
}

// show returns a batch as it is now.
func (q *Queue) show(b *Batch) Batch {
	out := *b
	if r := q.running[b.ID]; r != nil && r.runner != nil {
		out.Counts = r.before.after(r.runner.Progress())
	}
	for _, id := range []**string{&out.OutputFileID, &out.ErrorFileID} {
		if *id != nil && q.files[**id] == nil {
			*id = nil // not yet, or nothing in it
		}
	}
	return out
}

// sorted returns the values of a map that are to be shown, the newest first.
func sorted[T any](m map[string]*T, shown func(*T) bool, at func(*T) (int64, string)) []*T {
	all := make([]*T, 0, len(m))
	for _, v := range m {
		if shown(v) {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b *T) int {
		x, i := at(a)
		y, j := at(b)
		if x != y {
			return int(max(-1, min(1, y-x)))
		}
		return strings.Compare(j, i)
	})
	return all
}

// remove removes a file, which may not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("batches: %w", err)
	}
	return nil
}
