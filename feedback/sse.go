package feedback

import "bytes"

// event is one server-sent event.
type event struct {
	name []byte
	data []byte
	// status is what a ":HTTP_STATUS/nnn" comment in the event says, or 0. DashScope sends it.
	status int
}

// lineEnd returns the index of the first LF or CR in b, or -1. It looks for both in short pieces, so that many short lines that end
// in one of them do not have all of b searched for the other each.
func lineEnd(b []byte) int {
	const piece = 512
	for i := 0; i < len(b); i += piece {
		p := b[i:min(i+piece, len(b))]
		n := bytes.IndexByte(p, '\n')
		if n >= 0 {
			p = p[:n]
		}
		if r := bytes.IndexByte(p, '\r'); r >= 0 {
			return i + r
		}
		if n >= 0 {
			return i + n
		}
	}
	return -1
}

// nextEvent cuts the first event off b: the lines up to an empty one, which is not part of
// it. Lines end in LF, CRLF or CR. The last event may lack its empty line.
func nextEvent(b []byte) (block, rest []byte) {
	for i := 0; i < len(b); {
		eol := lineEnd(b[i:])
		if eol < 0 {
			return b, nil
		}
		end := i + eol
		next := end + 1
		if b[end] == '\r' && next < len(b) && b[next] == '\n' {
			next++
		}
		if eol == 0 { // an empty line
			return b[:i], b[next:]
		}
		i = next
	}
	return b, nil
}

// parseEvent reads the lines of an event. Several data lines are joined in *join, which
// keeps its capacity from one event to the next.
func parseEvent(block []byte, join *[]byte) (e event) {
	lines := 0
	block = bytes.TrimPrefix(block, []byte("\xef\xbb\xbf"))
	for len(block) > 0 {
		line := block
		if i := lineEnd(block); i >= 0 {
			line, block = block[:i], block[i+1:]
		} else {
			block = nil
		}
		name, val, _ := bytes.Cut(line, []byte(":"))
		if len(val) > 0 && val[0] == ' ' {
			val = val[1:]
		}
		switch string(name) {
		case "event":
			e.name = val
		case "data":
			switch lines++; lines {
			case 1:
				e.data = val
			case 2:
				*join = append(append(append((*join)[:0], e.data...), '\n'), val...)
				e.data = *join
			default:
				*join = append(append(*join, '\n'), val...)
				e.data = *join
			}
		case "":
			if digits, ok := bytes.CutPrefix(val, []byte("HTTP_STATUS/")); ok {
				e.status = status3(digits)
			}
		}
	}
	return e
}

// status3 reads three digits, or returns 0.
func status3(s []byte) int {
	n := 0
	for i, c := range bytes.TrimSpace(s) {
		if !isDigit(c) || i == 3 {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// suspectEvent reports whether an event of a 2xx answer may be an error, without
// allocating. It misses no error that errorEvent sees.
func suspectEvent(e event) bool {
	if string(e.name) == "error" {
		return true
	}
	i := skipSpace(e.data, 0)
	if i >= len(e.data) {
		return false
	}
	if e.data[i] == '[' {
		return suspect(e.data)
	}
	r := members(value(e.data[i:]))
	for {
		key, val, ok := r.next()
		if !ok {
			return false
		}
		switch string(key) {
		case "error":
			if !val.empty() {
				return true
			}
		case "type":
			if val.isString("error") || val.isString("response.failed") {
				return true
			}
		case "base_resp":
			if nonZero(val.get("status_code")) {
				return true
			}
		default:
			if bytes.IndexByte(key, '\\') >= 0 {
				return true
			}
		}
	}
}

// errorEvent returns what an event of a 2xx answer says when it is an error.
func errorEvent(e event) (document, bool) {
	if !suspectEvent(e) {
		return document{}, false
	}
	d := readDocument(e.data)
	if string(e.name) == "error" {
		d.root = unwrapResponse(d.root)
		return d, true
	}
	if d.root == nil {
		return document{}, false
	}
	typ := d.root.get("type")
	ok := !d.root.get("error").empty() || typ.isString("error") || typ.isString("response.failed") ||
		nonZero(d.root.at("base_resp", "status_code"))
	d.root = unwrapResponse(d.root)
	return d, ok
}

// unwrapResponse returns the response in an event of OpenAI's Responses API, where the
// error is, or the event itself.
func unwrapResponse(root value) value {
	if root.get("error").empty() {
		if r := root.get("response"); !r.get("error").empty() {
			return r
		}
	}
	return root
}
