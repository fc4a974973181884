//! The program as a file: it must run on nodes whose C library nobody knows.

use std::fs;

/// Reads a number of `size` bytes, in the byte order of every machine that we build for.
fn number(bytes: &[u8], at: usize, size: usize) -> usize {
    bytes[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Decision static-plugin.md: no `PT_INTERP` among the program headers (`elf.h`, `Elf64_Ehdr` and `Elf64_Phdr`).
#[test]
fn the_program_asks_for_no_dynamic_linker() {
    const PT_LOAD: usize = 1;
    const PT_INTERP: usize = 3;
    let program = fs::read(env!("CARGO_BIN_EXE_heddle-cni")).unwrap();
    assert_eq!(program[..5], *b"\x7fELF\x02", "64 bits");
    let (table, size, count) = (number(&program, 32, 8), number(&program, 54, 2), number(&program, 56, 2));
    let kinds: Vec<_> = (0..count).map(|i| number(&program, table + i * size, 4)).collect();
    assert!(kinds.contains(&PT_LOAD) && !kinds.contains(&PT_INTERP), "{kinds:?}");
}
