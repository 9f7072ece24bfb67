# The servers that the tests want, for a shell: make services. See .ci/services.
.PHONY: services
services:
	.ci/services redis rabbitmq kafka nginx -- $${SHELL:-bash}
