package strict

import (
	"fmt"
	"strconv"
)

// A Checker has rules that join several keys. When a destination, or a struct in it, is a Checker
// (on its pointer), Decode calls Check after it decoded the struct without an error, the
// structs inside before the ones around them.
//
//	func (g *guard) Check(k strict.Key) {
//		if g.Max < g.Min {
//			k.At("max_limit").Errorf("is %d, must be at least %s (%d)", g.Max, k.At("min_limit"), g.Min)
//		}
//	}
type Checker interface {
	Check(k Key)
}

// An EagerChecker is like a [Checker], but CheckEagerly is also called when something in the struct failed to
// decode, so that its rules are reported together with the rest. It asks [Key.Sound]
// before it believes a value.
type EagerChecker interface {
	CheckEagerly(k Key)
}

// Key is a key of the file, written or not, for a [Checker] to report errors at. It must not be kept.
type Key struct {
	d    *decoder
	n    *node // nil when the key was not written
	off  int   // of the key, or of the nearest key around it that was written
	name string
}

// At returns the key that is reached from k by the names in path; an element of an
// array is named by its index, counted from 0. The key need not be written.
func (k Key) At(path ...string) Key {
	for _, p := range path {
		var next *node
		if k.n != nil && k.n.kind == array {
			if i, err := strconv.Atoi(p); err == nil && i >= 0 && i < len(k.n.elems) {
				next = k.n.elems[i]
			}
			k.name = fmt.Sprintf("%s[%s]", k.name, p)
		} else {
			if k.n != nil {
				next = k.n.kids[p]
			}
			k.name = join(k.name, p)
		}
		k.n = next
		if next != nil {
			k.off = next.off
		}
	}
	return k
}

// Index returns element i of the array k, counted from 0.
func (k Key) Index(i int) Key { return k.At(strconv.Itoa(i)) }

// Given reports whether the key is written in the file.
func (k Key) Given() bool { return k.n != nil }

// Sound reports whether the key, and all that is in it, was decoded without an error. A key that
// is not written is sound.
func (k Key) Sound() bool { return k.n == nil || k.n.kind != broken && !k.n.failed }

// Found returns the value of the key as messages show it, shortened; empty for a table and for a key that
// is not written.
func (k Key) Found() string {
	if k.n == nil {
		return ""
	}
	return k.n.found()
}

// String returns the full key.
func (k Key) String() string { return k.name }

// Line returns the line of the key, or of the nearest table around it that is written.
func (k Key) Line() int { return k.d.doc.lineOf(k.off) }

// Errorf reports an error at the key, or at the nearest table around it that is written. The text follows
// the name of the key: "is 2, must be at least 4".
func (k Key) Errorf(format string, a ...any) {
	k.Error(fmt.Sprintf(format, a...), "", "")
}

// Error reports an error like Errorf, in parts; see the fields of [Error].
func (k Key) Error(problem, allowed, suggestion string) {
	k.d.add(k.off, k.name, Error{Problem: problem, Allowed: allowed, Suggestion: suggestion})
}
