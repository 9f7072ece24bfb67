package modelserver

func messageUsage(c *Call, output int64) object {
	return object{
		"input_tokens": c.Input - c.Cached, "cache_read_input_tokens": c.Cached, "cache_creation_input_tokens": 0, "output_tokens": output,
	}
}

func message(w *writer, content []object, stop any, usage object) object {
	return object{
		"id": w.name("msg_"), "type": "message", "role": "assistant", "model": w.model,
		"content": content, "stop_reason": stop, "stop_sequence": nil, "usage": usage,
	}
}

func messageWhole(w *writer, _ *body, c *Call) {
	w.json(message(w, []object{{"type": "text", "text": filler(c.Output)}}, c.finish("max_tokens", "end_turn"), messageUsage(c, c.Output)))
}

type messageStream struct {
	w *writer
	c *Call
}

func newMessageStream(w *writer, _ *body, c *Call) streamer { return &messageStream{w, c} }

func (s *messageStream) event(name string, v object) {
	v["type"] = name
	s.w.event(name, v)
}

func (s *messageStream) begin() {
	s.event("message_start", object{"message": message(s.w, []object{}, nil, messageUsage(s.c, 1))})
	s.event("content_block_start", object{"index": 0, "content_block": object{"type": "text", "text": ""}})
	s.event("ping", object{})
}

func (s *messageStream) more(i int64) {
	s.event("content_block_delta", object{"index": 0, "delta": object{"type": "text_delta", "text": word(i)}})
}

func (s *messageStream) end() {
	s.event("content_block_stop", object{"index": 0})
	s.event("message_delta", object{
		"delta": object{"stop_reason": s.c.finish("max_tokens", "end_turn"), "stop_sequence": nil},
		"usage": object{"output_tokens": s.c.Output},
	})
	s.event("message_stop", object{})
}
