//! A container image whose one program waits for its end, in as few instructions as that takes.

use super::Failure;
use crate::namespace::Namespace;
use crate::process::Invocation;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The image's name, without its tag.
pub(super) const NAME: &str = "heddle.test/pause";

/// pause(2), again and again; architecture and machine as image and ELF call them.
#[cfg(target_arch = "x86_64")]
const MACHINE: (&str, u8, &[u8]) = ("amd64", 62, &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]);
/// ppoll(2) without files and without end, again and again.
#[cfg(target_arch = "aarch64")]
const MACHINE: (&str, u8, &[u8]) = (
    "arm64",
    183,
    &[
        0, 0, 0x80, 0xd2, 1, 0, 0x80, 0xd2, 2, 0, 0x80, 0xd2, 3, 0, 0x80, 0xd2, 0x28, 0x09, 0x80, 0xd2, 1, 0,
        0, 0xd4, 0xfa, 0xff, 0xff, 0x17,
    ],
);

/// Writes `image.tar`, in the layout of the Open Container Initiative, into the folder.
pub(super) fn write(host: &Namespace, folder: &Path) -> Result<(), Failure> {
    let work = folder.join("image");
    fs::create_dir_all(work.join("layer"))?;
    fs::create_dir_all(work.join("oci/blobs/sha256"))?;
    let pause = work.join("layer/pause");
    fs::write(&pause, program())?;
    fs::set_permissions(&pause, fs::Permissions::from_mode(0o755))?;
    tar(host, &work.join("layer"), &work.join("layer.tar"))?;
    let layer = blob(host, &work, &fs::read(work.join("layer.tar"))?, "layer.v1.tar")?;
    let config = json!({"architecture": MACHINE.0, "os": "linux", "config": {"Entrypoint": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = blob(host, &work, config.to_string().as_bytes(), "config.v1+json")?;
    let manifest = json!({"schemaVersion": 2, "mediaType": media("manifest.v1+json"), "config": config, "layers": [layer]});
    let mut manifest = blob(host, &work, manifest.to_string().as_bytes(), "manifest.v1+json")?;
    manifest["annotations"] = json!({"io.containerd.image.name": format!("{NAME}:1")});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(work.join("oci/index.json"), index.to_string())?;
    fs::write(work.join("oci/oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    tar(host, &work.join("oci"), &folder.join("image.tar"))
}

fn media(kind: &str) -> String {
    format!("application/vnd.oci.image.{kind}")
}

/// Stores a blob under its hash and describes it.
fn blob(host: &Namespace, work: &Path, bytes: &[u8], kind: &str) -> Result<Value, Failure> {
    let sum = Invocation::foreign("sha256sum").input(bytes).run(host)?;
    let sum = sum.stdout.split(' ').next().unwrap_or_default().to_owned();
    fs::write(work.join("oci/blobs/sha256").join(&sum), bytes)?;
    Ok(json!({"mediaType": media(kind), "digest": format!("sha256:{sum}"), "size": bytes.len()}))
}

fn tar(host: &Namespace, folder: &Path, file: &Path) -> Result<(), Failure> {
    let tar = Invocation::foreign("tar").args([
        "-cf".as_ref(),
        file.as_os_str(),
        "-C".as_ref(),
        folder.as_os_str(),
    ]);
    let output = tar.args(["."]).run(host)?;
    if output.status.success() { Ok(()) } else { Err(output.stderr.into()) }
}

/// An ELF file of one segment (`elf.h`: a header of 64 bytes, a program header of 56, the code).
fn program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let (_, machine, code) = MACHINE;
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, machine, 0, 1, 0, 0, 0]);
    [BASE + HEADERS, 64, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend([0; 4]);
    [64_u16, 56, 1, 0, 0, 0].iter().for_each(|half| file.extend(half.to_le_bytes()));
    // PT_LOAD, readable and executable.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    [0, BASE, BASE, size, size, 0x1000].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(code);
    file
}
