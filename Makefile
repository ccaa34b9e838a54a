# Every command a person types. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

# The toolchain that everything is built and checked with; the go command fetches
# it from the module proxy. Raise it with every security release.
export GOTOOLCHAIN := $(shell awk '$$1 == "toolchain" {print $$2}' go.mod)

export BUF_CACHE_DIR := $(CURDIR)/.cache/buf
BUF       := go tool -modfile=proto/tools.mod buf
PV_MODULE := github.com/bufbuild/protovalidate@v1.2.0
PV_COMMIT := $(shell awk '/name: buf.build\/bufbuild\/protovalidate/ {f=1} f && /commit:/ {print $$2; exit}' buf.lock)
PV_CACHE  := $(BUF_CACHE_DIR)/v3/modules/b5/buf.build/bufbuild/protovalidate/$(PV_COMMIT)
VULNDB    := v0.0.0-20261105234957-e22db6528018
TOOLS     := basics sqlquery customers logs
GO_FILES  := $$(git ls-files '*.go' ':!pkg/gen')
E2E       := services/sallyport/e2e
CONFORMANCE := services/sallyport/conformance
FUZZTIME  := 10s

.PHONY: help run build test test-postgres test-cluster e2e conformance bench bench-quota fuzz lint breaking vuln gen check hooks clean
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{sub(/:.*/, "", $$1); printf "  %-14s %s\n", $$1, $$2}'

run: build ## Start everything on this machine: http://127.0.0.1:8080/mcp
	bin/sallyport dev

build: ## Build bin/sallyport
	@go build -o bin/ ./services/sallyport

test: ## Test everything that needs no other program, race detector on
	go test -race ./...

test-postgres: ## Test the SQL tool against a PostgreSQL server (Debian package postgresql)
	go test -race -count=1 -tags postgres ./services/tools/... ./pkg/demodb/...

test-cluster: ## Test several quota nodes on real NATS servers; needs a machine that is not busy, for leases last a second
	go test -race -count=1 -timeout 30m -tags cluster ./services/quota/... ./services/sallyport

e2e: $(E2E)/node_modules/.package-lock.json ## Test with real MCP clients from npm, and one trace through all processes
	cd $(E2E) && go test -count=1 -timeout 20m -tags e2e

$(E2E)/node_modules/.package-lock.json: $(E2E)/package-lock.json
	cd $(E2E) && npm ci --ignore-scripts --no-audit --no-fund
	touch node_modules/.package-lock.json

conformance: $(CONFORMANCE)/node_modules/.package-lock.json ## Run the official MCP conformance suite, in both eras, through the whole system
	cd $(CONFORMANCE) && go test -count=1 -timeout 20m -tags conformance

$(CONFORMANCE)/node_modules/.package-lock.json: $(CONFORMANCE)/package-lock.json
	cd $(CONFORMANCE) && npm ci --ignore-scripts --no-audit --no-fund
	touch node_modules/.package-lock.json

bench: ## Measure throughput, latency, CPU and allocations beside a bare handler and the Go SDK's server
	go run ./services/sallyport/bench
	go test -run '^$$' -bench 'AmongMany|FilterMany' ./services/auth
	go test -run '^$$' -bench 'ListMany' ./services/edge

bench-quota: ## Measure what a quota decision costs beside a bare gRPC echo, over one node and two, and in memory
	go run ./services/quota/bench

fuzz: ## Run every fuzz target for FUZZTIME (default 10s)
	grep -rlE '^func Fuzz' --include='*_test.go' pkg services | xargs -n1 dirname | sort -u | while read -r dir; do
	  go test -list '^Fuzz' "./$$dir" | grep '^Fuzz' | while read -r target; do
	    echo "$$dir $$target"
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x "./$$dir"
	  done
	done

lint: $(PV_CACHE)/module.yaml ## Format, vet and lint Go and proto
	test -z "$$(go tool gofumpt -l $(GO_FILES) | tee /dev/stderr)"
	go vet ./...
	go vet -tags e2e,postgres,conformance,cluster ./...
	go tool staticcheck ./...
	go tool errcheck -ignoretests -exclude .errcheck ./...
	$(BUF) lint
	$(BUF) format --diff --exit-code

breaking: $(PV_CACHE)/module.yaml ## Refuse changes that break the contracts on the main branch
	$(BUF) breaking --against ".git#ref=$$(git rev-parse --verify -q origin/main || git rev-parse main)"

vuln: .cache/vulndb/index/db.json ## Look for known vulnerabilities in what we link
	go tool govulncheck -db "file://$(CURDIR)/.cache/vulndb" ./...

# The Go vulnerability database of a pinned day, from the Go module that holds
# it: the check needs no network but the module proxy, and gives the same answer
# everywhere. Raise the version with the dependencies.
.cache/vulndb/index/db.json: Makefile
	rm -rf .cache/vulndb && mkdir -p .cache
	dir=$$(go mod download -json golang.org/x/vulndb@$(VULNDB) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	cd .cache && go run golang.org/x/vulndb/cmd/indexdb@$(VULNDB) -vulns "$$dir/data/osv" -out vulndb

gen: $(PV_CACHE)/module.yaml ## Regenerate pkg/gen and the tools' descriptor images from proto/
	$(BUF) format -w
	$(BUF) generate
	for tool in $(TOOLS); do
	  $(BUF) build --exclude-imports --path proto/sallyport/tools/$$tool -o services/tools/$$tool/descriptor.binpb
	done

# buf's module cache is filled from the Go module that holds the same files;
# buf checks them against the digest in buf.lock.
$(PV_CACHE)/module.yaml: buf.lock
	src=$$(go mod download -json $(PV_MODULE) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	install -Dm644 "$$src/proto/protovalidate/buf/validate/validate.proto" $(PV_CACHE)/files/buf/validate/validate.proto
	install -Dm644 "$$src/LICENSE" $(PV_CACHE)/files/LICENSE
	install -Dm644 "$$src/README.md" $(PV_CACHE)/files/README.md
	printf 'version: v1\nfiles_dir: files\n' > $@

check: gen lint breaking vuln ## All checks but the tests; no file may have changed
	test -z "$$(git status --porcelain | tee /dev/stderr)"

hooks: ## Lint before each commit
	git config core.hooksPath .githooks

clean: ## Remove what was built, fetched and kept
	rm -rf bin .cache .sallyport $(E2E)/node_modules $(CONFORMANCE)/node_modules
