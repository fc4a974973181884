//! The documents of one manifest file: YAML or JSON, several to a file, each an object or a list of objects.
//!
//! Not a parser of all of Kubernetes: kinds that do not concern us are passed over. Pure. Invariant: a document that
//! cannot be read costs only itself; every other object of the file is found, and each mistake says where it is.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use tracing::debug;

use super::scope::Scope;
use super::shape::read;
use super::yaml;
use crate::convert::objects::{Head, Pod};
use crate::convert::{self, Fault, FieldError, Key, Names, Object, Verdict};
use crate::model::Kind;

/// What a file can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML documents, separated by `---`.
    Yaml,
    /// JSON values, one after the other.
    Json,
}

impl Format {
    /// The format of a file by its name; none for files that are no manifests, hidden ones among them.
    pub fn of(file: &str) -> Option<Self> {
        if file.starts_with('.') {
            return None;
        }
        match file.rsplit_once('.')?.1 {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Where in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The document, counted from 1; 0 for the file as a whole.
    pub document: usize,
    /// The line that the document or the mistake starts on, counted from 1, where known.
    pub line: Option<usize>,
    /// The item of a list, counted from 0 as in a field path.
    pub item: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.document {
            0 => f.write_str("the file")?,
            document => write!(f, "document {document}")?,
        }
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        match self.item {
            Some(item) => write!(f, ", items[{item}]"),
            None => Ok(()),
        }
    }
}

/// Something that cannot be used: a field, an object, a document or a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where it is.
    pub place: Place,
    /// Which object it is, if that much could be read.
    pub key: Option<Key>,
    /// What is wrong: the field and why, or what the parser says.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Its objects.
    pub objects: BTreeMap<Key, Object>,
    /// What could not be used, in the order of the file.
    pub mistakes: Vec<Mistake>,
    /// The fields that objects do without because they could not be used.
    pub remarks: Vec<Mistake>,
    /// The objects that are as if they were not there, though nobody can mean that.
    pub strays: Vec<Mistake>,
}

impl Parsed {
    /// Of a file that could not be read at all.
    pub fn unreadable(message: String) -> Self {
        let mistake = Mistake { place: Place::default(), key: None, message };
        Self { mistakes: vec![mistake], ..Self::default() }
    }
}

/// Reads a file's bytes.
pub fn parse<'a>(format: Format, bytes: &[u8], scope: impl Into<Scope<'a>>, names: &mut Names) -> Parsed {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => return Parsed::unreadable(format!("not UTF-8: {error}")),
    };
    let mut reader = Reader { scope: scope.into(), names, parsed: Parsed::default() };
    match format {
        Format::Yaml => reader.yaml(text),
        Format::Json => reader.json(text),
    }
    reader.parsed
}

struct Reader<'a> {
    scope: Scope<'a>,
    names: &'a mut Names,
    parsed: Parsed,
}

impl Reader<'_> {
    fn yaml(&mut self, text: &str) {
        for (number, (line, document)) in yaml::documents(text).enumerate() {
            let place = Place { document: number + 1, line: Some(line), item: None };
            let read =
                yaml::read(document, |item, value| self.object(Place { item: Some(item), ..place }, value));
            match read {
                Ok(value) => self.value(place, &value),
                Err(error) => {
                    let place = Place { line: Some(line + error.lines_before), ..place };
                    self.mistake(place, None, error.message);
                }
            }
        }
    }

    fn value(&mut self, place: Place, value: &Value) {
        match value.get("items") {
            Some(Value::Array(items)) if is_list(value["kind"].as_str()) => {
                for (item, value) in items.iter().enumerate() {
                    self.object(Place { item: Some(item), ..place }, value);
                }
            }
            _ => self.object(place, value),
        }
    }

    /// Goes through raw JSON text: a list of ten thousand objects is never held as a tree.
    fn json(&mut self, text: &str) {
        let mut documents = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
        for document in 1.. {
            let place = Place { document, ..Place::default() };
            match documents.next() {
                None => return,
                Some(Ok(raw)) => self.raw(place, raw),
                // Where the next document starts is not known after a syntax error.
                Some(Err(error)) => return self.mistake(place, None, error.to_string()),
            }
        }
    }

    fn raw(&mut self, place: Place, raw: &RawValue) {
        match List::deserialize(raw) {
            Ok(List { kind, items: Some(items) }) if is_list(kind) => {
                for (item, raw) in items.into_iter().enumerate() {
                    self.object(Place { item: Some(item), ..place }, raw);
                }
            }
            _ => self.object(place, raw),
        }
    }

    fn object<'de, D: Deserializer<'de> + Copy>(&mut self, place: Place, document: D) {
        let (kind, key) = match self.identify(document) {
            Ok(Some(identity)) => identity,
            Ok(None) => return debug!(%place, "not an object that concerns us"),
            Err(error) => return self.mistake(place, None, error.to_string()),
        };
        match self.convert(kind, document) {
            Ok(Verdict::Ignored(reason)) => debug!(%place, %key, reason, "ignored"),
            Ok(Verdict::Stray(error)) => {
                let message = format!("{error}; it is as if it were not there");
                self.parsed.strays.push(Mistake { place, key: Some(key), message });
            }
            Ok(Verdict::Ours(..)) if self.parsed.objects.contains_key(&key) => {
                self.mistake(place, Some(key), "is in this file before; the first one counts".to_owned());
            }
            Ok(Verdict::Ours(object, passed_over)) => {
                self.parsed.remarks.extend(passed_over.into_iter().map(|error| Mistake {
                    place,
                    key: Some(key.clone()),
                    message: format!("{error}; it counts without this field"),
                }));
                self.parsed.objects.insert(key, object);
            }
            Err(error) => self.mistake(place, Some(key), error.to_string()),
        }
    }

    fn identify<'de, D: Deserializer<'de>>(
        &mut self,
        document: D,
    ) -> Result<Option<(Kind, Key)>, FieldError> {
        let head: Head = read(document)?;
        if head.kind.is_empty() {
            return Err(Fault::Missing.at("kind"));
        }
        let Some(kind) = convert::kind(&head)? else { return Ok(None) };
        if kind == Kind::Pod && !self.scope.pods {
            return Ok(None);
        }
        let key = convert::key(kind, &head.metadata, self.names)?;
        let is_other_node = kind == Kind::Node && self.scope.node.is_some_and(|node| *key.name.name != *node);
        Ok((!is_other_node).then_some((kind, key)))
    }

    fn convert<'de, D: Deserializer<'de>>(&mut self, kind: Kind, document: D) -> Result<Verdict, FieldError> {
        match kind {
            Kind::Service => convert::service(&read(document)?, self.names),
            Kind::Slice => convert::slice(&read(document)?, self.names),
            Kind::Node => convert::node(&read(document)?, self.names),
            Kind::ServiceCidr => convert::service_cidr(&read(document)?, self.names),
            Kind::Pod => self.pod(&read(document)?),
        }
    }

    fn pod(&mut self, pod: &Pod) -> Result<Verdict, FieldError> {
        if self.scope.has_pods_of(&pod.spec.node_name) {
            convert::pod(pod, self.names)
        } else {
            Ok(Verdict::Ignored("it is not on this node (spec.nodeName)"))
        }
    }

    fn mistake(&mut self, place: Place, key: Option<Key>, message: String) {
        self.parsed.mistakes.push(Mistake { place, key, message });
    }
}

/// The part of a list that says that it is one.
#[derive(Deserialize)]
struct List<'a> {
    kind: Option<&'a str>,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

fn is_list(kind: Option<&str>) -> bool {
    kind.is_some_and(|kind| kind.ends_with("List"))
}

#[cfg(test)]
mod tests;
