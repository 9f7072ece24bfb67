package strict

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder is one run of Decode.
type decoder struct {
	file    string
	doc     *document
	root    *structType
	types   map[reflect.Type]*structType
	where   []place // where each key of the destination belongs, once it is needed
	errs    Errors
	dropped bool // there were more errors than are kept
	// failed counts what did not decode, errors that are dropped or were reported before
	// included. A struct within which it went up is not given to its Checker.
	failed int
}

// add reports an error at an offset.
func (d *decoder) add(off int, key string, e Error) {
	d.failed++
	if len(d.errs) >= maxErrors {
		d.dropped = true
		return
	}
	e.File, e.Key = d.file, key
	e.Line, e.Column = d.doc.position(off)
	d.errs = append(d.errs, &e)
}

// structTable decodes the table n, called name, into the struct v.
func (d *decoder) structTable(n *node, name string, v reflect.Value, s *structType) {
	before := d.failed
	defer func() { n.failed = d.failed > before }()
	for _, k := range n.order {
		if d.dropped {
			return
		}
		if f := s.byName[k]; f != nil {
			d.decode(n.kids[k], join(name, k), v.FieldByIndex(f.index), f.rule)
		} else {
			d.unknown(n.kids[k], name, k, s)
		}
	}
	if d.doc.partial {
		return // what seems to be missing may be in the part that could not be read
	}
	for i := range s.fields {
		if f := &s.fields[i]; f.required && n.kids[f.name] == nil {
			d.add(n.off, join(name, f.name), Error{Problem: "is missing", Allowed: f.rule.allowed(f.typ)})
		}
	}
	n.failed = d.failed > before
	self := v.Addr().Interface()
	if c, ok := self.(EagerChecker); ok {
		c.CheckEagerly(Key{d: d, n: n, off: n.off, name: name})
	}
	if c, ok := self.(Checker); ok && d.failed == before {
		c.Check(Key{d: d, n: n, off: n.off, name: name})
	}
}

// decode puts the value of n, called name, into v.
func (d *decoder) decode(n *node, name string, v reflect.Value, r rule) {
	if n.kind == broken {
		d.failed++
		d.unhint(name, v.Type(), r)
		return
	}
	before := d.failed
	defer func() { n.failed = d.failed > before }()
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	t := v.Type()
	if t == durationType {
		d.duration(n, name, v, r)
		return
	}
	if isText(t) {
		if s, ok := d.text(n, name, t, r); ok {
			if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
				problem := fmt.Sprintf("is %s: %v", n.found(), err)
				if secret, ok := err.(Secret); ok {
					problem = "cannot be this: " + string(secret)
				}
				d.add(n.off, name, Error{Problem: oneLine(problem)})
			}
		}
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		if t == otherType {
			d.isTable(n, name, t, r)
		} else if d.isTable(n, name, t, r) {
			d.structTable(n, name, v, d.structOf(t))
		}
	case reflect.Map:
		if d.isTable(n, name, t, r) {
			d.mapTable(n, name, v, r)
		}
	case reflect.Slice:
		d.slice(n, name, v, r)
	case reflect.String:
		if s, ok := d.text(n, name, t, r); ok {
			v.SetString(s)
		}
	case reflect.Bool:
		if b, ok := n.value.(bool); ok && n.kind == scalar {
			v.SetBool(b)
		} else {
			d.wrong(n, name, t, r, bareForm(n, func(s string) bool { return s == "true" || s == "false" }))
		}
	case reflect.Float32, reflect.Float64:
		d.float(n, name, v, r)
	default:
		d.integer(n, name, v, r)
	}
}

func (d *decoder) mapTable(n *node, name string, v reflect.Value, r rule) {
	t := v.Type()
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(t, len(n.order)))
	}
	if !r.size.holdsInt(int64(len(n.order))) {
		d.add(n.off, name, Error{Problem: fmt.Sprintf("has %d keys", len(n.order)), Allowed: r.allowed(t)})
	}
	r.size = nil
	for _, k := range n.order {
		kid := n.kids[k]
		// A key of the elements, written where a name has to stand.
		if e := deref(t.Elem()); isStruct(e) && kid.kind == scalar && d.structOf(e).byName[k] != nil {
			d.add(kid.off, join(name, k), Error{
				Problem: "is a key of one " + name, Allowed: "in a table that has a name",
				Suggestion: "write it under [" + name + ".<name>]",
			})
			continue
		}
		e := reflect.New(t.Elem()).Elem()
		if old := v.MapIndex(reflect.ValueOf(k).Convert(t.Key())); old.IsValid() {
			e.Set(old)
		}
		d.decode(kid, join(name, k), e, r)
		v.SetMapIndex(reflect.ValueOf(k).Convert(t.Key()), e)
	}
}

func (d *decoder) slice(n *node, name string, v reflect.Value, r rule) {
	t := v.Type()
	if n.kind != array {
		hint := ""
		if n.kind == table && n.header && isStruct(deref(t.Elem())) {
			hint = "write [[" + name + "]]"
		} else if n.kind == scalar {
			hint = "write [" + short(n.text) + "]"
		}
		d.wrong(n, name, t, r, hint)
		return
	}
	if !r.size.holdsInt(int64(len(n.elems))) {
		d.add(n.off, name, Error{Problem: fmt.Sprintf("has %d elements", len(n.elems)), Allowed: r.allowed(t)})
	}
	r.size = nil
	out := reflect.MakeSlice(t, len(n.elems), len(n.elems))
	for i, e := range n.elems {
		if d.dropped {
			return
		}
		d.decode(e, fmt.Sprintf("%s[%d]", name, i), out.Index(i), r)
	}
	v.Set(out)
}

func (d *decoder) isTable(n *node, name string, t reflect.Type, r rule) bool {
	if n.kind == table {
		return true
	}
	hint := ""
	if n.kind == array && n.header {
		hint = "write [" + name + "], once"
	}
	d.wrong(n, name, t, r, hint)
	return false
}

// text returns the string that n holds when it is allowed.
func (d *decoder) text(n *node, name string, t reflect.Type, r rule) (string, bool) {
	s, ok := n.value.(string)
	if !ok || n.kind != scalar {
		hint := ""
		if n.kind == scalar && n.text != "" && (len(r.choices) == 0 || slices.Contains(r.choices, n.text)) {
			hint = "write " + last(name) + " = " + strconv.Quote(short(n.text))
		}
		d.wrong(n, name, t, r, hint)
		return "", false
	}
	if len(r.choices) > 0 && !slices.Contains(r.choices, s) {
		e := Error{Problem: "is " + n.found(), Allowed: r.oneOf()}
		if best, ok := Nearest(s, r.choices); ok {
			e.Suggestion = "did you mean " + strconv.Quote(best) + "?"
		}
		d.add(n.off, name, e)
		return "", false
	}
	if !r.size.holdsInt(int64(len(s))) {
		d.add(n.off, name, Error{Problem: fmt.Sprintf("has %d bytes", len(s)), Allowed: r.allowed(t)})
		return "", false
	}
	return s, true
}

func (d *decoder) integer(n *node, name string, v reflect.Value, r rule) {
	t := v.Type()
	x, ok := n.value.(int64)
	if !ok || n.kind != scalar {
		hint := bareForm(n, func(s string) bool { _, err := strconv.ParseInt(s, 10, 64); return err == nil })
		if f, ok := n.value.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			hint = fmt.Sprintf("write %d", int64(f))
		}
		d.wrong(n, name, t, r, hint)
		return
	}
	fits := r.value.holdsInt(x)
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
		fits = fits && x >= 0 && !v.OverflowUint(uint64(x))
	} else {
		fits = fits && !v.OverflowInt(x)
	}
	if !fits {
		allowed := "a smaller number"
		switch {
		case r.value != nil:
			allowed = r.bounds()
		case x < 0 && t.Kind() >= reflect.Uint:
			allowed = "at least 0"
		}
		d.add(n.off, name, Error{Problem: "is " + n.found(), Allowed: allowed})
		return
	}
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
		v.SetUint(uint64(x))
	} else {
		v.SetInt(x)
	}
}

func (d *decoder) float(n *node, name string, v reflect.Value, r rule) {
	var x float64
	switch y := n.value.(type) {
	case float64:
		x = y
	case int64:
		x = float64(y)
	default:
		d.wrong(n, name, v.Type(), r, bareForm(n, func(s string) bool {
			f, err := strconv.ParseFloat(s, 64)
			return err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
		}))
		return
	}
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0) || v.OverflowFloat(x):
		d.add(n.off, name, Error{Problem: "is " + n.found(), Allowed: "a finite number" + pick(r.value != nil, ", "+r.text(), "")})
	case !r.value.holdsFloat(x):
		d.add(n.off, name, Error{Problem: "is " + n.found(), Allowed: r.bounds()})
	default:
		v.SetFloat(x)
	}
}

// unhint takes back the hint to write a word in quotes, or as true or false, where neither would do, and says what would.
func (d *decoder) unhint(name string, t reflect.Type, r rule) {
	switch t = deref(t); {
	case t == durationType, isText(t):
		return
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Struct, reflect.Map, reflect.Slice:
		return
	}
	for _, e := range d.errs {
		if e.Key == name && strings.HasPrefix(e.Suggestion, "write "+last(name)+" = ") {
			e.Problem, _ = strings.CutSuffix(e.Problem, " without quotes")
			e.Allowed, e.Suggestion = r.allowed(t), ""
		}
	}
}

// text is bounds, or nothing without a range.
func (r rule) text() string {
	if r.value == nil {
		return ""
	}
	return r.bounds()
}

func (d *decoder) duration(n *node, name string, v reflect.Value, r rule) {
	s, ok := n.value.(string)
	if !ok || n.kind != scalar {
		hint := ""
		switch x := n.value.(type) {
		case int64:
			hint = fmt.Sprintf(`write quotes and a unit: "%ds" or "%dms"`, x, x)
		case float64:
			hint = fmt.Sprintf(`write quotes and a unit: "%vs" or "%vms"`, x, x)
		}
		d.wrong(n, name, durationType, r, hint)
		return
	}
	x, err := time.ParseDuration(s)
	allowed := "at least 0s"
	if r.value != nil {
		allowed = r.bounds()
	}
	switch {
	case err != nil:
		hint := "write a number and a unit (ms, s, m, h), as in \"1m30s\""
		if days, rest, ok := strings.Cut(s, "d"); ok && rest == "" {
			if n, err := strconv.Atoi(days); err == nil && n > 0 && n < 10_000 {
				hint = fmt.Sprintf("there is no unit for days, write \"%dh\"", 24*n)
			}
		} else if f, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			hint = fmt.Sprintf(`write a unit: "%ss" or "%sms"`, s, s)
		}
		d.add(n.off, name, Error{Problem: "is " + n.found(), Allowed: "a duration, " + allowed, Suggestion: hint})
	case !r.value.holdsInt(int64(x)), r.value == nil && x < 0:
		d.add(n.off, name, Error{Problem: "is " + n.found(), Allowed: allowed})
	default:
		v.SetInt(int64(x))
	}
}

// wrong reports that n is not a value of type t.
func (d *decoder) wrong(n *node, name string, t reflect.Type, r rule, hint string) {
	found := n.found()
	problem := "is " + found
	if s := n.sort(); s != "" {
		problem += pick(found == "", "", ", ") + s
	}
	d.add(n.off, name, Error{Problem: problem, Allowed: r.allowed(t), Suggestion: hint})
}

// found returns the value as the file has it, shortened; nothing for a table with a header and for
// what spans lines.
func (n *node) found() string {
	if s, ok := n.value.(string); ok {
		return strconv.Quote(short(s))
	}
	if strings.Contains(n.text, "\n") {
		return ""
	}
	return short(n.text)
}

// sort names what n is.
func (n *node) sort() string {
	switch n.kind {
	case table:
		return "a table"
	case array:
		return pick(n.header, "an array of tables", "an array")
	}
	switch n.value.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64:
		return "an integer"
	case float64:
		return "a number with a fraction"
	case time.Time:
		return "a date or time"
	}
	return ""
}

// bareForm returns the hint to take the quotes off, when n is a string that would then do.
func bareForm(n *node, would func(string) bool) string {
	if s, ok := n.value.(string); ok && would(s) {
		return "write " + s + " without quotes"
	}
	return ""
}

// last returns the last name of a full key.
func last(name string) string {
	if strings.HasSuffix(name, `"`) {
		return name[strings.LastIndex(name, `."`)+1:]
	}
	return name[strings.LastIndexByte(name, '.')+1:]
}
