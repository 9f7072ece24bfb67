package rabbitmq

import "testing"

// A message that finds no queue, while another one finds that the connection is lost and gets no new one, leaves it to the next one.
func TestNoQueueAndNoConnection(t *testing.T) {
	out := &publisher{}
	r := &Replies{out: out}
	if err := r.again(t.Context(), out); err != nil {
		t.Error(err)
	}
}

// Block has the connection of replies be as if the broker had said that it takes no messages.
func Block(r *Replies, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conn.blocked.Store(&why)
}
