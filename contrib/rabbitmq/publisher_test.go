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
