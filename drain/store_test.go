package drain_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/flyball-go/flyball/drain"
)

func result(i int) *drain.Result {
	return &drain.Result{ID: fmt.Sprint("id-", i), Hash: drain.Hash{byte(i)}, Status: 200, RequestID: "r", Body: []byte(`{"a": [1, 2]}`)}
}

func openFile(t *testing.T, path string) *drain.File {
	t.Helper()
	f, err := drain.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	f := openFile(t, path)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if err := f.Put(t.Context(), result(i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	check := func() {
		t.Helper()
		for i := range 100 {
			want := result(i)
			if h, ok := f.Has(want.ID); !ok || h != want.Hash {
				t.Errorf("Has(%s) = %v, %v", want.ID, h, ok)
			}
			got, err := f.Get(t.Context(), want.ID)
			if err != nil || got.ID != want.ID || got.Hash != want.Hash || string(got.Body) != `{"a":[1,2]}` || got.Status != 200 || got.RequestID != "r" {
				t.Errorf("Get(%s) = %+v, %v", want.ID, got, err)
			}
		}
	}
	check()
	if err := f.Put(t.Context(), result(7)); err != nil {
		t.Error("the same again:", err)
	}
	other := result(7)
	other.Hash[3]++
	if err := f.Put(t.Context(), other); err == nil {
		t.Error("another result under an id that is there is accepted")
	}
	if _, err := f.Get(t.Context(), "none"); !errors.Is(err, drain.ErrNoResult) {
		t.Error(err)
	}
	if runtime.GOOS == "linux" {
		if _, err := drain.OpenFile(path); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("a second process may write to the file: %v", err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Put(t.Context(), result(200)); err == nil {
		t.Error("Put after Close")
	}
	f = openFile(t, path)
	defer f.Close()
	check()
	if f.Len() != 100 || f.Torn() != "" {
		t.Errorf("%d results, torn %q", f.Len(), f.Torn())
	}
}

// An answer that is no text, such as audio, is kept byte by byte, and no line has in it what cannot be read as text.
func TestFileOfBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	f := openFile(t, path)
	for body, want := range map[string]string{
		"\xff\xfb\x90\x00ID3":   "\xff\xfb\x90\x00ID3",
		"plain text":            `"plain text"`,
		"{\"a\": \"\xe4\xbd\"}": "{\"a\":\"\ufffd\"}",
		"":                      `""`,
	} {
		if err := f.Put(t.Context(), &drain.Result{ID: fmt.Sprintf("%q", body), Status: 200, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
		got, err := f.Get(t.Context(), fmt.Sprintf("%q", body))
		if err != nil || string(got.Body) != want {
			t.Errorf("the answer %q is kept as %q, %v, want %q", body, got.Body, err, want)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !utf8.Valid(text) {
		t.Errorf("the file is no text: %q, %v", text, err)
	}
	if f = openFile(t, path); f.Len() != 4 || f.Damaged() != 0 {
		t.Errorf("%d results, %d damaged", f.Len(), f.Damaged())
	}
	_ = f.Close()
}

// What somebody does to a file of results while it is written is told of by the next result, which would else be where nobody finds it.
func TestFileChanged(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"removed":  os.Remove,
		"rotated":  func(path string) error { return os.Rename(path, path+".1") },
		"replaced": func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) },
		"cut":      func(path string) error { return os.Truncate(path, 0) },
		"added to": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("{}\n")
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS == "windows" {
				t.Skip("an open file cannot be moved")
			}
			path := filepath.Join(t.TempDir(), "out.jsonl")
			f := openFile(t, path)
			defer f.Close()
			if err := f.Put(t.Context(), result(1)); err != nil {
				t.Fatal(err)
			}
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(path)
			for range 2 {
				if err := f.Put(t.Context(), result(2)); err == nil || !strings.Contains(err.Error(), "while it was written") {
					t.Errorf("a result is kept in a file that was %s: %v", name, err)
				}
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Errorf("what was put there is not left alone: %q, then %q", before, after)
			}
		})
	}
}

// A relative name is of the directory in which the file was opened.
func TestFileElsewhere(t *testing.T) {
	t.Chdir(t.TempDir())
	f := openFile(t, "out.jsonl")
	defer f.Close()
	t.Chdir(t.TempDir())
	if err := f.Put(t.Context(), result(1)); err != nil {
		t.Error(err)
	}
}

// However a crash left the end of the file, what is whole stays, what is not is put beside, and the next line is whole.
func TestFileTorn(t *testing.T) {
	whole := string(result(1).AppendJSON(nil)) + "\n" + string(result(2).AppendJSON(nil)) + "\n"
	third := string(result(3).AppendJSON(nil))
	for name, tail := range map[string]string{
		"half a line":             third[:len(third)/2],
		"a line without its end":  third,
		"zeros":                   strings.Repeat("\x00", 4096),
		"the beginning of a line": "{",
		"cut in a string":         third[:20] + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out.jsonl")
			write(t, path, whole+tail)
			f := openFile(t, path)
			if f.Len() != 2 || f.Torn() == "" {
				t.Fatalf("%d results, torn %q", f.Len(), f.Torn())
			}
			if data, err := os.ReadFile(f.Torn()); err != nil || string(data) != tail {
				t.Errorf("beside is %q, %v", data, err)
			}
			if err := f.Put(t.Context(), result(3)); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if data, _ := os.ReadFile(path); string(data) != whole+third+"\n" {
				t.Errorf("the file is %q", data)
			}
		})
	}
}

// A line that was damaged in the middle of the file does not make the results behind it unknown: they would be paid for again.
func TestFileDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	var text string
	for i := range 10 {
		l := string(result(i).AppendJSON(nil))
		if i == 3 {
			l = strings.Repeat("\x00", len(l))
		}
		text += l + "\n"
	}
	write(t, path, text)
	for range 2 {
		f := openFile(t, path)
		if f.Len() != 9 || f.Torn() != "" || f.Damaged() != 1 {
			t.Errorf("%d results, %d damaged, torn %q; want 9, 1 and none", f.Len(), f.Damaged(), f.Torn())
		}
		if got, err := f.Get(t.Context(), "id-9"); err != nil || got.Hash != result(9).Hash {
			t.Errorf("behind the damage is %v, %v", got, err)
		}
		f.Close()
	}
	if data, _ := os.ReadFile(path); string(data) != text {
		t.Errorf("the file was changed to %q", data)
	}
}

// What was paid for stays known: when a tool has ended lines in its own way or put spaces around them, and when an answer is nested
// as deep as JSON may be.
func TestFileKnowsItsLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.jsonl")
	write(t, path, string(result(0).AppendJSON(nil))+"\r\n"+string(result(1).AppendJSON(nil))+"\n \t"+string(result(2).AppendJSON(nil))+" \r\n")
	f := openFile(t, path)
	for i, depth := range []int{9_998, 9_999, 10_000} {
		r := result(3 + i)
		r.Body = []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
		if err := f.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	f = openFile(t, path)
	defer f.Close()
	if f.Len() != 6 || f.Damaged() != 0 || f.Torn() != "" {
		t.Errorf("%d results, %d damaged, torn %q; want 6, none and none", f.Len(), f.Damaged(), f.Torn())
	}
	for i := range 6 {
		if got, err := f.Get(t.Context(), result(i).ID); err != nil || got.Hash != result(i).Hash {
			t.Errorf("Get(%d) = %v", i, err)
		}
	}
}

// A file that is something else is left as it is.
func TestFileOfAnotherKind(t *testing.T) {
	for name, text := range map[string]string{
		"jobs":           string(line("a", 1)) + "\n",
		"text":           "dear diary\n",
		"other results":  `{"id":"batch_req_x","custom_id":"a","response":{}}` + "\n",
		"an empty line":  "\n",
		"a binary thing": "\x7fELF\n",
		"a job, no end":  string(line("a", 1)),
		"text, no end":   "dear diary",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out.jsonl")
			write(t, path, text)
			if _, err := drain.OpenFile(path); err == nil || !strings.Contains(err.Error(), "out.jsonl:1") {
				t.Errorf("OpenFile: %v", err)
			}
			if data, _ := os.ReadFile(path); string(data) != text {
				t.Errorf("the file was changed to %q", data)
			}
		})
	}
}

// A device may have no end to be read to, and forgets what is written to it.
func TestFileOfAnotherType(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the devices are Linux's")
	}
	for _, path := range []string{"/dev/zero", "/dev/null", "/dev/full"} {
		if f, err := drain.OpenFile(path); err == nil || !strings.Contains(err.Error(), path+" is a device, must be a regular file") {
			t.Errorf("OpenFile(%s) = %v, %v, want an error that says what it is", path, f, err)
		}
	}
}

func FuzzParseJob(f *testing.F) {
	f.Add([]byte(`{"custom_id":"a","method":"POST","url":"/v1/x","body":{"model":"m","max_tokens":5}}`))
	f.Add([]byte(`{"custom_id":"a","url":"/","body":{"a":"\"}","b":[{}],"max_tokens":1e3}}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		j, err := drain.ParseJob(b)
		if err != nil {
			return
		}
		if j.URL[0] != '/' || strings.HasPrefix(j.URL, "//") || strings.ContainsAny(j.URL, "\r\n\\ ") {
			t.Errorf("url %q", j.URL)
		}
		again, err := drain.ParseJob(fmt.Appendf(nil, `{"method":%q,"url":%s,"body":%s}`, j.Method, quote(j.URL), body(j)))
		if err != nil || again.Hash != j.Hash || again.Model != j.Model || again.MaxTokens != j.MaxTokens {
			t.Errorf("%v: %+v read again is %+v", err, j, again)
		}
	})
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func body(j *drain.Job) string {
	if j.Body == nil {
		return "null"
	}
	return string(j.Body)
}

// What reads JSON without parsing it reads what encoding/json reads.
func FuzzCompact(f *testing.F) {
	f.Add([]byte(` { "a\\"" : [ 1 , {"b":"}"} ] , "c" : null }`))
	f.Add([]byte("[]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var want bytes.Buffer
		if json.Compact(&want, b) != nil {
			return
		}
		want = *bytes.NewBuffer(bytes.ToValidUTF8(want.Bytes(), []byte("\ufffd"))) // the file is text
		r := drain.Result{Body: b}
		line := r.AppendJSON(nil)
		if !bytes.Contains(line, want.Bytes()) || bytes.ContainsAny(line, "\n") {
			t.Errorf("%s is in the line as %s", b, line)
		}
		var back struct {
			Response struct{ Body json.RawMessage }
		}
		if err := json.Unmarshal(line, &back); err != nil || !bytes.Equal(back.Response.Body, want.Bytes()) {
			t.Errorf("%s is read back as %s: %v", b, back.Response.Body, err)
		}
	})
}
