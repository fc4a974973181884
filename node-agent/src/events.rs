//! What is wrong, said as Events of our own Node.
//!
//! Not where it is found (that is [`plan`](mod@crate::plan)) or posted (that is heddle-proxy's task). Pure but for the wait.
//! Invariant: there is at most one Event for each reason at a time, about no Node but our own, so that a thousand agents never
//! write about the same one: what is the matter with another Node is said by its own agent.

use crate::board::Board;
use crate::problem::Problem;
use crate::view::View;
use heddle_proxy::convert::Key;
use heddle_proxy::events::Reporter;
use heddle_proxy::model::{Kind, ObjectName};
use heddle_proxy::problems::{self, News, Reason, Subject};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc::UnboundedSender;

/// Who says it.
pub fn reporter(node: &str) -> Reporter {
    Reporter { controller: "heddle-node", start: "StartPodNetwork", node: node.to_owned() }
}

/// Tells of what begins and ends to be worth an Event, until the board is gone.
pub async fn follow(views: Board<View>, node: &str, tell: UnboundedSender<News>) {
    let mut views = views.follow();
    let mut said = BTreeSet::new();
    while views.changed().await.is_ok() {
        let view = views.borrow_and_update().value.clone();
        let now = worth_saying(&view, node);
        for news in problems::between(&said, &now) {
            // Without a cluster, nobody posts.
            let _ = tell.send(news);
        }
        said = now;
    }
}

/// What is to be said while the node is so: of each reason the first.
fn worth_saying(view: &View, node: &str) -> BTreeSet<problems::Problem> {
    let mut found: BTreeMap<Reason, Vec<String>> = BTreeMap::new();
    for problem in view.problems.keys() {
        if concerns(problem, node) {
            found.entry(of_node(problem.reason())).or_default().push(problem.to_string());
        }
    }
    let refused = view.failures.iter().map(|failure| format!("{failure}; it is tried again"));
    found.insert(of_node("FailedToSetUpNetwork"), refused.collect());
    found.into_iter().filter_map(|(reason, texts)| said(reason, &texts, node)).collect()
}

/// Texts that count how many there are would be another Event with each change.
fn said(reason: Reason, texts: &[String], node: &str) -> Option<problems::Problem> {
    let more = if texts.len() > 1 { "; it is one of several, which `heddle-node status` lists" } else { "" };
    let text = format!("{}{more}", texts.first()?);
    Some(problems::Problem { subject: own(node), reason, text })
}

/// Our own Node, as others know it.
pub fn own(node: &str) -> Subject {
    Subject::Object(Key { kind: Kind::Node, name: ObjectName::new("", node) })
}

fn of_node(name: &'static str) -> Reason {
    Reason { name, action: "SetUpNetwork", is_of_node: true }
}

/// Whether our own Node is to be told of it.
fn concerns(problem: &Problem, own: &str) -> bool {
    match problem {
        // There is no Node to say it of.
        Problem::NoOwnNode { .. } => false,
        Problem::NoAddress { node, .. } => **node == *own,
        Problem::Overlap { node, holder, .. } => **node == *own || **holder == *own,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn view(problems: &[Problem]) -> View {
        let problems = problems.iter().map(|problem| (problem.clone(), Timestamp::UNIX_EPOCH)).collect();
        View { problems, ..View::default() }
    }

    fn names(view: &View) -> Vec<&'static str> {
        worth_saying(view, "own").iter().map(|problem| problem.reason.name).collect()
    }

    fn overlap(node: &str, holder: &str) -> Problem {
        let range = "10.0.0.0/24".parse().unwrap();
        Problem::Overlap { node: node.into(), range, holder: holder.into(), held: range }
    }

    fn far(node: &str) -> Problem {
        let range = "10.0.0.0/24".parse().unwrap();
        Problem::NotOnLink { node: node.into(), range, address: [192, 0, 2, 1].into() }
    }

    #[test]
    fn what_is_wrong_between_two_other_nodes_is_theirs_to_say() {
        assert_eq!(names(&view(&[overlap("a", "b")])), [""; 0]);
        assert_eq!(names(&view(&[overlap("a", "own")])), ["PodCIDROverlap"]);
        assert_eq!(names(&view(&[overlap("own", "a")])), ["PodCIDROverlap"]);
        let range = "fd00::/64".parse().unwrap();
        let without = |node: &str| Problem::NoAddress { node: node.into(), range };
        assert_eq!(names(&view(&[without("a")])), [""; 0]);
        assert_eq!(names(&view(&[without("own")])), ["NodeAddressMissing"]);
    }

    #[test]
    fn hundreds_of_nodes_without_a_way_are_one_event_whose_text_does_not_count_them() {
        let problems: Vec<Problem> = (0..300).map(|number| far(&format!("far-{number:03}"))).collect();
        let (some, all) = (worth_saying(&view(&problems[..2]), "own"), worth_saying(&view(&problems), "own"));
        assert_eq!((some.len(), &some), (1, &all));
        let text = &all.first().unwrap().text;
        assert!(
            text.starts_with("Node far-000 (192.0.2.1)") && text.ends_with("`heddle-node status` lists"),
            "{text}"
        );
        assert!(!worth_saying(&view(&problems[..1]), "own").first().unwrap().text.contains("several"));
    }

    #[test]
    fn what_the_kernel_refuses_is_said_and_a_missing_node_is_not() {
        let absent = view(&[Problem::NoOwnNode { name: "own".into() }]);
        let failing = View { failures: vec!["route to 10.0.0.0/24: no".to_owned()], ..absent };
        let said = worth_saying(&failing, "own");
        let texts: Vec<String> = said.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["Node own: route to 10.0.0.0/24: no; it is tried again"]);
        assert_eq!(names(&failing), ["FailedToSetUpNetwork"]);
    }
}
