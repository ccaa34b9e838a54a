# Every command a person types. `make` alone lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

export BUF_CACHE_DIR := $(CURDIR)/.cache/buf
BUF       := go tool -modfile=proto/tools.mod buf
PV_MODULE := github.com/bufbuild/protovalidate@v1.2.0
PV_COMMIT := $(shell awk '/name: buf.build\/bufbuild\/protovalidate/ {f=1} f && /commit:/ {print $$2; exit}' buf.lock)
PV_CACHE  := $(BUF_CACHE_DIR)/v3/modules/b5/buf.build/bufbuild/protovalidate/$(PV_COMMIT)

.PHONY: help gen
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

gen: $(PV_CACHE)/module.yaml ## Regenerate pkg/gen from proto/ (no network but the Go module proxy)
	$(BUF) format -w
	$(BUF) generate

# buf's module cache is filled from the Go module that holds the same files;
# buf checks them against the digest in buf.lock.
$(PV_CACHE)/module.yaml: buf.lock
	src=$$(go mod download -json $(PV_MODULE) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	install -Dm644 "$$src/proto/protovalidate/buf/validate/validate.proto" $(PV_CACHE)/files/buf/validate/validate.proto
	install -Dm644 "$$src/LICENSE" $(PV_CACHE)/files/LICENSE
	install -Dm644 "$$src/README.md" $(PV_CACHE)/files/README.md
	printf 'version: v1\nfiles_dir: files\n' > $@
