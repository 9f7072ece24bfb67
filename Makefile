# The servers that the tests want, for a shell: make services. See .ci/services.
.PHONY: services simulate
services:
	.ci/services redis rabbitmq kafka nginx -- $${SHELL:-bash}

# The simulator, laid out by a profile of itself; see docs/simulator.md, bench. It builds for minutes the first time.
simulate:
	go build -pgo=cmd/simulate/simulate.pgo -o simulate ./cmd/simulate
