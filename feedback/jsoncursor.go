package feedback

import "bytes"

// jsonCursor follows the structure of a JSON body that comes in pieces of any size, and tells where the
// members that matter begin. The body is one object, or an array whose elements are the events of a stream, as
// Gemini sends them. It is not a validator: on text that is not JSON it tells nothing of use. It
// allocates only when a member's name is cut by the end of a piece. The zero jsonCursor is at the beginning of a body.
type jsonCursor struct {
	depth int32
	// base is the depth of the members that matter: 1, or 2 within an array; 0 before the
	// first bracket, and -1 when the body is neither.
	base  int8
	npart uint8 // of part

	inString, escaped bool
	wantKey           bool // at base, the next string is a member's name
	inKey             bool // the string at hand is one
	inObject          bool // within an object whose members matter
	closed            bool // the body's own bracket is closed

	part *[maxKey]byte // what came of the name at hand in pieces before, cut at maxKey
}

const (
	// maxKey is longer than every known name.
	maxKey = 32
	// maxDepth is where the cursor gives up. No answer nests a thousandth as deep.
	maxDepth = 1 << 24
)

// jsonEvent is what a jsonCursor met.
type jsonEvent uint8

const (
	jsonMore   jsonEvent = iota // the piece ended
	jsonOpen                    // an object whose members matter begins
	jsonMember                  // the value of a member of it begins
	jsonClose                   // the object has ended
)

// save keeps the name at hand beyond the piece.
func (c *jsonCursor) save(name []byte) {
	if c.part == nil {
		c.part = new([maxKey]byte)
	}
	c.npart += uint8(copy(c.part[c.npart:], name))
}

// saved returns the name that was saved, and forgets it.
func (c *jsonCursor) saved() (name []byte) {
	if c.npart > 0 {
		name, c.npart = c.part[:c.npart], 0
	}
	return name
}

// next reads p until it meets something, and returns how much of p it read. The name is that of a member, still
// escaped; it is good until p changes or next is called again.
func (c *jsonCursor) next(p []byte) (n int, e jsonEvent, name []byte) {
	if c.base < 0 {
		return len(p), jsonMore, nil
	}
	i := 0
	if c.inString {
		if i, name = c.string(p); c.inString {
			if c.inKey {
				c.save(name)
			}
			return len(p), jsonMore, nil
		}
	}
	depth, base := c.depth, int32(c.base)
	for i < len(p) {
		if depth > base && base > 0 {
			// Within a value only strings and brackets matter.
			for i < len(p) && !structural[p[i]] {
				i++
			}
			if i == len(p) {
				break
			}
		}
		b := p[i]
		i++
		switch b {
		case ' ', '\t', '\r', '\n':
		case '"':
			key := c.wantKey && c.inObject && depth == base
			if key {
				c.wantKey, c.npart, name = false, 0, nil
			}
			// The usual string ends in this piece and has no escape before its end.
			if q := bytes.IndexByte(p[i:], '"'); q >= 0 && (q == 0 || p[i+q-1] != '\\') {
				if key {
					name = p[i : i+q]
				}
				i += q + 1
				continue
			}
			c.inString, c.inKey = true, key
			n, part := c.string(p[i:])
			if i += n; key {
				name = part
			}
		case '{', '[':
			if base > 0 && depth >= base && depth < maxDepth {
				depth++
				continue
			}
			c.depth = depth
			if c.open(b) {
				c.npart = 0
				return i, jsonOpen, nil
			}
			if c.base < 0 {
				return len(p), jsonMore, nil
			}
			depth, base = c.depth, int32(c.base)
		case '}', ']':
			if base > 0 && depth > base {
				depth--
				continue
			}
			c.depth = depth
			if c.close() {
				return i, jsonClose, nil
			}
			depth = c.depth
		case ':':
			if c.inObject && depth == base {
				if c.npart > 0 {
					c.save(name)
					name = c.saved()
				}
				c.depth = depth
				return i, jsonMember, name[:min(len(name), maxKey)]
			}
		case ',':
			if c.inObject && depth == base {
				c.wantKey = true
			}
		default:
			if base == 0 && b != 0xef && b != 0xbb && b != 0xbf { // a byte order mark may precede
				c.base = -1
				return len(p), jsonMore, nil
			}
		}
	}
	c.depth = depth
	if len(name) > 0 {
		c.save(name)
	}
	return len(p), jsonMore, nil
}

// string reads on in the string at hand. It returns how much of p belongs to it, and the same without its closing quote; the
// string has ended when c.inString is false. Whether it was a name stays in c.inKey until then.
func (c *jsonCursor) string(p []byte) (n int, text []byte) {
	n, ended := c.endOfString(p)
	text = p[:n]
	if ended {
		text = text[:n-1]
		if !c.inKey {
			text = nil
		}
		c.inString, c.inKey = false, false
	}
	return n, text
}

// endOfString returns how much of p belongs to the string at hand, its closing quote included when it is there.
func (c *jsonCursor) endOfString(p []byte) (n int, ended bool) {
	from := 0
	if c.escaped {
		c.escaped, from = false, 1
	}
	for {
		end := len(p)
		q := bytes.IndexByte(p[from:], '"')
		if q >= 0 {
			end = from + q
		}
		// The quote ends the string unless an odd number of backslashes precedes it.
		k := end
		for k > from && p[k-1] == '\\' {
			k--
		}
		odd := (end-k)%2 == 1
		switch {
		case q < 0:
			c.escaped = odd
			return len(p), false
		case !odd:
			return end + 1, true
		}
		from = end + 1
	}
}

// open takes a bracket that opens; it reports whether an object begins whose members matter.
func (c *jsonCursor) open(b byte) bool {
	if c.depth++; c.depth > maxDepth {
		c.base = -1
		return false
	}
	if c.base == 0 {
		c.base = 1
		if b == '[' {
			c.base = 2
			return false
		}
	}
	if c.depth == int32(c.base) && b == '{' && !c.closed {
		c.inObject, c.wantKey = true, true
		return true
	}
	return false
}

// close takes a bracket that closes; it reports whether an object ended whose members matter.
func (c *jsonCursor) close() (ended bool) {
	if ended = c.inObject && c.depth == int32(c.base); ended {
		c.inObject = false
	}
	if c.depth > 0 {
		c.depth--
	}
	c.closed = c.closed || c.base > 0 && c.depth == 0
	return ended
}
