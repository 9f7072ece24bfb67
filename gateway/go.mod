module github.com/flyball-go/flyball/gateway

go 1.26.0

require (
	github.com/flyball-go/flyball v0.0.0
	github.com/flyball-go/flyball/contrib/kafka v0.0.0
	github.com/flyball-go/flyball/contrib/rabbitmq v0.0.0
	github.com/maypok86/otter/v2 v2.3.0
	github.com/rabbitmq/amqp091-go v1.16.0
	github.com/redis/go-redis/v9 v9.16.0
	github.com/urfave/cli/v2 v2.27.7
	golang.org/x/sys v0.42.0
	pgregory.net/rapid v1.2.0
)

require (
	github.com/BurntSushi/toml v1.6.0 // indirect
	github.com/VictoriaMetrics/metrics v1.41.0 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/cpuguy83/go-md2man/v2 v2.0.7 // indirect
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/dgryski/go-rendezvous v0.0.0-20200823014737-9f7001d12a5f // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/pierrec/lz4/v4 v4.1.33 // indirect
	github.com/platinummonkey/go-concurrency-limits v1.0.0 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	github.com/stretchr/testify v1.11.1 // indirect
	github.com/twmb/franz-go v1.22.3 // indirect
	github.com/twmb/franz-go/pkg/kmsg v1.15.1 // indirect
	github.com/valyala/fastrand v1.1.0 // indirect
	github.com/valyala/histogram v1.2.0 // indirect
	github.com/xrash/smetrics v0.0.0-20240521201337-686a1a2994c1 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)

replace github.com/flyball-go/flyball => ../

replace github.com/flyball-go/flyball/contrib/kafka => ../contrib/kafka

replace github.com/flyball-go/flyball/contrib/rabbitmq => ../contrib/rabbitmq
