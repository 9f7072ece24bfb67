package feedback

import "bytes"

// Usage is what an answer says it used. Providers count differently; here the counts of
// all of them mean the same. A count that was not told is zero.
type Usage struct {
	// Known says that the answer told at least one count.
	Known bool
	// Input is all tokens of the prompt, cached ones and ones written to a cache included.
	Input int64
	// CachedInput is the part of Input that was read from a cache.
	CachedInput int64
	// CacheWrite is the part of Input that was written to a cache (Anthropic, Bedrock).
	CacheWrite int64
	// Output is all generated tokens, reasoning included.
	Output int64
	// Reasoning is the part of Output that the model thought and did not say.
	Reasoning int64
	// Total is the total as told, or Input + Output.
	Total int64
}

// usageCounts are the counts as providers write them; -1 is one that was not told. Later
// ones replace earlier ones, because streams tell running totals.
type usageCounts struct {
	// prompt includes cached tokens (OpenAI, Gemini). input does so too, unless the answer
	// tells cacheRead or cacheWrite beside it (Anthropic, Bedrock).
	prompt, input         int64
	cached                int64
	cacheRead, cacheWrite int64
	toolPrompt            int64 // Gemini: not in prompt
	output                int64 // includes reasoning
	reasoning             int64
	thoughts              int64 // Gemini: not in output
	total                 int64
}

var noCounts = usageCounts{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1}

// usage returns the counts in their common meaning.
func (c *usageCounts) usage() Usage {
	if *c == noCounts {
		return Usage{}
	}
	told := func(n int64) int64 { return max(n, 0) }
	u := Usage{Known: true, CacheWrite: told(c.cacheWrite), Reasoning: told(c.reasoning)}
	u.CachedInput = told(max(c.cached, c.cacheRead))
	switch {
	case c.prompt >= 0:
		u.Input = sum(c.prompt, told(c.toolPrompt))
	case c.input >= 0 || c.cacheRead >= 0 || c.cacheWrite >= 0:
		u.Input = sum(told(c.input), sum(told(c.cacheRead), u.CacheWrite))
	}
	u.Output = told(c.output)
	if c.thoughts >= 0 {
		u.Output, u.Reasoning = sum(u.Output, c.thoughts), c.thoughts
	}
	if u.Total = c.total; u.Total < 0 {
		u.Total = sum(u.Input, u.Output)
	}
	return u
}

// sum adds two counts and saturates at the largest int64.
func sum(a, b int64) int64 {
	if s := a + b; s >= 0 {
		return s
	}
	return 1<<63 - 1
}

// object reads the members of a usage object. More may follow it; it returns where the object ends, or 0 when it does not.
func (c *usageCounts) object(v value) (end int) {
	r := members(v)
	for {
		key, val, ok := r.next()
		if !ok {
			return r.end
		}
		switch string(key) {
		case "prompt_tokens", "promptTokenCount", "PromptTokens", "prompt_eval_count":
			c.prompt = tokens(val, c.prompt)
		case "input_tokens", "inputTokens":
			c.input = tokens(val, c.input)
		case "completion_tokens", "output_tokens", "outputTokens", "candidatesTokenCount", "CompletionTokens", "eval_count":
			c.output = tokens(val, c.output)
		case "total_tokens", "totalTokens", "totalTokenCount", "TotalTokens":
			c.total = tokens(val, c.total)
		case "prompt_tokens_details", "input_tokens_details":
			c.cached = tokens(val.get("cached_tokens"), c.cached)
		case "completion_tokens_details", "output_tokens_details":
			c.reasoning = tokens(val.get("reasoning_tokens"), c.reasoning)
		case "cached_tokens", "prompt_cache_hit_tokens", "cachedContentTokenCount":
			c.cached = tokens(val, c.cached)
		case "cache_read_input_tokens", "cacheReadInputTokens":
			c.cacheRead = tokens(val, c.cacheRead)
		case "cache_creation_input_tokens", "cacheWriteInputTokens":
			c.cacheWrite = tokens(val, c.cacheWrite)
		case "thoughtsTokenCount":
			c.thoughts = tokens(val, c.thoughts)
		case "toolUsePromptTokenCount":
			c.toolPrompt = tokens(val, c.toolPrompt)
		case "tokens": // Cohere
			if val.isObject() {
				c.object2(val)
			}
		}
	}
}

// object2 reads an object within a usage object; it goes no deeper.
func (c *usageCounts) object2(v value) {
	c.input = tokens(v.get("input_tokens"), c.input)
	c.output = tokens(v.get("output_tokens"), c.output)
}

// tokens reads a count; it returns old when v is none.
func tokens(v value, old int64) int64 {
	if v.kind() != '0' {
		return old
	}
	var n int64
	for _, d := range v {
		if !isDigit(d) {
			if d == '.' {
				return n
			}
			return old // negative, or with an exponent
		}
		if n > (1<<63-1-9)/10 {
			return old
		}
		n = n*10 + int64(d-'0')
	}
	return n
}

// observe reads one event, or the one object of a body, of any dialect: it takes the usage
// in it, and reports whether there is generated content in it, whether it is the last, and whether it may be an error: it suspects
// whatever suspectEvent does of an object.
func (c *usageCounts) observe(v value) (content, last, suspect bool) {
	r := members(v)
	for {
		key, val, ok := r.next()
		if !ok {
			return content, last, suspect
		}
		switch string(key) {
		case "error":
			suspect = suspect || !val.empty()
		case "base_resp":
			suspect = suspect || nonZero(val.get("status_code"))
		case "usage", "usageMetadata", "usage_metadata", "Usage":
			c.object(val)
		case "message": // Anthropic's message_start; Ollama
			c.object(val.get("usage"))
			content = content || !val.get("content").empty()
		case "response": // OpenAI's Responses; Ollama's text
			c.object(val.get("usage"))
			content = content || val.kind() == '"' && !val.empty()
		case "delta": // Cohere
			c.object(val.get("usage"))
		case "x_groq":
			c.object(val.get("usage"))
		case "Response": // Tencent
			c.object(val.get("Usage"))
		case "prompt_eval_count":
			c.prompt = tokens(val, c.prompt)
		case "eval_count":
			c.output = tokens(val, c.output)
		case "done":
			last = last || val.kind() == 't'
		case "type":
			content = content || isContentType(val)
			suspect = suspect || val.isString("error") || val.isString("response.failed")
			last = last || val.isString("message_stop") || val.isString("response.completed") ||
				val.isString("response.incomplete") || val.isString("response.failed") || val.isString("message-end")
		case "event_type":
			content = content || val.isString("text-generation")
		case "choices", "Choices":
			content = c.choices(val) || content
		case "candidates":
			val.elements(func(e value) bool {
				content = content || !e.at("content", "parts").empty()
				last = last || e.get("finishReason").kind() == '"'
				return true
			})
		case "output": // DashScope
			content = content || !val.get("text").empty() || c.choices(val.get("choices"))
		case "result": // Qianfan v1
			content = content || val.kind() == '"' && !val.empty()
		default:
			suspect = suspect || bytes.IndexByte(key, '\\') >= 0
		}
	}
}

// choices reads the choices of the OpenAI family and reports whether one has content. A
// first chunk that only names the role has none.
func (c *usageCounts) choices(v value) (content bool) {
	v.elements(func(e value) bool {
		r := members(e)
		for {
			key, val, ok := r.next()
			if !ok {
				return true
			}
			switch string(key) {
			case "text":
				content = content || !val.empty()
			case "delta", "message", "Delta", "Message":
				content = content || hasContent(val)
			case "usage": // Moonshot
				c.object(val)
			}
		}
	})
	return content
}

func hasContent(delta value) bool {
	r := members(delta)
	for {
		key, val, ok := r.next()
		if !ok {
			return false
		}
		switch string(key) {
		case "content", "Content", "reasoning_content", "reasoning", "text", "tool_calls", "function_call", "refusal", "audio":
			if !val.empty() {
				return true
			}
		}
	}
}

// isContentType reports whether an event's type is that of generated content:
// content_block_delta, response.output_text.delta, content-delta; not message_delta.
func isContentType(v value) bool {
	if v.kind() != '"' || len(v) < 2 {
		return false
	}
	t := v[1 : len(v)-1]
	return bytes.HasSuffix(t, []byte("delta")) && !bytes.HasPrefix(t, []byte("message"))
}
