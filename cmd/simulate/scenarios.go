package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/internal/scenario"
	"github.com/flyball-go/flyball/scenarios"
)

func (e *env) scenariosCommand() *cli.Command {
	jsonFlag := &cli.BoolFlag{Name: "json", Usage: "print JSON"}
	return &cli.Command{
		Name: "scenarios", Usage: "list the built-in scenarios, show one, or begin one of your own", OnUsageError: usageError, Action: e.listAction, Flags: []cli.Flag{jsonFlag},
		Description: "Examples:\n   simulate scenarios\n   simulate scenarios show rpm-bucket\n   simulate scenarios new my-upstream.toml",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the built-in scenarios", Action: e.listAction, Flags: []cli.Flag{jsonFlag}, OnUsageError: usageError},
			{Name: "show", Usage: "print the file of a built-in scenario, or of a wide world (wide-SEED-N) of simulate draws", ArgsUsage: "NAME", Action: e.showAction, OnUsageError: usageError},
			{
				Name: "new", Usage: "write a scenario file to begin with", ArgsUsage: "FILE.toml", Action: e.newAction, OnUsageError: usageError,
				Flags: []cli.Flag{&cli.StringFlag{Name: "from", Usage: "`NAME` of the built-in scenario to copy", Value: "rpm-bucket"}},
				Description: "The file must not exist. Examples:\n   simulate scenarios new mine.toml\n" +
					"   simulate scenarios new --from capacity-step steps.toml",
			},
		},
	}
}

// listAction lists the built-in scenarios.
func (e *env) listAction(c *cli.Context) error {
	if c.Args().Present() {
		return misuse(unknownWord("command of scenarios", c.Args().First(), []string{"list", "show", "new"}))
	}
	all := scenario.Builtin()
	err := e.write(func(w io.Writer) error {
		if c.Bool("json") {
			type line struct {
				Name   string `json:"name"`
				Set    string `json:"set"`
				Shown  bool   `json:"shown"`
				Intent string `json:"intent"`
			}
			lines := []line{}
			for _, s := range all {
				lines = append(lines, line{s.Name, setOf(s), isShown(s), s.Intent})
			}
			return json.NewEncoder(w).Encode(lines)
		}
		width, setWidth := 0, 0
		for _, s := range all {
			width, setWidth = max(width, len(s.Name)), max(setWidth, len(setOf(s)))
		}
		for _, s := range all {
			mark := " "
			if isShown(s) {
				mark = "*"
			}
			fmt.Fprintf(w, "%s %-*s  %-*s  %s\n", mark, width, s.Name, setWidth, setOf(s), s.Intent)
		}
		_, err := fmt.Fprintf(w, "\n* shown by simulate without a command; run those of a set with simulate run set:%s\n", setHeldOut)
		return err
	})
	if err != nil {
		return internal(err)
	}
	return nil
}

// showAction prints the file of a built-in scenario, or of a wide world.
func (e *env) showAction(c *cli.Context) error {
	if c.NArg() != 1 {
		return misuse(errors.New("scenarios show needs the name of one scenario, as in simulate scenarios show rpm-bucket"))
	}
	text, ok := scenarios.Read(c.Args().First())
	switch list, err := drawn(c.Args().First()); {
	case err != nil:
		return misuse(err)
	case len(list) > 1:
		return misuse(fmt.Errorf("%s are %d scenarios: name one", c.Args().First(), len(list)))
	case len(list) == 1 && list[0].Source == "":
		return misuse(fmt.Errorf("%s was never a file, so there is none to show: only wide-SEED-N have one", list[0].Name))
	case len(list) == 1:
		text, ok = []byte(list[0].Source), true
	}
	if !ok {
		return misuse(unknownScenario(c.Args().First()))
	}
	if _, err := e.stdout.Write(text); err != nil {
		return internal(err)
	}
	return nil
}

var nameLine = regexp.MustCompile(`(?m)^name = .*$`)

// newAction writes a scenario file to begin with.
func (e *env) newAction(c *cli.Context) error {
	if c.NArg() != 1 || !strings.HasSuffix(c.Args().First(), ".toml") {
		return misuse(errors.New("scenarios new needs the name of one file that ends in .toml, as in simulate scenarios new mine.toml"))
	}
	path := c.Args().First()
	text, ok := scenarios.Read(c.String("from"))
	if !ok {
		return misuse(fmt.Errorf("--from: %w", unknownScenario(c.String("from"))))
	}
	name := fileName(strings.TrimSuffix(filepath.Base(path), ".toml"))
	if len(name) > 40 {
		name = name[:40]
	}
	body := nameLine.ReplaceAllString(string(text), "name = \""+name+"\"")
	// What the copy's controllers reach is not known.
	if i := strings.Index(body, "\n[expect."); i >= 0 {
		body = body[:i+1]
		if j := strings.LastIndex(strings.TrimRight(body, "\n"), "\n"); j >= 0 && strings.HasPrefix(body[j+1:], "#") {
			body = body[:j+1]
		}
	}
	body = "# Begun from the built-in scenario " + c.String("from") + ". Every key: docs/simulator.md. Try it with: simulate run " + quote(path) + "\n" + strings.TrimRight(body, "\n") +
		"\n\n# What must come of it, for simulate run --assert; see docs/simulator.md.\n# [expect.ours]\n# goodput = [0.9, 1.0]\n"
	if _, err := scenario.Parse(path, []byte(body)); err != nil {
		return internal(fmt.Errorf("the copy is broken: %w", err))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return misuse(fmt.Errorf("%s cannot be made: %w; name another file", path, errorOf(err)))
	}
	_, err = f.WriteString(body)
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(path)
		return internal(fmt.Errorf("%s could not be written: %w", path, errorOf(err)))
	}
	fmt.Fprintf(e.stderr, "simulate: wrote %s; change it, and try it with: simulate run %s\n", path, quote(path))
	return nil
}
