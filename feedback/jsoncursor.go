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
	for i := 0; i < len(p); {
		if c.inString {
			n, ended := c.endOfString(p[i:])
			if c.inKey {
				name = p[i : i+n]
				if ended {
					name = name[:n-1]
				}
			}
			if ended {
				c.inString, c.inKey = false, false
			}
			i += n
			continue
		}
		if c.depth > int32(c.base) && c.base > 0 {
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
			c.inString = true
			if c.inObject && c.wantKey && c.depth == int32(c.base) {
				c.wantKey, c.inKey, c.npart, name = false, true, 0, nil
			}
		case '{', '[':
			if c.open(b) {
				c.npart = 0
				return i, jsonOpen, nil
			}
			if c.base < 0 {
				return len(p), jsonMore, nil
			}
		case '}', ']':
			if c.close() {
				return i, jsonClose, nil
			}
		case ':':
			if c.inObject && c.depth == int32(c.base) {
				if c.npart > 0 {
					c.save(name)
					name = c.saved()
				}
				return i, jsonMember, name[:min(len(name), maxKey)]
			}
		case ',':
			if c.inObject && c.depth == int32(c.base) {
				c.wantKey = true
			}
		default:
			if c.base == 0 && b != 0xef && b != 0xbb && b != 0xbf { // a byte order mark may precede
				c.base = -1
				return len(p), jsonMore, nil
			}
		}
	}
	if len(name) > 0 {
		c.save(name)
	}
	return len(p), jsonMore, nil
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
