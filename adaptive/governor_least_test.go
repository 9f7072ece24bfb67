package adaptive

import "testing"

// A state that was saved while calls that had been counted turned out to be refused is restored as it was.
func TestLeastIsRestoredAsItWas(t *testing.T) {
	l := LeastState{Gives: 2, Most: 2}
	l.climbed(-300, 1, 3, 2)
	was := l
	if l.sound(); l != was {
		t.Errorf("%+v, restored %+v", was, l)
	}
}
