# Needs Go, and gcc for the race detector of the tests. With npm the tests run foreign
# MCP clients, too.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO ?= go
TOOLS := $(CURDIR)/.tools
FUZZTIME ?= 30s
BENCH ?= .
PARTS ?= .

MODULES := . tools tools/acceptance tools/bench examples/validator-go

# The pinned programs that tests and checks run.
export PATH := $(TOOLS):$(PATH)
export SIDEVAULT_TOOLS := $(TOOLS)

# Generates the code of the plugin protocol below a folder.
PROTOGEN = $(TOOLS)/protogen -proto plugins/proto -out $(1) -module github.com/sidevault/sidevault

.PHONY: help run build test torture rotation check generate bench parts fuzz tools clean race

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

run: build ## start a development sidecar on 127.0.0.1:8271, with its vault in .sidevault
	bin/sidevault serve --dev --data-dir .sidevault

build: ## build bin/sidevault, and the bundled plugins into bin/plugins
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/sidevault ./cmd/sidevault
	for p in validator-format validator-http syncer-trustradius syncer-webhook; do \
		CGO_ENABLED=0 $(GO) build -trimpath -o bin/plugins/sidevault-$$p ./plugins/$${p#*-}; \
	done

# Acceptance and bench are never cached: go test does not see the program that they
# build. Acceptance waits more than it computes, so more of it runs at once than there
# are cores.
test: race tools ## run every test under the race detector
	$(GO) test -race -timeout 12m ./...
	$(GO) -C tools/acceptance test -race -timeout 25m -parallel 4 -count=1 ./...
	$(GO) -C tools/bench test -race -timeout 10m -count=1 ./...

torture: race tools ## look longer for lost writes, broken orders and bad clients, for some ten minutes
	$(GO) test -race -timeout 5m -count=1 ./backends/etcd -run ContractOnThreeNodes -torture
	$(GO) -C tools/acceptance test -race -timeout 8m -count=1 -v ./linear -run TestServers -torture
	$(GO) -C tools/acceptance test -race -timeout 8m -count=1 -v . -run TestLoad -torture
	$(GO) -C tools/acceptance test -race -timeout 15m -parallel 6 -count=1 -v . -run 'LosesNothing|NodesOfEtcd|Linearizable' -torture
	$(GO) -C tools/acceptance test -timeout 6m -count=1 -v . -run StayFlat -torture

rotation: race tools ## rotate the key of 10,000 records under load, killed five times, for up to 10 minutes
	$(GO) -C tools/acceptance test -race -timeout 10m -count=1 -v . -run RotationUnderLoad -torture

# With -race, like the tests: what is compiled to look at the code need not be compiled
# again to run it.
check: race tools ## formatting, vet, staticcheck, tidy modules
	files=$$(gofmt -l .); test -z "$$files" || { echo "not formatted, run gofmt -w:" $$files >&2; exit 1; }
	for m in $(MODULES); do $(GO) -C $$m vet -race ./...; done
	for m in $(MODULES); do (cd $$m && GOFLAGS="$$($(GO) env GOFLAGS) -race" staticcheck ./...); done
	for m in $(MODULES); do $(GO) -C $$m mod tidy -diff; done
	rm -rf .tools/generated && mkdir -p .tools/generated/plugins/pluginpb
	$(call PROTOGEN,.tools/generated)
	diff -r -x handshake.go -x '*_test.go' plugins/pluginpb .tools/generated/plugins/pluginpb || { echo 'plugins/pluginpb is not what plugins/proto makes: run make generate' >&2; exit 1; }

generate: tools ## generate plugins/pluginpb from plugins/proto
	$(call PROTOGEN,.)

bench: tools ## measure the program beside its references (BENCH=regexp selects rows)
	$(GO) -C tools/bench run . -run '$(BENCH)'

parts: ## run the Go benchmarks of the parts (PARTS=regexp selects)
	for m in $(MODULES); do $(GO) -C $$m test -run '^$$' -bench '$(PARTS)' -benchmem -timeout 30m ./...; done

# The fuzzer can report its own deadline as a failure of a run that found nothing.
fuzz: ## fuzz every fuzz test for FUZZTIME (30s)
	for p in $$(grep -rl --include='*_test.go' --exclude-dir=tools '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; \
			said=$$($(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p 2>&1) || { \
				grep -qx ' *context deadline exceeded' <<<"$$said" && ! grep -qE 'panic|Failing input|_test\.go:' <<<"$$said"; } || \
				{ echo "$$said"; exit 1; }; \
			tail -n2 <<<"$$said" | head -n1; \
		done; \
	done

tools: $(TOOLS)/.built $(TOOLS)/mcp/.installed ## build and install the pinned tools into .tools

$(TOOLS)/.built: tools/go.mod tools/go.sum tools/protogen/main.go tools/etcd/main.go
	GOBIN=$(TOOLS) CGO_ENABLED=0 $(GO) -C tools install -trimpath tool ./protogen ./etcd
	touch $@

# Scripts of packages are not run; the Node that the programs need is a package, too.
$(TOOLS)/mcp/.installed: tools/mcp/package.json tools/mcp/package-lock.json
	@mkdir -p $(@D)
	@if command -v npm >/dev/null; then \
		cp $^ $(@D) && cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@; \
	else \
		echo "there is no npm: the tests with foreign MCP clients will be skipped" >&2; \
	fi

race:
	@cc=$$($(GO) env CC); command -v "$${cc%% *}" >/dev/null || \
		{ echo "the race detector needs a C compiler, and there is no $$cc: install gcc" >&2; exit 1; }

clean: ## remove what was built
	rm -rf bin .tools
