//! Gives back to the kernel what a start or a repair takes for a moment.
//!
//! Not an allocator. A whole table that is read, compared and sent, and the objects before they are converted, are several
//! times what stays; glibc's allocator keeps the pages for later unless it is asked. Others (musl's) are left alone.

use std::collections::BTreeMap;
use std::mem;

/// What is larger than this is taken from the kernel by itself, in bytes.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 128 * 1024;

/// Lets the allocator keep little for later. Large blocks go back to the kernel as soon as they are free: glibc does so until the
/// first one is freed, and keeps what is twice as large from then on. All threads share one arena: [`give_back`] finds what is free
/// at its end, and not at the ends of others. To be called before the first thread starts.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "the C library's own; there is no safe name for it")]
        // SAFETY: it takes numbers, and nobody else allocates yet.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

/// Moves a map into full nodes: those of one that grew in order are half empty.
pub fn pack<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = mem::take(map).into_iter().collect();
}

/// Returns the free pages of all threads to the kernel. Takes some milliseconds for a hundred megabytes.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "the C library's own; there is no safe name for it")]
        // SAFETY: it takes a number, and may be called by any thread at any time.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
