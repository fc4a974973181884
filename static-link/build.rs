//! The build script of what goes onto a node: makes `cargo build` link it statically on glibc targets, without flags or
//! another target.
//!
//! The plugin is copied from the image onto nodes whose C library nobody knows, and the image holds nothing but our programs.
//! `-C target-feature=+crt-static` cannot be set in the manifest, and set for the whole build it breaks procedural macros.
//! So the linker is shown scripts in the place of the shared libraries that the standard library names, each of which points
//! at the static one (docs/decisions/static-plugin.md). Where the C library's archive is missing, programs are linked dynamically.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// What the linker finds under the name of each shared library.
const SCRIPTS: &[(&str, &str)] = &[
    ("libgcc_s.so", "INPUT(-lgcc_eh -lgcc)"),
    ("libc.so", "INPUT(-l:libc.a -lgcc_eh -lgcc -l:libc.a)"),
    ("libm.so", "INPUT(-l:libm.a)"),
];

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]
fn main() {
    println!("cargo:rerun-if-changed=../static-link/build.rs");
    let target = |name: &str| env::var(name).unwrap_or_default();
    let glibc = target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ENV") == "gnu";
    let already = target("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    if !glibc || already {
        return;
    }
    if !has_archive(&target("CARGO_CFG_TARGET_ARCH")) {
        println!("cargo:warning=libc.a is missing: {} is linked dynamically", target("CARGO_PKG_NAME"));
        return;
    }
    let place = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    for (name, script) in SCRIPTS {
        fs::write(place.join(name), script).expect("OUT_DIR is writable");
    }
    println!("cargo:rustc-link-arg-bins=-L{}", place.display());
    println!("cargo:rustc-link-arg-bins=-static-pie");
}

/// Looks where distributions keep the C library's archive.
fn has_archive(arch: &str) -> bool {
    let multiarch = format!("/usr/lib/{arch}-linux-gnu");
    [multiarch.as_str(), "/usr/lib64", "/usr/lib"]
        .iter()
        .any(|place| Path::new(place).join("libc.a").exists())
}
