package grpclimit

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// BenchmarkUnary is what the interceptor adds to a call, and BenchmarkCall what a call costs over loopback.
func BenchmarkUnary(b *testing.B) {
	unary := Unary(newGuard(b, 1000, nil), Config{})
	invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	b.ReportAllocs()
	for b.Loop() {
		_ = unary(b.Context(), checkMethod, nil, nil, nil, invoke)
	}
}

func BenchmarkCall(b *testing.B) {
	u := start(b, "tcp", &server{check: func(context.Context) error { return nil }}, newGuard(b, 1000, nil), Config{})
	guarded := healthpb.NewHealthClient(u.conn)
	conn, err := grpc.NewClient(u.conn.Target(), insecureDial)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	for name, client := range map[string]healthpb.HealthClient{"guarded": guarded, "bare": healthpb.NewHealthClient(conn)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			req := &healthpb.HealthCheckRequest{}
			for b.Loop() {
				if _, err := client.Check(b.Context(), req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
