package dialect

import (
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"
)

// PathModel returns the model that a path names, which is escaped; empty when it names none. Gemini and Vertex AI have …/models/NAME:method,
// Azure …/deployments/NAME/…, and Bedrock …/model/NAME/invoke and …/converse.
func PathModel(path string) string {
	from, to := modelAt(path)
	return unescape(path[from:to])
}

// SetPathModel returns path with another model in the place of the one that it names, if it names one.
func SetPathModel(path, model string) string {
	from, to := modelAt(path)
	if from == to {
		return path
	}
	if strings.HasSuffix(path[:from], "/models/") {
		model = strings.TrimPrefix(model, "models/") // as Gemini's API also has it
	}
	return path[:from] + url.PathEscape(model) + path[to:]
}

// modelAt returns from where to where a path, which is escaped, has the name of a model; nothing when it has none.
func modelAt(path string) (from, to int) {
	for before, at := "", 0; at < len(path); {
		part, rest, _ := strings.Cut(path[at:], "/")
		switch before {
		case "models":
			if colon := max(strings.LastIndexByte(part, ':'), strings.LastIndex(strings.ToUpper(part), "%3A")); colon >= 0 {
				return at, at + colon
			}
		case "deployments":
			if rest != "" {
				return at, at + len(part)
			}
		case "model":
			if strings.HasPrefix(rest, "invoke") || strings.HasPrefix(rest, "converse") {
				return at, at + len(part)
			}
		}
		before, at = part, at+len(part)+1
	}
	return 0, 0
}

// QueryModel returns the model that a query names, as that of OpenAI's realtime API does; empty when it names none.
func QueryModel(query string) string {
	if !strings.Contains(query, "model=") {
		return ""
	}
	q, _ := url.ParseQuery(query) // has what can be read
	return q.Get("model")
}

// mostFields is how many fields of a form are looked at, longestField how much of one, as no name of a model is so long, and longestHeader how much
// there may be before one: package multipart keeps 10 MiB of it in several times the memory.
const (
	mostFields    = 1000
	longestField  = 1 << 10
	longestHeader = 64 << 10
)

// FormModel returns the model that a form of the given Content-Type says, as those with a recording or a picture do; empty when it says none, or is
// no form.
func FormModel(contentType string, form io.Reader) string {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return ""
	}
	limited := &io.LimitedReader{R: form}
	fields := multipart.NewReader(limited, params["boundary"])
	for range mostFields {
		limited.N = longestHeader
		field, err := fields.NextRawPart()
		if err != nil {
			return ""
		}
		limited.N = math.MaxInt64
		if field.FormName() == "model" {
			b, err := io.ReadAll(io.LimitReader(field, longestField+1))
			if err != nil || len(b) > longestField {
				return ""
			}
			return string(b)
		}
		if _, err := io.Copy(io.Discard, field); err != nil {
			return ""
		}
	}
	return ""
}

func unescape(part string) string {
	if plain, err := url.PathUnescape(part); err == nil {
		return plain
	}
	return part
}
