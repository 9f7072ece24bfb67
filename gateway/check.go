package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// checkCommand says what a file means without starting anything.
func (e *env) checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "say what a file is wrong about, or what its routes are", ArgsUsage: "FILE", OnUsageError: usageError,
		Description: "Example:\n   gateway check limits.toml",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misuse(errors.New("give the file: gateway check limits.toml"))
			}
			data, err := os.ReadFile(c.Args().First())
			if err != nil {
				return misuse(err)
			}
			s, err := settings.Parse(c.Args().First(), data)
			if err != nil {
				return misuse(err)
			}
			at := "http://" + s.Listen
			if s.TLS.Cert != "" {
				at = "https://" + s.Listen
			}
			var out strings.Builder
			for _, r := range s.Routes {
				u := s.Limits.Upstreams[r.Upstream]
				keys := fmt.Sprintf("%d keys", len(u.Keys.Sources))
				if len(u.Keys.Sources) == 1 {
					keys = "1 key"
				}
				from := at + r.Path + "/"
				if len(r.Models) > 0 {
					from += " for " + strings.Join(r.Models, ", ")
				}
				line := fmt.Sprintf("%s -> %s%s/ (%s, %s)", from, u.BaseURL, r.To, r.Upstream, keys)
				for _, f := range r.Fallback {
					line += fmt.Sprintf(", else %s%s/ (%s)", s.Limits.Upstreams[f.Upstream].BaseURL, r.To, strings.TrimSpace(f.Upstream+" "+f.Model))
				}
				fmt.Fprintln(&out, line)
			}
			if s.Batches.Dir != "" {
				fmt.Fprintf(&out, "%s/v1/batches keeps batches for %s in %s\n", at, s.Batches.Upstream, s.Batches.Dir)
			}
			if len(s.Routes) == 0 {
				fmt.Fprintln(&out, "no upstream has a base_url: the gateway would answer by itself, as a demonstration")
			}
			for _, key := range s.Unreached() {
				fmt.Fprintf(e.stderr, "%s: no caller belongs to the tenant, so this holds for no call\n", key)
			}
			for _, u := range slices.Concat(s.Unrouted(), s.Unversioned()) {
				fmt.Fprintf(e.stderr, "%s: %s\n", u[0], u[1])
			}
			// The file may be right where its keys are not, as on a machine that checks it before it is rolled out.
			if err := s.Readable(); err != nil {
				fmt.Fprintf(e.stderr, "%v\nwithout its keys the gateway would not start here\n", err)
			}
			if s.TLS.Cert != "" {
				if _, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key); err != nil {
					fmt.Fprintf(e.stderr, "gateway.tls: %v\nwithout its certificate the gateway would not start here\n", err)
				}
			}
			_, err = io.WriteString(e.stdout, out.String())
			return err
		},
	}
}
