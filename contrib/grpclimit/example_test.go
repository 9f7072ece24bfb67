package grpclimit_test

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/flyball-go/flyball/contrib/grpclimit"
	"github.com/flyball-go/flyball/limiter"
)

func Example() {
	target, stop := serve()
	defer stop()

	guard, err := limiter.New(limiter.Config{Name: "inventory"})
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := grpclimit.Config{
		Idempotent: func(method string) bool { return method == healthpb.Health_Check_FullMethodName },
	}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(grpclimit.Unary(guard, cfg)),
		grpc.WithChainStreamInterceptor(grpclimit.Stream(guard, cfg)),
		grpc.WithDisableRetry(), // the guard retries
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()

	answer, err := healthpb.NewHealthClient(conn).Check(context.Background(), &healthpb.HealthCheckRequest{})
	fmt.Println(answer.GetStatus(), err)

	guard.Close()
	_, err = healthpb.NewHealthClient(conn).Check(context.Background(), &healthpb.HealthCheckRequest{})
	fmt.Println(errors.Is(err, limiter.ErrRejected), status.Code(err) == codes.ResourceExhausted)
	// Output:
	// SERVING <nil>
	// true true
}

// serve starts a health service.
func serve() (target string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	go func() { _ = s.Serve(l) }()
	return l.Addr().String(), s.Stop
}
