//! A configuration list, read as the library reads it.

use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::path::Path;

/// The library that the runtime is built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Up to libcni 1.1 (containerd 1.6 and 1.7): 1.0.0 at most, and `cniVersions` means nothing.
    Old,
    /// From libcni 1.2 on: 1.1.0, and the best of `cniVersions`.
    New,
}

/// Every version that there is, in order.
const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A list whose version is chosen.
#[derive(Clone, Debug)]
pub struct List {
    keys: Map<String, Value>,
    version: String,
    plugins: Vec<Value>,
}

impl List {
    /// Reads a list.
    ///
    /// # Errors
    /// What is no list, by the library's rules.
    pub fn read(document: &Value, level: Level) -> Result<Self, String> {
        let keys = document.as_object().ok_or("it is no object")?.clone();
        let version = choose(&keys, level)?;
        let plugins = keys.get("plugins").and_then(Value::as_array).filter(|plugins| !plugins.is_empty());
        let plugins = plugins.ok_or("it has no plugins")?.clone();
        if plugins.iter().any(|plugin| !plugin["type"].is_string()) {
            return Err("a plugin has no type".to_owned());
        }
        if !keys.get("name").is_some_and(Value::is_string) {
            return Err("it has no name".to_owned());
        }
        Ok(Self { keys, version, plugins })
    }

    /// Appends what others put for this network into `<folder>/<name>/*.conf`, in the order of their names, unless the
    /// list wants nothing of that. Only a new library does it.
    ///
    /// # Errors
    /// When a file cannot be read, or is no JSON.
    pub fn append(mut self, folder: &Path) -> io::Result<Self> {
        let folder = folder.join(self.name());
        if self.switch("loadOnlyInlinedPlugins") || !folder.is_dir() {
            return Ok(self);
        }
        let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        let mut files: Vec<_> =
            entries.into_iter().filter(|path| path.extension().is_some_and(|e| e == "conf")).collect();
        files.sort();
        for file in files {
            self.plugins.push(serde_json::from_slice(&fs::read(file)?)?);
        }
        Ok(self)
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        self.keys["name"].as_str().unwrap_or_default()
    }

    /// The version that everything is said in.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The plugins' objects, in order.
    pub fn plugins(&self) -> &[Value] {
        &self.plugins
    }

    /// The same, to be changed.
    pub fn plugins_mut(&mut self) -> &mut [Value] {
        &mut self.plugins
    }

    /// Whether the version is this one or a later one.
    pub(super) fn since(&self, version: &str) -> bool {
        rank(&self.version) >= rank(version)
    }

    /// A switch of the list, which may be written as text.
    pub(super) fn switch(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|value| *value == json!(true) || *value == json!("true"))
    }

    /// What a plugin gets on stdin: its own object, with what the runtime adds. `capabilities` stays in, as it does there.
    pub fn hand_over(&self, plugin: &Value, previous: Option<&Value>, has: &Map<String, Value>) -> Value {
        let mut keys = plugin.as_object().cloned().unwrap_or_default();
        keys.insert("name".to_owned(), json!(self.name()));
        keys.insert("cniVersion".to_owned(), json!(self.version));
        if let Some(previous) = previous {
            keys.insert("prevResult".to_owned(), previous.clone());
        }
        let declared = |capability: &&String| plugin["capabilities"][capability.as_str()] == json!(true);
        let given: Map<_, _> =
            has.keys().filter(declared).map(|key| (key.clone(), has[key].clone())).collect();
        if !given.is_empty() {
            keys.insert("runtimeConfig".to_owned(), Value::Object(given));
        }
        Value::Object(keys)
    }

    /// A result without a version is one of the configuration's.
    pub(super) fn fix(&self, mut result: Value) -> Value {
        if let Some(keys) = result.as_object_mut() {
            keys.entry("cniVersion").or_insert_with(|| json!(self.version));
        }
        result
    }
}

fn rank(version: &str) -> Option<usize> {
    VERSIONS.iter().position(|known| *known == version)
}

fn choose(keys: &Map<String, Value>, level: Level) -> Result<String, String> {
    let written = keys.get("cniVersion").and_then(Value::as_str).unwrap_or("0.1.0");
    let offered = keys.get("cniVersions").and_then(Value::as_array).filter(|_| level == Level::New);
    let offered = offered.into_iter().flatten().filter_map(Value::as_str);
    let known = offered.chain([written]).filter(|version| rank(version).is_some());
    let best = known.max_by_key(|version| rank(version)).unwrap_or(written);
    // An old library hands on any version, and fails later, at the result.
    if level == Level::New && rank(best).is_none() {
        Err(format!("unknown version {best}"))
    } else {
        Ok(best.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(extra: &Value) -> Value {
        let mut list =
            json!({"name": "pods", "plugins": [{"type": "a", "capabilities": {"mac": true, "ips": false}}]});
        list.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        list
    }

    #[test]
    fn an_old_library_takes_the_one_version_and_a_new_one_the_best() {
        let document = list(&json!({"cniVersion": "1.0.0", "cniVersions": ["0.4.0", "1.1.0", "9.0.0"]}));
        let version = |level| List::read(&document, level).unwrap().version;
        assert_eq!((version(Level::Old).as_str(), version(Level::New).as_str()), ("1.0.0", "1.1.0"));
        assert_eq!(List::read(&list(&json!({})), Level::New).unwrap().version, "0.1.0");
    }

    #[test]
    fn a_plugin_gets_the_capabilities_that_it_declares() {
        let list =
            List::read(&list(&json!({"cniVersion": "1.0.0", "disableCheck": "true"})), Level::New).unwrap();
        let has = json!({"mac": "c2:11:22:33:44:55", "ips": ["10.0.0.1"], "other": 1});
        let handed = list.hand_over(&list.plugins[0], Some(&json!({"ips": []})), has.as_object().unwrap());
        assert_eq!(
            handed,
            json!({"name": "pods", "cniVersion": "1.0.0", "type": "a", "prevResult": {"ips": []},
                "capabilities": {"mac": true, "ips": false}, "runtimeConfig": {"mac": "c2:11:22:33:44:55"}})
        );
        assert!(list.switch("disableCheck") && !list.switch("disableGC"));
    }
}
