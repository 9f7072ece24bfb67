package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/flyball-go/flyball/adaptive"
	"github.com/flyball-go/flyball/config/strict"
	"github.com/flyball-go/flyball/limiter"
)

// Keys says where the credentials of an upstream are, and how they are used. The file never has a credential itself.
type Keys struct {
	// Sources are the tables [[upstream.<name>.key]] in the order of the file; none when the
	// upstream needs no key, or when the callers bring it.
	Sources []KeySource
	// Limit says whose the limits are: each key's, or the account's that all keys are of.
	Limit limiter.LimitScope
	// Header is the field that carries the key, and Prefix what stands before it.
	Header, Prefix string
	// Probe and ProbeMax are the shortest and the longest time that a key which is out waits for its
	// next probe; see limiter.PoolConfig.
	Probe, ProbeMax time.Duration
}

// KeySource is where one key comes from. One of the fields is set.
type KeySource struct {
	// Env is the name of an environment variable.
	Env string
	// File is the path of a file.
	File string
}

// maxKey is how large a file with a key may be, in bytes. Keys are shorter than what a header may have.
const maxKey = 8 << 10

// String names the source.
func (s KeySource) String() string {
	if s.Env != "" {
		return "environment variable " + s.Env
	}
	return "file " + s.File
}

// Read returns the key. Line ends after the key are left out, and so is a byte order mark before it in a file. An error names the
// source, and never what is in it.
func (s KeySource) Read() (limiter.Secret, error) {
	key := ""
	if s.Env != "" {
		v, ok := os.LookupEnv(s.Env)
		if !ok {
			return limiter.Secret{}, fmt.Errorf("config: the %v is not set: set it to the key", s)
		}
		key = strings.TrimRight(v, "\r\n") // as a Secret of Kubernetes has that was made from a file
	} else {
		v, err := readKey(s.File)
		if err != nil {
			var pe *fs.PathError
			if errors.As(err, &pe) {
				err = pe.Err
			}
			return limiter.Secret{}, fmt.Errorf("config: the key in %v cannot be read: %w", s, err)
		}
		key = strings.TrimPrefix(strings.TrimRight(v, "\r\n"), "\ufeff") // an editor of Windows may put it there
	}
	switch {
	case key == "":
		return limiter.Secret{}, fmt.Errorf("config: the %v is empty, must be a key", s)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return limiter.Secret{}, fmt.Errorf("config: the %v has spaces or line ends inside, must be one key alone", s)
	case strings.ContainsFunc(key, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }):
		return limiter.Secret{}, fmt.Errorf("config: the %v has characters that cannot be seen, as text has that was copied from a page: write the key anew", s)
	case len(key) > 1 && (key[0] == '"' || key[0] == '\'') && key[len(key)-1] == key[0]:
		return limiter.Secret{}, fmt.Errorf("config: the %v has quotes around the key, which would be sent with it, as a list of variables for docker run has: leave them out", s)
	}
	return limiter.NewSecret(key), nil
}

func readKey(path string) (string, error) {
	// A pipe says nothing the second time, or never ends, and keys are read again.
	if st, err := os.Stat(path); err == nil && st.Mode()&(fs.ModeNamedPipe|fs.ModeSocket|fs.ModeDevice) != 0 {
		return "", errors.New("it is no file: write the key into one")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err == nil && len(b) > maxKey {
		err = fmt.Errorf("it has more than %d bytes", maxKey)
	}
	return string(b), err
}

// Read returns all keys in the order of the file. The error joins one error for each that cannot be read.
func (k Keys) Read() ([]limiter.Secret, error) {
	var keys []limiter.Secret
	var errs []error
	from := map[string]KeySource{}
	for _, s := range k.Sources {
		key, err := s.Read()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if first, twice := from[key.Reveal()]; twice {
			errs = append(errs, fmt.Errorf("config: the %v has the same key as the %v", s, first))
			continue
		}
		from[key.Reveal()] = s
		keys = append(keys, key)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return keys, nil
}

// Pool returns the configuration of a pool of u's keys, which are read now. Each call makes new laws, so the result is
// for one pool. The error joins one error for each key that cannot be read.
func (u Upstream) Pool() (limiter.PoolConfig, error) {
	if len(u.Keys.Sources) == 0 {
		return limiter.PoolConfig{}, fmt.Errorf("config: upstream %s has no keys: write [[upstream.%s.key]] with env or file", u.Name, u.Name)
	}
	keys, err := u.Keys.Read()
	if err != nil {
		return limiter.PoolConfig{}, fmt.Errorf("upstream %s: %w", u.Name, err)
	}
	return u.pool(keys), nil
}

// pool returns the configuration of a pool of keys.
func (u Upstream) pool(keys []limiter.Secret) limiter.PoolConfig {
	c := limiter.PoolConfig{Guard: u.Config(), Keys: keys, Limit: u.Keys.Limit, Probe: u.Keys.Probe, ProbeMax: u.Keys.ProbeMax}
	if c.Guard.Law != nil {
		c.Guard.Law = nil
		s := u.Settings
		c.NewLaw = func() adaptive.Law { return s.NewLaw() }
	}
	return c
}

// keysTable is what an upstream's table says of its keys.
type keysTable struct {
	Limit    *string        `toml:"limit" choice:"key|account"`
	Header   *headerName    `toml:"key_header"`
	Prefix   *keyPrefix     `toml:"key_prefix" len:"..64"`
	Probe    *time.Duration `toml:"key_probe" range:"1s..24h"`
	ProbeMax *time.Duration `toml:"key_probe_max" range:"1s..24h"`
	Key      []oneKeyTable  `toml:"key" len:"1..1024"`
}

// oneKeyTable is one [[upstream.<name>.key]].
type oneKeyTable struct {
	Env  *envName `toml:"env"`
	File *keyFile `toml:"file"`
}

// keyHeaders are the fields that providers take their key in, where it is not "Authorization: Bearer <key>".
var keyHeaders = map[string]string{
	"anthropic":    "X-Api-Key",
	"azure-openai": "Api-Key",
	"gemini":       "X-Goog-Api-Key",
}

// keys returns what t says, with the defaults of what it does not say.
func (t *keysTable) keys(p provider) Keys {
	d := limiter.PoolConfig{Probe: or(t.Probe, 0), ProbeMax: or(t.ProbeMax, 0)}.Defaults()
	k := Keys{Probe: d.Probe, ProbeMax: d.ProbeMax, Header: "Authorization"}
	if or(t.Limit, "key") == limiter.LimitAccount.String() {
		k.Limit = limiter.LimitAccount
	}
	if h := keyHeaders[string(p)]; h != "" {
		k.Header = h
	}
	k.Header = string(or(t.Header, headerName(k.Header)))
	if strings.EqualFold(k.Header, "Authorization") {
		k.Prefix = "Bearer "
	}
	k.Prefix = string(or(t.Prefix, keyPrefix(k.Prefix)))
	for _, s := range t.Key {
		k.Sources = append(k.Sources, KeySource{Env: string(or(s.Env, "")), File: string(or(s.File, ""))})
	}
	return k
}

// checkKeys reports what contradicts itself in the table of an upstream.
func (t *keysTable) checkKeys(own strict.Key) {
	k := t.keys("")
	if probe, most := own.At("key_probe"), own.At("key_probe_max"); probe.Sound() && most.Sound() && most.Given() && k.Probe > k.ProbeMax {
		most.Error("is "+quoted(k.ProbeMax), fmt.Sprintf("at least %s (%s)", probe, quoted(k.Probe)), "")
	}
	first := map[KeySource]strict.Key{}
	for i, s := range k.Sources {
		at := own.At("key").Index(i)
		switch {
		case !at.Sound():
		case (s.Env == "") == (s.File == ""):
			problem := "has neither env nor file"
			if s.Env != "" {
				problem = "has both env and file"
			}
			at.Error(problem, "exactly one of both", "")
		default:
			if other, twice := first[s]; twice {
				at.Errorf("names the same %v as %s", s, other)
			} else {
				first[s] = at
			}
		}
	}
}

// envName is the name of an environment variable. It is of capitals, so that a key that somebody wrote in its place
// is told from it and is not repeated.
type envName string

var envForm = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,127}$`)

// UnmarshalText reads a name and checks it.
func (e *envName) UnmarshalText(text []byte) error {
	if !envForm.Match(text) {
		return strict.Secret("it must be the name of an environment variable, of capitals, digits and _; the key itself does not belong in this file")
	}
	*e = envName(text)
	return nil
}

// keyFile is the path of a file. It is absolute, for the same reason.
type keyFile string

// UnmarshalText reads a path and checks it.
func (f *keyFile) UnmarshalText(text []byte) error {
	if !filepath.IsAbs(string(text)) || strings.ContainsRune(string(text), 0) {
		return strict.Secret("it must be the absolute path of a file; the key itself does not belong in this file")
	}
	*f = keyFile(text)
	return nil
}

// headerName is the name of a header field.
type headerName string

var headerForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")

// UnmarshalText reads a name and checks it.
func (h *headerName) UnmarshalText(text []byte) error {
	if !headerForm.Match(text) {
		return strict.Secret("it must be the name of a header field")
	}
	switch strings.ToLower(string(text)) {
	case "host", "connection", "content-length", "transfer-encoding", "trailer", "te", "upgrade", "expect":
		return errors.New("HTTP itself uses this field, and a key in it does not reach the upstream")
	}
	*h = headerName(text)
	return nil
}

// keyPrefix is what stands before a key in its header field.
type keyPrefix string

// UnmarshalText reads a prefix and checks it.
func (p *keyPrefix) UnmarshalText(text []byte) error {
	for _, c := range text {
		if c < ' ' || c > '~' {
			return strict.Secret("it must be printable ASCII")
		}
	}
	*p = keyPrefix(text)
	return nil
}

// secretNames are keys of the file, and slips of them, after which somebody may have written a credential.
var secretNames = map[string]bool{
	"key": true, "keys": true, "env": true, "file": true, "value": true, "api_key": true, "apikey": true, "api-key": true, "token": true,
	"secret": true, "password": true, "authorization": true, "bearer": true, "credential": true, "key_prefix": true,
}

// looksSecret is what looks like a credential, wherever it stands: it begins as those of well-known providers do, or is
// a long word of letters and digits.
var looksSecret = regexp.MustCompile(`(?i)\b(?:(?:sk|gsk|xai|pplx|hf)[-_][^\s"',\]}]{4,}|bearer +[^\s"',\]}]+|[a-z0-9_.-]{24,})`)

var knownPrefix = regexp.MustCompile(`(?i)^(?:(?:sk|gsk|xai|pplx|hf)[-_]|bearer )`)

// hideSecrets takes out of errors what may be a credential that somebody wrote into the file.
func hideSecrets(err error) {
	var errs strict.Errors
	if !errors.As(err, &errs) {
		return
	}
	for _, e := range errs {
		if name := lastName(e.Key); secretNames[name] && showsValue(e.Problem) {
			e.Problem, e.Suggestion = "cannot be this; it is not shown, because it may be a credential", "keys are named by env or file in [[upstream.<name>.key]], and do not belong in this file"
			continue
		}
		e.Problem, e.Suggestion = hideCredentials(e.Problem), hideCredentials(e.Suggestion)
		e.Key = userInfo.ReplaceAllString(e.Key, hiddenUser)
		if i := len(e.Key) - len(lastPart(e.Key)); e.Problem == "is unknown" { // a key that nobody knows may be anything
			e.Key = e.Key[:i] + hideCredentials(e.Key[i:])
		}
	}
}

// showsValue reports whether a problem repeats what was written.
func showsValue(problem string) bool {
	rest, ok := strings.CutPrefix(problem, "is ")
	for _, fixed := range []string{"unknown", "missing", "a table", "an array", "a value in line", "a key of one"} {
		if strings.HasPrefix(rest, fixed) {
			return false
		}
	}
	return ok
}

// userInfo is what stands before the host of a URL: a user and a password, in which somebody may have written anything.
var userInfo = regexp.MustCompile(`://.*@`)

const hiddenUser = "://(hidden)@"

func hideCredentials(s string) string {
	s = userInfo.ReplaceAllString(s, hiddenUser)
	return looksSecret.ReplaceAllStringFunc(s, func(word string) string {
		if !strings.ContainsAny(word, "0123456789") && !knownPrefix.MatchString(word) {
			return word // a long word without digits is a name
		}
		return "(hidden)"
	})
}

// lastName returns the last name of a full key, without an index.
func lastName(key string) string {
	name, _, _ := strings.Cut(lastPart(key), "[")
	return strings.ToLower(name)
}

// lastPart returns the last part of a full key, in its quotes when it has some.
func lastPart(key string) string {
	if rest, ok := strings.CutSuffix(key, `"`); ok {
		return key[strings.LastIndexByte(rest, '"'):]
	}
	return key[strings.LastIndexByte(key, '.')+1:]
}
