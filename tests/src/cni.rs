//! What a container runtime does with a plugin: a driver that goes through a list as the reference library (libcni) does.
//!
//! | module | what it is |
//! |---|---|
//! | [`attachment`] | what is attached, in the words of a runtime; containerd's among them |
//! | [`list`] | a configuration list: its version, its switches, its plugins |
//! | [`mod@call`] | one plugin, found and run once |
//!
//! It is not a runtime: it makes no container, and runs on a node that is a namespace of the test. Invariant: a plugin
//! gets here what it gets from the library, in that order, and nothing else. Source: CNI specification 1.1.0, section 3,
//! and libcni 1.3.

pub mod attachment;
pub mod call;
pub mod list;

pub use attachment::Attachment;
pub use call::Failure;
pub use list::{Level, List};

use crate::namespace::Namespace;
use call::{Call, call};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the library keeps of an ADD that succeeded (a file in `/var/lib/cni/results` there).
#[derive(Clone, Debug)]
struct Cached {
    attachment: Attachment,
    result: Value,
}

/// A runtime on one node.
#[derive(Debug)]
pub struct Runtime {
    node: Namespace,
    path: Vec<PathBuf>,
    /// By network, container and interface.
    cache: BTreeMap<(String, String, String), Cached>,
}

impl Runtime {
    /// A runtime that looks for plugins in these folders, in this order.
    pub fn new(node: &Namespace, path: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let path = path.into_iter().map(Into::into).collect();
        Self { node: node.clone(), path, cache: BTreeMap::new() }
    }

    /// ADD by every plugin in order, each with the result of the one before. Stops at the first failure, and then leaves
    /// it to the caller to send a DEL, as runtimes do.
    ///
    /// # Errors
    /// The first plugin's failure.
    pub fn add(&mut self, list: &List, attachment: &Attachment) -> Result<Value, Failure> {
        let mut previous = None;
        for plugin in list.plugins() {
            let stdin = list.hand_over(plugin, previous.as_ref(), &attachment.capabilities);
            let stdout = self.run("ADD", &stdin, Some(attachment))?;
            previous = Some(Failure::of_stdout(&stdin, &stdout, |result| list.fix(result))?);
        }
        let result = previous.unwrap_or(Value::Null);
        let cached = Cached { attachment: attachment.clone(), result: result.clone() };
        self.cache.insert(key(list, attachment), cached);
        Ok(result)
    }

    /// CHECK by every plugin in order, each with the final result. A list that forbids it is not checked.
    ///
    /// # Errors
    /// The first plugin's failure; [`Failure::Runtime`] when the version has no CHECK, or nothing was added.
    pub fn check(&self, list: &List, attachment: &Attachment) -> Result<(), Failure> {
        if !list.since("0.4.0") {
            return Err(Failure::Runtime(format!("configuration version {} has no CHECK", list.version())));
        }
        if list.switch("disableCheck") {
            return Ok(());
        }
        let cached = self.cache.get(&key(list, attachment));
        let cached = cached.ok_or_else(|| Failure::Runtime("no cached result".to_owned()))?;
        for plugin in list.plugins() {
            let stdin = list.hand_over(plugin, Some(&cached.result), &attachment.capabilities);
            self.silent("CHECK", &stdin, Some(attachment))?;
        }
        Ok(())
    }

    /// DEL by every plugin in reverse, each with the final result if there is one. After a failure the plugins before it
    /// in the list are not asked, and the result is kept for the next try.
    ///
    /// # Errors
    /// The first failure.
    pub fn del(&mut self, list: &List, attachment: &Attachment) -> Result<(), Failure> {
        let key = key(list, attachment);
        let result = self.cache.get(&key).map(|cached| &cached.result).filter(|_| list.since("0.4.0"));
        for plugin in list.plugins().iter().rev() {
            let stdin = list.hand_over(plugin, result, &attachment.capabilities);
            self.silent("DEL", &stdin, Some(attachment))?;
        }
        self.cache.remove(&key);
        Ok(())
    }

    /// DEL of every cached attachment of the network that is not in `valid`, then GC by every plugin, whatever fails. A
    /// runtime that does not say what is valid (`None`) sends a GC without a list.
    ///
    /// # Errors
    /// All failures.
    pub fn gc(&mut self, list: &List, valid: Option<&[Attachment]>) -> Result<(), Vec<Failure>> {
        if list.switch("disableGC") {
            return Ok(());
        }
        let mut failures: Vec<_> =
            self.stale(list, valid).iter().filter_map(|stale| self.del(list, stale).err()).collect();
        if list.since("1.1.0") {
            for plugin in list.plugins() {
                let mut stdin = list.hand_over(plugin, None, &Map::new());
                if let (Some(valid), Some(keys)) = (valid, stdin.as_object_mut()) {
                    let entry =
                        |valid: &Attachment| json!({"containerID": valid.container, "ifname": valid.ifname});
                    let entries: Vec<_> = valid.iter().map(entry).collect();
                    keys.insert("cni.dev/valid-attachments".to_owned(), json!(entries));
                    keys.insert("cni.dev/attachments".to_owned(), json!(entries));
                }
                failures.extend(self.silent("GC", &stdin, None).err());
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    /// STATUS by every plugin in order, where the version has it.
    ///
    /// # Errors
    /// The first failure.
    pub fn status(&self, list: &List) -> Result<(), Failure> {
        let plugins = if list.since("1.1.0") { list.plugins() } else { &[] };
        plugins
            .iter()
            .try_for_each(|plugin| self.silent("STATUS", &list.hand_over(plugin, None, &Map::new()), None))
    }

    /// How many results are kept.
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    fn stale(&self, list: &List, valid: Option<&[Attachment]>) -> Vec<Attachment> {
        let known = |cached: &Cached| {
            let same = |valid: &Attachment| {
                (&valid.container, &valid.ifname) == (&cached.attachment.container, &cached.attachment.ifname)
            };
            valid.unwrap_or_default().iter().any(same)
        };
        let ours = self.cache.iter().filter(|((network, ..), _)| network == list.name());
        ours.filter(|(_, cached)| !known(cached)).map(|(_, cached)| cached.attachment.clone()).collect()
    }

    fn run(&self, command: &str, stdin: &Value, attachment: Option<&Attachment>) -> Result<String, Failure> {
        call(&self.node, &Call { command, path: &self.path, stdin, attachment })
    }

    /// A command that has nothing to say: what it says all the same is a failure of ours, not of the library.
    fn silent(&self, command: &str, stdin: &Value, attachment: Option<&Attachment>) -> Result<(), Failure> {
        match self.run(command, stdin, attachment)?.as_str() {
            "" => Ok(()),
            said => Err(Failure::Runtime(format!("{command} of {} said {said:?}", stdin["type"]))),
        }
    }
}

fn key(list: &List, attachment: &Attachment) -> (String, String, String) {
    (list.name().to_owned(), attachment.container.clone(), attachment.ifname.clone())
}
