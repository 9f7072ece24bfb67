package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The SDKs that the tests are made for.
const sdks = "openai==3.57.0 anthropic==2.14.0 langchain-openai==1.7.4"

// python returns a Python that has the SDKs: that of FLYBALL_PYTHON, or of an environment that is made with pip when FLYBALL_REQUIRE names
// python-sdks. Otherwise the test is skipped.
func python(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("FLYBALL_PYTHON"); p != "" {
		return p
	}
	required := strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "python-sdks")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "flyball", "python-sdks")
	bin, done := filepath.Join(dir, "bin", "python"), filepath.Join(dir, "installed")
	if b, _ := os.ReadFile(done); string(b) == sdks {
		return bin
	}
	if !required {
		t.Skipf("no Python with the SDKs: set FLYBALL_PYTHON to one that has %s, or FLYBALL_REQUIRE=python-sdks to have them installed in %s", sdks, dir)
	}
	for _, args := range [][]string{{"python3", "-m", "venv", dir}, append([]string{bin, "-m", "pip", "install", "-q"}, strings.Fields(sdks)...)} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if err := os.WriteFile(done, []byte(sdks), 0o600); err != nil {
		t.Fatal(err)
	}
	return bin
}

func runPython(t *testing.T, python string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, append([]string{"testdata/clients.py"}, args...)...)
	cmd.Env = append(os.Environ(), "NO_PROXY=127.0.0.1", "LANGSMITH_TRACING=false", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// The SDK for Node that the tests are made for.
const nodeSDK = "openai@6.49.0"

// runNode runs testdata/clients.mjs with the SDK for Node, which npm installs when FLYBALL_REQUIRE names node-sdks. Otherwise, without one that was
// installed before, the test is skipped.
func runNode(t *testing.T, args ...string) {
	t.Helper()
	required := strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "node-sdks")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "flyball", "node-sdks")
	done := filepath.Join(dir, "installed")
	run := func(most time.Duration, name string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), most)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "NO_PROXY=127.0.0.1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		t.Logf("%s", out)
	}
	if b, _ := os.ReadFile(done); string(b) != nodeSDK {
		if !required {
			t.Skipf("no SDK for Node: set FLYBALL_REQUIRE=node-sdks to have %s installed in %s", nodeSDK, dir)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		run(2*time.Minute, "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, nodeSDK)
		if err := os.WriteFile(done, []byte(nodeSDK), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile("testdata/clients.mjs")
	if err != nil {
		t.Fatal(err)
	}
	// It finds the SDK from where it is.
	if err := os.WriteFile(filepath.Join(dir, "clients.mjs"), script, 0o600); err != nil {
		t.Fatal(err)
	}
	run(3*time.Minute, "node", append([]string{"clients.mjs"}, args...)...)
}

// OpenAI's SDK for Node works through the gateway with its default settings, and so do 80 calls, 32 at a time, against a limit.
func TestNodeSDK(t *testing.T) {
	g := start(t, "")
	runNode(t, g.url)
	runNode(t, g.url, "80", "32")
	g.stop()
	if l := g.logged(); strings.Contains(l, "sk-test") {
		t.Error("the log has a key")
	}
}

// SDKs with their default settings work through the gateway as they do without it.
func TestPythonSDKs(t *testing.T) {
	bin := python(t)
	g := start(t, "")
	runPython(t, bin, g.url)
	g.stop()
	if l := g.logged(); strings.Contains(l, "sk-test") {
		t.Error("the log has a key")
	}
}

// A rate that is enforced by nginx, which refuses at once and tells no delay: 80 calls, 32 at a time, all succeed.
func TestNginx(t *testing.T) {
	url, refused := nginx(t, 20)
	file := fmt.Sprintf("[upstream.up]\nbase_url = %q\n", url+"/v1")
	t.Run("go", func(t *testing.T) {
		g := start(t, file)
		began := time.Now()
		var all sync.WaitGroup
		var left, failed atomic.Int32
		left.Store(80)
		for range 32 {
			c := client(t)
			c.Timeout = 2 * time.Minute
			all.Go(func() {
				for left.Add(-1) >= 0 {
					resp, err := tryPost(context.Background(), c, g.url+"/v1/chat/completions", chat)
					if err != nil {
						failed.Add(1)
						t.Error(err)
						continue
					}
					b, _ := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if resp.StatusCode != 200 || string(b) != answered {
						failed.Add(1)
						t.Errorf("%s: %s", resp.Status, b)
					}
				}
			})
		}
		all.Wait()
		t.Logf("80 calls in %v, %d failed, nginx refused %d", time.Since(began).Round(10*time.Millisecond), failed.Load(), refused())
	})
	t.Run("openai-python", func(t *testing.T) {
		bin := python(t)
		g := start(t, file)
		began := time.Now()
		runPython(t, bin, g.url, "80", "32")
		t.Logf("80 calls in %v, nginx refused %d of both runs", time.Since(began).Round(10*time.Millisecond), refused())
	})
}

// nginx starts one that lets so many calls a second through to an upstream, and refuses others with 429.
func nginx(t *testing.T, perSecond int) (url string, refused func() int) {
	t.Helper()
	port := freePort(t)
	dir := startNginx(t, port, fmt.Sprintf(`
	limit_req_zone $server_addr zone=all:1m rate=%dr/s;
	limit_req_status 429;
	server {
		listen 127.0.0.1:%s;
		location / { limit_req zone=all; proxy_pass %s; }
	}
`, perSecond, port, upstreamServer(t, ok).URL))
	return "http://127.0.0.1:" + port, func() int {
		b, _ := os.ReadFile(dir + "/access.log")
		return strings.Count(string(b), `" 429 `)
	}
}

// startNginx starts one with what its http block says, and waits until it listens. It returns its directory.
func startNginx(t *testing.T, port, http string) (dir string) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nginx")
	}
	if err != nil {
		const reason = "no nginx in PATH: the gateway is not tried against it (Debian: apt-get install nginx-light)"
		if strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "nginx") {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	dir = t.TempDir()
	config := fmt.Sprintf(`
daemon off;
worker_processes 1;
pid %[1]s/pid;
error_log %[1]s/error.log warn;
events { worker_connections 512; }
http {
	access_log %[1]s/access.log;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	%[2]s
}
`, dir, http)
	if os.Getuid() == 0 { // else its workers may not write in dir
		config = "user root;\n" + config
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", file, "-e", dir+"/error.log", "-p", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	eventually(t, "nginx is there", func() bool {
		conn, err := dialer.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return dir
}

// Behind nginx as deploy/nginx.conf has it, over TLS and HTTP/2, events come when they are sent, a body of 2 MB passes, a refusal has nginx's id, a caller that
// leaves ends its call, and a gateway that is gone changes nothing.
func TestBehindNginx(t *testing.T) {
	b, err := os.ReadFile("../../deploy/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	for key, least := range map[string]time.Duration{"proxy_read_timeout": 290 * time.Second} {
		m := regexp.MustCompile(key + ` (\w+);`).FindSubmatch(b)
		if m == nil {
			t.Fatalf("deploy/nginx.conf has no %s", key)
		}
		if d, err := time.ParseDuration(string(m[1])); err != nil || d <= least {
			t.Errorf("%s is %s, want more than %v", key, m[1], least)
		}
	}
	next, left := make(chan bool), make(chan bool)
	s := upstreamServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if len(body) > 1<<20 || !strings.Contains(string(body), "stream") {
			fmt.Fprintf(w, "%d", len(body))
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			_, _ = io.WriteString(w, "data: {}\n\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				left <- true
				return
			}
		}
	})
	g := start(t, table(s, "")+"[gateway]\nopen = true\n[[gateway.route]]\npath = '/up'\nupstream = 'up'\n")
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	port := freePort(t)
	pem, key := writePair(t, cert.TLS.Certificates[0])
	config := strings.NewReplacer("127.0.0.1:8080", strings.TrimPrefix(g.url, "http://"), "127.0.0.1:8081", "127.0.0.1:1", "listen 443", "listen 127.0.0.1:"+port,
		"/etc/nginx/cert.pem", pem, "/etc/nginx/key.pem", key).Replace(string(b))
	startNginx(t, port, config)
	c := client(t)
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	c.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	url := "https://127.0.0.1:" + port

	large := strings.Repeat("x", 2<<20)
	for range 4 { // every other one would go to the gateway that is not there
		if resp := post(t, c, url+"/up/files", large); resp.ProtoMajor != 2 || read(t, resp) != fmt.Sprint(len(large)) {
			t.Errorf("a body of 2 MB: %s %s", resp.Proto, resp.Status)
		}
	}
	resp := post(t, c, url+"/none/chat/completions", chat)
	if _ = read(t, resp); resp.StatusCode != 404 || !regexp.MustCompile("^[0-9a-f]{32}$").MatchString(resp.Header.Get("X-Request-Id")) {
		t.Errorf("a refusal has the status %d and the id %q", resp.StatusCode, resp.Header.Get("X-Request-Id"))
	}
	ctx, leave := context.WithCancel(t.Context())
	resp, err = tryPost(ctx, c, url+"/up/chat/completions", chatStream)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	event := make([]byte, len("data: {}\n\n"))
	for range 3 {
		if _, err := io.ReadFull(resp.Body, event); err != nil {
			t.Fatal(err)
		}
		next <- true
	}
	leave()
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Error("the caller left, and its call goes on")
	}
	g.idle()
}

// curl, with nothing but a URL.
func TestCurl(t *testing.T) {
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl in PATH")
	}
	s := upstreamServer(t, ok)
	g := start(t, table(s, ""))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-s", "-d", chat, "-H", "Content-Type: application/json"}, answered},
		{[]string{"-sN", "-d", chatStream, "-H", "Content-Type: application/json"}, "data: [DONE]"},
		{[]string{"-s", "--compressed", "-d", chat, "-H", "Content-Type: application/json"}, answered},
		{[]string{"-s", "--http2-prior-knowledge", "-d", chat, "-H", "Content-Type: application/json"}, answered},
		{[]string{"-s", "-H", "Expect: 100-continue", "-d", chat, "-H", "Content-Type: application/json"}, answered},
	} {
		out, err := exec.Command(path, append(c.args, g.url+"/up/chat/completions")...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("curl %v: %v %s", c.args, err, out)
		}
	}
}
