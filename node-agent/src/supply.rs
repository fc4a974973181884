//! What the plugin needs of a daemon: its program and its configuration, where the container runtime finds them.
//!
//! | module | what it is |
//! |---|---|
//! | [`flags`] | what is supplied, and where |
//! | `program` | the program, kept as it is in our image |
//! | [`conflist`] | the configuration's text; pure |
//! | `list` | the configuration in the runtime's folder, among those of others |
//! | `gateways` | the bridge's addresses when the node's ranges change |
//! | [`heartbeat`] | the sign of life that STATUS asks for |
//! | [`sweep`] | what pods left that are gone is given back |
//! | `removal` | all of it taken away |
//! | `ports` | host ports of pods that run, when their table is flushed |
//!
//! It never delays the agent: it reads the agent's view on the board, and what is wrong goes to the agent as one more event,
//! so that the view has it. How a file is put in place is [`install`](heddle_cni::install)'s. Invariant: the program is there
//! before the configuration that names it, and the configuration only once pods have a network; stopping leaves both.
//!
//! | thread | what it does |
//! |---|---|
//! | supply | does all that is not said below |
//! | cni-views | tells it of each view |
//! | cni-bin, cni-conf | tell it when somebody changes a file of the folder |
//! | sweep | looks for what pods left, waits for the lock of leases |
//! | host-ports | waits for changes of their table |

pub mod conflist;
pub mod flags;
mod gateways;
pub mod heartbeat;
mod list;
mod ports;
mod program;
mod removal;
pub mod sweep;

pub use flags::{Flags, Settings};
pub use removal::clean_up;

use crate::agent::Event;
use crate::board::Board;
use crate::problem::Problem;
use crate::view::View;
use gateways::Gateways;
use heartbeat::Heartbeat;
use heddle_cni::install::place::Put;
use heddle_proxy::backoff::Backoff;
use heddle_proxy::doubts::{Doubts, News as Edits};
use heddle_proxy::process::{ProcessError, spawn};
use heddle_proxy::watch::follow_folder;
use list::List;
use ports::Ports;
use program::Program;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use sweep::{Counts, Sweep, Target};
use tracing::{info, warn};

/// How often everything is looked at unasked: what happens above a folder, or to a template, nobody tells.
const PERIOD: Duration = Duration::from_secs(10);
/// How long a thread waits for a view before it looks again. None is missed in between.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What the supply is told.
#[derive(Debug)]
enum News {
    /// The agent believes this.
    View(Arc<View>),
    /// Somebody changed a folder.
    Folder,
    /// A sweep is over; this hindered it.
    Sweep(Option<String>),
}

/// Keeps the plugin supplied.
#[derive(Debug)]
struct Supply {
    program: Option<Program>,
    list: Option<List>,
    gateways: Gateways,
    heartbeat: Option<Heartbeat>,
    /// Who is told of networks.
    sweep: Sender<BTreeSet<Target>>,
    swept: BTreeSet<Target>,
    /// What hindered the last sweep.
    unswept: Option<String>,
    agent: Sender<Event>,
    /// There is news since the last look.
    dirty: bool,
    doubts: Doubts,
    backoff: Backoff,
    /// When to try again what failed.
    retry: Option<Instant>,
    /// When to look unasked.
    tick: Instant,
    /// What was wrong at the last look.
    wrong: BTreeSet<Problem>,
}

/// Starts the threads; none when there is nothing to supply. Returns what the sweep counts.
///
/// # Errors
/// When the kernel gives no thread.
pub fn start(
    settings: &Settings,
    views: &Board<View>,
    agent: &Sender<Event>,
) -> Result<Arc<Counts>, ProcessError> {
    let counts = Arc::<Counts>::default();
    if settings.is_empty() {
        return Ok(counts);
    }
    let (news, inbox) = channel();
    let (targets, to_sweep) = channel();
    let supply = Supply::new(settings, targets, agent.clone());
    spawn("supply", move || supply.run(&inbox))?;
    if let Some(period) = settings.sweep {
        let (sweep, news) = (Sweep::new(period, counts.clone()), news.clone());
        spawn("sweep", move || sweep.run(&to_sweep, &news))?;
    }
    if let Some(program) = &settings.program {
        watch("cni-bin", &program.folder, news.clone())?;
    }
    if let Some(list) = &settings.list {
        watch("cni-conf", &list.folder, news.clone())?;
    }
    let views = views.clone();
    spawn("cni-views", move || tell_of_views(&views, &news))?;
    Ok(counts)
}

/// Starts the thread that keeps pods' host ports. Returns where it is told that somebody changed them.
///
/// # Errors
/// When the kernel gives no thread.
pub fn keep_ports() -> Result<Sender<()>, ProcessError> {
    let (changed, inbox) = channel();
    spawn("host-ports", move || Ports::new().run(&inbox))?;
    Ok(changed)
}

fn watch(name: &'static str, folder: &Path, news: Sender<News>) -> Result<(), ProcessError> {
    let folder = folder.to_owned();
    spawn(name, move || {
        if let Err(error) = follow_folder(&folder, || news.send(News::Folder).is_ok()) {
            warn!("edits in {} are seen only every {PERIOD:?}: {error}", folder.display());
        }
    })
}

fn tell_of_views(views: &Board<View>, news: &Sender<News>) {
    let mut posted = views.now();
    while news.send(News::View(posted.value)).is_ok() {
        posted = loop {
            if let Some(newer) = views.wait(posted.number, PATIENCE) {
                break newer;
            }
        };
    }
}

impl Supply {
    fn new(settings: &Settings, sweep: Sender<BTreeSet<Target>>, agent: Sender<Event>) -> Self {
        Self {
            program: settings.program.clone().map(Program::new),
            list: settings.list.clone().map(List::new),
            gateways: Gateways::default(),
            heartbeat: settings.heartbeat.clone().map(Heartbeat::new),
            sweep,
            swept: BTreeSet::new(),
            unswept: None,
            agent,
            dirty: true,
            doubts: Doubts::default(),
            backoff: Backoff::default(),
            retry: None,
            tick: Instant::now(),
            wrong: BTreeSet::new(),
        }
    }

    /// Works until nobody can tell it anything any more.
    fn run(mut self, inbox: &Receiver<News>) {
        // Pods of the last run may have gone meanwhile, and the nodes' ranges come late.
        let present = self.list.as_ref().and_then(List::present);
        present.iter().for_each(|text| self.tell_sweep(text));
        loop {
            let next = self.retry.into_iter().chain(self.doubts.next()).fold(self.tick, Instant::min);
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(news) => {
                    self.take(news);
                    inbox.try_iter().for_each(|news| self.take(news));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.turn(Instant::now());
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::View(view) => {
                if let Some(list) = &mut self.list {
                    list.see(&view);
                }
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.see(&view, Instant::now());
                }
                self.dirty = true;
            }
            News::Folder => self.doubts.hear(),
            News::Sweep(hindered) => {
                self.dirty |= self.unswept != hindered;
                self.unswept = hindered;
            }
        }
    }

    /// Does what is due at this time.
    fn turn(&mut self, now: Instant) {
        let doubted = self.doubts.take_due(now);
        let retried = self.retry.take_if(|retry| *retry <= now).is_some();
        let ticked = self.tick <= now;
        if ticked {
            self.tick = now + PERIOD;
        }
        if std::mem::take(&mut self.dirty) || doubted || retried || ticked {
            let repaired = self.look(now);
            let edits = doubted.then(|| self.doubts.found(repaired, now)).flatten();
            edits.into_iter().for_each(say_of_edits);
        }
        self.doubts.rest(now).into_iter().for_each(say_of_edits);
    }

    /// Puts in place what is not. Returns whether somebody had edited it.
    fn look(&mut self, now: Instant) -> bool {
        let (mut wrong, mut repaired) = (BTreeSet::new(), false);
        // Before the configuration that names it: STATUS is asked as soon as that is there.
        let beat = self.heartbeat.as_ref().map_or(Ok(()), |heartbeat| heartbeat.beat(now));
        wrong.extend(beat.err().map(|why| Problem::NoHeartbeat { why }));
        match self.program.as_mut().map_or(Ok(false), put_program) {
            Ok(edited) => repaired |= edited,
            Err(why) => drop(wrong.insert(Problem::NoProgram { why })),
        }
        // An older program that is there works, too.
        if self.program.as_ref().is_none_or(Program::is_there) {
            match self.put_list() {
                Ok(edited) => repaired |= edited,
                Err(why) => drop(wrong.insert(Problem::NoConfiguration { why })),
            }
        }
        let failed = !wrong.is_empty();
        wrong.extend(self.list.as_ref().and_then(List::other));
        wrong.extend(self.unswept.clone().map(|why| Problem::NoSweep { why }));
        self.retry = self.backoff.after(failed).map(|wait| now + wait);
        self.report(wrong);
        repaired
    }

    fn put_list(&mut self) -> Result<bool, String> {
        let Some(list) = &mut self.list else { return Ok(false) };
        let Some(text) = list.text()? else { return Ok(false) };
        let present = list.present().filter(|present| *present != text);
        self.gateways.fit(present.as_deref(), &text);
        let edited = list.put(text.clone())?;
        self.tell_sweep(&text);
        Ok(edited)
    }

    fn tell_sweep(&mut self, list: &str) {
        let targets = sweep::targets(list);
        if targets != self.swept {
            // Nobody hears it where nothing is swept.
            let _ = self.sweep.send(targets.clone());
            self.swept = targets;
        }
    }

    fn report(&mut self, wrong: BTreeSet<Problem>) {
        wrong.difference(&self.wrong).for_each(|problem| warn!("{problem}"));
        self.wrong.difference(&wrong).for_each(|problem| info!("no longer so: {problem}"));
        if wrong != self.wrong {
            // The agent is gone only when the process is about to be.
            let _ = self.agent.send(Event::Supply(wrong.clone()));
        }
        self.wrong = wrong;
    }
}

/// Puts it in place, and says so. Returns whether somebody had edited it.
fn put_program(program: &mut Program) -> Result<bool, String> {
    let done = program.put().map_err(|failure| failure.to_line())?;
    done.files.iter().for_each(|(path, put)| info!("{} {}", path.display(), word(*put)));
    Ok(done.repaired)
}

fn word(put: Put) -> &'static str {
    match put {
        Put::New => "is put in place",
        Put::Replaced => "is replaced",
        Put::Unchanged => "is so already",
    }
}

fn say_of_edits(edits: Edits) {
    match edits {
        Edits::Began => warn!("others change the plugin's files; they are put back"),
        Edits::Ended { repairs } => info!(repairs, "others do not change the plugin's files any more"),
    }
}
