use std::fs;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::Response;
use http_body_util::{BodyExt, Full, StreamBody};
use jiff::Timestamp;
use tower::service_fn;

use super::*;
use crate::metrics::Metrics;

/// What a server does with a request.
#[derive(Clone, Copy)]
enum Manner {
    Answers(u16),
    Refuses,
    IsSilent,
    /// Begins an answer and breaks off.
    BreaksOff,
}

/// Servers with these manners, and how often each was asked.
async fn servers(manners: &[Manner]) -> (Servers, Vec<Arc<AtomicUsize>>) {
    let masters: Vec<String> = (1..=manners.len()).map(|n| format!("http://192.0.2.{n}")).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.keep().join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {}}]\n\
        contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n";
    fs::write(&path, text).unwrap();
    let credentials = Credentials::new(Some(&path), Some(&masters.join(","))).unwrap();
    let servers = Servers::new(credentials, Limits::default()).await.unwrap();
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let asked: Vec<_> = manners.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let doors = manners.iter().zip(&asked).map(|(manner, asked)| door(*manner, asked));
    servers.0.state().doors = doors.collect();
    (servers, asked)
}

fn door(manner: Manner, asked: &Arc<AtomicUsize>) -> Door {
    let asked = Arc::clone(asked);
    let service = service_fn(move |_: Request<Body>| {
        asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let whole = Full::new(Bytes::from_static(b"{}")).map_err(|never| match never {}).boxed_unsync();
            match manner {
                Manner::Answers(code) => Ok(Response::builder().status(code).body(whole).unwrap()),
                Manner::Refuses => Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()),
                Manner::IsSilent => std::future::pending().await,
                Manner::BreaksOff => {
                    let broken = stream::iter([Err(BoxError::from("reset"))]);
                    Ok(Response::new(StreamBody::new(broken).boxed_unsync()))
                }
            }
        }
    });
    service.boxed_clone()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

async fn ask(servers: &Servers, path: &str) -> Result<Answer, BoxError> {
    servers.clone().oneshot(get(path)).await
}

fn counts(asked: &[Arc<AtomicUsize>]) -> Vec<usize> {
    asked.iter().map(|count| count.load(Ordering::Relaxed)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lost_server_is_replaced_within_the_request_and_left_alone_after_it() {
    for lost in [Manner::Refuses, Manner::IsSilent, Manner::Answers(500), Manner::Answers(503)] {
        let (servers, asked) = servers(&[lost, Manner::Answers(200)]).await;
        for times in 1..=2 {
            assert_eq!(ask(&servers, "/a").await.unwrap().status(), 200);
            assert_eq!(counts(&asked), [1, times]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_only_says_no_is_kept() {
    for code in [401, 403, 404, 410, 422, 429] {
        let (servers, asked) = servers(&[Manner::Answers(code), Manner::Answers(200)]).await;
        assert_eq!(ask(&servers, "/a").await.unwrap().status(), code);
        assert_eq!(counts(&asked), [1, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn when_all_are_lost_each_is_named_with_its_reason() {
    let (servers, asked) = servers(&[Manner::Refuses, Manner::IsSilent]).await;
    let error = ask(&servers, "/a").await.err().unwrap().to_string();
    assert_eq!(error, "http://192.0.2.1/: connection refused; http://192.0.2.2/: no answer within 20s");
    assert_eq!(counts(&asked), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn when_all_answer_with_errors_the_last_answer_is_given() {
    let (servers, asked) = servers(&[Manner::Answers(500), Manner::Answers(503)]).await;
    assert_eq!(ask(&servers, "/a").await.unwrap().status(), 503);
    assert_eq!(counts(&asked), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_breaks_off_is_left_once_whoever_notices() {
    let (servers, asked) = servers(&[Manner::BreaksOff, Manner::Answers(200), Manner::Answers(200)]).await;
    let answers = [ask(&servers, "/a").await.unwrap(), ask(&servers, "/b").await.unwrap()];
    for answer in answers {
        let error = answer.into_body().collect().await.unwrap_err().to_string();
        assert_eq!(error, "http://192.0.2.1/: reset");
    }
    ask(&servers, "/a").await.unwrap();
    assert_eq!(counts(&asked), [2, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn watches_that_end_at_once_are_begun_ever_more_slowly_and_elsewhere() {
    let (servers, asked) = servers(&[Manner::Answers(200), Manner::Answers(200)]).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_mins(1) {
        ask(&servers, "/a?watch=true&x=y").await.unwrap();
    }
    let counts = counts(&asked);
    assert!(counts.iter().all(|count| (2..20).contains(count)), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn what_writes_is_sent_once() {
    let (servers, asked) = servers(&[Manner::IsSilent, Manner::Answers(200)]).await;
    let post = || Request::post("/a").body(Body::from(b"{}".to_vec())).unwrap();
    assert!(servers.clone().oneshot(post()).await.is_err());
    assert_eq!(counts(&asked), [1, 0]);
    assert!(servers.clone().oneshot(post()).await.is_ok());
    assert_eq!(counts(&asked), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn each_server_that_was_asked_is_counted_with_what_it_answered() {
    let metrics = Metrics::new(Timestamp::UNIX_EPOCH);
    let (servers, _) = servers(&[Manner::IsSilent, Manner::Answers(500), Manner::Answers(404)]).await;
    ask(&servers.with_meter(metrics.requests.clone()), "/a").await.unwrap();
    let text = metrics.open_metrics();
    for (host, code) in [("192.0.2.1", "<error>"), ("192.0.2.2", "500"), ("192.0.2.3", "404")] {
        let series =
            format!("rest_client_requests_total{{code=\"{code}\",host=\"{host}\",method=\"GET\"}} 1\n");
        assert!(text.contains(&series), "{series} in {text}");
    }
}
