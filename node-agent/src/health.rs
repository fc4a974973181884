//! Whether the agent works, for probes.
//!
//! | path | passes |
//! |---|---|
//! | `/healthz` | while the kernel has what was planned |
//! | `/readyz` | once it had that for the first time |
//! | `/livez` | unless the agent's thread hangs, against which alone a restart helps |
//!
//! Not whether the plan reaches every pod: a node that cannot be reached is reported, and no reason to take this one away.
//! Pure: what is answered is known without asking the agent.

use crate::view::{Standing, View};
use heddle_proxy::http::{self, Response, StatusCode};
use std::time::Duration;

/// What is answered at a path, of an agent that believes this and hangs for so long; none where there is no such path.
pub fn answer(path: &str, view: &View, stuck: Option<Duration>) -> Option<Response> {
    let why = match path {
        "/healthz" => hangs(stuck).or_else(|| lacks(view)),
        "/readyz" => lacks(view).filter(|_| view.whole.is_none()),
        "/livez" => hangs(stuck),
        _ => return None,
    };
    let (status, text) = match why {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    };
    Some(http::response(status, "text/plain; charset=utf-8", text + "\n"))
}

fn hangs(stuck: Option<Duration>) -> Option<String> {
    stuck.map(|stuck| format!("the agent hangs: it has been at one step for {} s", stuck.as_secs()))
}

fn lacks(view: &View) -> Option<String> {
    match view.standing {
        Standing::Waiting => Some("the Nodes are not all known yet".to_owned()),
        Standing::Whole => None,
        Standing::Failing => Some("the kernel refuses something: see the log".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    /// The codes of the three paths.
    fn codes(view: &View, stuck: Option<Duration>) -> [u16; 3] {
        ["/healthz", "/readyz", "/livez"].map(|path| answer(path, view, stuck).unwrap().status().as_u16())
    }

    #[test]
    fn an_agent_is_live_unless_it_hangs_and_ready_once_the_kernel_had_all() {
        let mut view = View::default();
        assert_eq!(codes(&view, None), [503, 503, 200], "it waits");
        view.standing = Standing::Failing;
        assert_eq!(codes(&view, None), [503, 503, 200], "it tries again");
        (view.standing, view.whole) = (Standing::Whole, Some(Timestamp::UNIX_EPOCH));
        assert_eq!(codes(&view, None), [200, 200, 200]);
        view.standing = Standing::Failing;
        assert_eq!(codes(&view, None), [503, 200, 200], "its pods have a network");
        view.standing = Standing::Whole;
        assert_eq!(codes(&view, Some(Duration::from_mins(6))), [503, 200, 503]);
    }
}
