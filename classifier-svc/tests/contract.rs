//! The gRPC contract, over real connections to both services.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashMap;
use std::time::Duration;

use common::{any_port, model_file, start_classifier, start_encoder};
use proto::classifier::v1::classify_stream_response::Result as StreamResult;
use proto::classifier::v1::{
    BatchClassifyRequest, ClassifyRequest, ClassifyStreamRequest, GetModelRequest, Movie,
};
use proto::encoder::v1::EncodeRequest;
use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

fn movie(overview: &str) -> ClassifyRequest {
    ClassifyRequest {
        title: "Harbour".to_owned(),
        overview: overview.to_owned(),
        include_scores: true,
        ..ClassifyRequest::default()
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

#[tokio::test]
async fn predicts_genres_above_their_threshold_most_probable_first() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let response = classifier.client().classify(movie("a storm over the sea")).await.unwrap().into_inner();
    assert_eq!(response.scores.len(), 20);
    let expected = response.scores.iter().filter(|score| score.probability > score.threshold).count();
    assert_eq!(response.genres.len(), expected);
    assert!(response.genres.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
    let model = classifier.client().get_model(GetModelRequest {}).await.unwrap().into_inner();
    assert_eq!((model.labels.len(), model.thresholds.len()), (20, 20));
    assert_eq!(model.model_version, response.model_version);
}

#[tokio::test]
async fn a_batch_returns_the_same_as_single_calls() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let overviews = ["rain", "a horse", "a war of three kings", "rain"];
    let movies = overviews.map(|o| Movie { title: "Harbour".to_owned(), overview: o.to_owned() }).to_vec();
    let request = BatchClassifyRequest { movies, include_scores: true, ..BatchClassifyRequest::default() };
    let batch = classifier.client().batch_classify(request).await.unwrap().into_inner();
    for (overview, result) in overviews.into_iter().zip(batch.results) {
        let alone = classifier.client().classify(movie(overview)).await.unwrap().into_inner();
        // Bit for bit: neither vector nor scores depend on the batch.
        assert_eq!(alone, result);
    }
}

#[tokio::test]
async fn a_stream_answers_every_movie_once_and_survives_an_invalid_one() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let requests: Vec<_> = (0..200)
        .map(|i| ClassifyStreamRequest {
            id: i.to_string(),
            title: String::new(),
            overview: if i == 3 { " ".to_owned() } else { format!("a story of {i} days") },
            ..ClassifyStreamRequest::default()
        })
        .collect();
    let stream = classifier.client().classify_stream(tokio_stream::iter(requests)).await.unwrap();
    let mut stream = stream.into_inner();
    let mut seen = HashMap::new();
    while let Some(response) = stream.message().await.unwrap() {
        assert!(
            seen.insert(response.id.clone(), response.result.unwrap()).is_none(),
            "{} twice",
            response.id
        );
    }
    assert_eq!(seen.len(), 200);
    let failed: Vec<_> = seen.iter().filter(|(_, r)| matches!(r, StreamResult::Error(_))).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].0, "3");
}

/// A stream is read no faster than it is served, so its movies wait where a unary call would be rejected.
#[tokio::test]
async fn movies_of_a_stream_wait_for_a_full_encoder() {
    let mut settings = common::encoder_settings("tiny-512", any_port());
    settings.encoder.max_queue_ms = 1;
    let encoder = common::start_encoder_with(settings).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let overview = |i: usize| format!("a story of {i} days {}", "and nights ".repeat(90));
    // Batches of another caller, which keep the encoder full most of the time.
    let mut other = EncoderServiceClient::new(encoder.channel());
    let busy = tokio::spawn(async move {
        for round in 0.. {
            let texts = (0..128).map(|i| overview(1_000 * (1 + round) + i)).collect();
            other.encode(EncodeRequest { texts, ..EncodeRequest::default() }).await.unwrap();
        }
    });
    let requests: Vec<_> = (0..32)
        .map(|i| ClassifyStreamRequest {
            id: i.to_string(),
            overview: overview(i),
            ..ClassifyStreamRequest::default()
        })
        .collect();
    let mut stream =
        classifier.client().classify_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut answered = 0;
    while let Some(response) = stream.message().await.unwrap() {
        assert!(matches!(response.result, Some(StreamResult::Classification(_))), "{response:?}");
        answered += 1;
    }
    assert_eq!(answered, 32);
    busy.abort();
}

#[tokio::test]
async fn an_explanation_has_a_contribution_for_each_segment() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let whole = movie("a storm over the sea. A horse.");
    let request = ClassifyRequest { explain: true, ..whole.clone() };
    let explained = classifier.client().classify(request).await.unwrap().into_inner();
    let segments = &explained.explanation.as_ref().unwrap().segments;
    let texts: Vec<_> = segments.iter().map(|segment| segment.text.as_str()).collect();
    assert_eq!(texts, ["Harbour", "a storm over the sea.", "A horse."]);

    // Each number equals what the service returns for the movie without that segment.
    let rest = movie("a storm over the sea.");
    let without = classifier.client().classify(rest).await.unwrap().into_inner();
    assert_eq!(segments[2].contributions.len(), 20);
    for ((contribution, with), without) in
        segments[2].contributions.iter().zip(&explained.scores).zip(&without.scores)
    {
        assert_eq!(contribution.label, with.label);
        let added = with.probability - without.probability;
        assert_eq!(contribution.probability_without.to_bits(), without.probability.to_bits());
        assert_eq!(contribution.contribution.to_bits(), added.to_bits());
    }
    // An explanation changes nothing else in the response.
    let plain = classifier.client().classify(whole).await.unwrap().into_inner();
    assert_eq!(ClassifyResponseWithout(explained), ClassifyResponseWithout(plain));
}

/// Compares responses without their explanations.
#[derive(Debug)]
struct ClassifyResponseWithout(proto::classifier::v1::ClassifyResponse);

impl PartialEq for ClassifyResponseWithout {
    fn eq(&self, other: &Self) -> bool {
        let bare = |response: &Self| proto::classifier::v1::ClassifyResponse {
            explanation: None,
            ..response.0.clone()
        };
        bare(self) == bare(other)
    }
}

#[tokio::test]
async fn calls_are_unavailable_until_an_encoder_answers() {
    let (_folder, model) = model_file("tiny-512");
    let listener = tokio::net::TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let classifier = start_classifier(&model, &format!("http://{address}"));

    let mut health = HealthClient::new(classifier.channel());
    let mut status =
        async || health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!(status().await, ServingStatus::NotServing);
    let failure = classifier.client().classify(movie("rain")).await.unwrap_err();
    assert_eq!((failure.code(), reason(&failure).as_str()), (Code::Unavailable, "ENCODER_UNREACHABLE"));

    let encoder = start_encoder("tiny-512", address).await;
    for _ in 0..100 {
        if status().await == ServingStatus::Serving {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status().await, ServingStatus::Serving);
    classifier.client().classify(movie("rain")).await.unwrap();

    encoder.stop().await;
    let failure = classifier.client().classify(movie("rain")).await.unwrap_err();
    assert_eq!(failure.code(), Code::Unavailable, "{failure:?}");
}

#[tokio::test]
async fn a_changed_encoder_is_a_failed_precondition() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let address = encoder.address;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    classifier.client().classify(movie("rain")).await.unwrap();
    encoder.stop().await;
    let _other = start_encoder("tiny-other-512", address).await;
    let failure = loop {
        let failure = classifier.client().classify(movie("rain")).await.unwrap_err();
        // The client notices the broken connection to the old encoder first.
        if failure.code() != Code::Unavailable {
            break failure;
        }
    };
    assert_eq!((failure.code(), reason(&failure).as_str()), (Code::FailedPrecondition, "WRONG_ENCODER"));
}

#[tokio::test]
async fn passes_the_deadline_on_to_the_encoder() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let movies = vec![Movie { title: String::new(), overview: "storm over the sea ".repeat(60) }; 256];
    let mut request = tonic::Request::new(BatchClassifyRequest { movies, ..BatchClassifyRequest::default() });
    request.set_timeout(Duration::from_millis(30));
    let failure = classifier.client().batch_classify(request).await.unwrap_err();
    // tonic's client reports its own timeout as CANCELLED.
    assert!(matches!(failure.code(), Code::DeadlineExceeded | Code::Cancelled), "{failure:?}");
    // The encoder is free at once, because it drops abandoned entries.
    let begin = std::time::Instant::now();
    classifier.client().classify(movie("rain")).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}
