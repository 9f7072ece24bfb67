package feedback

import "testing"

func TestNames(t *testing.T) {
	for c := range Class(NumClasses) {
		if got, ok := ParseClass(c.String()); got != c || !ok {
			t.Errorf("ParseClass(%q) = %v, %v", c.String(), got, ok)
		}
	}
	for s := range Scope(NumScopes) {
		if got, ok := ParseScope(s.String()); got != s || !ok {
			t.Errorf("ParseScope(%q) = %v, %v", s.String(), got, ok)
		}
	}
	if _, ok := ParseClass("OK"); ok || Class(99).String() != "unknown" {
		t.Error("a class that there is not")
	}
	if _, ok := ParseScope(""); ok || Scope(99).String() != "unknown" || Place(99).String() != "unknown" {
		t.Error("a scope or place that there is not")
	}
}
