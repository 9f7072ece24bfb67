package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
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
			} else {
				shown = fmt.Sprintf("# The key, which is not shown again:\n# %s\n\n", key)
			}
			_, err := fmt.Fprintf(e.stdout, "%s[[gateway.caller]]\nname = %q\nsha256 = \"%x\"\n", shown, c.Args().First(), sha256.Sum256([]byte(key)))
			return err
		},
	}
}
