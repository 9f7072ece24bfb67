package grpclimit

import (
	"sync"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// registered registers a service whose .proto file says what is idempotent. Once: a name is global.
var registered = sync.OnceValue(func() error {
	method := func(name string, level *descriptorpb.MethodOptions_IdempotencyLevel) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{
			Name:       proto.String(name),
			InputType:  proto.String(".grpc.health.v1.HealthCheckRequest"),
			OutputType: proto.String(".grpc.health.v1.HealthCheckResponse"),
			Options:    &descriptorpb.MethodOptions{IdempotencyLevel: level},
		}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name:       proto.String("flyball/test/idempotent.proto"),
		Package:    proto.String("flyball.test"),
		Syntax:     proto.String("proto3"),
		Dependency: []string{healthpb.File_grpc_health_v1_health_proto.Path()},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: proto.String("Store"),
			Method: []*descriptorpb.MethodDescriptorProto{
				method("Get", descriptorpb.MethodOptions_NO_SIDE_EFFECTS.Enum()),
				method("Put", descriptorpb.MethodOptions_IDEMPOTENT.Enum()),
				method("Add", nil),
			},
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return protoregistry.GlobalFiles.RegisterFile(file)
})

func TestIdempotent(t *testing.T) {
	if err := registered(); err != nil {
		t.Fatal(err)
	}
	for method, want := range map[string]bool{
		"/flyball.test.Store/Get":    true,
		"/flyball.test.Store/Put":    true,
		"/flyball.test.Store/Add":    false,
		"/flyball.test.Store/Nobody": false,
		"/flyball.test.Store":        false,
		"/flyball.test.Store/":       false,
		"":                           false,
		checkMethod:                  false,
	} {
		if got := Idempotent(method); got != want {
			t.Errorf("Idempotent(%q) = %v, want %v", method, got, want)
		}
	}
}
