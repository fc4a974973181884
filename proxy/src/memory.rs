//! Gives back to the kernel what a start or a repair took for a moment.
//!
//! Not an allocator. A whole table that is read, compared and sent, and the objects before they are converted, are several
//! times what stays; glibc's allocator keeps the pages for later unless it is asked. Others (musl's) are left alone.

use std::collections::BTreeMap;
use std::mem;

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
