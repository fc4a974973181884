//! A configuration list and its plugins, run once and timed, with as little beside them as a runtime has.

use crate::Failure;
use heddle_tests::cni::{Level, List};
use serde_json::{Map, Value, json};
use std::io::{Write, pipe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a pipe holds, unless somebody asked for another size (`pipe(7)`).
const PIPE: usize = 64 * 1024;

/// The plugins of a list, in order.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    list: List,
    path: Vec<PathBuf>,
}

/// What a plugin is called for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) command: &'a str,
    pub(super) container: &'a str,
    pub(super) namespace: &'a Path,
}

impl Chain {
    /// A list of one plugin.
    pub(super) fn of_one(config: &Value, path: Vec<PathBuf>) -> Self {
        let document = json!({"name": "bench", "cniVersion": "1.0.0", "plugins": [config]});
        let list = List::read(&document, Level::New).expect("a list of one plugin is one");
        Self { list, path }
    }

    /// A list that somebody wrote.
    pub(super) fn of_list(document: &Value, path: Vec<PathBuf>) -> Result<Self, Failure> {
        Ok(Self { list: List::read(document, Level::New)?, path })
    }

    /// Keeps leases and results of every plugin that can say where below this folder.
    pub(super) fn keep_in(&mut self, folder: &Path) {
        for plugin in self.list.plugins_mut() {
            if plugin["ipam"].is_object() {
                plugin["ipam"]["dataDir"] = json!(folder);
            }
        }
    }

    /// Calls all plugins as the reference library does: forwards, or for a DEL in reverse.
    pub(super) fn run(&self, call: Call<'_>) -> Result<(), Failure> {
        let plugins = self.list.plugins();
        let mut previous = None;
        let reversed = call.command == "DEL";
        for at in 0..plugins.len() {
            let plugin = &plugins[if reversed { plugins.len() - 1 - at } else { at }];
            let stdin = self.list.hand_over(plugin, previous.as_ref(), &Map::new()).to_string();
            let printed = finish(self.start(plugin, &stdin, call, Stdio::piped())?)?;
            previous = (call.command == "ADD").then(|| serde_json::from_slice(&printed)).transpose()?;
        }
        Ok(())
    }

    /// Starts the first plugin, with its configuration written.
    pub(super) fn start_first(&self, call: Call<'_>) -> Result<Child, Failure> {
        let plugin = self.list.plugins().first().ok_or("the list is empty")?;
        let stdin = self.list.hand_over(plugin, None, &Map::new()).to_string();
        self.start(plugin, &stdin, call, Stdio::piped())
    }

    /// Runs the first plugin until it has done everything but to say so, since its result does not go into a pipe that is
    /// full; looks at the process then; and lets it fail.
    pub(super) fn stopped_at_its_result(
        &self,
        call: Call<'_>,
        look: impl FnOnce(u32) -> Result<String, Failure>,
    ) -> Result<String, Failure> {
        let plugin = self.list.plugins().first().ok_or("the list is empty")?;
        let stdin = self.list.hand_over(plugin, None, &Map::new()).to_string();
        let (reader, mut writer) = pipe()?;
        writer.write_all(&[0; PIPE])?;
        let mut child = self.start(plugin, &stdin, call, writer.into())?;
        let seen = look(child.id());
        drop(reader);
        child.wait()?;
        seen
    }

    fn start(&self, plugin: &Value, stdin: &str, call: Call<'_>, stdout: Stdio) -> Result<Child, Failure> {
        let name = plugin["type"].as_str().unwrap_or_default();
        let file = self.path.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        let file = file.ok_or_else(|| format!("plugin {name} is in none of {:?}", self.path))?;
        let path: Vec<_> = self.path.iter().map(|folder| folder.display().to_string()).collect();
        #[expect(clippy::disallowed_methods, reason = "the bench runs what it measures")]
        let mut command = Command::new(file);
        command.env_clear().env("CNI_COMMAND", call.command).env("CNI_CONTAINERID", call.container);
        command.env("CNI_NETNS", call.namespace).env("CNI_IFNAME", "eth0").env("CNI_PATH", path.join(":"));
        command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        // Taken, so that the plugin sees its end.
        child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(stdin.as_bytes()))?;
        Ok(child)
    }
}

/// Waits for a plugin that must succeed, and gives what it printed.
pub(super) fn finish(child: Child) -> Result<Vec<u8>, Failure> {
    let output = child.wait_with_output()?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("a plugin failed: {}", String::from_utf8_lossy(&output.stdout)).into())
    }
}
