# What a newcomer and CI run. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo

.PHONY: help deps test-deps build quickstart quickstart-check test mutants bench sim size chaos lint docs clean

help: ## Print this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-18s %s\n", $$1, $$2}'

deps: ## Install what is missing: compiler, protobuf, etcd, redis, memcached (Debian)
	@.ci/deps

test-deps: ## The same, and what only tests need: zookeeper with its Java
	@.ci/deps test

build: deps ## Build the binary: target/release/overlord
	$(CARGO) build --release --locked --bin overlord

quickstart: build ## Run everything on this machine, with all examples, until Ctrl-C
	@exec target/release/overlord sandbox --apply examples --wait-ready

quickstart-check: build ## The same as a check: bring all examples up, use them, take them down
	@.ci/quickstart-check target/release/overlord

# Backtraces of asynchronous tests bury what failed.
test: test-deps ## Run every test, against real etcd, redis, memcached and ZooKeeper
	$(CARGO) build --locked --bin overlord
	RUST_BACKTRACE=0 $(CARGO) test --locked --workspace

mutants: test-deps ## Take each safety rule out in turn: the simulation must notice, by the oracle for it
	$(CARGO) test --locked --release -p overlord-tests --test mutants -- --include-ignored --nocapture

bench: build ## Measure side by side with plain processes; prints a table
	$(CARGO) build --release --locked -p overlord-tests --bin bench
	target/release/bench target/release/overlord

sim: deps ## Simulate days with faults, one a seed: make sim SEEDS=10000
	OVERLORD_SIM_SEEDS="$(or $(SEEDS),1000)" OVERLORD_SIM_CLUSTER_SEEDS=$$(( $(or $(SEEDS),1000) / 5 )) OVERLORD_SIM_TWICE=10 OVERLORD_SIM_CRASHES=1 \
		$(CARGO) test --release --locked -p overlord-tests --test sim

size: deps ## A thousand clusters for a simulated week: nothing written, nothing more remembered
	$(CARGO) test --release --locked -p overlord-tests --test size -- --include-ignored --nocapture

chaos: test-deps ## Break real parts at random under writers: make chaos MINUTES=15 SEED=7
	$(CARGO) build --locked --bin overlord
	MINUTES="$(MINUTES)" SEED="$(SEED)" $(CARGO) test --locked -p overlord-tests --test chaos -- --ignored --nocapture minutes_of_chaos

lint: deps ## Format and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

docs: deps ## Build the API documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

clean: ## Remove build output
	$(CARGO) clean
