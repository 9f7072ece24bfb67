package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/flyball-go/flyball/config/strict"
)

// arrange puts the options of a command line before its arguments, wherever they were written: package flag reads none that come
// later. What follows -- stays as it is.
func arrange(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	out, rest := []string{args[0]}, args[1:]
	commands, flags := app.Commands, app.Flags
	for {
		var options, words []string
		var command *cli.Command
		i := 0
		for ; i < len(rest); i++ {
			word := rest[i]
			if word == "--" {
				words = append(words, rest[i:]...)
				break
			}
			if len(word) < 2 || word[0] != '-' {
				if c := find(commands, word); c != nil && len(words) == 0 {
					command = c
					break
				}
				words = append(words, word)
				continue
			}
			options = append(options, word)
			name, _, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
			if takesValue(flags, name) && !joined && i+1 < len(rest) {
				i++
				options = append(options, rest[i])
			}
		}
		out = append(out, options...)
		if command == nil {
			return append(out, words...)
		}
		out = append(out, command.Name)
		rest = rest[i+1:]
		commands, flags = command.Subcommands, command.Flags
	}
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func takesValue(flags []cli.Flag, name string) bool {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			d, ok := f.(cli.DocGenerationFlag)
			return ok && d.TakesValue()
		}
	}
	return false
}

var (
	unknownFlag = regexp.MustCompile(`^flag provided but not defined: -+(.*)$`)
	badValue    = regexp.MustCompile(`^invalid value "(.*)" for flag -+([^:]*): (.*)$`)
	noValue     = regexp.MustCompile(`^flag needs an argument: -+(.*)$`)
)

// usageError makes a wrong option a misuse that says which one was probably meant, without printing the whole help.
func usageError(c *cli.Context, err error, _ bool) error {
	flags, command := c.App.Flags, ""
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != c.App.Name {
		flags, command = c.Command.Flags, " "+c.Command.Name
	}
	var names []string
	usage, kinds := map[string]string{}, map[string]string{}
	for _, f := range flags {
		names = append(names, f.Names()...)
		kind := ""
		switch f.(type) {
		case *cli.IntFlag:
			kind = "a whole number"
		case *cli.Uint64Flag:
			kind = "a whole number, 0 or more"
		case *cli.DurationFlag:
			kind = "a duration such as 30s or 5m"
		case *cli.Float64Flag:
			kind = "a number"
		}
		for _, n := range f.Names() {
			kinds[n] = kind
			if d, ok := f.(cli.DocGenerationFlag); ok {
				usage[n] = d.GetUsage()
			}
		}
	}
	text := err.Error()
	switch {
	case unknownFlag.MatchString(text):
		name, _, _ := strings.Cut(unknownFlag.FindStringSubmatch(text)[1], "=")
		text = fmt.Sprintf("there is no option --%s", name)
		if best, ok := strict.Nearest(name, names); ok {
			text += ", did you mean --" + best + "?"
		}
	case badValue.MatchString(text):
		m := badValue.FindStringSubmatch(text)
		text = fmt.Sprintf("--%s is %q", m[2], m[1])
		if k := kinds[m[2]]; k != "" {
			text += ", must be " + k
		}
	case noValue.MatchString(text):
		name := noValue.FindStringSubmatch(text)[1]
		text = fmt.Sprintf("--%s needs a value", name)
		if u := usage[name]; u != "" {
			text += ": " + strings.ReplaceAll(u, "`", "")
		}
	}
	return misuse(fmt.Errorf("%s; see simulate%s --help", text, command))
}
