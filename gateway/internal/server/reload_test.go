package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A reload changes routes and guards while calls go on, and none is lost. A file with an error changes nothing.
func TestReload(t *testing.T) {
	checkGoroutines(t)
	slow := func(name string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			time.Sleep(time.Millisecond)
			_, _ = io.WriteString(w, name)
		}
	}
	a, b := upstreamServer(t, slow("a")), upstreamServer(t, slow("b"))
	file := func(to, more string) string {
		return table(a, "max_limit = 8") + "[upstream.b]\nbase_url='" + b.URL + "'\n[[gateway.route]]\npath='/'\nupstream='" + to + "'\n" + more
	}
	g := start(t, file("up", ""))
	stop := make(chan bool)
	var calls, failed atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			c := client(t)
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := tryPost(context.Background(), c, g.url+"/x", "hello")
				if err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				calls.Add(1)
				if resp.StatusCode != 200 || err != nil {
					failed.Add(1)
					t.Errorf("%s %s %v", resp.Status, body, err)
				}
			}
		})
	}
	is := func(want string) func() bool {
		return func() bool {
			resp, err := tryPost(context.Background(), client(t), g.url+"/x", "")
			if err != nil {
				return false
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			return string(body) == want
		}
	}
	reload := func() { g.onReload(g.limits.Reload()) } // what a change of the file and SIGHUP do
	for i, to := range []string{"b", "up", "b"} {
		g.write(file(to, ""))
		reload()
		if want := strings.TrimPrefix(to, "up") + strings.Repeat("a", strings.Count(to, "up")); !is(want)() {
			t.Errorf("reload %d: the route does not lead to %s", i, to)
		}
		g.write(file("nobody", "[gateway.server]\nmax_body = -1\n"))
		reload()
		if got := g.logged(); !strings.Contains(got, `did you mean`) && !strings.Contains(got, "the name of an upstream in this file") || !strings.Contains(got, "gateway.server.max_body is -1") {
			t.Errorf("the log does not say both mistakes: %s", got)
		}
		if n := g.stats.reloadsFailed.Load(); n != uint64(i+1) {
			t.Errorf("%d failed reloads, want %d", n, i+1)
		}
	}
	if err := os.Remove(g.file); err != nil {
		t.Fatal(err)
	}
	reload()
	if !is("b")() {
		t.Error("a file that is gone changed something")
	}
	close(stop)
	all.Wait()
	if calls.Load() < 50 || failed.Load() > 0 {
		t.Errorf("%d calls, %d failed", calls.Load(), failed.Load())
	}
}

// A limit that holds for no call is told of, at the start and after a reload.
func TestTenantOfNobody(t *testing.T) {
	s := upstreamServer(t, ok)
	caller := fmt.Sprintf("[[gateway.caller]]\nname='dify'\nsha256='%064d'\n", 1)
	g := start(t, table(s, "")+caller+"[gateway.tenant.Dify]\nmax_in_flight = 2\n")
	said := func(name string) int { return strings.Count(g.logged(), `"key":"gateway.tenant.`+name+`"`) }
	eventually(t, "the log tells of the tenant Dify", func() bool { return said("Dify") == 1 })
	for _, name := range []string{"dify", "other"} {
		g.write(table(s, "") + caller + "[gateway.tenant." + name + "]\nmax_in_flight = 2\n")
		g.onReload(g.limits.Reload())
	}
	if said("Dify") != 1 || said("dify") != 0 || said("other") != 1 {
		t.Errorf("after two reloads the log is %s", g.logged())
	}
}

// A gateway that is told to end lets streams end, and takes no new calls.
func TestEndsInOrder(t *testing.T) {
	checkGoroutines(t)
	release := make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-release
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	g := start(t, table(s, one))
	resp := post(t, client(t), g.url+"/chat/completions", chatStream)
	second := make(chan []string)
	go func() {
		resp, err := tryPost(context.Background(), client(t), g.url+"/chat/completions", chatStream) // it waits
		if err != nil {
			second <- []string{err.Error()}
			return
		}
		second <- frames(t, resp.Body)
	}()
	eventually(t, "one waits", func() bool { _, w := g.inFlight("up"); return w == 1 })
	ended := make(chan error)
	go func() { ended <- g.stop() }()
	eventually(t, "it takes no new calls", func() bool {
		resp, err := client(t).Get(g.url + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err != nil
	})
	release <- true
	if got := frames(t, resp.Body); len(got) != 2 || got[1] != "data: [DONE]" {
		t.Errorf("the stream is %q", got)
	}
	release <- true
	if got := <-second; len(got) != 2 || got[1] != "data: [DONE]" {
		t.Errorf("the stream of the one who waited is %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A connection that changed its protocol may end, too: what it carries was paid for as any other answer.
func TestEndWaitsForUpgrades(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, buf := upgrade(t, w)
		defer conn.Close()
		line, _ := buf.ReadString('\n')
		_, _ = io.WriteString(conn, "you said "+line)
	})
	g := start(t, table(s, ""))
	conn := dial(t, g.Addr())
	fmt.Fprint(conn, "GET /realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	r := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- g.stop() }()
	eventually(t, "it takes no new connections", func() bool {
		c, err := dialer.Dial("tcp", g.Addr())
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	fmt.Fprint(conn, "hello\n")
	if line, err := r.ReadString('\n'); line != "you said hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	_ = conn.Close()
	if err := <-ended; err != nil || strings.Contains(g.logged(), "cut off") {
		t.Errorf("it ends with %v, and the log says %s", err, g.logged())
	}
}

// What does not end in time is cut off.
func TestEndsInTime(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, hold(t, make(chan bool), ok))
	g := start(t, table(s, "")+"[gateway.server]\ndrain_timeout='100ms'\n")
	told := make(chan string)
	go func() {
		resp := post(t, client(t), g.url+"/chat/completions", chat)
		told <- resp.Status + " " + read(t, resp)
	}()
	eventually(t, "one in flight", func() bool { n, _ := g.inFlight("up"); return n == 1 })
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	if got := <-told; !strings.HasPrefix(got, "502") || !strings.Contains(got, "may have done the call") {
		t.Errorf("a call that does not end was told %s", got)
	}
	if !strings.Contains(g.logged(), "calls were cut off") {
		t.Errorf("the log says %s", g.logged())
	}
}

// What became of calls that the end cut off is in the log, too, also of those whose connection changed its protocol: they were paid for.
func TestEndTellsOfEachCall(t *testing.T) {
	checkGoroutines(t)
	wait := make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			hold(t, wait, ok)(w, r)
			return
		}
		conn, buf := upgrade(t, w)
		defer conn.Close()
		_, _ = io.Copy(io.Discard, buf) // until the other side ends it
	})
	g := start(t, table(s, "max_limit=100\ninitial_limit=100")+"[gateway.server]\ndrain_timeout='100ms'\n")
	const posts, upgrades = 8, 2
	var callers sync.WaitGroup
	for range posts {
		callers.Go(func() {
			resp := post(t, client(t), g.url+"/chat/completions", chat)
			if body := read(t, resp); resp.StatusCode != 502 {
				t.Errorf("a call that does not end was told %s %s", resp.Status, body)
			}
		})
	}
	for range upgrades {
		fmt.Fprint(dial(t, g.Addr()), "GET /realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	}
	eventually(t, "all in flight", func() bool { n, _ := g.inFlight("up"); return n == posts+upgrades })
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	callers.Wait()
	if n := strings.Count(g.logged(), `"msg":"call"`); n != posts+upgrades {
		t.Errorf("the log has lines of %d calls, want %d:\n%s", n, posts+upgrades, g.logged())
	}
}

// Callers that the end cuts off are told: who takes the end of a connection for that of an answer must not take what it has for the whole.
func TestEndTellsCallers(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if kind := r.Header.Get("Begin"); kind != "" {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	})
	route := "[[gateway.route]]\npath='/'\nupstream='up'\nkeep_alive='20ms'\n[gateway.server]\ndrain_timeout='300ms'\n"
	g := start(t, table(s, "law = 'fixed'\ninitial_limit = 5\n")+route)
	cases := []struct{ name, proto, body, header, want string }{
		{"an answer", "1.1", chat, "Begin: text/plain\r\n", "unexpected EOF"},
		{"an answer over HTTP/1.0", "1.0", chat, "Begin: text/plain\r\n", "connection reset by peer"},
		{"a stream", "1.1", chatStream, "Begin: text/event-stream\r\n", "the answer was cut: the gateway ends"},
		{"a stream over HTTP/1.0", "1.0", chatStream, "Begin: text/event-stream\r\n", "the answer was cut: the gateway ends"},
		{"a stream that waits for the upstream", "1.1", chatStream, "", "may have done the call"},
		{"a stream that waits for its turn", "1.1", chatStream, "", "before the upstream took the call"},
		{"one that waits for its turn", "1.1", chat, "", "503"},
	}
	conns := make([]net.Conn, len(cases))
	for i, c := range cases {
		conns[i] = dial(t, g.Addr())
		fmt.Fprintf(conns[i], "POST /chat/completions HTTP/%s\r\nHost: x\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", c.proto, c.header, len(c.body), c.body)
		eventually(t, c.name+" is there", func() bool {
			n, w := g.inFlight("up")
			return n == min(i+1, 5) && w == max(0, i-4)
		})
	}
	ended := make(chan error)
	go func() { ended <- g.stop() }()
	for i, c := range cases {
		got := ""
		resp, err := http.ReadResponse(bufio.NewReader(conns[i]), nil)
		if err == nil {
			var body []byte
			body, err = io.ReadAll(resp.Body)
			got = resp.Status + " " + string(body)
		}
		if got = fmt.Sprintf("%s, %v", got, err); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s; want %s", c.name, got, c.want)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A log that cannot be written, as on a full disk, holds nobody up and is counted.
func TestLogThatCannotBeWritten(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("this system has no /dev/full")
	}
	s := upstreamServer(t, ok)
	g := start(t, table(s, "")+"[gateway.log]\nfile='/dev/full'\n")
	for range 20 {
		if body := read(t, post(t, client(t), g.url+"/chat/completions", chat)); body != answered {
			t.Errorf("%s", body)
		}
	}
	eventually(t, "lost lines are counted", func() bool { return g.sink.failed.Load() >= 20 })
}

// narrow is a disk that has so much room left.
type narrow struct {
	bytes.Buffer
	room int
}

func (n *narrow) Write(p []byte) (int, error) {
	k, _ := n.Buffer.Write(p[:min(len(p), n.room)])
	if n.room -= k; k < len(p) {
		return k, syscall.ENOSPC
	}
	return k, nil
}

// A disk that is full in the middle of a line costs that line, and not the first one that fits again. What came to the disk is not counted as lost.
func TestLogOfADiskThatWasFull(t *testing.T) {
	disk := &narrow{}
	s := &sink{w: disk}
	for _, step := range []struct {
		room, lost int
		line       string
	}{{9, 1, "{\"n\":1}\n{\"n\":2}\n"}, {2, 1, "{\"n\":3}\n"}, {0, 1, "{\"n\":4}\n"}, {100, 0, "{\"n\":5}\n"}, {100, 0, "{\"n\":6}\n"}} {
		disk.room = step.room
		before := s.failed.Load()
		_, _ = s.Write([]byte(step.line))
		s.flush(time.Minute)
		if lost := s.failed.Load() - before; lost != uint64(step.lost) {
			t.Errorf("%q with room for %d bytes: %d lines are lost, want %d", step.line, step.room, lost, step.lost)
		}
	}
	if got, want := disk.String(), "{\"n\":1}\n{\n{\n{\"n\":5}\n{\"n\":6}\n"; got != want {
		t.Errorf("the log has %q, want %q", got, want)
	}
}

// Nor does a pipe that nobody reads.
func TestLogThatNobodyReads(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	s := &sink{w: w}
	line := bytes.Repeat([]byte("x"), 1023)
	line = append(line, '\n')
	for range 2 * sinkHeld / len(line) {
		if n, err := s.Write(line); n != len(line) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if s.failed.Load() == 0 {
		t.Error("no line was lost in a pipe that nobody reads")
	}
	if s.flush(10 * time.Millisecond) {
		t.Error("what nobody reads is said to be written")
	}
	lost := s.failed.Load()
	got := make(chan int64)
	go func() { n, _ := io.Copy(io.Discard, r); got <- n }()
	if !s.flush(20 * time.Second) {
		t.Fatal("it does not go on when somebody reads")
	}
	_ = w.Close()
	if n := <-got; n != int64(2*sinkHeld)-int64(lost)*int64(len(line)) {
		t.Errorf("%d bytes came, and %d lines were lost, of %d bytes", n, lost, 2*sinkHeld)
	}
}

// Keys are read again by a reload: calls from then on go with the new ones, those that are there with theirs, and metrics tell of what is in
// use. A key that cannot be read changes nothing.
func TestReloadOfKeys(t *testing.T) {
	checkGoroutines(t)
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("sk-one\n")
	release, got := make(chan bool), make(chan string, 10)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		if strings.HasSuffix(r.URL.Path, "/held") {
			<-release
		}
		ok(w, r)
	})
	t.Setenv("FLYBALL_TEST_KEY", "sk-stays")
	file := func(more string) string {
		return table(s, "law='fixed'\ninitial_limit=5\nlimit='account'\n[[upstream.up.key]]\nfile='"+key+"'\n"+more)
	}
	g := start(t, file(""))
	reload := func() error {
		c, err := g.limits.Reload()
		g.onReload(c, err)
		return err
	}
	status := make(chan int)
	go func() {
		resp, err := tryPost(context.Background(), client(t), g.url+"/up/held", chat)
		if err != nil {
			status <- 0
			return
		}
		_, _ = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		status <- resp.StatusCode
	}()
	if k := <-got; k != "Bearer sk-one" {
		t.Fatalf("the first call has %s", k)
	}
	set("sk-two\n")
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	call := func(want string) {
		t.Helper()
		read(t, post(t, client(t), g.url+"/up/chat/completions", chat))
		if k := <-got; k != want {
			t.Errorf("a call has %s, want %s", k, want)
		}
	}
	call("Bearer sk-two")
	release <- true
	if c := <-status; c != 200 {
		t.Errorf("the call that was there ended with status %d", c)
	}
	// One more key, and one that is the same.
	g.write(file("[[upstream.up.key]]\nenv='FLYBALL_TEST_KEY'\n"))
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 20 {
		read(t, post(t, client(t), g.url+"/up/chat/completions", chat))
		seen[<-got] = true
	}
	if !seen["Bearer sk-two"] || !seen["Bearer sk-stays"] || len(seen) != 2 {
		t.Errorf("calls have %v, want both keys", seen)
	}
	set("")
	if err := reload(); err == nil || strings.Contains(err.Error(), "sk-") {
		t.Errorf("a key that cannot be read: %v", err)
	}
	for len(got) > 0 {
		<-got
	}
	resp, err := client(t).Get(g.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if m := read(t, resp); strings.Count(m, "flyball_in_flight{") != 1 || strings.Count(m, "flyball_pool_waiting{") != 1 {
		t.Errorf("metrics tell of other guards and pools than those that are in use:\n%s", m)
	}
	if l := g.logged(); strings.Contains(l, "sk-") || !strings.Contains(l, "other keys, 1 -> 2") {
		t.Errorf("the log says %s", l)
	}
}

// A file that names a key which cannot be read changes nothing: not the guards, and not what tenants may have.
func TestReloadWithoutItsKeyChangesNothing(t *testing.T) {
	s := upstreamServer(t, ok)
	file := func(limit int, more string) string {
		return table(s, fmt.Sprintf("law = 'fixed'\ninitial_limit = %d", limit)) + fmt.Sprintf("[gateway.tenant.t]\nmax_in_flight = %d\n", limit) + more
	}
	g := start(t, file(8, ""))
	limits := func() string {
		var all []int
		for _, v := range g.proxy.Upstreams() {
			all = append(all, v.Guards[0].Stats().Limit)
		}
		return fmt.Sprint(all)
	}
	before := limits()
	g.write(file(4, "[upstream.new]\nbase_url = \"http://127.0.0.1:1\"\n[[upstream.new.key]]\nenv = \"FLYBALL_NOT_SET\"\n"))
	g.onReload(g.limits.Reload())
	if after := limits(); after != before {
		t.Errorf("the limits of the upstream and of the tenant are %s, were %s", after, before)
	}
	if log := g.logged(); !strings.Contains(log, "FLYBALL_NOT_SET") || !strings.Contains(log, "configuration not reloaded") {
		t.Errorf("the log does not say that nothing changed: %s", log)
	}
}

// The guard of an upstream that was gone for a while is the one from before, and each of its decisions is told once, in the log and on the page.
func TestUpstreamThatComesBackIsWatchedOnce(t *testing.T) {
	s := upstreamServer(t, ok)
	file := func(limit int) string {
		return table(s, "") + fmt.Sprintf("[upstream.b]\nbase_url = %q\nlaw = 'fixed'\ninitial_limit = %d\n", s.URL, limit)
	}
	g := start(t, file(8))
	for _, text := range []string{table(s, ""), file(8), table(s, ""), file(8), file(4)} {
		g.write(text)
		g.onReload(g.limits.Reload())
	}
	log := g.logged()
	last := log[strings.LastIndex(log, "b: added"):]
	if n := strings.Count(last, `"msg":"limit changed","guard":"b"`); n != 1 {
		t.Errorf("the log tells %d times that the limit changed, want once:\n%s", n, last)
	}
}

// A file whose guards are in force but not its routes, as a key went away in between, is tried again.
func TestRoutesAreTriedAgain(t *testing.T) {
	checkGoroutines(t)
	s := upstreamServer(t, ok)
	g := start(t, table(s, ""))
	key := write(t, "sk-1")
	g.write(table(s, "") + fmt.Sprintf("[upstream.b]\nbase_url = %q\n[[upstream.b.key]]\nfile = %q\n", s.URL, key))
	changes, err := g.limits.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	g.onReload(changes, nil)
	if log := g.logged(); !strings.Contains(log, "routes not reloaded") {
		t.Fatalf("the log says %s", log)
	}
	fine := table(s, "")
	g.write(fine + "nonsense\n")
	g.onReload(g.limits.Reload()) // before that is tried again
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the route is there", func() bool { return g.waitsFor("b") == 0 })
	inForce := func() bool {
		g.reloading.Lock() // has what goes on be done
		defer g.reloading.Unlock()
		return !g.stats.notInForce.Load()
	}
	if inForce() {
		t.Error("the file has a mistake, and is said to be in force as the one before it is by now")
	}
	g.write(fine)
	g.onReload(g.limits.Reload())
	if !inForce() {
		t.Error("the file is in force, and is said not to be")
	}
}

// The log tells of limits that change, and not that a guard has the one that it began with.
func TestBeginningIsNoChangeOfALimit(t *testing.T) {
	g := start(t, table(upstreamServer(t, ok), "initial_limit = 8"))
	read(t, post(t, client(t), g.url+"/up/chat/completions", chat))
	g.callLines(1)
	if log := g.logged(); strings.Contains(log, "limit changed") {
		t.Errorf("the log says %s", log)
	}
}

// A file that is empty, because the disk was full when it was written, say, is not taken for one without any upstream: all calls would be
// refused, for good, as SDKs are told.
func TestReloadOfNothing(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, ""))
	for _, text := range []string{"", "[gateway]\n", "[upstream.up]\n"} {
		g.write(text)
		g.onReload(g.limits.Reload())
		resp := post(t, client(t), g.url+"/up/chat/completions", chat)
		if body := read(t, resp); resp.StatusCode != 200 {
			t.Errorf("after %q, a call is answered with %s %s", text, resp.Status, body)
		}
	}
	if n := g.stats.reloadsFailed.Load(); n != 3 || !strings.Contains(g.logged(), "no upstream has a base_url") {
		t.Errorf("%d reloads failed, want 3, and the log says %s", n, g.logged())
	}
}

// What needs a start is what differs from what runs, and not from the file before.
func TestReloadToldAgainstWhatRuns(t *testing.T) {
	s := upstreamServer(t, ok)
	g := start(t, table(s, ""))
	for _, c := range []struct {
		more  string
		wants bool
	}{{"[gateway.cache]\nmax_bytes = 5\n", true}, {"[gateway.cache]\nmax_bytes = 5\n[gateway.server]\nmax_calls = 7\n", true}, {"", false}} {
		before := strings.Count(g.logged(), `"key":"gateway.cache"`)
		g.write(table(s, "") + c.more)
		g.onReload(g.limits.Reload())
		if told := strings.Count(g.logged(), `"key":"gateway.cache"`) > before; told != c.wants {
			t.Errorf("after %q, the log says that the cache needs a start: %v, want %v", c.more, told, c.wants)
		}
	}
}
