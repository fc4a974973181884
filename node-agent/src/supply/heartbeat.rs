//! The sign of life that the plugin's STATUS asks for: a file that is touched as long as pods have a network.
//!
//! Not how the agent does: a lost API server takes no network away. It says which boot it is of, so that an agent that starts
//! anew knows whether this node's pods had a network before it (docs/decisions/heartbeat.md). Invariant: where there is no
//! file, there was no network since the boot, or there is none now.

use crate::view::{Standing, View};
use heddle_cni::store::boot_id;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// For how long a file that nobody touches counts: longer than an upgrade of the agent takes, the download of its image
/// included.
pub const MAX_AGE: Duration = Duration::from_secs(300);
/// For how long the kernel may refuse what all pods need. It is asked again every ten seconds at least.
const GRACE: Duration = Duration::from_secs(60);

/// What becomes of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beat {
    /// It is made or touched.
    Touch,
    /// It is touched if it is of this boot: nothing is known of the network yet, but that it was there.
    GoOn,
    /// It goes.
    Stop,
}

/// Whether pods have a network. Pure.
#[derive(Debug, Default)]
struct Pulse {
    /// There was a network.
    known: bool,
    /// Since when there is none.
    broken: Option<Instant>,
}

impl Pulse {
    fn see(&mut self, view: &View, now: Instant) {
        match view.standing {
            Standing::Waiting => {}
            _ if view.usable => *self = Self { known: true, broken: None },
            _ => _ = self.broken.get_or_insert(now),
        }
    }

    fn beat(&self, now: Instant) -> Beat {
        match self.broken {
            Some(since) if since + GRACE <= now => Beat::Stop,
            _ if self.known => Beat::Touch,
            _ => Beat::GoOn,
        }
    }
}

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Heartbeat {
    file: PathBuf,
    pulse: Pulse,
}

impl Heartbeat {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, pulse: Pulse::default() }
    }

    pub(super) fn see(&mut self, view: &View, now: Instant) {
        self.pulse.see(view, now);
    }

    /// Does to the file what is due.
    pub(super) fn beat(&self, now: Instant) -> Result<(), String> {
        let done = match self.pulse.beat(now) {
            Beat::Touch => self.touch(),
            Beat::GoOn if self.is_of_this_boot() => self.touch(),
            Beat::GoOn => Ok(()),
            Beat::Stop => match fs::remove_file(&self.file) {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                done => done,
            },
        };
        done.map_err(|e| format!("touch {}: {e}", self.file.display()))
    }

    fn touch(&self) -> io::Result<()> {
        if self.is_of_this_boot() {
            return File::options().write(true).open(&self.file)?.set_modified(SystemTime::now());
        }
        fs::create_dir_all(self.file.parent().unwrap_or(&self.file))?;
        fs::write(&self.file, boot_id().map_err(io::Error::other)?)
    }

    fn is_of_this_boot(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|text| boot_id().is_ok_and(|boot| boot == text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(standing: Standing, usable: bool) -> View {
        View { standing, usable, ..View::default() }
    }

    #[test]
    fn refusals_count_after_a_while_and_only_those_that_all_pods_feel() {
        let (mut pulse, start) = (Pulse::default(), Instant::now());
        assert_eq!(pulse.beat(start), Beat::GoOn);
        pulse.see(&view(Standing::Waiting, false), start);
        assert_eq!(pulse.beat(start + 2 * GRACE), Beat::GoOn, "a server that is away is no reason");
        pulse.see(&view(Standing::Whole, true), start);
        assert_eq!(pulse.beat(start + 2 * GRACE), Beat::Touch);
        pulse.see(&view(Standing::Failing, true), start);
        assert_eq!(pulse.beat(start + 2 * GRACE), Beat::Touch, "one route is refused");
        pulse.see(&view(Standing::Failing, false), start);
        pulse.see(&view(Standing::Failing, false), start + GRACE / 2);
        assert_eq!(pulse.beat(start + GRACE / 2), Beat::Touch);
        assert_eq!(pulse.beat(start + GRACE), Beat::Stop);
        pulse.see(&view(Standing::Whole, true), start + GRACE);
        assert_eq!(pulse.beat(start + GRACE), Beat::Touch);
    }

    #[test]
    fn the_file_goes_on_through_a_restart_but_not_through_a_reboot() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("run/node-alive");
        let now = Instant::now();
        let touched = || fs::metadata(&file).and_then(|found| found.modified()).ok();
        let old = SystemTime::now() - Duration::from_secs(1000);
        let age = || File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();

        Heartbeat::new(file.clone()).beat(now).unwrap();
        assert_eq!(touched(), None, "nobody knows of a network");
        let mut first = Heartbeat::new(file.clone());
        first.see(&view(Standing::Whole, true), now);
        first.beat(now).unwrap();
        age();
        Heartbeat::new(file.clone()).beat(now).unwrap();
        assert!(touched() > Some(old), "the next agent has not seen the nodes yet");
        fs::write(&file, "another boot").unwrap();
        age();
        Heartbeat::new(file.clone()).beat(now).unwrap();
        assert_eq!(touched(), Some(old));
        first.beat(now).unwrap();
        assert!(touched() > Some(old));
        first.see(&view(Standing::Failing, false), now);
        first.beat(now + GRACE).unwrap();
        assert_eq!(touched(), None);
        first.beat(now + GRACE).unwrap();
    }
}
