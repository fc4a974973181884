//! Which slots a list of endpoints lies in: a run of a power of two of them, so that what one list leaves fits another.
//!
//! It knows nothing of the maps. Invariant: a slot is in one block that was handed out and not taken back, or in none.

use std::collections::BTreeMap;

/// All slots.
#[derive(Debug, Default)]
pub struct Blocks {
    free: BTreeMap<u8, Vec<u32>>,
    /// Slots that have ever been used.
    slots: u32,
}

/// A run of slots; none where there are no endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Its first slot.
    pub first: u32,
    order: Option<u8>,
}

impl Blocks {
    /// How many slots there are, in use or not.
    pub fn extent(&self) -> u32 {
        self.slots
    }

    /// One for so many endpoints.
    pub fn allocate(&mut self, count: usize) -> Block {
        let Some(order) = order(count) else { return Block::default() };
        let free = self.free.get_mut(&order).and_then(Vec::pop);
        let first = free.unwrap_or_else(|| {
            let first = self.slots;
            self.slots += 1 << order;
            first
        });
        Block { first, order: Some(order) }
    }

    /// Takes one back, for others.
    pub fn take_back(&mut self, block: Block) {
        if let Some(order) = block.order {
            self.free.entry(order).or_default().push(block.first);
        }
    }
}

/// How many slots a list of so many endpoints takes.
pub fn room(count: usize) -> u32 {
    order(count).map_or(0, |order| 1 << order)
}

/// Of the smallest block for so many endpoints; none for none.
fn order(count: usize) -> Option<u8> {
    (count > 0).then(|| u8::try_from(count.next_power_of_two().trailing_zeros()).expect("at most 16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_was_taken_back_is_the_next_one_of_its_size() {
        let mut blocks = Blocks::default();
        assert_eq!([0, 1, 3, 4, 5].map(room), [0, 1, 4, 4, 8]);
        let (none, four, one) = (blocks.allocate(0), blocks.allocate(3), blocks.allocate(1));
        assert_eq!((none, four.first, one.first, blocks.extent()), (Block::default(), 0, 4, 5));
        blocks.take_back(four);
        blocks.take_back(none);
        assert_eq!((blocks.allocate(2).first, blocks.allocate(4), blocks.extent()), (5, four, 7));
    }
}
