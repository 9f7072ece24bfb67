package strict

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// An Override is a key that is set from outside a file, such as --set guard.adaptive.backoff=0.7 on a command line.
type Override struct {
	// Key is the full key with dots between its names; an element of an array is its number from 0.
	Key string
	// Value is written as in TOML; what is no TOML is taken as a string, so that 30s needs no quotes.
	Value string
}

// keyName is a name that needs no quotes in TOML.
var keyName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// ParseOverride reads key=value.
func ParseOverride(text string) (Override, error) {
	key, value, ok := strings.Cut(text, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok {
		return Override{}, fmt.Errorf("%q has no =, must be key=value, such as guard.adaptive.backoff=0.7", text)
	}
	names := strings.Split(key, ".")
	if len(names) > MaxDepth {
		return Override{}, fmt.Errorf("%q has more than %d names", key, MaxDepth)
	}
	for _, name := range names {
		if !keyName.MatchString(name) {
			return Override{}, fmt.Errorf("%q is no key: must be names of letters, digits, _ and - with dots between them, such as guard.adaptive.backoff", key)
		}
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return Override{}, fmt.Errorf("%s has a value that is no text: must be UTF-8 without control characters", key)
	}
	if value == "" {
		return Override{}, fmt.Errorf("%s has no value; an empty string is %s=\"\"", key, key)
	}
	return Override{key, value}, nil
}

// String returns key=value.
func (o Override) String() string { return o.Key + "=" + o.Value }

// value returns what o.Value says.
func (o Override) value() any {
	var t map[string]any
	if _, err := toml.Decode("v = "+o.Value, &t); err == nil && len(t) == 1 {
		return t["v"]
	}
	return o.Value
}

// Apply returns the file data with overrides set, in their order, without its comments. The file must be TOML; whether the keys are
// known and their values allowed is for [Decode] to say, whose errors then have lines that nobody wrote: see [Errors.Unplaced].
func Apply(data []byte, overrides []Override) ([]byte, error) {
	if len(overrides) == 0 {
		return data, nil
	}
	root := map[string]any{}
	if _, err := toml.Decode(string(data), &root); err != nil {
		return nil, err
	}
	for _, o := range overrides {
		if err := set(root, strings.Split(o.Key, "."), o.value()); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
	}
	var b bytes.Buffer
	e := toml.NewEncoder(&b)
	e.Indent = ""
	if err := e.Encode(root); err != nil {
		return nil, fmt.Errorf("the value has no form in a file: %w", err)
	}
	return b.Bytes(), nil
}

// set sets the value at a path below t.
func set(t map[string]any, path []string, value any) error {
	name := path[0]
	if len(path) == 1 {
		t[name] = value
		return nil
	}
	switch next := t[name].(type) {
	case nil:
		child := map[string]any{}
		t[name] = child
		return set(child, path[1:], value)
	case map[string]any:
		return set(next, path[1:], value)
	case []map[string]any:
		i, err := element0(path[1], len(next))
		if err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
		if len(path) == 2 {
			v, ok := value.(map[string]any)
			if !ok {
				return fmt.Errorf("%s.%d is a table: set one of its keys", name, i)
			}
			next[i] = v
			return nil
		}
		return set(next[i], path[2:], value)
	case []any:
		i, err := element0(path[1], len(next))
		if err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
		if len(path) == 2 {
			next[i] = value
			return nil
		}
		child, ok := next[i].(map[string]any)
		if !ok {
			return fmt.Errorf("%s.%d is no table", name, i)
		}
		return set(child, path[2:], value)
	}
	return fmt.Errorf("%s is no table: it has no key %s", name, path[1])
}

// element0 reads the number of an element from 0.
func element0(text string, n int) (int, error) {
	i, err := strconv.Atoi(text)
	if err != nil || i < 0 || i >= n {
		return 0, fmt.Errorf("has %d elements, 0 to %d: %q is none of them", n, n-1, text)
	}
	return i, nil
}

// Unplaced returns the errors of err without file and line, for text that nobody wrote as it is; other errors as they are.
func Unplaced(err error) error {
	var list Errors
	if !errors.As(err, &list) {
		return err
	}
	out := make([]error, len(list))
	for i, e := range list {
		c := *e
		c.File, c.Line, c.Column = "", 0, 0
		out[i] = errors.New(strings.TrimPrefix(c.Error(), ": "))
	}
	return errors.Join(out...)
}
