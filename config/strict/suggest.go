package strict

import (
	"reflect"
	"slices"
	"strings"
)

// unknown reports the key k of the table n, whose struct does not know it.
func (d *decoder) unknown(n *node, tableName, k string, s *structType) {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	e := Error{Problem: "is unknown"}
	if len(names) > 0 {
		e.Allowed = "one of " + strings.Join(names, ", ")
		if len(names) == 1 {
			e.Allowed = names[0]
		}
	}
	e.Suggestion = d.suggest(tableName, k, names)
	d.add(n.off, join(tableName, k), e)
}

// suggest says which key was meant by k, in the table that has names: a key that is
// written exactly so elsewhere, or the nearest one here, or the nearest one elsewhere.
func (d *decoder) suggest(tableName, k string, names []string) string {
	if d.where == nil {
		d.places(d.root, "", nil)
	}
	if best, ok := Nearest(k, names); ok && fold(best) == fold(k) {
		return "did you mean " + best + "?"
	}
	if t := d.tablesOf(k); t != "" {
		return k + " belongs to " + t
	}
	if best, ok := Nearest(k, names); ok {
		return "did you mean " + best + "?"
	}
	var elsewhere []string
	for _, p := range d.where {
		elsewhere = append(elsewhere, p.name)
	}
	if best, ok := Nearest(k, elsewhere); ok {
		return "did you mean " + best + " in " + d.tablesOf(best) + "?"
	}
	return ""
}

// A place is a key of the destination and the table that it belongs to.
type place struct{ name, table string }

// tablesOf names up to three tables that have the key k.
func (d *decoder) tablesOf(k string) string {
	var tables []string
	for _, p := range d.where {
		if p.name == k && !slices.Contains(tables, p.table) && len(tables) < 3 {
			tables = append(tables, p.table)
		}
	}
	return strings.Join(tables, " or ")
}

func (d *decoder) places(s *structType, path string, within []*structType) {
	for _, w := range within {
		if w == s {
			return
		}
	}
	within = append(within, s)
	table := "[" + path + "]"
	switch {
	case path == "":
		table = "the top of the file, before the first [table]"
	case strings.HasSuffix(path, "[]"):
		table = "[[" + strings.TrimSuffix(path, "[]") + "]]"
	}
	table = strings.ReplaceAll(table, "[].", ".")
	for _, f := range s.fields {
		d.where = append(d.where, place{f.name, table})
		e := element(f.typ)
		if !isStruct(e) {
			continue
		}
		at := join(path, f.name)
		if path != "" {
			at = path + "." + f.name
		}
		for x := deref(f.typ); x != e; x = deref(x.Elem()) {
			if x.Kind() == reflect.Slice {
				at += "[]"
			} else {
				at += ".<name>"
			}
		}
		d.places(d.structOf(e), at, within)
	}
}

// Nearest returns which of names was probably meant by s: the one with the fewest edits, at
// most one for each three letters and at least one allowed, or else the only one that has s as a whole word,
// as gcl-vegas has vegas. Case, _ and - do not count. ok is false when there is none.
func Nearest(s string, names []string) (name string, ok bool) {
	folded := fold(s)
	least := max(1, len(folded)/3) + 1
	for _, n := range names {
		if e := edits(folded, fold(n)); e < least {
			name, least, ok = n, e, true
		}
	}
	if ok || s == "" {
		return name, ok
	}
	words := func(s string) string { return "-" + strings.ReplaceAll(strings.ToLower(s), "_", "-") + "-" }
	for _, n := range names {
		if strings.Contains(words(n), words(s)) && n != name {
			if name != "" {
				return "", false // two have it
			}
			name = n
		}
	}
	return name, name != ""
}

// fold takes away what people write differently: case, _ and -.
func fold(s string) string {
	if len(s) > 64 {
		return s // no key is that long
	}
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", " ", "").Replace(s))
}

// edits returns how many letters must be inserted, removed, replaced or swapped with their
// neighbour to make b of a (optimal string alignment).
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	var rows [3][65]int
	two, one, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		two, one, row = one, row, two
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := btoi(a[i-1] != b[j-1])
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
