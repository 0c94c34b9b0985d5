//! The server against clients that follow the protocol but not its spirit.

use std::convert::Infallible;
use std::future::poll_fn;
use std::time::Duration;

use axum::body::{Body, Bytes};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::Body as _;
use tokio::io::DuplexStream;
use tower::service_fn;

use super::*;
use crate::body::RequestBody;
use crate::memory::ConnectionLimit;
use crate::{MemoryBudget, Shutdown};

const MIB: usize = 1 << 20;

/// A client whose new streams have windows of `window` bytes, connected to `service`.
async fn client<S: CallService + Sync>(
    service: S,
    budget: &MemoryBudget,
    window: u32,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    serve(far, service, budget);
    let (requests, connection) = Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(1 << 30)
        .initial_max_send_streams(1000)
        .handshake::<_, Bytes>(near)
        .await
        .unwrap();
    (requests, tokio::spawn(connection))
}

fn serve<S: CallService + Sync>(stream: DuplexStream, service: S, budget: &MemoryBudget) {
    serve_by(ConnectionRules { max_streams: 128, ..ConnectionRules::default() }, stream, service, budget);
}

fn serve_by<S: CallService + Sync>(
    rules: ConnectionRules,
    stream: DuplexStream,
    service: S,
    budget: &MemoryBudget,
) {
    let guard = ConnectionLimit::new(budget.clone(), 1000).open().unwrap();
    tokio::spawn(
        async move { serve_http2(stream, service, &rules, guard.connection(), Shutdown::new()).await },
    );
}

#[tokio::test]
async fn every_reply_has_a_date() {
    let budget = MemoryBudget::with_limit(MIB);
    for bytes in [0, 10] {
        let (mut requests, _connection) = client(replies_of(bytes), &budget, 1 << 16).await;
        let reply = call(&mut requests).await.unwrap();
        let date = reply.headers().get("date").expect("a date").to_str().unwrap();
        let date = httpdate::parse_http_date(date).unwrap();
        assert!(date.elapsed().unwrap() < Duration::from_secs(5));
    }
}

/// A client of a connection that may be `age` old, whose calls are answered after `answer`.
async fn aging_client(
    age: ConnectionAge,
    answer: Duration,
) -> (SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let slow = service_fn(move |_: Request<RequestBody>| async move {
        tokio::time::sleep(answer).await;
        Ok::<_, Infallible>(Response::new(Body::from("done")))
    });
    let (near, far) = tokio::io::duplex(64 << 10);
    let rules = ConnectionRules { max_age: Some(age), ..ConnectionRules::default() };
    serve_by(rules, far, slow, &MemoryBudget::with_limit(MIB));
    let (requests, connection) = Builder::new().handshake::<_, Bytes>(near).await.unwrap();
    (requests, tokio::spawn(connection))
}

fn request() -> Request<()> {
    Request::post("http://localhost/").body(()).unwrap()
}

/// Answers every request with `bytes` bytes.
fn replies_of(bytes: usize) -> impl CallService<Reply = Body> + Sync {
    service_fn(move |_: Request<RequestBody>| async move {
        Ok::<_, Infallible>(Response::new(Body::from(vec![7; bytes])))
    })
}

/// Reads request bodies at one frame in 10 ms, and answers with how many bytes it has read.
fn slow_reader() -> impl CallService<Reply = Body> + Sync {
    service_fn(|request: Request<RequestBody>| async move {
        let (mut body, mut read) = (request.into_body(), 0);
        while let Some(frame) = poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await {
            let Ok(frame) = frame else { break };
            read += frame.into_data().map_or(0, |data| data.len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, Infallible>(Response::new(Body::from(read.to_string())))
    })
}

async fn read_all(response: ResponseFuture) -> Result<Vec<u8>, h2::Error> {
    let mut body: RecvStream = response.await?.into_body();
    let mut read = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        read.extend_from_slice(&data);
    }
    Ok(read)
}

fn call(requests: &mut SendRequest<Bytes>) -> ResponseFuture {
    requests.send_request(request(), true).unwrap().0
}

#[tokio::test(start_paused = true)]
async fn resets_a_reply_that_its_client_does_not_read() {
    let budget = MemoryBudget::with_limit(64 * MIB);
    for window in [0, 1000] {
        let (mut requests, _connection) = client(replies_of(MIB), &budget, window).await;
        let mut body = call(&mut requests).await.unwrap().into_body();
        let begin = tokio::time::Instant::now();
        let error = loop {
            match body.data().await.unwrap() {
                Ok(data) => assert!(data.len() <= 1000),
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Some(Reason::CANCEL));
        assert!(begin.elapsed() >= stream::REPLY_TIMEOUT, "{:?}", begin.elapsed());
        assert!(begin.elapsed() < 2 * stream::REPLY_TIMEOUT, "{:?}", begin.elapsed());
        // Other streams of the connection go on.
        let mut other = requests.clone().ready().await.unwrap();
        assert!(call(&mut other).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_is_read_slowly_arrives() {
    let budget = MemoryBudget::with_limit(64 * MIB);
    let (mut requests, _connection) = client(replies_of(200_000), &budget, 1000).await;
    let mut body = call(&mut requests).await.unwrap().into_body();
    let mut read = 0;
    while let Some(data) = body.data().await {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let data = data.unwrap();
        read += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(read, 200_000);
}

#[tokio::test(start_paused = true)]
async fn unread_replies_stay_within_the_budget_and_displace_nobody() {
    let budget = MemoryBudget::with_limit(16 * MIB);
    let mut open = Vec::new();
    let (mut polite, _connection) = client(replies_of(20_000), &budget, 1 << 20).await;
    for _ in 0..5 {
        let (mut requests, connection) = client(replies_of(MIB), &budget, 0).await;
        let responses: Vec<_> = (0..100).map(|_| call(&mut requests)).collect();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(budget.held() <= 17 * MIB, "{} bytes", budget.held());
        assert_eq!(read_all(call(&mut polite)).await.unwrap().len(), 20_000);
        open.push((requests, connection, responses));
    }
    drop(open);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn evicts_the_longest_wait_of_the_connection_that_holds_most() {
    let budget = MemoryBudget::with_limit(4 * MIB);
    let (mut large, _large) = client(replies_of(MIB), &budget, 0).await;
    let (mut small, _small) = client(replies_of(10_000), &budget, 0).await;
    let kept = call(&mut small);
    let mut first = call(&mut large).await.unwrap().into_body();
    let mut later = Vec::new();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        later.push(call(&mut large).await.unwrap());
    }
    let error = first.data().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    let mut kept = kept.await.unwrap().into_body();
    tokio::select! {
        ended = kept.data() => panic!("{ended:?}"),
        () = tokio::time::sleep(Duration::from_secs(5)) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_small_frames_keeps_its_connection() {
    const COUNT: usize = 10_000;
    let budget = MemoryBudget::with_limit(64 * MIB);
    let (mut requests, _connection) = client(slow_reader(), &budget, 1 << 20).await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        let (response, mut send) = requests.send_request(request(), false).unwrap();
        calls.push((
            response,
            tokio::spawn(async move {
                for _ in 0..COUNT {
                    send_when_allowed(&mut send, Bytes::from_static(b"\0\0\0\0\0")).await;
                }
                send.send_data(Bytes::new(), true).unwrap();
            }),
        ));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Small frames wait as what they carry.
    assert!(budget.held() < MIB, "{} bytes", budget.held());
    for (response, sender) in calls {
        sender.await.unwrap();
        assert_eq!(read_all(response).await.unwrap(), (5 * COUNT).to_string().as_bytes());
    }
}

async fn send_when_allowed(send: &mut SendStream<Bytes>, data: Bytes) {
    send.reserve_capacity(data.len());
    while send.capacity() < data.len() {
        poll_fn(|context| send.poll_capacity(context)).await.unwrap().unwrap();
    }
    send.send_data(data, false).unwrap();
}

#[tokio::test(start_paused = true)]
async fn opens_the_window_only_as_the_handler_reads() {
    let never_reads = service_fn(|request: Request<RequestBody>| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(request);
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let budget = MemoryBudget::with_limit(64 * MIB);
    let (mut requests, _connection) = client(never_reads, &budget, 1 << 20).await;
    let (_response, mut send) = requests.send_request(request(), false).unwrap();
    send.send_data(Bytes::from(vec![7; MIB]), false).unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let held = budget.held();
    assert!((64 << 10..100 << 10).contains(&held), "{held} bytes");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_answered_early_may_be_finished_for_a_moment() {
    let budget = MemoryBudget::with_limit(MIB);
    let (mut requests, _connection) = client(replies_of(1), &budget, 1 << 20).await;
    let mut begin = || requests.send_request(request(), false).unwrap();
    let (response, mut send) = begin();
    assert_eq!(read_all(response).await.unwrap(), [7]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    send.send_data(Bytes::from(vec![7; 50 << 10]), true).expect("the stream is open");
    let (response, mut send) = begin();
    assert_eq!(read_all(response).await.unwrap(), [7]);
    send.send_data(Bytes::from(vec![7; MIB]), false).expect("the stream is open");
    tokio::time::sleep(Duration::from_secs(2)).await;
    send.send_data(Bytes::from_static(b"more"), true).expect_err("the stream is reset");
    assert_eq!(budget.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn closes_a_connection_that_answers_no_ping() {
    let budget = MemoryBudget::with_limit(MIB);
    let (mut near, far) = tokio::io::duplex(64 << 10);
    serve(far, replies_of(1), &budget);
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    tokio::io::AsyncWriteExt::write_all(&mut near, hello).await.unwrap();
    let begin = tokio::time::Instant::now();
    let mut read = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut near, &mut read).await.unwrap();
    let seconds = begin.elapsed().as_secs();
    assert!((30..60).contains(&seconds), "{seconds} s");
}

#[tokio::test(start_paused = true)]
async fn over_the_limit_the_connection_that_is_idle_longest_is_closed() {
    let budget = MemoryBudget::with_limit(MIB);
    let limit = ConnectionLimit::new(budget.clone(), 3);
    let guards: Vec<_> = (0..3).map(|_| limit.open().unwrap()).collect();
    let busy = crate::memory::CallGuard::open(guards[0].connection(), 0, false).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let next = limit.open();
    assert!(next.is_some());
    tokio::time::timeout(Duration::from_secs(1), guards[1].connection().closed()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), guards[0].connection().closed()).await.is_err());
    drop(busy);
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_ends_once_its_calls_have_ended() {
    let age = ConnectionAge { limit: Duration::from_secs(100), grace: None };
    let mut ages = Vec::new();
    for _ in 0..20 {
        let begin = tokio::time::Instant::now();
        let (_requests, connection) = aging_client(age, Duration::ZERO).await;
        connection.await.unwrap().unwrap();
        ages.push(begin.elapsed().as_secs());
    }
    assert!(ages.iter().all(|age| (90..=111).contains(age)), "{ages:?}");
    assert!(ages.iter().min() < ages.iter().max(), "no jitter: {ages:?}");

    let (mut requests, connection) = aging_client(age, Duration::from_secs(500)).await;
    let (response, _) = requests.send_request(request(), true).unwrap();
    assert_eq!(read_all(response).await.unwrap(), b"done");
    connection.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_longer_than_the_grace_of_an_old_connection_is_ended() {
    let age = ConnectionAge { limit: Duration::from_secs(100), grace: Some(Duration::from_secs(50)) };
    let begin = tokio::time::Instant::now();
    let (mut requests, _connection) = aging_client(age, Duration::from_secs(500)).await;
    let (response, _) = requests.send_request(request(), true).unwrap();
    read_all(response).await.unwrap_err();
    let seconds = begin.elapsed().as_secs();
    assert!((140..=162).contains(&seconds), "{seconds} s");
}
