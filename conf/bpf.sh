#!/bin/sh
# The BPF programs, built so that the same sources give the same bytes wherever they lie:
#
#   conf/bpf.sh build   puts them into ebpf/prebuilt, with a manifest
#   conf/bpf.sh check   builds them and compares
#
# One compiler makes the object that ships: Debian's packages rustc-web, cargo-web and libstd-rust-web-dev-bpf (1.96, with the core
# library of this target), and bpf-linker with Debian's LLVM 22. Nothing else of the project needs any of them.
set -eu
cd "$(dirname "$0")/.."
linker_version=0.13.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/heddle
linker=$cache/bpf-linker-$linker_version
llvm=/usr/lib/llvm-22

packages=
need() {
	[ -e "$2" ] || packages="$packages $1"
}
need rustc-web /usr/lib/rustlib/x86_64-unknown-linux-gnu
need cargo-web /usr/bin/cargo
need libstd-rust-web-dev-bpf /usr/lib/rustlib/bpfel-unknown-none
need llvm-22-dev $llvm/lib/libLLVM.so
if [ -n "$packages" ]; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	# Unquoted: one word a package.
	# shellcheck disable=SC2086
	apt-get install -qq --no-install-recommends $packages >/dev/null
fi
if [ ! -x "$linker/bin/bpf-linker" ]; then
	# It is fast enough as it is in a debug build, which takes a third of the time.
	LLVM_PREFIX=$llvm CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=false \
		cargo install --quiet --debug --locked --no-default-features --features llvm-22 \
		--root "$linker" --version "=$linker_version" bpf-linker
fi

target=$PWD/target/bpf
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
registry=$(ls -d "$registry"/*/aya-ebpf-0.2.1 2>/dev/null | head -n 1 || true)
if [ -z "$registry" ]; then
	/usr/bin/cargo fetch --quiet --locked --target bpfel-unknown-none
	registry=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/aya-ebpf-0.2.1 | head -n 1)
fi
flags="-Cdebuginfo=2 -Clink-arg=--btf -Clinker=bpf-linker"
flags="$flags --remap-path-prefix=$PWD=heddle --remap-path-prefix=${registry%/*}=registry"
flags="$flags --remap-path-prefix=/usr/lib/rustlib/src/rust=rust --remap-path-prefix=/usr/src/rustc-1.96.0=rust"
PATH=$linker/bin:/usr/bin:/bin RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
	CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS="$flags" \
	/usr/bin/cargo build --quiet --locked --profile bpf --package heddle-ebpf --features programs --bin sockets \
	--target bpfel-unknown-none --target-dir "$target"
built=$target/sockets.o
$llvm/bin/llvm-objcopy --strip-debug "$target/bpfel-unknown-none/bpf/sockets" "$built"

case ${1:-} in
build)
	mkdir -p ebpf/prebuilt
	cp "$built" ebpf/prebuilt/sockets.o
	{
		echo "# What ebpf/prebuilt/sockets.o was made from, and by what; written by \`make bpf\`."
		echo "# $(/usr/bin/rustc --version)"
		echo "# bpf-linker $linker_version, LLVM $($llvm/bin/llvm-config --version)"
		sha256sum ebpf/Cargo.toml $(find ebpf/src -name "*.rs" ! -path "*/tests.rs" | sort) ebpf/prebuilt/sockets.o
	} >ebpf/prebuilt/MANIFEST
	;;
check)
	cmp "$built" ebpf/prebuilt/sockets.o || {
		echo "ebpf/prebuilt/sockets.o is not what its sources give: make bpf, and commit it" >&2
		exit 1
	}
	;;
*)
	echo "usage: conf/bpf.sh build|check" >&2
	exit 2
	;;
esac
