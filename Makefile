# Nacre. `make run` is a running cloud with real guests; `make test` is the test
# suite with the real things; `make proof` adds whole suites, soaks, fuzzing and
# side-by-sides. The scripts in tools/ install (apt) what each needs.

.PHONY: run test unit lint proof clean build fmt

run: ## a cloud with real guests on this machine
	@tools/run

test: ## unit tests, then the real things: data plane, guests, the CLI's story
	@tools/test

unit: ## what needs neither root nor libvirt nor a server
	go build ./... && go vet ./... && go test ./...

lint:
	@tools/lint

proof: ## everything; its figures go to CONFORMANCE.md
	@tools/proof

clean: ## take away all that a cloud made on this host
	@tools/clean

build:
	go build -o bin/ ./servers/...

fmt:
	gofmt -w .
