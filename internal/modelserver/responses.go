package modelserver

// response returns a response object of OpenAI's Responses API.
func response(w *writer, c *Call, status string, output []object, usage any) object {
	v := object{
		"id": w.name("resp_"), "object": "response", "created_at": w.created.Unix(), "status": status, "model": w.model,
		"output": output, "error": nil, "incomplete_details": nil, "usage": usage, "parallel_tool_calls": true, "tools": []object{}, "tool_choice": "auto",
	}
	if status == "incomplete" {
		v["incomplete_details"] = object{"reason": "max_output_tokens"}
	}
	return v
}

func responseUsage(c *Call) object {
	return object{
		"input_tokens": c.Input, "input_tokens_details": object{"cached_tokens": c.Cached},
		"output_tokens": c.Output, "output_tokens_details": object{"reasoning_tokens": 0}, "total_tokens": c.Input + c.Output,
	}
}

func outputText(text string) object {
	return object{"type": "output_text", "text": text, "annotations": []object{}}
}

func outputItem(w *writer, status string, content []object) object {
	return object{"type": "message", "id": w.name("msg_"), "status": status, "role": "assistant", "content": content}
}

func responseWhole(w *writer, _ *body, c *Call) {
	status := c.finish("incomplete", "completed")
	w.json(response(w, c, status, []object{outputItem(w, status, []object{outputText(filler(c.Output))})}, responseUsage(c)))
}

type responseStream struct {
	w   *writer
	c   *Call
	seq int
}

func newResponseStream(w *writer, _ *body, c *Call) streamer { return &responseStream{w: w, c: c} }

func (s *responseStream) event(name string, v object) {
	v["type"], v["sequence_number"] = name, s.seq
	s.seq++
	s.w.event(name, v)
}

func (s *responseStream) begin() {
	for _, name := range []string{"response.created", "response.in_progress"} {
		s.event(name, object{"response": response(s.w, s.c, "in_progress", []object{}, nil)})
	}
	s.event("response.output_item.added", object{"output_index": 0, "item": outputItem(s.w, "in_progress", []object{})})
	s.event("response.content_part.added", s.part(object{"part": outputText("")}))
}

// part adds where in the response something belongs.
func (s *responseStream) part(v object) object {
	v["item_id"], v["output_index"], v["content_index"] = s.w.name("msg_"), 0, 0
	return v
}

func (s *responseStream) more(i int64) {
	s.event("response.output_text.delta", s.part(object{"delta": word(i)}))
}

func (s *responseStream) end() {
	status, all := s.c.finish("incomplete", "completed"), filler(s.c.Output)
	s.event("response.output_text.done", s.part(object{"text": all}))
	s.event("response.content_part.done", s.part(object{"part": outputText(all)}))
	item := outputItem(s.w, status, []object{outputText(all)})
	s.event("response.output_item.done", object{"output_index": 0, "item": item})
	s.event("response."+status, object{"response": response(s.w, s.c, status, []object{item}, responseUsage(s.c))})
}
