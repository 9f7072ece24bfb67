package rabbitmq

import (
	"reflect"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A heartbeat of the URL that is long, or off, would have a connection that is gone waited for.
func TestHeartbeat(t *testing.T) {
	const h = "amqp://u:p%40%2F@h:1/v%2Fh?"
	for s, want := range map[string]string{
		h: h, h + "heartbeat=5": h + "heartbeat=5", h + "heartbeat=60": h, h + "heartbeat=0&channel_max=9": h + "channel_max=9",
	} {
		got, err := amqp.ParseURI(beating(s))
		if err != nil {
			t.Fatal(err)
		}
		if want, err := amqp.ParseURI(want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is taken for %s, %v", s, beating(s), err)
		}
	}
}

// A message that finds no queue, while another one finds that the connection is lost and gets no new one, leaves it to the next one.
func TestNoQueueAndNoConnection(t *testing.T) {
	out := &publisher{}
	r := &Replies{out: out}
	if err := r.again(t.Context(), out); err != nil {
		t.Error(err)
	}
}

// What was acknowledged just before connections were lost, one of them each half hour for months, is not kept for good.
func TestAcksAreForgotten(t *testing.T) {
	var a acks
	for n := range uint64(30) {
		for k := range uint64(10_000) {
			a.note(n<<32 | k)
		}
		a.drop()
		if !a.again(n << 32) {
			t.Fatalf("what was acknowledged before loss %d is not known", n+1)
		}
	}
	if n := len(a.unsure); n > 2*mostKnown {
		t.Errorf("after 30 losses %d acknowledgements are known, want %d at most", n, 2*mostKnown)
	}
}

// A job that is out when so many others are forgotten, those that went to other consumers, is not poison for losses of before.
func TestWhatIsOutStaysKnown(t *testing.T) {
	s := &Source{out: map[uint64]bool{}, spared: map[uint64]int{}}
	for n := range uint64(2) {
		for k := range uint64(mostKnown) {
			s.out[n*mostKnown+k+1] = true
		}
		s.out[0] = true
		s.wentBack()
	}
	if s.spared[0] != 2 || len(s.spared) > 2*mostKnown {
		t.Errorf("a job that is out has been lost %d times, as is known, want 2; %d are known", s.spared[0], len(s.spared))
	}
}

// Came returns how many messages wait to be fetched.
func Came(s *Source) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.came)
}

// Block has the connection of replies be as if the broker had said that it takes no messages.
func Block(r *Replies, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn.blocked.Store(&why)
}

// BlockSource does so with that of a source.
func BlockSource(s *Source, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link.conn.blocked.Store(&why)
}
