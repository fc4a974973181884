//! Debian's containerd with runc, as the container runtime of a node that is a namespace of the test.
//!
//! | module | what it is |
//! |---|---|
//! | [`cri`] | kubelet's requests to it |
//! | [`container`] | what they say of a container |
//! | `kubelet` | what they are for the pod of a DaemonSet |
//! | `grpc` | how they are sent |
//! | `message` | protocol buffers, as far as those need them |
//! | `image` | a container image with one program of a few instructions |
//!
//! It runs in mount and process namespaces of its own, below an init that starts it again when it dies, as systemd does.
//! All its files are in memory below [`HOME`], on mounts that nobody else sees. Invariant: with the init every process
//! and mount is gone, however the test ends; what is left of a test that was killed are empty cgroups, which the next
//! one removes.

pub mod container;
pub mod cri;
mod grpc;
mod image;
mod kubelet;
mod message;

pub use container::{Container, Mount, Rights};
pub use cri::{Cri, Pod};
pub use kubelet::Kubelet;

use crate::namespace::Namespace;
use crate::patience::{PATIENCE, eventually};
use crate::process::{Invocation, Process};
use crate::scratch::Scratch;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use serde_json::Value;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;

/// Where everything of it is, as its own processes see it.
pub const HOME: &str = "/run/heddle-test";

/// Why there is no runtime.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// First what needs the caller's processes in `/proc`; the rest hides the machine's own.
const INIT: &str = r#"set -e
mount -t tmpfs tmpfs /mnt; cp -r "$1"/. /mnt
mount -t tmpfs tmpfs /run; mkdir -p /run/heddle-test /run/netns; cp -r /mnt/. /run/heddle-test
mount -t tmpfs tmpfs /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
for old in /sys/fs/cgroup/heddle-test-proc-*; do
	process=${old##*-proc-}
	[ -d "/proc/${process%-fd-*}" ] || find "$old" -depth -type d -exec rmdir {} + 2>/dev/null || true
done
mount -t proc proc /proc
mkdir -p "/sys/fs/cgroup/$2/init"; echo 0 >"/sys/fs/cgroup/$2/init/cgroup.procs"
mount -t tmpfs tmpfs /var/lib
ip link set lo up
while :; do containerd --config /run/heddle-test/config.toml || true; done
"#;

const CONFIG: &str = include_str!("containerd/config.toml");

/// A running containerd.
#[derive(Debug)]
pub struct Containerd {
    node: Namespace,
    /// The process that holds the namespaces, as this process sees it.
    init: u32,
    /// The folder of all cgroups, on the mount that only the init's processes see.
    cgroups: OwnedFd,
    /// The one that all of them are in.
    cgroup: String,
    _keeper: Process,
}

impl Containerd {
    /// Starts it on a node, with these plugins and this configuration list, and waits until it answers.
    ///
    /// # Errors
    /// When containerd or runc is not installed, or does not come up.
    pub fn start(node: &Namespace, plugins: &[(&str, &Path)], list: &Value) -> Result<Self, Failure> {
        let containerd = Self::launch(node, |home| {
            for (name, file) in plugins {
                fs::copy(file, home.join("bin").join(name))?;
            }
            fs::write(home.join("net.d/10-test.conflist"), list.to_string())?;
            // Somebody else's comes later in the alphabet, and is not taken.
            let other = r#"{"cniVersion":"1.0.0","name":"other","type":"absent"}"#;
            fs::write(home.join("net.d/50-other.conf"), other)
        })?;
        containerd.has_a_network()?;
        Ok(containerd)
    }

    /// Starts it on a node where nobody has installed a network: only pods with the node's own can run.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn without_network(node: &Namespace) -> Result<Self, Failure> {
        Self::launch(node, |_| Ok(()))
    }

    /// Starts it with what `furnish` puts into its folders.
    fn launch(node: &Namespace, furnish: impl FnOnce(&Path) -> io::Result<()>) -> Result<Self, Failure> {
        let scratch = Scratch::new()?;
        let home = scratch.path();
        ["bin", "net.d"].iter().try_for_each(|folder| fs::create_dir(home.join(folder)))?;
        furnish(&home)?;
        fs::write(home.join("config.toml"), CONFIG)?;
        image::write(node, &home)?;
        let cgroup = format!("heddle-test{}", node.path().display().to_string().replace('/', "-"));
        let unshare = [
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
            "sh",
            "-c",
            INIT,
            "init",
        ];
        let keeper = Invocation::foreign("unshare").args(unshare).args([home.as_os_str(), cgroup.as_ref()]);
        let keeper = keeper.start(node)?;
        let init = eventually("the init of containerd", PATIENCE, || only_child(keeper.id()))?;
        eventually("containerd's socket", PATIENCE, || connect(init))?;
        let cgroups = format!("/proc/{init}/root/sys/fs/cgroup");
        let cgroups = rustix::fs::open(cgroups, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let containerd = Self { node: node.clone(), init, cgroups, cgroup, _keeper: keeper };
        containerd.answers()?;
        containerd.import(&containerd.path(&format!("{HOME}/image.tar")), &["--base-name", image::NAME])?;
        Ok(containerd)
    }

    /// Loads the images of an archive, under the names that they have in it.
    ///
    /// # Errors
    /// As the runtime says.
    pub fn load(&self, archive: &Path) -> Result<(), Failure> {
        self.import(archive, &[])
    }

    /// Waits until it has found a network for its pods.
    ///
    /// # Errors
    /// When it finds none, with what it says of it.
    pub fn has_a_network(&self) -> Result<(), Failure> {
        self.lacks(<[String]>::is_empty)
    }

    /// Where a path of its own is for this process. No link on the way may be an absolute one.
    pub fn path(&self, inside: &str) -> PathBuf {
        format!("/proc/{}/root{inside}", self.init).into()
    }

    /// Kubelet's side of it.
    ///
    /// # Errors
    /// When it does not listen.
    pub fn cri(&self) -> Result<Cri, Failure> {
        connect(self.init).map(Cri::new).map_err(Into::into)
    }

    /// Kills containerd itself, not the containers; its init starts it again.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn restart(&self) -> Result<(), Failure> {
        let old = self.daemon()?;
        let pid = i32::try_from(old).ok().and_then(Pid::from_raw).ok_or("no process id")?;
        kill_process(pid, Signal::KILL)?;
        eventually("another containerd", PATIENCE, || match self.daemon() {
            Ok(new) if new != old => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
        self.has_a_network()
    }

    /// Takes a pod's network namespace away, as a reboot does, by the path that its [`Status`](cri::Status) has.
    ///
    /// # Errors
    /// When there is none.
    pub fn lose_namespace(&self, path: &str) -> Result<(), Failure> {
        let mounts = fs::File::open(format!("/proc/{}/ns/mnt", self.init))?;
        let lose = || -> io::Result<()> {
            #[expect(
                unsafe_code,
                reason = "only CLONE_FILES is unsafe: FS lets this thread see other mounts"
            )]
            // SAFETY: no file descriptor table is unshared.
            unsafe { unshare_unsafe(UnshareFlags::FS) }?;
            move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
            unmount(path, UnmountFlags::DETACH)?;
            fs::remove_file(path)
        };
        let lost = thread::scope(|scope| scope.spawn(lose).join());
        Ok(lost.unwrap_or_else(|payload| panic::resume_unwind(payload))?)
    }

    /// The names of all processes but the init and containerd: shims and containers.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn others(&self) -> io::Result<Vec<String>> {
        let numbers = |name: &str| name.bytes().all(|b| b.is_ascii_digit()) && name != "1";
        let entries = fs::read_dir(self.path("/proc"))?.filter_map(Result::ok);
        let ids =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| numbers(name));
        // One that ends meanwhile has no name; one that nobody has waited for has no command line.
        let text = |id: &str, file: &str| {
            fs::read_to_string(self.path(&format!("/proc/{id}/{file}"))).unwrap_or_default()
        };
        let live =
            ids.filter(|id| !text(id, "cmdline").is_empty()).map(|id| text(&id, "comm").trim().to_owned());
        Ok(live.filter(|name| !name.is_empty() && name != "containerd").collect())
    }

    fn daemon(&self) -> Result<u32, String> {
        let name = |id: &u32| fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        children(self.init)?
            .into_iter()
            .find(|id| name(id).trim() == "containerd")
            .ok_or("it does not run".to_owned())
    }

    fn answers(&self) -> Result<(), Failure> {
        self.lacks(|lacking| lacking.iter().all(|condition| condition.starts_with("NetworkReady")))
    }

    /// Waits until what it lacks is bearable.
    fn lacks(&self, bearable: impl Fn(&[String]) -> bool) -> Result<(), Failure> {
        eventually("containerd to be ready", PATIENCE, || {
            let mut cri = self.cri().map_err(|e| e.to_string())?;
            let lacking = cri.lacking().map_err(|e| e.to_string())?;
            if bearable(&lacking) { Ok(()) } else { Err(format!("{lacking:?}")) }
        })?;
        Ok(())
    }

    fn import(&self, archive: &Path, flags: &[&str]) -> Result<(), Failure> {
        let socket = self.path(&format!("{HOME}/containerd.sock"));
        let import = ["-n", "k8s.io", "images", "import", "--snapshotter", "native"];
        let ctr = Invocation::foreign("ctr").args(["-a".as_ref(), socket.as_os_str()]).args(import);
        let output = ctr.args(flags).args([archive]).run(&self.node)?;
        if output.status.success() { Ok(()) } else { Err(output.stderr.into()) }
    }
}

impl Drop for Containerd {
    /// Kills what is in the cgroup, the init with all that it holds included, and removes it.
    fn drop(&mut self) {
        let cgroup = format!("/proc/self/fd/{}/{}", self.cgroups.as_raw_fd(), self.cgroup);
        let cgroup = Path::new(&cgroup);
        let _ = fs::write(cgroup.join("cgroup.kill"), "1");
        let _ = eventually("the cgroup to be empty", PATIENCE, || {
            remove_cgroup(cgroup).map_err(|e| e.to_string())
        });
    }
}

/// Removes a cgroup with those below it; processes in it are an error.
fn remove_cgroup(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

fn connect(init: u32) -> Result<grpc::Client, String> {
    let socket = format!("/proc/{init}/root{HOME}/containerd.sock");
    grpc::Client::connect(Path::new(&socket)).map_err(|e| e.to_string())
}

fn only_child(id: u32) -> Result<u32, String> {
    children(id)?.into_iter().next().ok_or_else(|| "no child".to_owned())
}

fn children(id: u32) -> Result<Vec<u32>, String> {
    let text = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).map_err(|e| e.to_string())?;
    text.split_whitespace().map(|id| id.parse().map_err(|_| text.clone())).collect()
}
