package rabbitmq_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// broker is a RabbitMQ of a test's own, which it can kill and start again.
type broker struct {
	t    *testing.T
	dir  string
	port [3]int // AMQP, Erlang's distribution, Erlang's port mapper
	cmds []*exec.Cmd
}

// url returns a broker: that of FLYBALL_RABBITMQ, or one that is started.
func url(t *testing.T) string {
	t.Helper()
	if u := os.Getenv("FLYBALL_RABBITMQ"); u != "" {
		return u
	}
	return start(t).url()
}

// start starts a broker. Without a RabbitMQ the test is skipped, or fails if FLYBALL_REQUIRE names rabbitmq.
func start(t *testing.T) *broker {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: not starting a broker")
	}
	if _, err := exec.LookPath("rabbitmq-server"); err != nil {
		const reason = "no rabbitmq-server in PATH: nothing is tested with a broker (Debian: apt-get install rabbitmq-server)"
		if strings.Contains(os.Getenv("FLYBALL_REQUIRE"), "rabbitmq") {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	b := &broker{t: t, dir: t.TempDir()}
	for i := range b.port {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		b.port[i] = l.Addr().(*net.TCPAddr).Port
		defer l.Close()
	}
	conf := fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%d\n", b.port[0])
	if err := os.WriteFile(filepath.Join(b.dir, "rabbitmq.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.kill()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(b.dir, "log", fmt.Sprintf("flyball%d@localhost.log", b.port[0])))
			t.Logf("the broker's log ends with\n%s", important(text))
		}
	})
	return b
}

// limit has the broker take no larger messages from when it starts next.
func (b *broker) limit(bytes int) {
	b.t.Helper()
	name := filepath.Join(b.dir, "rabbitmq.conf")
	conf, err := os.ReadFile(name)
	if err == nil {
		err = os.WriteFile(name, fmt.Appendf(conf, "max_message_size = %d\n", bytes), 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) url() string {
	b.up()
	return fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/", b.port[0])
}

// up starts the processes unless they run, and waits until the broker listens.
func (b *broker) up() {
	b.t.Helper()
	if b.cmds != nil {
		return
	}
	began := time.Now()
	env := append(os.Environ(),
		"HOME="+b.dir, fmt.Sprintf("RABBITMQ_NODENAME=flyball%d@localhost", b.port[0]), fmt.Sprintf("RABBITMQ_DIST_PORT=%d", b.port[1]),
		fmt.Sprintf("ERL_EPMD_PORT=%d", b.port[2]), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_CONFIG_FILE="+filepath.Join(b.dir, "rabbitmq.conf"), "RABBITMQ_CONF_ENV_FILE="+filepath.Join(b.dir, "none"),
		"RABBITMQ_ADVANCED_CONFIG_FILE="+filepath.Join(b.dir, "advanced.config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(b.dir, "plugins"), "RABBITMQ_PID_FILE="+filepath.Join(b.dir, "pid"),
		"RABBITMQ_MNESIA_BASE="+filepath.Join(b.dir, "mnesia"), "RABBITMQ_LOG_BASE="+filepath.Join(b.dir, "log"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +S 2:2")
	server := "/usr/lib/rabbitmq/bin/rabbitmq-server" // Debian's other one changes to another user
	if _, err := os.Stat(server); err != nil {
		server = "rabbitmq-server"
	}
	log, err := os.OpenFile(filepath.Join(b.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	// The port mapper is ours, or Erlang would leave one behind.
	for _, args := range [][]string{{"epmd", "-address", "127.0.0.1", "-port", fmt.Sprint(b.port[2])}, {server}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = b.dir // Erlang leaves a dump there when it crashes
		cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
		cmd.SysProcAttr = ownGroup
		if err := cmd.Start(); err != nil {
			b.t.Fatal(err)
		}
		b.cmds = append(b.cmds, cmd)
		if args[0] == "epmd" {
			b.listens(2, 10*time.Second)
		}
	}
	b.listens(0, 90*time.Second)
	b.t.Logf("the broker listens after %v", time.Since(began).Round(time.Millisecond))
}

func (b *broker) listens(i int, most time.Duration) {
	b.t.Helper()
	for end := time.Now().Add(most); ; time.Sleep(100 * time.Millisecond) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.port[i]))
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(filepath.Join(b.dir, "server.log"))
			b.t.Fatalf("the broker does not listen: %v\n%s", err, text)
		}
	}
}

// stop ends the broker in order, as an upgrade does.
func (b *broker) stop() {
	if len(b.cmds) == 2 {
		signalGroup(b.cmds[1].Process, syscall.SIGTERM)
		_ = b.cmds[1].Wait()
		b.cmds = b.cmds[:1]
	}
	b.kill()
}

// kill kills the broker as a power cut would, its files left as they are.
func (b *broker) kill() {
	for i := len(b.cmds) - 1; i >= 0; i-- {
		signalGroup(b.cmds[i].Process, syscall.SIGKILL)
		_ = b.cmds[i].Wait()
	}
	b.cmds = nil
	// The node itself is a grandchild, and takes a moment to die.
	for _, port := range b.port {
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				break
			}
			_ = c.Close()
		}
	}
}

// important leaves out what a broker says on each day.
func important(log []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(log)) {
		if !strings.Contains(line, "[info]") && !strings.Contains(line, "[notice]") {
			b.WriteString(line)
		}
	}
	s := b.String()
	return s[max(0, len(s)-10000):]
}
