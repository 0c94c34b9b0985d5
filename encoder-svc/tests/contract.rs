//! The contract with clients, over a real connection.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{settings, start};
use encoder_svc::calibration::AllCoreWorker;
use prost::Message as _;
use proto::encoder::v1::encode_stream_response::Result as StreamResult;
use proto::encoder::v1::{Calibration, EncodeRequest, EncodeStreamRequest, GetEncoderRequest, Priority};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

fn texts(texts: &[&str]) -> EncodeRequest {
    EncodeRequest {
        texts: texts.iter().map(|t| (*t).to_owned()).collect(),
        priority: Priority::Online.into(),
    }
}

fn violated_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    details.bad_request().unwrap().field_violations.iter().map(|v| v.field.clone()).collect()
}

#[tokio::test]
async fn describes_the_encoder() {
    let service = start(settings()).await;
    let encoder = service.client().get_encoder(GetEncoderRequest {}).await.unwrap().into_inner();
    assert_eq!((encoder.id.as_str(), encoder.dimension), ("tiny-512", 512));
    assert_eq!(encoder.fingerprint.len(), 64);
    assert_eq!(encoder.max_batch_size, 256);
}

/// Encodes one online text, and returns its vector and the calibration that the service reports.
async fn encode_alone(all_core_worker: AllCoreWorker, threads: usize) -> (Vec<f32>, Calibration) {
    let mut settings = settings();
    settings.encoder.all_core_worker = all_core_worker;
    settings.encoder.all_core_threads = threads;
    let mut client = start(settings).await.client();
    let encoder = client.get_encoder(GetEncoderRequest {}).await.unwrap().into_inner();
    let mut reply = client.encode(texts(&["a storm at sea"])).await.unwrap().into_inner();
    (reply.embeddings.remove(0).values, encoder.calibration.unwrap())
}

#[tokio::test]
async fn a_lone_text_runs_on_all_cores_or_on_one_as_the_setting_says() {
    let (on_all, calibration) = encode_alone(AllCoreWorker::On, 2).await;
    assert!(calibration.all_core_worker && calibration.all_cores_ms > 0.0, "{calibration:?}");
    assert!(calibration.one_thread_ms > 0.0, "{calibration:?}");
    let (on_one, calibration) = encode_alone(AllCoreWorker::Off, 2).await;
    assert!(!calibration.all_core_worker && calibration.all_cores_ms == 0.0, "{calibration:?}");
    assert_eq!(on_one, on_all);
    let (_, calibration) = encode_alone(AllCoreWorker::Auto, 2).await;
    let wins = calibration.all_cores_ms * 1.15 <= calibration.one_thread_ms;
    assert_eq!(calibration.all_core_worker, wins, "{calibration:?}");
    // One thread is not faster than one thread, so nothing is measured.
    let (_, calibration) = encode_alone(AllCoreWorker::Auto, 1).await;
    assert!(!calibration.all_core_worker && calibration.all_cores_ms == 0.0, "{calibration:?}");
}

#[tokio::test]
async fn replies_to_a_batch_in_order_with_unit_vectors() {
    let service = start(settings()).await;
    let request = texts(&["a ship", "a horse in the rain", "x"]);
    let response = service.client().encode(request).await.unwrap().into_inner();
    let counts: Vec<_> = response.embeddings.iter().map(|e| e.token_count).collect();
    assert!(counts[2] < counts[0] && counts[0] < counts[1], "{counts:?}");
    for embedding in &response.embeddings {
        assert_eq!(embedding.values.len(), 512);
        let norm: f32 = embedding.values.iter().map(|v| v * v).sum();
        assert!((norm - 1.0).abs() < 1e-5, "{norm}");
        assert!(!embedding.truncated);
    }
}

#[tokio::test]
async fn truncates_a_long_text_and_reports_it() {
    let service = start(settings()).await;
    let long = "rain ".repeat(500);
    let response = service.client().encode(texts(&[&long, "rain"])).await.unwrap().into_inner();
    assert!(response.embeddings[0].truncated && !response.embeddings[1].truncated);
    assert_eq!(response.embeddings[0].token_count, 64);
}

#[tokio::test]
async fn rejects_invalid_input_and_names_the_field() {
    let mut small = settings();
    small.limits.max_batch_size = 3;
    small.limits.max_text_bytes = 10;
    let service = start(small).await;
    let cases = [
        (texts(&[]), vec!["texts"]),
        (texts(&["a", "b", "c", "d"]), vec!["texts"]),
        (texts(&["a", " \n", "12345678901"]), vec!["texts[1]", "texts[2]"]),
    ];
    for (request, fields) in cases {
        let status = service.client().encode(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(violated_fields(&status), fields);
        assert!(status.get_details_error_info().is_some_and(|info| info.domain == "movieclassifier"));
    }
}

#[tokio::test]
async fn rejects_an_oversized_message_as_invalid_argument() {
    let mut small = settings();
    small.limits.max_batch_size = 1;
    small.limits.max_text_bytes = 10;
    let service = start(small).await;
    let status = service.client().encode(texts(&[&"x".repeat(100_000)])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test]
async fn rejects_a_whole_batch_over_the_limit_and_says_when_to_retry() {
    let mut small = settings();
    small.encoder.max_queue_ms = 1;
    let service = start(small).await;
    let calls = (0..40).map(|_| {
        let mut client = service.client();
        tokio::spawn(
            async move { client.encode(texts(&["a b c d e f g h ".repeat(20).as_str(); 100])).await },
        )
    });
    let mut rejected = 0;
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(response) => assert_eq!(response.into_inner().embeddings.len(), 100),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable);
                assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
                assert!(status.metadata().get(service_kit::PUSHBACK).is_some(), "{status:?}");
                rejected += 1;
            }
        }
    }
    assert!(rejected > 0, "forty calls for a queue of a millisecond were all admitted");
    // The permits are free again.
    service.client().encode(texts(&["a", "b", "c", "d"])).await.unwrap();
}

/// Sends one `Encode` call with a `grpc-timeout` and returns the server's own `grpc-status`.
/// tonic's client would apply the timeout itself.
async fn raw_status(address: std::net::SocketAddr, request: &EncodeRequest, timeout: &str) -> String {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let head =
        http::Request::post(format!("http://{address}/movieclassifier.encoder.v1.EncoderService/Encode"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", timeout)
            .body(())
            .unwrap();
    let mut client = client.ready().await.unwrap();
    let (response, mut body) = client.send_request(head, false).unwrap();
    let message = request.encode_to_vec();
    let frame = [&[0], (message.len() as u32).to_be_bytes().as_slice(), &message].concat();
    body.send_data(frame.into(), true).unwrap();
    let response = response.await.unwrap();
    let status = response.headers().get("grpc-status").expect("a call that fails").to_str().unwrap();
    status.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn returns_deadline_exceeded_when_the_deadline_passes() {
    let mut slow = settings();
    slow.encoder.sessions = 1;
    let service = start(slow).await;
    let long = "storm over the sea ".repeat(1500);
    let much = texts(&vec![long.as_str(); 64]);
    // An idle encoder admits any request.
    let begin = std::time::Instant::now();
    assert_eq!(raw_status(service.address, &much, "5m").await, "4");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_stream_replies_to_each_text_once_and_survives_a_bad_one() {
    let service = start(settings()).await;
    let requests: Vec<_> = (0..300)
        .map(|i| EncodeStreamRequest {
            id: format!("movie {i}"),
            text: if i == 7 { String::new() } else { format!("a story of {i} days") },
            priority: Priority::Bulk.into(),
        })
        .collect();
    let stream = service.client().encode_stream(tokio_stream::iter(requests)).await.unwrap();
    let mut stream = stream.into_inner();
    let mut seen = std::collections::HashMap::new();
    while let Some(response) = stream.message().await.unwrap() {
        assert!(
            seen.insert(response.id.clone(), response.result.unwrap()).is_none(),
            "{} twice",
            response.id
        );
    }
    assert_eq!(seen.len(), 300);
    for (id, result) in seen {
        match result {
            StreamResult::Embedding(embedding) => assert_eq!(embedding.values.len(), 512),
            StreamResult::Error(error) => {
                assert_eq!((id.as_str(), error.reason.as_str()), ("movie 7", "EMPTY_TEXT"));
                assert_eq!(Code::from(error.code), Code::InvalidArgument);
            }
        }
    }
}

#[tokio::test]
async fn reports_health_of_the_server_and_of_each_service() {
    let service = start(settings()).await;
    let mut health = HealthClient::new(service.channel.clone());
    for name in ["", "movieclassifier.encoder.v1.EncoderService"] {
        let response = health.check(HealthCheckRequest { service: name.to_owned() }).await.unwrap();
        assert_eq!(response.into_inner().status(), ServingStatus::Serving);
    }
    let unknown = health.check(HealthCheckRequest { service: "no.such.Service".to_owned() }).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn shutdown_finishes_calls_in_flight() {
    let service = start(settings()).await;
    let item = |i: usize| EncodeStreamRequest { id: i.to_string(), text: "storm".to_owned(), priority: 0 };
    let (sender, requests) = tokio::sync::mpsc::channel(100);
    sender.send(item(0)).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut stream = service.client().encode_stream(requests).await.unwrap().into_inner();
    // The first response proves that the call has begun.
    assert_eq!(stream.message().await.unwrap().unwrap().id, "0");
    service.shutdown.cancel();
    for i in 1..100 {
        sender.send(item(i)).await.unwrap();
    }
    drop(sender);
    let mut responses = 1;
    while stream.message().await.unwrap().is_some() {
        responses += 1;
    }
    assert_eq!(responses, 100);
    drop(service.channel);
    tokio::time::timeout(Duration::from_secs(5), service.task).await.unwrap().unwrap();
}
