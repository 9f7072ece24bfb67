package strict

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// structType is what Decode knows of a struct: its keys, in the order of the fields.
type structType struct {
	fields []field
	byName map[string]*field
}

// A field is a key of a struct with the rules for its value.
type field struct {
	name     string
	index    []int
	typ      reflect.Type
	required bool
	rule     rule
}

// A rule is what the tags say of a value. On a slice or map all but size is for the elements.
type rule struct {
	unit    string
	choices []string
	value   *bounds // of a number or duration
	size    *bounds // of a string, slice or map
}

// bounds is a range. Numbers are compared as float64, which holds every bound that a
// tag may state exactly; integers are compared as integers first.
type bounds struct {
	text           string
	lo, hi         float64
	loInt, hiInt   int64
	openLo, openHi bool
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	otherType    = reflect.TypeFor[Other]()
)

// isText reports whether values of t read themselves from a string.
func isText(t reflect.Type) bool { return reflect.PointerTo(t).Implements(textType) }

// isStruct reports whether t is decoded from a table with the keys of t.
func isStruct(t reflect.Type) bool { return t.Kind() == reflect.Struct && !isText(t) }

// deref returns what t points to, or t.
func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// element returns what slices and maps of t hold in the end, or t.
func element(t reflect.Type) reflect.Type {
	t = deref(t)
	for (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && !isText(t) {
		t = deref(t.Elem())
	}
	return t
}

// structOf returns the keys of t. It panics when t cannot be a destination.
func (d *decoder) structOf(t reflect.Type) *structType {
	if s := d.types[t]; s != nil {
		return s
	}
	s := &structType{byName: map[string]*field{}}
	d.types[t] = s
	s.collect(t, nil)
	for i := range s.fields {
		f := &s.fields[i]
		if s.byName[f.name] != nil {
			panic(fmt.Sprintf("strict: %s has the key %s twice", t, f.name))
		}
		s.byName[f.name] = f
	}
	for _, f := range s.fields {
		if e := element(f.typ); isStruct(e) {
			d.structOf(e)
		}
	}
	return s
}

func (s *structType) collect(t reflect.Type, index []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(index[:len(index):len(index)], i)
		name, tagged := sf.Tag.Lookup("toml")
		switch {
		case sf.Anonymous && !tagged && sf.Type.Kind() == reflect.Struct:
			s.collect(sf.Type, at)
			continue
		case !tagged || name == "-":
			continue
		case !sf.IsExported():
			panic(fmt.Sprintf("strict: %s.%s has a toml tag and is not exported", t, sf.Name))
		}
		e := element(sf.Type)
		f := field{name: name, index: at, typ: sf.Type, required: sf.Tag.Get("required") == "true"}
		f.rule.unit = sf.Tag.Get("unit")
		if c := sf.Tag.Get("choice"); c != "" {
			f.rule.choices = strings.Split(c, "|")
		}
		if r := sf.Tag.Get("range"); r != "" {
			f.rule.value = parseBounds(r, e)
		}
		if r := sf.Tag.Get("len"); r != "" {
			f.rule.size = parseBounds(r, reflect.TypeFor[int]())
		}
		checkType(t, sf.Name, sf.Type)
		s.fields = append(s.fields, f)
	}
}

// checkType panics when a field of type t cannot be decoded.
func checkType(owner reflect.Type, name string, t reflect.Type) {
	t = deref(t)
	if isText(t) {
		return
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Struct, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			checkType(owner, name, t.Elem())
			return
		}
	case reflect.Slice:
		checkType(owner, name, t.Elem())
		return
	}
	panic(fmt.Sprintf("strict: %s.%s has the type %s, which cannot be decoded", owner, name, t))
}

// parseBounds reads the tag "lo..hi" for values of type t. It panics when the tag is wrong.
func parseBounds(tag string, t reflect.Type) *bounds {
	lo, hi, ok := strings.Cut(tag, "..")
	if !ok {
		panic(fmt.Sprintf("strict: the range %q is not lo..hi", tag))
	}
	b := &bounds{lo: math.Inf(-1), hi: math.Inf(1), loInt: math.MinInt64, hiInt: math.MaxInt64}
	lo, b.openLo = strings.CutPrefix(lo, ">")
	hi, b.openHi = strings.CutPrefix(hi, "<")
	if lo != "" {
		b.lo, b.loInt = parseBound(tag, lo, t)
	}
	if hi != "" {
		b.hi, b.hiInt = parseBound(tag, hi, t)
	}
	switch {
	case lo != "" && hi != "" && !b.openLo && !b.openHi:
		b.text = lo + " to " + hi
	case lo != "" && hi != "":
		b.text = pick(b.openLo, "more than ", "at least ") + lo + " and " + pick(b.openHi, "less than ", "at most ") + hi
	case lo != "":
		b.text = pick(b.openLo, "more than ", "at least ") + lo
	case hi != "":
		b.text = pick(b.openHi, "less than ", "at most ") + hi
	}
	return b
}

func pick(c bool, yes, no string) string {
	if c {
		return yes
	}
	return no
}

func parseBound(tag, s string, t reflect.Type) (float64, int64) {
	if t == durationType {
		v, err := time.ParseDuration(s)
		if err != nil {
			panic(fmt.Sprintf("strict: the range %q has a bound that is no duration", tag))
		}
		return float64(v), int64(v)
	}
	if v, err := strconv.ParseInt(s, 10, 64); err == nil {
		return float64(v), v
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || t.Kind() != reflect.Float64 && t.Kind() != reflect.Float32 {
		panic(fmt.Sprintf("strict: the range %q has a bound that is no %s", tag, t))
	}
	return v, 0
}

func (b *bounds) holdsInt(v int64) bool {
	return b == nil || (v > b.loInt || v == b.loInt && !b.openLo) && (v < b.hiInt || v == b.hiInt && !b.openHi)
}

func (b *bounds) holdsFloat(v float64) bool {
	return b == nil || (v > b.lo || v == b.lo && !b.openLo) && (v < b.hi || v == b.hi && !b.openHi)
}

// allowed says what a value of type t may be, as the words after "must be".
func (r rule) allowed(t reflect.Type) string {
	t = deref(t)
	if len(r.choices) > 0 && (t.Kind() == reflect.String || isText(t)) {
		return r.oneOf()
	}
	s := typeName(t)
	switch {
	case isText(t):
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Map:
		if r.size != nil {
			s += " of " + r.size.text
		}
		if e := element(t); !isStruct(e) {
			inner := rule{unit: r.unit, choices: r.choices, value: r.value}
			s += ", each " + inner.allowed(e)
		}
	case t.Kind() == reflect.String:
		if r.size != nil {
			s += " of " + r.size.text + " bytes"
		}
	case r.value != nil:
		s += ", " + r.bounds()
	case t == durationType:
		s += ", at least 0s"
	case r.unit != "":
		s += " of " + r.unit
	}
	return s
}

// bounds returns the range with its unit.
func (r rule) bounds() string {
	if r.unit == "" {
		return r.value.text
	}
	return r.value.text + " " + r.unit
}

// oneOf lists the choices.
func (r rule) oneOf() string { return oneOf(r.choices) }

func oneOf(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = strconv.Quote(n)
	}
	if len(q) == 1 {
		return q[0]
	}
	return strings.Join(q[:len(q)-1], ", ") + " or " + q[len(q)-1]
}

// typeName names the kind of value that t is decoded from.
func typeName(t reflect.Type) string {
	t = deref(t)
	switch {
	case t == durationType:
		return "a duration in quotes"
	case isText(t):
		return "a string"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Struct, reflect.Map:
		return "a table"
	case reflect.Slice:
		if e := deref(t.Elem()); isStruct(e) || e.Kind() == reflect.Map {
			return "an array of tables"
		}
		return "an array"
	}
	return "an integer"
}

// A Description is one key that a destination knows.
type Description struct {
	// Path is the full key. Names that the file chooses are <name>, and elements of arrays have
	// []: upstream.<name>.max_wait, feedback.rule[].class.
	Path string
	// Allowed is what the value may be, as the words after "must be".
	Allowed string
	// Required says that the key must be written.
	Required bool
	// Table says that the key is a table, or an array or map of tables, which has keys of its own.
	Table bool
}

// Describe returns the keys that Decode knows for dst, which is a struct or a pointer to one, each
// table before its keys, in the order of the fields.
func Describe(dst any) []Description {
	d := &decoder{types: map[reflect.Type]*structType{}}
	var all []Description
	d.describe(deref(reflect.TypeOf(dst)), "", nil, &all)
	return all
}

func (d *decoder) describe(t reflect.Type, prefix string, within []reflect.Type, all *[]Description) {
	for _, w := range within {
		if w == t {
			return // a type that holds itself is told once
		}
	}
	within = append(within, t)
	for _, f := range d.structOf(t).fields {
		path := join(prefix, f.name)
		e := element(f.typ)
		*all = append(*all, Description{Path: path, Allowed: f.rule.allowed(f.typ), Required: f.required, Table: isStruct(e)})
		if !isStruct(e) {
			continue
		}
		for x := deref(f.typ); x != e; x = deref(x.Elem()) {
			if x.Kind() == reflect.Slice {
				path += "[]"
			} else {
				path += ".<name>"
			}
		}
		d.describe(e, path, within, all)
	}
}
