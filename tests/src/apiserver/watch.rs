//! One watch: the events of the store, narrowed to what the client asked for, for as long as it asked.
//!
//! A watch is a cursor into the history, not a subscriber: a slow client delays nobody, and one that is slower than the
//! history is long is told that its version has expired.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::channel::Sender;
use serde_json::{Value, json};
use tokio::time::{Instant, interval_at, sleep_until};

use super::refusal::Refusal;
use super::request::{Target, WatchOptions};
use super::selectors::Selector;
use super::serve::{Broken, Shared};
use super::store::{Event, Store, stamp};
use super::tables::Encoding;

/// What a watch needs to run.
pub(crate) struct Watch {
    pub(crate) shared: Arc<Shared>,
    pub(crate) target: Target,
    pub(crate) selector: Selector,
    pub(crate) options: WatchOptions,
    pub(crate) encoding: Encoding,
    /// How many cuts there had been when the client was told that its watch runs.
    pub(crate) cuts: u64,
}

/// Why a watch ended before its time.
enum End {
    /// An error event was the last.
    Over,
    /// The client is gone.
    Gone,
    /// A test cut it.
    Cut,
}

impl From<Broken> for End {
    fn from(_: Broken) -> Self {
        Self::Gone
    }
}

impl Watch {
    /// Runs until the time is over, the client leaves, or a test cuts it.
    pub(crate) async fn run(self, sender: Sender<Bytes, Broken>) {
        let mut stream = Stream { watch: self, sender, cursor: None, headed: false };
        if matches!(stream.run().await, Err(End::Cut)) {
            stream.sender.abort(Broken);
        }
    }
}

struct Stream {
    watch: Watch,
    sender: Sender<Bytes, Broken>,
    /// The last revision that the client has been told of; None before the first.
    cursor: Option<u64>,
    /// Whether the columns were sent, which tables of later events leave out.
    headed: bool,
}

impl Stream {
    async fn run(&mut self) -> Result<(), End> {
        let shared = Arc::clone(&self.watch.shared);
        let mut revisions = shared.revisions.subscribe();
        let mut faults = shared.faults.subscribe();
        let end = Instant::now() + self.watch.options.timeout;
        let period = shared.bookmark_interval.max(Duration::from_millis(1));
        let mut bookmarks = interval_at(Instant::now() + period, period);
        loop {
            let now = *faults.borrow_and_update();
            if now.cuts != self.watch.cuts {
                return Err(End::Cut);
            }
            if !now.stalled {
                self.follow().await?;
            }
            tokio::select! {
                // The senders live in `shared`, which this task holds: neither wait can fail.
                _ = faults.changed() => {}
                _ = revisions.changed() => {}
                _ = bookmarks.tick(), if !now.stalled => self.bookmark(false).await?,
                () = sleep_until(end) => return Ok(self.bookmark(false).await?),
            }
        }
    }

    /// Sends what is there already, where the client wants that. Returns the revision to continue from.
    async fn begin(&mut self) -> Result<u64, End> {
        let (from, initial_events) = (self.watch.options.from, self.watch.options.initial_events);
        if from != 0 && !initial_events {
            return Ok(from);
        }
        let (revision, objects) = {
            let store = self.watch.shared.store();
            (store.revision(), self.initial(&store))
        };
        for object in objects {
            self.send("ADDED", &object).await?;
        }
        self.cursor = Some(revision);
        if initial_events {
            self.bookmark(true).await?;
        }
        Ok(revision)
    }

    fn initial(&self, store: &Store) -> Vec<Arc<Value>> {
        let target = &self.watch.target;
        let all = store.find_all(target.resource, target.namespace.as_deref());
        all.map(|(_, object)| Arc::clone(object))
            .filter(|object| self.watch.selector.matches(object))
            .collect()
    }

    /// Sends every event behind the cursor.
    async fn follow(&mut self) -> Result<(), End> {
        let cursor = match self.cursor {
            Some(cursor) => cursor,
            None => self.begin().await?,
        };
        let events = {
            let store = self.watch.shared.store();
            let events = store.events_after(cursor);
            let ours = events.map(|it| it.filter_map(|event| self.translate(event)).collect::<Vec<_>>());
            ours.map(|events| (events, store.revision().max(cursor)))
        };
        let (events, revision) = match events {
            Ok(events) => events,
            Err(compacted) => {
                let status = Refusal::expired(cursor, compacted.oldest).to_status();
                self.write("ERROR", &status).await?;
                return Err(End::Over);
            }
        };
        for (kind, object) in events {
            self.send(kind, &object).await?;
        }
        self.cursor = Some(revision);
        Ok(())
    }

    /// What a change of the store is to a client that sees only the selected objects.
    fn translate(&self, event: &Event) -> Option<(&'static str, Arc<Value>)> {
        let target = &self.watch.target;
        let ours = event.key.plural == target.resource.plural
            && target.namespace.as_ref().is_none_or(|namespace| event.key.namespace == *namespace);
        if !ours {
            return None;
        }
        let selected =
            |object: &Option<Arc<Value>>| object.clone().filter(|it| self.watch.selector.matches(it));
        match (selected(&event.before), selected(&event.after)) {
            (None, Some(after)) => Some(("ADDED", after)),
            (Some(_), Some(after)) => Some(("MODIFIED", after)),
            // The last state, with the version of its end: a client continues from there.
            (Some(before), None) => Some(("DELETED", Arc::new(stamp(Value::clone(&before), event.revision)))),
            (None, None) => None,
        }
    }

    async fn bookmark(&mut self, initial_events_end: bool) -> Result<(), Broken> {
        if !self.watch.options.bookmarks {
            return Ok(());
        }
        let Some(cursor) = self.cursor else { return Ok(()) };
        let resource = self.watch.target.resource;
        let mut object = json!({
            "kind": resource.kind, "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": cursor.to_string()},
        });
        if initial_events_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.send("BOOKMARK", &object).await
    }

    async fn send(&mut self, kind: &str, object: &Value) -> Result<(), Broken> {
        let object = self.watch.encoding.encode_one(self.watch.target.resource, object, !self.headed);
        self.headed = true;
        self.write(kind, &object).await
    }

    /// The type comes first, as in Go's `metav1.WatchEvent`: clients may know by it how to read what follows.
    async fn write(&mut self, kind: &str, object: &Value) -> Result<(), Broken> {
        let mut line = format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n");
        if self.watch.shared.faults.borrow().halving {
            line.truncate(line.len() / 2);
            self.sender.send_data(Bytes::from(line)).await.map_err(|_| Broken)?;
            return Err(Broken);
        }
        self.sender.send_data(Bytes::from(line)).await.map_err(|_| Broken)
    }
}
