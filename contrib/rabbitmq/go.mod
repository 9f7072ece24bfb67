module github.com/flyball-go/flyball/contrib/rabbitmq

go 1.26.0

require (
	github.com/flyball-go/flyball v0.0.0
	github.com/rabbitmq/amqp091-go v1.16.0
)

replace github.com/flyball-go/flyball => ../..
