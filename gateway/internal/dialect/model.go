package dialect

import (
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

func unescape(part string) string {
	if plain, err := url.PathUnescape(part); err == nil {
		return plain
	}
	return part
}
