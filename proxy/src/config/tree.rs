//! YAML into a tree, with the path of every field that is there more than once.
//!
//! Not a YAML parser: it listens to one. Pure. Invariant: of fields that are there more than once, the last one counts.

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;
use std::fmt;

/// Reads a document. Beside it are the paths of the repeated fields, in the order of the text.
pub(super) fn read(text: &str) -> Result<(Value, Vec<String>), serde_saphyr::Error> {
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::LastWins };
    let mut repeated = Vec::new();
    let tree = Tree { path: String::new(), repeated: &mut repeated };
    let document =
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| tree.deserialize(yaml))?;
    Ok((document, repeated))
}

/// What is below a path.
struct Tree<'a> {
    path: String,
    repeated: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, yaml: D) -> Result<Value, D::Error> {
        yaml.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, yaml: D) -> Result<Value, D::Error> {
        self.deserialize(yaml)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, read.len());
            match items.next_element_seed(Tree { path, repeated: self.repeated })? {
                Some(item) => read.push(item),
                None => return Ok(Value::Array(read)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
            if read.contains_key(&name) && !self.repeated.contains(&path) {
                self.repeated.push(path.clone());
            }
            let value = fields.next_value_seed(Tree { path, repeated: self.repeated })?;
            read.insert(name, value);
        }
        Ok(Value::Object(read))
    }
}
