//! What must hold whatever comes in.

use crate::mutate::{CORPUS, Random};
use heddle_cni::failure::Failure;
use heddle_cni::spec::{Environment, Request, asked_version, decode};
use heddle_tests::namespace::Namespace;
use heddle_tests::process::Invocation;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Inputs for the pure part, and for the program; `HEDDLE_FUZZ=1000000` makes as many as that of the first.
const INPUTS: u64 = 200_000;
const PROGRAMS: u64 = 250;
/// What bad input may come to: version, field, environment, decoding, configuration.
const CODES: [u64; 5] = [1, 2, 4, 6, 7];

fn inputs() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test has no other flags")]
    let asked = std::env::var("HEDDLE_FUZZ").ok();
    asked.map_or(INPUTS, |inputs| inputs.parse().unwrap())
}

/// A request, or the document that says why it is none.
fn read(environment: &Environment, stdin: &[u8]) -> Result<Request, String> {
    let document = decode(stdin);
    let asked = document.as_ref().ok().and_then(asked_version).map(str::to_owned);
    Request::read(environment, document).map_err(|error| Failure::from(error).to_json(asked.as_deref()))
}

fn is_one_failure(document: &str, why: &str) {
    let failure: Value =
        serde_json::from_str(document).unwrap_or_else(|e| panic!("{e}: {document:?} for {why}"));
    let code = failure["code"].as_u64().unwrap();
    assert!(CODES.contains(&code) && failure["cniVersion"].is_string(), "{failure} for {why}");
    assert!(!failure["msg"].as_str().unwrap().is_empty() && document.ends_with('\n'), "{failure} for {why}");
}

/// cni:O1, cni:O4, cni:O5, cni:E6, cni:E7, cni:1.3: a request that makes sense, or one document with a code of the
/// specification; and no panic.
#[test]
fn every_input_is_a_request_or_one_failure() {
    let mut requests = 0;
    for number in 0..inputs() {
        let mut random = Random(number);
        let (environment, stdin) = (random.environment(), random.stdin());
        let why = format!("input {number}: {environment:?} {:?}", String::from_utf8_lossy(&stdin));
        let result = catch_unwind(AssertUnwindSafe(|| read(&environment, &stdin)));
        match result.unwrap_or_else(|_| panic!("it panicked for {why}")) {
            Ok(Request::Add(add)) => {
                requests += 1;
                let short = (1..=15).contains(&add.attachment.ifname.len());
                assert!(
                    short && !add.attachment.network.contains('/') && !add.attachment.container.is_empty(),
                    "{why}"
                );
            }
            Ok(_) => requests += 1,
            Err(document) => is_one_failure(&document, &why),
        }
    }
    assert!(
        requests > inputs() / 20,
        "only {requests} are read: the damage is too great to find anything behind it"
    );
}

/// cni:O3, cni:O4: the program says one thing, or nothing, and makes nothing. Attachments have no namespace here, so that
/// no ADD can succeed.
#[test]
fn the_program_says_one_thing_and_makes_nothing() {
    let node = Namespace::new("node").unwrap();
    for number in 0..PROGRAMS {
        let mut random = Random(number);
        let (environment, stdin) = (random.environment(), random.stdin());
        let why = format!("input {number}: {environment:?} {:?}", String::from_utf8_lossy(&stdin));
        let variables = [
            ("CNI_COMMAND", environment.command),
            ("CNI_CONTAINERID", environment.container),
            ("CNI_NETNS", environment.namespace),
            ("CNI_IFNAME", environment.ifname),
            ("CNI_ARGS", environment.args),
        ];
        // The kernel hands no variable with a zero byte to a program.
        let good = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.filter(|v| !v.contains('\0'))?)));
        let program = Invocation::foreign(env!("CARGO_BIN_EXE_heddle-cni")).input(stdin);
        let output =
            good.fold(program, |program, (name, value)| program.env(name, value)).run(&node).unwrap();
        let documents: Vec<_> =
            serde_json::Deserializer::from_str(&output.stdout).into_iter::<Value>().collect();
        let whole = documents.iter().all(|document| document.as_ref().is_ok_and(Value::is_object));
        let count = if output.status.success() { documents.len() <= 1 } else { documents.len() == 1 };
        assert!(whole && count, "{output:?} for {why}");
    }
    let links = Invocation::foreign("ip").args(["-br", "link"]).run(&node).unwrap();
    let rules = Invocation::foreign("nft").args(["list", "ruleset"]).run(&node).unwrap();
    assert_eq!((links.stdout.lines().count(), rules.stdout.as_str()), (1, ""));
}

/// The good ones are good, so that damage to them means something.
#[test]
fn most_of_the_corpus_is_good() {
    let some = |text: &str| Some(text.to_owned());
    let add = Environment {
        command: some("ADD"),
        container: some("c1"),
        namespace: some("/x"),
        ifname: some("eth0"),
        ..Environment::default()
    };
    let good = CORPUS.iter().filter(|stdin| read(&add, stdin).is_ok()).count();
    assert_eq!(good, 6, "{:?}", CORPUS.map(|stdin| read(&add, stdin).err()));
}
