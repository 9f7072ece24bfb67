package dialect

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Facts are what the gateway needs to know of a request's body. What is not there, or not of its type, is zero.
type Facts struct {
	// JSON says that the body is a JSON object.
	JSON  bool
	Model string
	// ModelAt and ModelEnd say where in the body the model's value is, quotes included.
	ModelAt, ModelEnd int
	Stream            bool
	// Zero says that the temperature is written, and 0.
	Zero bool
	// MaxTokens is the most that may be generated; 0 is unknown.
	MaxTokens int64
	// Stored says that the upstream is asked to keep what it answers.
	Stored bool
}

// Read returns what a body says. It looks at the keys of the outermost object only, and does not mind what is no JSON.
func Read(body []byte) (f Facts) {
	f.JSON = Scan(body, func(key string, value []byte, at int) bool {
		switch key {
		case "model":
			if json.Unmarshal(value, &f.Model) == nil {
				f.ModelAt, f.ModelEnd = at, at+len(value)
			}
		case "stream":
			f.Stream = string(value) == "true"
		case "temperature":
			t, err := strconv.ParseFloat(string(value), 64)
			f.Zero = err == nil && t == 0
		case "max_tokens", "max_completion_tokens", "max_output_tokens":
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && n > 0 && n < 1<<40 {
				f.MaxTokens = n
			}
		case "store":
			f.Stored = string(value) == "true"
		}
		return true
	})
	return f
}

// Live reports whether a body asks for an answer that the upstream looks things up or does something for: the same request gets another answer
// later, or does it again. Tools of the caller's own are none of that. What is written in another form than is known counts as such.
func Live(body []byte) (live bool) {
	Scan(body, func(key string, value []byte, _ int) bool {
		switch key {
		case "tools":
			live = runsTools(value)
		case "web_search_options", // OpenAI
			"search_parameters",        // xAI
			"enable_search",            // DashScope
			"web_search",               // Qianfan
			"plugins",                  // OpenRouter
			"mcp_servers", "container": // Anthropic
			switch string(value) {
			case "null", "false", "[]":
			default:
				live = true
			}
		}
		return !live
	})
	return live
}

// runsTools reports whether one of the tools, which are JSON, is run by the upstream.
func runsTools(tools []byte) bool {
	var all []struct {
		Type, Name string
		Function   json.RawMessage
	}
	if json.Unmarshal(tools, &all) != nil {
		return true
	}
	for _, t := range all {
		switch t.Type {
		case "function", "custom":
		case "":
			if t.Name == "" && t.Function == nil { // Anthropic's of the caller's own need no type, but a name; Google's of its own have neither
				return true
			}
		default:
			return true
		}
	}
	return false
}

// SetModel returns body with another model in the place of the one that f found. Nothing else is changed.
func SetModel(body []byte, f Facts, model string) []byte {
	if f.ModelEnd == 0 {
		return body
	}
	name := marshal(model)
	b := make([]byte, 0, len(body)+len(name))
	b = append(b, body[:f.ModelAt]...)
	b = append(b, name...)
	return append(b, body[f.ModelEnd:]...)
}

// Scan calls f with each key of the JSON object in b, with the bytes of its value and where they begin, until f returns false. It
// reports whether b looks like an object to its end, and nothing else. It does not check the values, whose brackets it counts only,
// because the upstream does that, and it is several times faster so.
func Scan(b []byte, f func(key string, value []byte, at int) bool) bool {
	i := space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == '}' {
		return space(b, i+1) == len(b)
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return false
		}
		end := stringEnd(b, i)
		if end < 0 {
			return false
		}
		var key string
		if raw := b[i+1 : end-1]; bytes.IndexByte(raw, '\\') < 0 {
			key = string(raw)
		} else if json.Unmarshal(b[i:end], &key) != nil {
			return false
		}
		i = space(b, end)
		if i >= len(b) || b[i] != ':' {
			return false
		}
		i = space(b, i+1)
		end = valueEnd(b, i)
		if end < 0 {
			return false
		}
		if !f(key, b[i:end], i) {
			return true
		}
		i = space(b, end)
		if i >= len(b) {
			return false
		}
		switch b[i] {
		case '}':
			return space(b, i+1) == len(b)
		case ',':
			i = space(b, i+1)
		default:
			return false
		}
	}
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// stringEnd returns where the string that begins at i ends, after its quote; -1 when it does not.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); {
		q := bytes.IndexByte(b[i:], '"')
		if q < 0 {
			return -1
		}
		i += q
		back := 0
		for b[i-1-back] == '\\' { // the opening quote ends this
			back++
		}
		i++
		if back%2 == 0 {
			return i
		}
	}
	return -1
}

// valueEnd returns where the value that begins at i ends; -1 when it does not.
func valueEnd(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				if i = stringEnd(b, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	}
	from := i
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ' ' && b[i] != '\n' && b[i] != '\r' && b[i] != '\t' {
		i++
	}
	if i == from {
		return -1
	}
	return i
}
