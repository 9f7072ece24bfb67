package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/gateway/internal/settings"
)

// keyCommand makes keys for callers.
func (e *env) keyCommand() *cli.Command {
	return &cli.Command{
		Name: "key", Usage: "make a key for a caller, and the table for limits.toml that knows it", ArgsUsage: "NAME", OnUsageError: usageError,
		Description: "The key is shown once; the table has its SHA-256 only. With --stdin, the key is read rather than made.\n\nExamples:\n   gateway key dify\n   printf %s \"$KEY\" | gateway key --stdin dify",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "stdin", Usage: "read the key, which needs 32 characters or more, from standard input"}},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || c.Args().First() == "" {
				return misuse(errors.New("give the caller's name: gateway key NAME"))
			}
			key, shown := "fb-"+rand.Text()+rand.Text(), ""
			if c.Bool("stdin") {
				line, _ := bufio.NewReader(e.stdin).ReadString('\n')
				if key = strings.TrimRight(line, "\r\n"); len(key) < 32 {
					return misuse(errors.New("the key has less than 32 characters, so it could be guessed from its hash; let gateway key make one"))
				}
				if key != strings.TrimSpace(key) || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
					return misuse(errors.New("the key has spaces around it, or is not of printable ASCII, so that no caller can send it as it is"))
				}
			} else {
				shown = fmt.Sprintf("# The key, which is not shown again:\n# %s\n\n", key)
			}
			table := fmt.Sprintf("[[gateway.caller]]\nname = %q\nsha256 = \"%x\"\n", c.Args().First(), sha256.Sum256([]byte(key)))
			s, err := settings.Parse("the table", []byte(table))
			if err == nil && s.Callers[0].Name != c.Args().First() {
				err = fmt.Errorf("the name %q is no text in UTF-8", c.Args().First())
			}
			if err != nil {
				return misuse(err) // the name is too long, say, or has what TOML cannot
			}
			_, err = io.WriteString(e.stdout, shown+table)
			return err
		},
	}
}
