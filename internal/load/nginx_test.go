package load

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// long makes the comparison with nginx last for so long; the default is a smoke test.
var long = flag.Duration("nginx", 20*time.Second, "how long each comparison with nginx lasts")

// nginx starts a real nginx on the loopback address with a server of the given directives, and returns its URL and its log, which has
// a line when a call ends (see journal), and what else nginx says. Without an nginx the test is skipped, or fails if the environment variable FLYBALL_REQUIRE names nginx.
func nginx(t *testing.T, http, server string) (url, log string) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: not starting nginx")
	}
	if raceDetector {
		t.Skip("the race detector is on: what is compared with nginx is compared without it, as it takes time of its own")
	}
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx" // where Debian has it, and not in everybody's PATH
		_, err = os.Stat(path)
	}
	if err != nil {
		const reason = "no nginx: the model is not compared with it (Debian: apt-get install nginx-light)"
		if strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "nginx") {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ok.txt"), []byte("ok\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	// return 200 would not do: it is answered before limit_req is asked.
	conf := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/log notice;
worker_rlimit_nofile 8192;
events { worker_connections 4096; }
http {
	log_format end "end $status $request_time $msec $arg_n";
	access_log %[1]s/log end;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	default_type text/plain;
	keepalive_requests 1000000;
	%[3]s
	server {
		listen %[2]s;
		server_name flyball; # a zone counts nothing for an empty key
		root %[1]s;
		%[4]s
	}
}
`, dir, addr, http, server)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-p", dir, "-c", file, "-e", filepath.Join(dir, "log"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	for range 200 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return "http://" + addr, filepath.Join(dir, "log")
		}
		select {
		case err := <-exited:
			exited <- err
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("nginx ended: %v\n%s%s", err, out.Bytes(), text)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("nginx does not listen on %s", addr)
	return "", ""
}
