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
	for before := ""; path != ""; {
		part, rest, _ := strings.Cut(path, "/")
		switch before {
		case "models":
			if name := unescape(part); strings.Contains(name, ":") {
				return name[:strings.LastIndexByte(name, ':')]
			}
		case "deployments":
			if rest != "" {
				return unescape(part)
			}
		case "model":
			if strings.HasPrefix(rest, "invoke") || strings.HasPrefix(rest, "converse") {
				return unescape(part)
			}
		}
		before, path = part, rest
	}
	return ""
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
