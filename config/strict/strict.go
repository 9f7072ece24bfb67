// Package strict decodes TOML files that people write and reports everything that is wrong with
// one at once: the line, the key, what was found, what is allowed, and the name that was
// probably meant.
//
// The values are read by github.com/BurntSushi/toml, which also has the last word on whether a file is
// TOML at all. What it does not tell, the position of each key, an index of the file tells.
//
// # Destinations
//
// A destination is a struct whose fields carry a `toml:"name"` tag; fields without the tag are not
// keys. A field may be a bool, an integer, a float, a string, a [time.Duration] (written as a
// string, "1m30s"), an [encoding.TextUnmarshaler] (written as a string), a struct (a
// table), a map[string]T (a table with free names), a slice (an array, or an array of
// tables), or a pointer to any of these: a pointer stays nil when the key is absent, which tells
// "not written" from "written as zero". An embedded struct without a tag lends its keys. A field of the type
// [Other] is a table that somebody else reads.
//
// Further tags say what a value may be:
//
//	range:"1..1000"   the bounds of a number or duration, both allowed; either may be left
//	                  out. ">0..1" and "0..<1" leave the bound itself out. On a slice or map of
//	                  numbers it bounds each element.
//	choice:"a|b|c"    the strings that are allowed; on a slice or map, for each element
//	len:"1..8"        how many elements a slice or map has, or bytes a string
//	unit:"calls"      the unit of a number, for messages
//	required:"true"   the key must be written
//
// A duration without a range must not be negative. A float is always finite. An integer is
// accepted where a float is wanted.
//
// Rules that join several keys are for a [Checker].
package strict

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"
)

// Other is a table of the file that another program reads: whatever is in it is let pass.
type Other struct{}

// MaxSize is the largest file that Decode reads, in bytes (1 MiB).
const MaxSize = 1 << 20

// MaxDepth is how many tables and arrays a key may lie in.
const MaxDepth = 32

// maxErrors is how many errors Decode reports before it gives up on a file.
const maxErrors = 100

// Decode reads data, the contents of a TOML file, into dst, a non-nil pointer to a struct, and
// returns nil or an [Errors] with everything that is wrong. The name file is only used in
// messages. Keys that are absent leave their fields as they are, so dst may
// hold defaults. When Decode returns an error, dst holds some of the values and must not be used.
//
// Decode never panics on data. It panics when dst or its type cannot be a destination.
func Decode(file string, data []byte, dst any) error {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("strict: Decode needs a pointer to a struct, not %T", dst))
	}
	d := &decoder{file: file, types: map[reflect.Type]*structType{}}
	d.root = d.structOf(v.Elem().Type())
	if e := foreign(data); e != nil {
		e.File = file
		return Errors{e}
	}
	doc := index(data)
	d.doc = doc
	for _, p := range doc.problems {
		d.add(p.off, p.key, p.Error)
	}
	if len(d.errs) == 0 {
		if p := authority(doc.src); p != nil {
			d.add(p.off, p.key, p.Error)
		}
	}
	d.structTable(doc.root, "", v.Elem(), d.root)
	if len(d.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(d.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	})
	if d.dropped {
		last := d.errs[len(d.errs)-1]
		d.errs = append(d.errs, &Error{File: file, Line: last.Line, Problem: "more errors follow; they are not shown"})
	}
	return d.errs
}

// foreign reports why data cannot be TOML text at all, or nil.
func foreign(data []byte) *Error {
	if len(data) > MaxSize {
		return &Error{Problem: fmt.Sprintf("the file has more than %d bytes", MaxSize), Allowed: fmt.Sprintf("at most %d bytes (1 MiB)", MaxSize)}
	}
	if len(data) >= 2 && (data[0] == 0xff && data[1] == 0xfe || data[0] == 0xfe && data[1] == 0xff) {
		return &Error{Line: 1, Column: 1, Problem: "the file is UTF-16", Allowed: "UTF-8", Suggestion: "save it as UTF-8"}
	}
	line, col := 1, 1
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return &Error{Line: line, Column: col, Problem: fmt.Sprintf("the file has the byte 0x%02x, which is not UTF-8", data[i]),
				Allowed: "UTF-8", Suggestion: "save it as UTF-8"}
		case r == '\r' && i+1 < len(data) && data[i+1] == '\n', r == '\t':
		case r == '\n':
			line, col = line+1, 0
		case r < ' ' || r == 0x7f:
			return &Error{Line: line, Column: col, Problem: fmt.Sprintf("the file has the control character 0x%02x", r),
				Allowed: "text; in a string write it as \\u" + fmt.Sprintf("%04x", r)}
		}
		i += n
		col++
	}
	return nil
}

// Error is one thing that is wrong with a file.
type Error struct {
	// File is the name of the file as given to Decode.
	File string
	// Line is where it is, counted from 1; 0 when the error has no place, as for a file too large.
	Line int
	// Column is where in the line, counted in characters from 1; 0 when unknown.
	Column int
	// Key is the full key, as in guard.retry.base_delay; elements of arrays are counted from
	// 0, as in feedback.rule[2].class. Empty when no key is concerned.
	Key string
	// Problem is what was found, as the words that follow the key: `is "fast"`, `is unknown`.
	Problem string
	// Allowed is what may be there, as the words that follow "must be"; may be empty.
	Allowed string
	// Suggestion is what to do about it: `did you mean max_wait?`; may be empty.
	Suggestion string
}

// Error returns the error in one line:
// limits.toml:12:1: guard.queue is -5, must be 0 to 1000000 callers.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
		if e.Column > 0 {
			fmt.Fprintf(&b, ":%d", e.Column)
		}
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key + " ")
	}
	b.WriteString(e.Problem)
	if e.Allowed != "" {
		b.WriteString(", must be " + e.Allowed)
	}
	if e.Suggestion != "" {
		b.WriteString("; " + e.Suggestion)
	}
	return b.String()
}

// Secret is an error for an encoding.TextUnmarshaler to return when the text must not be shown, because it may
// hold a password. It has the text for the message.
type Secret string

// Error returns the text.
func (s Secret) Error() string { return string(s) }

// Errors is everything that is wrong with a file, in the order of its lines. It is never empty.
type Errors []*Error

// Error returns one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, x := range e {
		lines[i] = x.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors, for errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, x := range e {
		errs[i] = x
	}
	return errs
}
