module github.com/flyball-go/flyball/contrib/failsafesim

go 1.26.0

require (
	github.com/failsafe-go/failsafe-go v0.9.8
	github.com/flyball-go/flyball v0.0.0
)

require (
	github.com/BurntSushi/toml v1.6.0 // indirect
	github.com/bits-and-blooms/bitset v1.24.4 // indirect
	github.com/influxdata/tdigest v0.0.1 // indirect
	github.com/platinummonkey/go-concurrency-limits v1.0.0 // indirect
)

replace github.com/flyball-go/flyball => ../..
