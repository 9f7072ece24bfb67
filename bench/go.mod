module github.com/flyball-go/flyball/bench

go 1.26

require (
	github.com/failsafe-go/failsafe-go v0.9.8
	github.com/flyball-go/flyball v0.0.0
	github.com/platinummonkey/go-concurrency-limits v1.0.0
	golang.org/x/sync v0.20.0
	golang.org/x/time v0.15.0
)

require (
	github.com/bits-and-blooms/bitset v1.24.4 // indirect
	github.com/influxdata/tdigest v0.0.1 // indirect
)

replace github.com/flyball-go/flyball => ..
