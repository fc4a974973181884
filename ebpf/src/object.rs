//! The programs as they are shipped: built by `make bpf`, checked in, so that nobody else needs a compiler for them.

/// An ELF file is read in place, and so must lie at a multiple of eight.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static ALIGNED: &Aligned<[u8]> = &Aligned(*include_bytes!("../prebuilt/sockets.o"));

/// The ELF file with all programs and maps, stripped of what only a debugger reads.
pub static OBJECT: &[u8] = &ALIGNED.0;

#[cfg(test)]
mod tests {
    use super::OBJECT;
    use ring::digest::{SHA256, digest};
    use std::fmt::Write;
    use std::fs;

    fn hash(bytes: &[u8]) -> String {
        digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    /// Without any BPF tool: whoever changes a program and forgets `make bpf` is told here.
    #[test]
    fn the_object_is_of_these_sources() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let manifest = fs::read_to_string(format!("{folder}/ebpf/prebuilt/MANIFEST")).unwrap();
        let mut files = 0;
        for (expected, path) in manifest.lines().filter_map(|line| line.split_once("  ")) {
            let now = hash(&fs::read(format!("{folder}/{path}")).unwrap());
            assert_eq!(now, expected, "{path} is not what the object was made of: make bpf");
            files += 1;
        }
        let sources = fs::read_dir(format!("{folder}/ebpf/src")).unwrap();
        let sources = sources.filter(|file| file.as_ref().unwrap().path().extension().is_some()).count();
        assert_eq!(files, sources + 2, "each source, Cargo.toml and the object");
        assert!(manifest.contains(&hash(OBJECT)));
    }

    #[test]
    fn the_object_is_an_elf_file_that_can_be_read_in_place() {
        assert!(OBJECT.starts_with(b"\x7fELF") && OBJECT.as_ptr().addr().is_multiple_of(8));
    }
}
