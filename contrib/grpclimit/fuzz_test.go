package grpclimit

import (
	"math"
	"testing"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/flyball-go/flyball/feedback"
)

// What comes from the wire (a status, its details, a pushback) never panics, and names no delay that is
// negative, or that belongs to a success.
func FuzzRead(f *testing.F) {
	f.Add(int32(8), "too many tokens", "type.googleapis.com/google.rpc.RetryInfo", []byte{0x0a, 0x02, 0x08, 0x05}, "100")
	f.Add(int32(14), "transport is closing", "type.googleapis.com/google.rpc.QuotaFailure", []byte{0xff}, "-1")
	f.Add(int32(-1), "", "", []byte(nil), "")
	f.Fuzz(func(t *testing.T, code int32, text, url string, detail []byte, pushback string) {
		p := &statuspb.Status{Code: code, Message: text, Details: []*anypb.Any{{TypeUrl: url, Value: detail}}}
		in := newInterceptor("Unary", newGuard(t, 1, nil), Config{})
		w := &wire{peer: answered.peer, trailer: metadata.Pairs("grpc-retry-pushback-ms", pushback)}
		// As gRPC reads it off the wire.
		if b, err := proto.Marshal(p); err == nil {
			if err := proto.Unmarshal(b, p); err != nil {
				t.Skip("no message that can be sent")
			}
		}
		s := in.read(t.Context(), status.FromProto(p).Err(), w)
		if s.RetryAfter < 0 || s.RetryAfter > math.MaxInt64/time.Millisecond*time.Millisecond {
			t.Errorf("delay %v", s.RetryAfter)
		}
		if s.Class == feedback.OK && (s.HasRetryAfter || s.Retryable) {
			t.Errorf("a success with a delay: %+v", s)
		}
		if code == 0 && s.Class != feedback.OK {
			t.Errorf("status 0 is read as %v", s.Class)
		}
	})
}
