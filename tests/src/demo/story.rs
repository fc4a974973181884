//! The steps of the demonstration, told while they happen.

use crate::demo::{Error, NODE, PODS, SERVICE, Stage, TARGET, failed};
use crate::lab::Pod;
use crate::namespace::Namespace;
use crate::traffic::{Outcome, Transport, attempt, attempt_here, spread};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How many connections show the spread. A fair choice between two gives either more than 100 in all but one in a
/// hundred million runs.
const CONNECTIONS: usize = 300;
const FEWEST: usize = 100;
/// How many right answers in a row end the wait for a change; with one of two endpoints gone, luck has a chance of one
/// in 2^40.
const CERTAIN: usize = 40;
/// How long one attempt waits while a change is awaited: a SYN that nobody answered is repeated after a second only.
const BRIEFLY: Duration = Duration::from_millis(20);
/// How long a change may take before the story is not true.
const SOON: Duration = Duration::from_secs(5);

/// Builds the stage, tells every step to `out`, and takes the stage down.
///
/// # Errors
/// [`Error::Wrong`] for the first line that is not true; else what could not be built.
pub fn tell(out: &mut impl Write) -> Result<(), Error> {
    let start = Instant::now();
    say(out, "A lab of one node, in network namespaces of its own; heddle-cni joins two pods to it.")?;
    let stage = Stage::build()?;
    let told = show_pods(&stage, out)
        .and_then(|()| show_pod_to_pod(&stage, out))
        .and_then(|()| show_service(&stage, out))
        .and_then(|()| show_change(&stage, out));
    if told.is_err() {
        say(out, &format!("\nheddle-proxy logged:\n{}", stage.log()))?;
    }
    drop(stage);
    told?;
    say(
        out,
        &format!(
            "\nAll of it was true, and all of it is gone again. ({:.1} s)",
            start.elapsed().as_secs_f64()
        ),
    )
}

fn show_pods(stage: &Stage, out: &mut impl Write) -> Result<(), Error> {
    let node = stage.lab.node(NODE)?;
    say(out, &format!("  {NODE}   {}", join(&node.addresses())))?;
    for pod in &stage.pods {
        say(out, &format!("  {:<8} {}", pod.name(), join(pod.addresses())))?;
        if pod.addresses().len() != 2 {
            return Err(Error::Wrong(format!("{} should have an address of each family", pod.name())));
        }
    }
    Ok(())
}

fn show_pod_to_pod(stage: &Stage, out: &mut impl Write) -> Result<(), Error> {
    say(out, "\nPods and the node reach a pod, and are seen with their own addresses: there is no NAT.")?;
    let (from, to) = (&stage.pods[0], &stage.pods[1]);
    for (address, source) in to.addresses().iter().zip(from.addresses()) {
        let target = SocketAddr::new(*address, TARGET);
        let outcome = attempt(from.namespace(), Transport::Tcp, target)?;
        say(out, &format!("  {} -> {target}: {outcome}", from.name()))?;
        expect(&outcome, to, Some(*source))?;
    }
    let target = SocketAddr::new(to.addresses()[0], TARGET);
    let outcome = attempt(stage.lab.node(NODE)?.namespace(), Transport::Tcp, target)?;
    say(out, &format!("  {NODE} -> {target}: {outcome}"))?;
    expect(&outcome, to, None)
}

fn show_service(stage: &Stage, out: &mut impl Write) -> Result<(), Error> {
    let [ipv4, ipv6] = stage.frontends();
    say(
        out,
        &format!(
            "\nThe API server gets the Service {SERVICE}, {ipv4} and {ipv6}, with both pods as endpoints."
        ),
    )?;
    let node = stage.lab.node(NODE)?.namespace();
    let begun = Instant::now();
    stage.serve(&stage.pods)?;
    let took = await_only(node, ipv4, &PODS, begun)?;
    say(out, &format!("  {} after the API had it, {NODE} was answered.", milliseconds(took)))?;
    for (name, from) in [(NODE, node), (PODS[0], stage.pods[0].namespace())] {
        for frontend in stage.frontends() {
            await_only(from, frontend, &PODS, Instant::now())?;
            let counts = count(&spread(from, Transport::Tcp, frontend, CONNECTIONS)?)?;
            say(out, &format!("  {CONNECTIONS} connections of {name} to {frontend}: {}", shares(&counts)))?;
            if counts.len() != PODS.len() || counts.values().any(|&n| n < FEWEST) {
                return Err(Error::Wrong("the connections are not spread over both pods".into()));
            }
        }
    }
    Ok(())
}

fn show_change(stage: &Stage, out: &mut impl Write) -> Result<(), Error> {
    let (gone, left) = (&stage.pods[0], &stage.pods[1]);
    say(out, &format!("\n{} leaves the Service.", gone.name()))?;
    let frontend = stage.frontends()[0];
    let node = stage.lab.node(NODE)?.namespace();
    let begun = Instant::now();
    stage.serve(std::slice::from_ref(left))?;
    let took = await_only(node, frontend, &[left.name()], begun)?;
    say(
        out,
        &format!("  {} from the change in the API to the first answer that is right.", milliseconds(took)),
    )?;
    let counts = count(&spread(node, Transport::Tcp, frontend, CONNECTIONS)?)?;
    say(out, &format!("  {CONNECTIONS} connections of {NODE} to {frontend}: {}", shares(&counts)))?;
    if counts.keys().eq([left.name()]) {
        Ok(())
    } else {
        Err(Error::Wrong(format!("{} still answers", gone.name())))
    }
}

/// Connects until only these pods have answered for [`CERTAIN`] times in a row; returns when, since `begun`, the first
/// of those answers came.
fn await_only(from: &Namespace, to: SocketAddr, names: &[&str], begun: Instant) -> Result<Duration, Error> {
    let (mut in_a_row, mut first) = (0, begun.elapsed());
    while in_a_row < CERTAIN {
        let outcome = from.enter(|| attempt_here(Transport::Tcp, to, BRIEFLY))?;
        let right = outcome.endpoint().is_some_and(|name| names.contains(&name));
        if right && in_a_row == 0 {
            first = begun.elapsed();
        }
        in_a_row = if right { in_a_row + 1 } else { 0 };
        if !right && begun.elapsed() > SOON {
            return Err(Error::Wrong(format!("after {SOON:?}, {to} gives: {outcome}")));
        }
    }
    Ok(first)
}

fn expect(outcome: &Outcome, pod: &Pod, source: Option<IpAddr>) -> Result<(), Error> {
    let right = outcome.endpoint() == Some(pod.name()) && (source.is_none() || outcome.source() == source);
    if right { Ok(()) } else { Err(Error::Wrong(format!("{} should have answered: {outcome}", pod.name()))) }
}

/// How often each pod answered.
fn count(outcomes: &BTreeMap<Outcome, usize>) -> Result<BTreeMap<String, usize>, Error> {
    let mut counts = BTreeMap::new();
    for (outcome, times) in outcomes {
        let name = outcome.endpoint().ok_or_else(|| Error::Wrong(format!("{times} × {outcome}")))?;
        *counts.entry(name.to_owned()).or_default() += times;
    }
    Ok(counts)
}

fn shares(counts: &BTreeMap<String, usize>) -> String {
    counts.iter().map(|(name, times)| format!("{name} {times}")).collect::<Vec<_>>().join(", ")
}

fn join(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join("  ")
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// A line for the reader, now and not when a buffer is full.
fn say(out: &mut impl Write, line: &str) -> Result<(), Error> {
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(failed("print a line"))
}
