//! YAML streams: where one document ends, and what a document says.
//!
//! Not a YAML parser: it cuts the stream and gives each document to one. Pure. Invariant: every line with content is
//! in exactly one document, so that a mistake costs one document and not the file.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why a document cannot be read.
#[derive(Debug)]
pub(super) struct SyntaxError {
    /// How many lines of the document come before the mistake.
    pub(super) lines_before: usize,
    /// What the parser says.
    pub(super) message: String,
}

/// The documents of a YAML stream and the line that each starts on; those without content are left out.
///
/// Kubernetes' own reader cuts at lines that start with `---` too, before any parsing. So a mistake in one document
/// cannot swallow the next.
pub(super) fn documents(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut rest = text;
    let mut line = 1;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (length, has_content) = first_document(rest);
            let (document, after) = rest.split_at(length);
            let start = line;
            line += document.matches('\n').count();
            rest = after;
            if has_content {
                return Some((start, document));
            }
        }
        None
    })
}

/// The length of the first document, its `---` line included, and whether there is anything in it.
fn first_document(text: &str) -> (usize, bool) {
    let mut length = 0;
    let (mut is_open, mut has_content) = (false, false);
    for line in text.split_inclusive('\n') {
        let content = match line.strip_prefix("---") {
            Some(after) if after.trim_start().len() < after.len() || after.is_empty() => {
                // Comments and directives (`%YAML 1.2`) belong to the document that they precede.
                if is_open || has_content {
                    break;
                }
                is_open = true;
                after
            }
            _ => line,
        };
        let content = content.trim();
        has_content |= !(content.is_empty() || content == "..." || content.starts_with(['#', '%']));
        length += line.len();
    }
    (length, has_content)
}

/// Reads one document. The items of a list are given away one by one, and what remains of it is returned: as one tree,
/// ten thousand Services with their slices, which is 10 MB of text, take 130 MB.
pub(super) fn read(document: &str, item: impl FnMut(usize, &Value)) -> Result<Value, SyntaxError> {
    let read = if is_list(document) {
        let list = List { item };
        serde_saphyr::with_deserializer_from_str_with_options(document, options(), |yaml| {
            yaml.deserialize_map(list)
        })
    } else {
        serde_saphyr::from_str_with_options(document, options())
    };
    read.map_err(|error| {
        let line = error.location().and_then(|at| usize::try_from(at.line()).ok());
        SyntaxError {
            lines_before: line.unwrap_or(1).max(1) - 1,
            message: error.without_snippet().to_string(),
        }
    })
}

/// Whether it is a list in the form that kubectl writes. Only a key of the outermost level can start a line. Lists in
/// other forms are found in their tree.
fn is_list(document: &str) -> bool {
    document
        .lines()
        .any(|line| line.strip_prefix("kind: ").is_some_and(|kind| kind.trim_end().ends_with("List")))
}

/// Reads a list as a map whose `items` are given away.
struct List<F> {
    item: F,
}

impl<'de, F: FnMut(usize, &Value)> Visitor<'de> for List<F> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        let mut rest = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                map.next_value_seed(Items { item: &mut self.item })?;
            } else {
                rest.insert(key, map.next_value()?);
            }
        }
        Ok(Value::Object(rest))
    }
}

struct Items<'a, F> {
    item: &'a mut F,
}

impl<'de, F: FnMut(usize, &Value)> DeserializeSeed<'de> for Items<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de, F: FnMut(usize, &Value)> Visitor<'de> for Items<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the items of a list")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            match items.next_element()? {
                Some(value) => (self.item)(index, &value),
                None => break,
            }
        }
        Ok(())
    }
}

/// The crate's limits on size fit configuration files; a list of ten thousand Services is larger. Those on depth and on
/// the replay of aliases, which is what makes a small file dangerous, stay.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
        },
        with_snippet: false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_line_with_content_is_in_one_document(
            lines in prop::collection::vec(prop::sample::select(vec!["---", "--- a", "---b", "c: d", "", "# e", "..."]), 0..20),
        ) {
            let text = lines.join("\n");
            let contents = |text: &str| text.lines().filter(|line| line.len() > 3 && !line.starts_with('#')).count();
            let documents: Vec<(usize, &str)> = documents(&text).collect();
            prop_assert_eq!(documents.iter().map(|(_, document)| contents(document)).sum::<usize>(), contents(&text));
            for (line, document) in documents {
                prop_assert_eq!(document.lines().next(), text.lines().nth(line - 1));
            }
        }
    }
}
