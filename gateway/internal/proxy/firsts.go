package proxy

import (
	"sync"
	"time"
)

// firsts learns how long the answers of an upstream take to begin, for calls of each class, with and without a stream. So much of a call's time is kept
// for the answer: one that gets its place with less left is cut off before its answer begins, and the upstream has worked, and charges, for nobody. When
// more work comes than an upstream takes, places go to those who have waited for nearly all of their time, and none would get an answer. The zero firsts is
// ready; its methods may be called by any goroutine.
type firsts struct {
	mu sync.Mutex
	of [lastClass + 1][2]time.Duration // what some 95 in 100 answers keep to; 0 is not known
}

// Of a hundred answers five may take longer than what is kept for them: so many steps down as one step up is long balance where one in twenty is up. Calls that
// were cut off count like this, too, although nobody knows how long they would have taken.
const (
	firstUp   = 1 + 0.095
	firstDown = 1 - 0.005
)

func (f *firsts) at(class uint8, stream bool) *time.Duration {
	if stream {
		return &f.of[class][1]
	}
	return &f.of[class][0]
}

// mostKept returns how much of all the time of a call is kept for its answer at most: an upstream that begins none for a while is not to leave callers no time
// to wait in when it is back.
func mostKept(all time.Duration) time.Duration { return all / 4 * 3 }

// keep returns how much of a call's time is kept for its answer, when the call has so much in all.
func (f *firsts) keep(class uint8, stream bool, all time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return min(*f.at(class, stream), mostKept(all))
}

// began says that an answer took so long to begin.
func (f *firsts) began(class uint8, stream bool, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.at(class, stream)
	switch {
	case *d == 0:
		*d = 2 * took
	case took > *d:
		*d = longer(*d)
	default:
		*d = time.Duration(float64(*d) * firstDown)
	}
}

// cut says that a call was cut off after so long, before its answer began. kept is what was kept for that, of all its time. Others that were cut off
// meanwhile may have had more kept by now; that it takes longer than what was kept for it counts all the same.
func (f *firsts) cut(class uint8, stream bool, took, kept, all time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.at(class, stream); took >= kept && *d < mostKept(all) {
		*d = longer(*d)
	}
}

func longer(d time.Duration) time.Duration {
	return time.Duration(float64(max(d, time.Millisecond)) * firstUp)
}
