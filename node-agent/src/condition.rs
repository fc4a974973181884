//! The condition `NetworkUnavailable` of our own Node: False as soon as its network is whole.
//!
//! Not a report of health: it is never said to be True, since the taint that follows keeps pods away from a node, and most
//! of what can be wrong is not mended by that. Invariant: what is False already is left as it is, but for the
//! first time, when the word is of a network that was there before us.

use crate::board::Board;
use crate::view::View;
use heddle_proxy::backoff::Backoff;
use heddle_proxy::model::{Change, Condition};
use heddle_proxy::requests::{self, Client, Failure, Patch};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

/// Why it is False, as flannel and Calico have their own words.
const REASON: &str = "HeddleIsUp";
/// After it was said, another's word stands for so long: the first few times, since a node that starts is told of by many, and then.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// So many times are the first few.
const FEW: u32 = 3;
/// Rights are not given every second.
const LONG_PAUSE: Duration = Duration::from_mins(5);

/// What is said of the condition: by nobody when it is empty, and None while there is no Node.
pub type Said = Option<Condition>;

/// Takes the condition out of what is told of Nodes, so that nobody else is told of a Node for its sake.
#[derive(Debug)]
pub struct Sieve {
    node: Arc<str>,
    said: watch::Sender<Said>,
}

impl Sieve {
    /// One for our own node, and where its condition can be followed.
    pub fn new(node: Arc<str>) -> (Self, watch::Receiver<Said>) {
        let (said, follower) = watch::channel(None);
        (Self { node, said }, follower)
    }

    /// The change without it.
    pub fn take(&self, mut change: Change) -> Change {
        let said = match &mut change {
            Change::NodeApplied(node) => {
                let condition = std::mem::take(&mut node.network_unavailable);
                (node.name == self.node).then_some(Some(condition))
            }
            Change::NodeGone(name) => (*name == self.node).then_some(None),
            _ => None,
        };
        if let Some(said) = said {
            self.said.send_if_modified(|old| std::mem::replace(old, said.clone()) != said);
        }
        change
    }
}

/// Says it, and says it again when somebody said otherwise, until nobody tells of Nodes any more.
pub async fn keep(client: Client, node: &str, views: Board<View>, mut said: watch::Receiver<Said>) {
    if !becomes_whole(views).await {
        return;
    }
    let (mut times, mut backoff) = (0, Backoff::default());
    loop {
        let found = said.borrow_and_update().clone().filter(|condition| is_due(condition, times > 0));
        let Some(condition) = found else {
            if said.changed().await.is_err() {
                return;
            }
            continue;
        };
        let outcome = say(&client, node, &condition).await;
        times += u32::from(outcome.is_ok());
        sleep(rest(outcome.err(), times, &mut backoff)).await;
    }
}

/// Waits until the kernel has what all pods need and there are addresses for them.
async fn becomes_whole(views: Board<View>) -> bool {
    let has_network =
        |view: &View| view.usable && view.own.as_ref().is_some_and(|own| !own.ranges.is_empty());
    let mut views = views.follow();
    views.wait_for(|posted| has_network(&posted.value)).await.is_ok()
}

fn is_due(condition: &Condition, is_ours: bool) -> bool {
    &*condition.status != "False" || (!is_ours && &*condition.reason != REASON)
}

async fn say(client: &Client, node: &str, before: &Condition) -> Result<(), Failure> {
    let path = format!("/api/v1/nodes/{node}/status");
    let change = change(before, Timestamp::now());
    let _: Value = requests::patch(client, &path, Patch::Strategic, &change).await?;
    info!(was = &*before.status, "the Node's condition NetworkUnavailable is False");
    Ok(())
}

/// What the Node is to say, which said this before.
fn change(before: &Condition, now: Timestamp) -> Value {
    let now = format!("{now:.0}");
    let mut condition = json!({
        "type": "NetworkUnavailable", "status": "False", "reason": REASON,
        "message": "heddle-node is running on this node", "lastHeartbeatTime": now,
    });
    if &*before.status != "False" {
        condition["lastTransitionTime"] = json!(now);
    }
    json!({"status": {"conditions": [condition]}})
}

/// How long to let it be. What fails is said once.
fn rest(failure: Option<Failure>, times: u32, backoff: &mut Backoff) -> Duration {
    let Some(failure) = failure else {
        backoff.after(false);
        return if times <= FEW { PAUSES.0 } else { PAUSES.1 };
    };
    let text = "the Node's condition NetworkUnavailable is not set for now";
    if backoff.is_failing() {
        debug!("{text}: {failure}");
    } else {
        warn!("{text}: {failure}");
    }
    let wait = backoff.after(true).unwrap_or(PAUSES.1);
    if failure.is_forbidden() { LONG_PAUSE } else { wait }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heddle_proxy::model::Node;

    fn condition(status: &str, reason: &str) -> Condition {
        Condition { status: status.into(), reason: reason.into() }
    }

    #[test]
    fn what_is_false_is_said_once_in_our_word_and_what_is_not_each_time() {
        for status in ["", "True", "Unknown"] {
            assert!(is_due(&condition(status, "x"), false) && is_due(&condition(status, REASON), true));
        }
        assert!(is_due(&condition("False", "FlannelIsUp"), false));
        assert!(!is_due(&condition("False", "RouteCreated"), true), "another word for the same is left");
        assert!(!is_due(&condition("False", REASON), false), "a restart writes nothing");
    }

    #[test]
    fn a_change_of_reason_is_no_transition() {
        let now = Timestamp::UNIX_EPOCH;
        let after = |status: &str| change(&condition(status, "x"), now)["status"]["conditions"][0].clone();
        assert_eq!(after("True")["lastTransitionTime"], "1970-01-01T00:00:00Z");
        assert_eq!(after("False")["lastTransitionTime"], Value::Null);
    }

    #[test]
    fn nobody_else_is_told_of_conditions() {
        let (sieve, mut said) = Sieve::new("own".into());
        let node = |name: &str| Node {
            name: name.into(),
            network_unavailable: condition("True", "x"),
            ..Node::default()
        };
        let bare = |name: &str| Change::NodeApplied(Node { name: name.into(), ..Node::default() });
        assert_eq!(sieve.take(Change::NodeApplied(node("other"))), bare("other"));
        assert!(!said.has_changed().unwrap());
        assert_eq!(sieve.take(Change::NodeApplied(node("own"))), bare("own"));
        assert_eq!(*said.borrow_and_update(), Some(condition("True", "x")));
        sieve.take(Change::NodeApplied(node("own")));
        assert!(!said.has_changed().unwrap(), "it is the same");
        sieve.take(Change::NodeGone("own".into()));
        assert_eq!(*said.borrow_and_update(), None);
    }

    #[test]
    fn what_fails_is_tried_again_soon_and_what_was_said_stays_for_a_while() {
        let mut backoff = Backoff::default();
        let failure = || Some(Failure::Other("no answer".to_owned()));
        assert_eq!(rest(failure(), 0, &mut backoff), Duration::from_millis(100));
        assert_eq!(rest(failure(), 0, &mut backoff), Duration::from_millis(200));
        let waits = [1, FEW, FEW + 1].map(|times| rest(None, times, &mut backoff));
        assert_eq!(waits, [PAUSES.0, PAUSES.0, PAUSES.1]);
    }
}
