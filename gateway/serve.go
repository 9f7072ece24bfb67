package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/gateway/internal/early"
	"github.com/flyball-go/flyball/gateway/internal/server"
)

func serveFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "the `FILE` with upstreams, guards and routes, such as limits.toml"},
		&cli.StringFlag{Name: "listen", Usage: "the `ADDRESS` that callers connect to, in the place of gateway.listen"},
		&cli.StringFlag{Name: "admin", Usage: "the `ADDRESS` of /ui and /metrics, in the place of gateway.admin"},
	}
}

// serveAction serves until the context ends.
func (e *env) serveAction(c *cli.Context) error {
	if name := c.Args().First(); strings.HasSuffix(name, ".toml") {
		return misuse(fmt.Errorf("there is no command %q; a file comes after --config: gateway --config %s", name, name))
	} else if c.Args().Present() {
		return misuse(fmt.Errorf("there is no command %q; see gateway --help", name))
	}
	if c.String("config") != "" {
		// It reads the file again. One that comes before the server asks for it, or while calls end, has nothing to read.
		survive(syscall.SIGHUP)
	}
	log, _ := e.stderr.(*os.File)
	s, err := server.New(server.Options{Config: c.String("config"), Listen: c.String("listen"), Admin: c.String("admin"), Log: log})
	if err != nil {
		return misuse(err)
	}
	s.TakeLog()
	for _, line := range early.Said() {
		s.Log().Debug(line)
	}
	if s.Demonstration() {
		fmt.Fprintf(e.stdout, "The upstream is a demonstration inside the gateway: no account is needed, and nothing leaves this machine.\n\n"+
			"  curl http://%s/v1/chat/completions -H 'Content-Type: application/json' \\\n"+
			"       -d '{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'\n\n"+
			"Its page is http://%s/ui\n", s.Addr(), s.AdminAddr())
	}
	return s.Run(c.Context)
}
