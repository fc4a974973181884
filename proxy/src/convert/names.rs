//! Names that are kept once.
//!
//! Ten thousand objects share a few namespaces, node names and port names. Not a registry: a name that nobody uses
//! any more is dropped as the set grows. Invariant: two names handed out for equal text while one is in use share
//! their memory.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The names in use.
#[derive(Debug, Default)]
pub struct Names {
    seen: BTreeSet<Arc<str>>,
    /// How many names there may be before the unused ones are looked for.
    sweep_at: usize,
}

impl Names {
    /// The shared copy of a name.
    pub fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.seen.get(name) {
            return known.clone();
        }
        if self.seen.len() >= self.sweep_at {
            self.seen.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = 64 + 2 * self.seen.len();
        }
        let name: Arc<str> = name.into();
        self.seen.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_share_memory_and_unused_ones_are_dropped() {
        let mut names = Names::default();
        let kept = names.share("node-a");
        for number in 0..10_000 {
            names.share(&format!("node-{number}"));
        }
        assert!(Arc::ptr_eq(&kept, &names.share("node-a")));
        assert!(names.seen.len() < 200, "{} names are kept", names.seen.len());
    }
}
