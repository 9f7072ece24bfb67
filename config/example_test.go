package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/flyball-go/flyball/config"
	"github.com/flyball-go/flyball/config/strict"
)

func ExampleParse() {
	file, err := config.Parse("limits.toml", []byte(`
[guard]
max_wait = "30s"

[upstream.openai]
base_url = "https://api.openai.com/v1"
max_limit = 64
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, name := range file.Names() {
		u, _ := file.Upstream(name)
		fmt.Println(u.Name, u.BaseURL, u.Law, u.Adaptive.Max, u.MaxWait, u.Retry.MaxAttempts)
	}
	// Output: openai https://api.openai.com/v1 adaptive 64 30s 5
}

func ExampleParse_errors() {
	_, err := config.Parse("limits.toml", []byte(`[guard]
max_wiat = "30s"
queue = -5
`))
	var all strict.Errors
	if errors.As(err, &all) {
		for _, e := range all {
			fmt.Printf("line %d: %s %s; %s\n", e.Line, e.Key, e.Problem, e.Suggestion)
		}
	}
	// Output:
	// line 2: guard.max_wiat is unknown; did you mean max_wait?
	// line 3: guard.queue is -5;
}

func ExampleReloader() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "limits.toml")
	write := func(text string) { os.WriteFile(path, []byte(text), 0o600) }

	write("[upstream.openai]\nmax_limit = 64\ninitial_limit = 64\n")
	limits, err := config.NewReloader(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	guard, err := limits.Guard("openai")
	if err != nil {
		fmt.Println(err)
		return
	}
	write("[upstream.openai]\nmax_limit = 32\n")
	changes, err := limits.Reload() // go limits.Run(ctx, config.RunConfig{}) does so when the file changes
	fmt.Println(changes.Settings, err)
	fmt.Println("limit", guard.Stats().Limit)
	// Output:
	// [openai.initial_limit: 64 -> 4 openai.max_limit: 64 -> 32] <nil>
	// limit 32
}
