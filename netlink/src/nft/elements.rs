//! The elements of a set or map, packed: a map from cells to data in a quarter of the memory that a `BTreeMap` takes.
//!
//! Not a general map: what is looked up is made from its row, and nothing can be borrowed. Rows of bytes lie back to back in
//! leaves of about a kilobyte. Leaves are never joined; one that is empty goes. Invariant: rows are in the order of their
//! keys, and each is in the last leaf whose own key is not above its key.

use super::value::{Cells, Data};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// More bytes than this are two leaves. A row is searched for from the start of its leaf: some 40 have room in one.
const LEAF: usize = 1024;
/// By so many bytes a leaf grows.
const STEP: usize = 128;

/// What a row's data is.
const NONE: u8 = 0;
const CELLS: u8 = 1;
const GOTO: u8 = 2;
const UNTIL: u8 = 3;

/// The elements of a set or map, in the order of their keys.
#[derive(Clone, Default)]
pub struct Elements {
    /// The first leaf's own key is the empty one, which is below all others.
    leaves: BTreeMap<Cells, Vec<u8>>,
    len: usize,
}

impl Elements {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What a key maps to.
    pub fn get(&self, key: &Cells) -> Option<Data> {
        self.row(key).map(|row| row.data())
    }

    /// Whether there is an element of this key.
    pub fn contains_key(&self, key: &Cells) -> bool {
        self.row(key).is_some()
    }

    /// Adds an element. Returns what its key mapped to before.
    pub fn insert(&mut self, key: Cells, data: &Data) -> Option<Data> {
        if self.leaves.is_empty() || self.leaves.first_key_value().is_some_and(|(first, _)| key < *first) {
            self.leaves.insert(Cells::default(), Vec::new());
        }
        let (_, leaf) = self.leaves.range_mut(..=key).next_back().expect("the empty key is below all others");
        let (at, old) = match find(leaf, &key) {
            Ok(row) => (row.clone(), Some(Row::at(leaf, row.start).data())),
            Err(at) => (at..at, None),
        };
        let row = encode(&key, data);
        let added = row.len();
        if leaf.capacity() < leaf.len() + added {
            leaf.reserve_exact(added.next_multiple_of(STEP));
        }
        leaf.splice(at.clone(), row);
        self.len += usize::from(old.is_none());
        if leaf.len() > LEAF {
            // What comes in order leaves full leaves behind.
            let is_last = at.start + added == leaf.len();
            let at = if is_last { at.start } else { middle(leaf) };
            let rest = leaf.split_off(at);
            leaf.shrink_to_fit();
            self.leaves.insert(Row::at(&rest, 0).key(), rest);
        }
        old
    }

    /// Removes the element of a key. Returns what it mapped to.
    pub fn remove(&mut self, key: &Cells) -> Option<Data> {
        let (&of_leaf, leaf) = self.leaves.range_mut(..=key).next_back()?;
        let row = find(leaf, key).ok()?;
        let old = Row::at(leaf, row.start).data();
        leaf.drain(row);
        leaf.shrink_to(leaf.len() + STEP);
        if leaf.is_empty() {
            self.leaves.remove(&of_leaf);
        }
        self.len -= 1;
        Some(old)
    }

    /// Keeps those for which `wanted` says so.
    pub fn retain(&mut self, mut wanted: impl FnMut(&Cells, &Data) -> bool) {
        *self = self.iter().filter(|(key, data)| wanted(key, data)).collect();
    }

    /// Removes all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (Cells, Data)> {
        self.rows().map(|row| (row.key(), row.data()))
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = Cells> {
        self.rows().map(|row| row.key())
    }

    /// What they map to, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = Data> {
        self.rows().map(|row| row.data())
    }

    fn row(&self, key: &Cells) -> Option<Row<'_>> {
        let (_, leaf) = self.leaves.range(..=key).next_back()?;
        find(leaf, key).ok().map(|row| Row::at(leaf, row.start))
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.leaves.values().flat_map(|leaf| rows(leaf))
    }
}

impl PartialEq for Elements {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.rows().eq(other.rows())
    }
}

impl Eq for Elements {}

impl fmt::Debug for Elements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Extend<(Cells, Data)> for Elements {
    fn extend<I: IntoIterator<Item = (Cells, Data)>>(&mut self, elements: I) {
        for (key, data) in elements {
            self.insert(key, &data);
        }
    }
}

impl FromIterator<(Cells, Data)> for Elements {
    fn from_iter<I: IntoIterator<Item = (Cells, Data)>>(elements: I) -> Self {
        let mut all = Self::default();
        all.extend(elements);
        all
    }
}

/// One element: the length of its key, the key, what sort of data, its length, the data.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Row<'a> {
    key: &'a [u8],
    kind: u8,
    data: &'a [u8],
}

impl<'a> Row<'a> {
    /// The row that starts at this byte of a leaf.
    fn at(leaf: &'a [u8], start: usize) -> Self {
        let (key, rest) = counted(&leaf[start..]);
        let (data, _) = counted(&rest[1..]);
        Self { key, kind: rest[0], data }
    }

    /// Its own length.
    fn len(&self) -> usize {
        self.key.len() + self.data.len() + 3
    }

    fn key(&self) -> Cells {
        cells(self.key)
    }

    fn data(&self) -> Data {
        match self.kind {
            CELLS => Data::Cells(cells(self.data)),
            GOTO => Data::Goto(str::from_utf8(self.data).expect("it was written from text").into()),
            UNTIL => Data::Until(cells(self.data)),
            _ => Data::None,
        }
    }
}

/// Bytes with their number before them, and what follows.
fn counted(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes[1..].split_at(usize::from(bytes[0]))
}

fn cells(bytes: &[u8]) -> Cells {
    Cells::from_bytes(bytes).expect("it was written from cells")
}

fn encode(key: &Cells, data: &Data) -> Vec<u8> {
    let (kind, data) = match data {
        Data::None => (NONE, &[][..]),
        Data::Cells(cells) => (CELLS, cells.as_bytes()),
        Data::Goto(chain) => (GOTO, chain.as_bytes()),
        Data::Until(end) => (UNTIL, end.as_bytes()),
    };
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("a chain's name has at most 255 bytes");
    let key = key.as_bytes();
    [&[length(key)], key, &[kind, length(data)], data].concat()
}

fn rows(leaf: &[u8]) -> impl Iterator<Item = Row<'_>> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let row = (next < leaf.len()).then(|| Row::at(leaf, next))?;
        next += row.len();
        Some(row)
    })
}

/// Where the row of a key is, or else where it would be.
fn find(leaf: &[u8], key: &Cells) -> Result<Range<usize>, usize> {
    let mut start = 0;
    for row in rows(leaf) {
        if row.key >= key.as_bytes() {
            return if row.key == key.as_bytes() { Ok(start..start + row.len()) } else { Err(start) };
        }
        start += row.len();
    }
    Err(start)
}

/// The start of the row that has the middle of a leaf behind it.
fn middle(leaf: &[u8]) -> usize {
    let ends = rows(leaf).scan(0, |end, row| {
        *end += row.len();
        Some(*end)
    });
    { ends }.find(|end| *end >= leaf.len() / 2).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Cells> {
        // Of several lengths, so that one may be the start of another.
        prop::collection::vec(0..4_u8, 0..4).prop_map(|bytes| Cells::from_bytes(&bytes).unwrap())
    }

    fn data() -> impl Strategy<Value = Data> {
        // Long names, so that few elements take several leaves.
        prop_oneof![
            Just(Data::None),
            key().prop_map(Data::Cells),
            key().prop_map(Data::Until),
            "[a-z]{0,255}".prop_map(|name| Data::Goto(name.into())),
        ]
    }

    proptest! {
        #[test]
        fn it_is_the_same_as_a_tree(steps in prop::collection::vec((key(), prop::option::of(data())), 0..80)) {
            let (mut packed, mut tree) = (Elements::default(), BTreeMap::new());
            for (key, step) in steps {
                let (ours, theirs) = match step {
                    Some(data) => (packed.insert(key, &data), tree.insert(key, data)),
                    None => (packed.remove(&key), tree.remove(&key)),
                };
                prop_assert_eq!(ours, theirs);
                prop_assert_eq!(packed.get(&key), tree.get(&key).cloned());
                prop_assert_eq!(packed.len(), tree.len());
                prop_assert!(packed.leaves.values().all(|leaf| !leaf.is_empty() && leaf.len() <= LEAF));
            }
            prop_assert!(packed.iter().eq(tree.clone()));
            prop_assert_eq!(packed, tree.into_iter().collect());
        }
    }

    #[test]
    fn what_comes_in_order_fills_its_leaves() {
        let key = |i: u16| Cells::default().address([10, 96, 0, 1].into()).protocol(6).port(i).slot(0);
        let endpoint = Data::Cells(Cells::default().address([10, 244, 0, 1].into()).port(8080));
        let elements: Elements = (0..10_000).map(|i| (key(i), endpoint.clone())).collect();
        let held: usize = elements.leaves.values().map(Vec::capacity).sum();
        assert!(held <= 10_000 * 28, "{held} bytes");
    }
}
