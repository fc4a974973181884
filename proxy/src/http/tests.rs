use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// Says method and path.
fn echo(request: &Request) -> Response {
    response(StatusCode::OK, "text/plain", format!("{} {}", request.method, request.uri))
}

/// Everything that comes back for these bytes, until the server closes.
async fn answer_to(sent: &[u8]) -> String {
    let (mut client, server) = duplex(1 << 20);
    client.write_all(sent).await.unwrap();
    converse(server, echo).await;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_request_is_answered_once_and_the_connection_closed() {
    let answer =
        answer_to(b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nGET /again HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nGET /a?b"), "{answer}");
}

#[tokio::test]
async fn a_client_of_http_1_0_and_one_without_a_body_get_theirs() {
    assert!(answer_to(b"GET /old HTTP/1.0\r\n\r\n").await.ends_with("GET /old"));
    let head = answer_to(b"HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head.ends_with("content-length: 7\r\n\r\n") || head.ends_with("\r\n\r\n"), "{head}");
    assert!(!head.contains("HEAD /h"), "{head}");
}

#[tokio::test]
async fn a_body_is_read_and_forgotten_unless_it_is_huge() {
    let post = |length: usize| {
        let head = format!("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        [head.into_bytes(), vec![b'z'; length]].concat()
    };
    assert!(answer_to(&post(100)).await.ends_with("POST /p"));
    let refused = answer_to(&post(LONGEST_BODY + 1)).await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
}

#[tokio::test]
async fn what_is_no_request_or_a_huge_one_is_refused() {
    let nonsense = answer_to(b"\x16\x03\x01 hello\r\n\r\n").await;
    assert!(nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(LONGEST_HEAD));
    let refused = answer_to(long.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 4"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_request_is_cut() {
    let (mut client, server) = duplex(1024);
    client.write_all(b"GET / HTTP/1.1\r\nHost:").await.unwrap();
    let start = time::Instant::now();
    converse(server, echo).await;
    assert_eq!(start.elapsed(), TIME);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut() {
    let (mut client, server) = duplex(64);
    let big = |_: &Request| response(StatusCode::OK, "text/plain", vec![b'y'; 1 << 20]);
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let start = time::Instant::now();
    converse(server, big).await;
    assert_eq!(start.elapsed(), TIME);
}

#[tokio::test]
async fn of_too_many_connections_the_oldest_is_cut() {
    let connections = Connections::at_most(3);
    let mut tasks: Vec<_> = (0..3).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
    tasks.iter().for_each(|task| connections.admit(task.abort_handle()));
    let ended = tasks.remove(1);
    ended.abort();
    assert!(ended.await.is_err());
    for _ in 0..2 {
        tasks.push(tokio::spawn(std::future::pending()));
        connections.admit(tasks.last().unwrap().abort_handle());
    }
    let oldest = tasks.remove(0);
    assert!(oldest.await.unwrap_err().is_cancelled());
    tokio::task::yield_now().await;
    assert!(tasks.iter().all(|task| !task.is_finished()));
}
