package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// dify is what Dify's OpenAI-API-compatible provider does, as its plugin's source says (langgenius/dify-official-plugins at 7af2283 with
// dify-plugin-sdks at 28d1d22): where it sends what, how it reads a stream, and what it makes of a refusal.
type dify struct {
	t        *testing.T
	endpoint string // "API Base URL" of the model
	key      string
}

// invokeError is what Dify's user sees.
type invokeError struct{ text string }

func (e *invokeError) Error() string { return e.text }

// send is requests.post(urljoin(endpoint_url, path), json=…, timeout=(10, read)).
func (d *dify) send(path, body string, read time.Duration) (*http.Response, error) {
	// if not endpoint_url.endswith("/"): endpoint_url += "/"; urljoin keeps what is before the last slash.
	url := strings.TrimRight(d.endpoint, "/") + "/" + path
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept-Charset": {"utf-8"}, "Authorization": {"Bearer " + d.key},
		"User-Agent": {"python-requests/2.32.4"}, "Accept-Encoding": {"gzip, deflate"}, "Accept": {"*/*"}, "Connection": {"keep-alive"},
	}
	c := client(d.t)
	c.Transport.(*http.Transport).ResponseHeaderTimeout = read
	return c.Do(req)
}

// chat is _generate without a stream; validate_credentials sends the same with "ping" and few tokens.
func (d *dify) chat(prompt string, maxTokens int) (string, error) {
	resp, err := d.send("chat/completions", fmt.Sprintf(`{"model": "demo", "stream": false, "messages": [{"role": "user", "content": %q}], "max_tokens": %d}`, prompt, maxTokens), 300*time.Second)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != 200 {
		return "", &invokeError{fmt.Sprintf("API request failed with status code %d: %s", resp.StatusCode, b)}
	}
	var m struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.Unmarshal(b, &m); err != nil || len(m.Choices) == 0 {
		return "", &invokeError{fmt.Sprintf("Failed to decode response JSON: %s", b)}
	}
	return m.Choices[0].Message.Content, nil
}

// stream is _generate with a stream and _handle_generate_stream_response.
func (d *dify) stream(prompt string) (text, finish string, err error) {
	resp, err := d.send("chat/completions", fmt.Sprintf(`{"model": "demo", "stream": true, "messages": [{"role": "user", "content": %q}], "max_tokens": 40}`, prompt), 300*time.Second)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		b, _ := io.ReadAll(resp.Body)
		return "", "", &invokeError{fmt.Sprintf("API request failed with status code %d: %s", resp.StatusCode, b)}
	}
	finish = "Unknown"
	frames, err := iterLines(resp.Body, "\n\n")
	for _, frame := range frames {
		frame = strings.TrimSpace(frame)
		if frame == "" || strings.HasPrefix(frame, ":") {
			continue
		}
		data := strings.TrimLeft(strings.TrimPrefix(frame, "data:"), " \t\n")
		if data == "[DONE]" {
			continue
		}
		var m map[string]json.RawMessage
		if json.Unmarshal([]byte(data), &m) != nil {
			return text, "Non-JSON encountered.", nil // and the user takes what came for the answer
		}
		if e, ok := m["error"]; ok && m["choices"] == nil {
			return text, "", &invokeError{string(e)}
		}
		var choices []struct {
			Delta  struct{ Content string }
			Finish string `json:"finish_reason"`
		}
		if json.Unmarshal(m["choices"], &choices) != nil || len(choices) == 0 {
			continue
		}
		text += choices[0].Delta.Content
		if choices[0].Finish != "" {
			finish = choices[0].Finish
		}
	}
	return text, finish, err
}

// iterLines is requests' Response.iter_lines(delimiter=…): it reads 512 bytes at a time, and joins what a read cut in two.
func iterLines(r io.Reader, delimiter string) (lines []string, err error) {
	pending := ""
	buf := make([]byte, 512)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			chunk := pending + string(buf[:n])
			pending = ""
			parts := strings.Split(chunk, delimiter)
			if last := parts[len(parts)-1]; last != "" && last[len(last)-1] == chunk[len(chunk)-1] {
				pending, parts = last, parts[:len(parts)-1]
			}
			lines = append(lines, parts...)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return lines, err
		}
	}
	if pending != "" {
		lines = append(lines, pending)
	}
	return lines, nil
}

// embed is _invoke of the text embedding model: 60 s, and how many come back is counted.
func (d *dify) embed(texts []string) error {
	input, _ := json.Marshal(texts)
	resp, err := d.send("embeddings", fmt.Sprintf(`{"input": %s, "model": "demo", "encoding_format": "float"}`, input), 60*time.Second)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 {
		return &invokeError{fmt.Sprintf("%d %s", resp.StatusCode, b)}
	}
	var m struct {
		Data []struct{ Embedding []float64 }
	}
	if err := json.Unmarshal(b, &m); err != nil || len(m.Data) != len(texts) {
		return fmt.Errorf("%d vectors for %d texts: %v", len(m.Data), len(texts), err)
	}
	return nil
}

// Dify through the gateway: models, an index that ten threads fill, and a model that many ask at a time, at an upstream that allows 8 in
// flight and 20 a second.
func TestDify(t *testing.T) {
	checkGoroutines(t)
	g := start(t, "")
	d := &dify{t: t, endpoint: g.url + "/v1", key: "sk-mine"}
	if text, err := d.chat("ping", 5); err != nil || text == "" {
		t.Errorf("the model's credentials are not accepted: %q %v", text, err)
	}
	if text, finish, err := d.stream("hello"); err != nil || text == "" || finish != "length" && finish != "stop" {
		t.Errorf("a stream: %q %q %v", text, finish, err)
	}
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			for j := range 3 {
				if err := d.embed([]string{fmt.Sprintf("chunk %d %d", i, j), "and another"}); err != nil {
					t.Errorf("an embedding: %v", err)
				}
			}
		})
	}
	for i := range 20 {
		all.Go(func() {
			if text, finish, err := d.stream(fmt.Sprint("question ", i)); err != nil || text == "" || finish == "Non-JSON encountered." {
				t.Errorf("a stream: %q %q %v", text, finish, err)
			}
		})
	}
	all.Wait()
}

// What goes wrong reaches Dify as an error, also after it was kept waiting; it never takes half an answer for a whole one.
func TestDifySeesErrors(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), "hold"):
			select {
			case <-release:
			case <-r.Context().Done():
			}
			fallthrough
		case strings.Contains(string(body), "whole"):
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"all of it\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
		case strings.Contains(string(body), "cut"):
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"half of it\"}}]}\n\ndata: {\"choices\":[{\"del")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case strings.Contains(string(body), "money"):
			w.WriteHeader(429)
			_, _ = io.WriteString(w, `{"error":{"message":"no money","code":"insufficient_quota"}}`)
		}
	})
	g := start(t, table(s, one)+"[[gateway.route]]\npath='/'\nupstream='up'\nkeep_alive='50ms'\nwait='600ms'\n[[gateway.route]]\npath='/patient'\nupstream='up'\nkeep_alive='50ms'\n")
	d := &dify{t: t, endpoint: g.url, key: "sk-mine"}
	patient := &dify{t: t, endpoint: g.url + "/patient", key: "sk-mine"}
	var err error
	if text, _, e := d.stream("cut"); !errors.As(e, new(*invokeError)) || !strings.Contains(e.Error(), "the answer was cut") {
		t.Errorf("a stream that was cut: %q %v", text, e)
	}
	if _, _, err = d.stream("money"); err == nil || !strings.Contains(err.Error(), "status code 429") {
		t.Errorf("no money: %v", err)
	}
	held := make(chan error)
	go func() {
		text, finish, err := patient.stream("hold")
		if err == nil && (text != "all of it" || finish != "stop") {
			err = fmt.Errorf("%q %q", text, finish)
		}
		held <- err
	}()
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	// This one gets keep-alives while it waits, and an error in the end; the one before gets its answer after some.
	if text, finish, err := d.stream("whole"); !errors.As(err, new(*invokeError)) || !strings.Contains(err.Error(), "rate_limit_exceeded") {
		t.Errorf("a wait in vain: %q %q %v", text, finish, err)
	}
	release <- true
	if err := <-held; err != nil {
		t.Errorf("one that was kept waiting by the upstream: %v", err)
	}
	if text, finish, err := d.stream("whole"); err != nil || text != "all of it" || finish != "stop" {
		t.Errorf("afterwards: %q %q %v", text, finish, err)
	}
}
