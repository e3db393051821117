# Every target does the set-up it needs and says what it installs.
# Always of the workspace: with fewer packages cargo would choose other features and build anew.
BUILD = cargo build --release --workspace --bin sluicegate --bin sluicegate-simulator \
	$(if $(FEATURES),--features sluicegate/$(FEATURES))

SAY = test -e target/release/sluicegate || \
	echo "The first build takes 10 to 20 minutes on two cores, its last step alone some five."

.PHONY: help run demo test bench fmt lint

help:
	@echo "make run    serve Ollama on this machine, or CONFIG=file.yaml; FEATURES=local-embedder"
	@echo "make demo   a gateway before two fake Ollamas, to try an SDK against"
	@echo "make test   every test: Rust, the SDKs of OpenAI, Anthropic and Vercel, fuzzing for a while"
	@echo "make bench  against nginx in one run; results go to benches/results/"
	@echo "make fmt    format; make lint  clippy and formatting, as the tests want them"

run:
	@sh tests/setup.sh build
	@$(SAY)
	$(BUILD)
	target/release/sluicegate serve $(if $(CONFIG),--config $(CONFIG))

demo:
	@sh tests/setup.sh build
	@$(SAY)
	$(BUILD)
	@sh tests/demo.sh

test:
	@sh tests/setup.sh test
	@sh tests/run.sh

bench:
	@sh tests/setup.sh bench
	@python3 benches/harness/run.py $(ARGS)
	$(if $(findstring --only,$(ARGS)),,@python3 benches/harness/plugins.py $(ARGS))
	$(if $(findstring --only,$(ARGS)),,@python3 benches/harness/cache.py $(ARGS))
	$(if $(findstring --only,$(ARGS)),,@cargo run --release -p sluicegate-bench-admission)

fmt:
	cargo fmt --all

lint:
	@sh tests/setup.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
