package proxy

import (
	"net"
	"time"
)

// dialer connects to upstreams. A connection on which nothing is under way is given up after a minute without an answer to its keep-alives.
var dialer = net.Dialer{
	Timeout:         10 * time.Second,
	KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: lookEvery, Interval: lookEvery, Count: silentLooks - 1},
}

const (
	// lookEvery is how often a connection is looked at on which something is under way.
	lookEvery = 15 * time.Second
	// silentLooks is how many times in a row nobody may have answered before it is given up.
	silentLooks = 4
)
