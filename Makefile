# The front door. `make` lists what there is.

PROFILE ?= release
CARGO_PROFILE := $(if $(filter debug,$(PROFILE)),dev,$(PROFILE))
BIN := target/$(PROFILE)
MUSL := $(shell uname -m)-unknown-linux-musl
HAS_MUSL = $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(MUSL))
MUSL_PLUGIN = $(if $(HAS_MUSL),cargo build --quiet --release --package heddle-cni --target $(MUSL) && \
  install -m 755 target/$(MUSL)/release/heddle-cni target/release/heddle-cni)
# Bytes of the whole archive, in which nothing is compressed.
IMAGE_LIMIT := 20000000
COMMIT = "$$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"

.DEFAULT_GOAL := help
.PHONY: help demo up test check build bpf bpf-check miri image bench bench-full soak deps clean

help:
	@awk '/^$$/ { text = "" } /^# / { text = substr($$0, 3) } \
	  /^[a-z-]+:/ { if (text) printf "  make %-10s %s\n", substr($$1, 1, length($$1) - 1), text; text = "" }' $(MAKEFILE_LIST)

# Nodes with pods and a Service, damaged and whole again, told step by step; cleans up behind itself (needs root)
demo: deps
	cargo build --quiet --profile $(CARGO_PROFILE) --bins
	$(BIN)/heddle-lab demo

# The same lab, left standing until Ctrl-C, with the ways into it (needs root)
up: deps
	cargo build --quiet --profile $(CARGO_PROFILE) --bins
	$(BIN)/heddle-lab up

# Every test: pure, properties, fake kernel, real kernel, real traffic (needs root)
test: deps
	cargo build --workspace --bins
	cargo test --workspace

# Format, lints and docs, with warnings as errors
check: deps
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# The programs, in target/release; the plugin with musl, half as large, where rustup has that target
build:
	cargo build --quiet --release --bins
	$(MUSL_PLUGIN)

# The BPF programs, rebuilt into ebpf/prebuilt: wanted after each change of theirs (installs a second compiler, as root on Debian)
bpf:
	conf/bpf.sh build

# Whether the BPF programs in ebpf/prebuilt are what their sources give, byte for byte
bpf-check:
	conf/bpf.sh check

# What the BPF programs choose, interpreted by Miri with fewer cases (installs a component of a nightly compiler)
miri:
	rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
	rustup component add --toolchain nightly miri rust-src
	PROPTEST_CASES=8 MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --package heddle-ebpf --lib select

# The image of a node's programs, in target/heddle-image.tar, which every runtime loads (docs/image.md)
image: deps
	cargo build --quiet --release --bins --package heddle-cni --package heddle-node
	$(MUSL_PLUGIN)
	conf/image.sh target/release target/heddle-image.tar $(IMAGE_LIMIT)

# Measures service routing in a lab, in less than five minutes; `FLAGS=--check` fails when something falls short (needs root)
bench: deps build
	target/release/heddle-bench run --quick --commit $(COMMIT) $(FLAGS)

# The same at all sizes, in some twenty minutes or more (needs root)
bench-full: deps build
	target/release/heddle-bench run --full --commit $(COMMIT) $(FLAGS)

# Ten thousand pods that come and go while calls are killed, hostile input, and a minute of connections while endpoints change (needs root)
soak: deps
	cargo build --workspace --bins
	HEDDLE_SOAK=$${HEDDLE_SOAK:-10000} HEDDLE_FUZZ=$${HEDDLE_FUZZ:-3000000} \
	  cargo test --workspace --test kernel --test fuzz -- some_are_killed every_input
	HEDDLE_SOAK_SECONDS=$${HEDDLE_SOAK_SECONDS:-60} cargo test --workspace --test sockets_soak -- --nocapture

# The Debian packages that building and testing need; nothing happens when they are there
deps:
	@./.ci/deps

# Removes what was built
clean:
	cargo clean
