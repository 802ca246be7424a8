# Twenty-one verbs. `make demo` and `make test` are all that a newcomer needs; `make ci` is what CI runs.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/souk
# Outside the checkout, so that a clean checkout reuses compiled dependencies.
export CARGO_TARGET_DIR ?= $(CACHE)/target
# Cargo tells sources by their age and not by their folder, so what another checkout built last would pass for this one's.
# When the folder has changed, our own sources are made young; dependencies stay compiled.
$(shell mkdir -p $(CARGO_TARGET_DIR); stamp=$(CARGO_TARGET_DIR)/.checkout; \
    [ "$$(cat $$stamp 2>/dev/null)" = "$(CURDIR)" ] || { \
    find $(CURDIR) -path '*/.git' -prune -o \( -name '*.rs' -o -name '*.toml' -o -name '*.css' \) -exec touch {} + ; \
    echo "$(CURDIR)" > $$stamp; })
# One virtual environment for the tools and clients that come as Python packages.
VENV := $(CACHE)/venv
export PATH := $(VENV)/bin:$(PATH)
export SOUK_TEST_PYTHON := $(VENV)/bin/python
SOUK := $(CARGO_TARGET_DIR)/release/souk

.DEFAULT_GOAL := help
.PHONY: help demo stop fleet fleet-stop build install test hostile fuzz kills soak bench setup models fmt lint openapi deny guests ci

help: ## List the verbs.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: build models ## Build, fetch the base model, start everything with real adapters and ask each one.
	@SOUK=$(SOUK) scripts/demo.sh

stop: ## Stop the server that `make demo` left running.
	@scripts/demo.sh stop

fleet: build models setup ## Start a fleet on this machine: Redis, PostgreSQL, S3, two registries, two gateways, three nodes; ask each adapter.
	cargo build --locked --package souk-testkit-s3 --example serve
	@SOUK=$(SOUK) SOUK_S3=$(CARGO_TARGET_DIR)/debug/examples/serve scripts/fleet.sh

fleet-stop: ## Stop the fleet that `make fleet` left running.
	@scripts/fleet.sh stop

build: ## Build the executable (release).
	cargo build --release --locked --bin souk

PREFIX ?= $(HOME)/.local

install: build ## Copy the executable to $(PREFIX)/bin (~/.local/bin unless PREFIX is set).
	@install -D -m 755 $(SOUK) $(DESTDIR)$(PREFIX)/bin/souk
	@echo "souk is installed as $(DESTDIR)$(PREFIX)/bin/souk."
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) \
	    echo "That folder is not on your PATH; for this shell: export PATH=$(PREFIX)/bin:\$$PATH" ;; esac

test: setup ## Set up what the tests need and run them all.
	cargo build --locked --bin souk
	$(CARGO_TARGET_DIR)/debug/souk models pull smollm2-135m-instruct
	cargo nextest run --locked --workspace --no-tests fail
	cargo test --locked --workspace --doc --quiet

hostile: setup ## Attack a server at full rate in every way that docs/limits.md speaks of; print what an innocent tenant notices.
	cargo build --locked --bin souk
	$(CARGO_TARGET_DIR)/debug/souk models pull smollm2-135m-instruct
	@rm -f $(HOSTILE_TABLE)
	SOUK_HOSTILE=full SOUK_HOSTILE_TABLE=$(HOSTILE_TABLE) \
	    cargo nextest run --locked --test hostile --no-capture; status=$$?; \
	    echo; echo '| act | acts | asked | refused | alone, ms | beside, ms | steps | peak MiB |'; \
	    echo '| --- | --- | --- | --- | --- | --- | --- | --- |'; cat $(HOSTILE_TABLE); exit $$status

HOSTILE_TABLE := $(CARGO_TARGET_DIR)/hostile.md

FUZZ_S ?= 120

fuzz: setup ## Feed every parser of bytes from outside for FUZZ_S seconds (120); FUZZ_KEEP=1 keeps what was new in fuzz/.
	FUZZ_S=$(FUZZ_S) cargo nextest run --locked --workspace --success-output immediate -E 'test(/::any_(bytes|text)_of_/)'

KILLS ?= 1000

kills: setup ## Kill a registry KILLS times (1000) at random moments, on either database, and a server that answers; SOUK_KILLS_SEED repeats a run.
	SOUK_KILLS=$(KILLS) cargo test --locked --package souk-registry --test api --test api_postgres -- kills:: --nocapture
	SOUK_KILLS=$(KILLS) cargo test --locked --package souk --test accounting -- kills:: --nocapture

soak: setup models ## Half an hour of everything at once, with a look at the memory.
	SOUK_SOAK_S=$${SOUK_SOAK_S:-1800} cargo test --locked --release --test soak -- --nocapture

bench: build models setup ## Run the standing set and write docs/benchmarks.md; PEERS=1 measures llama.cpp and mistral.rs too, BEFORE=PATH an older executable, SOAK_S=420 has a soak.
	$(VENV)/bin/python bench/page/run.py --souk $(SOUK) $(if $(PEERS),--peers) $(if $(BEFORE),--before $(BEFORE)) $(if $(SOAK_S),--soak-s $(SOAK_S))

setup: $(VENV)/.ready ## Install the tools and clients that the tests use.

$(VENV)/.ready: tests/requirements.txt scripts/setup.sh
	scripts/setup.sh $(VENV)

models: build ## Fetch the base model into the cache.
	$(SOUK) models pull smollm2-135m-instruct

fmt: ## Format the code.
	cargo fmt --all

lint: ## Check format, lints, and that no files of a crate use each other in a circle.
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo run --locked --quiet -p souk-layout

openapi: ## Write openapi/*.json from the code.
	cargo run --locked --bin souk -- openapi

LANGUAGES ?= rust,c,js,python
comma := ,

guests: setup ## Build the hooks of plugins/examples in LANGUAGES (rust,c,js,python) and run their cases; RECORD=1 records what was built.
	scripts/guests.sh $(subst $(comma), ,$(LANGUAGES))
	cargo nextest run --locked --package souk-plugins --test conformance

deny: setup ## Check licences, sources and bans of the dependencies.
	cargo-deny --locked --offline check bans licenses sources

ci: setup lint test deny ## All that must pass before a change lands.
	cargo run --locked --quiet --bin souk -- openapi --check
