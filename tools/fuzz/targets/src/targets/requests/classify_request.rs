//! Calls of `movieclassifier.classifier.v1.ClassifierService`, from the bytes of a body to genres
//! or a rejection.

use prost::Message as _;
use proto::classifier::v1::classify_stream_response::Result as StreamResult;
use proto::classifier::v1::{
    BatchClassifyRequest, BatchClassifyResponse, ClassifyRequest, ClassifyResponse, ClassifyStreamRequest,
    ClassifyStreamResponse, Movie,
};

use crate::harness::grpc::{Reply, frame, request_message, request_messages};
use crate::harness::inputs::seed_with_mode;
use crate::harness::rules::{
    LABELS, MAX_BATCH, MAX_OVERVIEW_CHARS, MAX_TITLE_CHARS, batch_violations, fits_selection,
    movie_violations, selection_violations,
};
use crate::harness::services::SERVICES;
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "classify_request",
    check,
    seeds,
    dictionary: &[
        "\n",
        "\u{12}\u{2}",
        "\u{18}\u{1}",
        "\u{20}\u{1}",
        "\u{2d}\0\0\0\u{3f}",
        "\u{30}\u{3}",
        "\u{feff}",
        "\u{180e}",
        "é",
        "🎬",
        ". ",
        "A movie.",
    ],
    max_len: 2048,
    cases: 800,
};

/// Bytes per message that the limits allow.
const MAX_MESSAGE: usize = MAX_BATCH * (4 * (MAX_TITLE_CHARS + MAX_OVERVIEW_CHARS) + 64) + 1024;

/// The first byte selects the method, and whether the rest is a whole body or a single message.
fn check(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    let body = if mode & 4 == 0 { frame(data) } else { data.to_vec() };
    match mode & 3 {
        0 | 3 => unary(body),
        1 => batch(body),
        _ => stream(body),
    }
}

fn call(method: &str, body: Vec<u8>) -> Reply {
    let path = format!("/movieclassifier.classifier.v1.ClassifierService/{method}");
    SERVICES.call(&SERVICES.classifier, &path, &[], body)
}

fn unary(body: Vec<u8>) {
    let request: Option<ClassifyRequest> = request_message(&body, MAX_MESSAGE);
    let reply = call("Classify", body);
    let Some(request) = request else { return reply.assert_malformed() };
    let mut violations = movie_violations("", &request.title, &request.overview);
    violations.extend(selection_violations(request.min_probability.map(f64::from), request.top_k));
    if !violations.is_empty() {
        return reply.assert_rejected_for(&violations);
    }
    let response: ClassifyResponse = reply.message();
    assert_valid(&response, request.include_scores, request.min_probability, request.top_k);
    assert_eq!(response.explanation.is_some(), request.explain);
    for segment in response.explanation.iter().flat_map(|explanation| &explanation.segments) {
        let texts = [&request.title, &request.overview];
        assert!(
            texts.iter().any(|text| text.contains(segment.text.as_str())),
            "a segment is a substring of the title or the overview"
        );
        for part in &segment.contributions {
            assert!((0.0..=1.0).contains(&part.probability_without), "{part:?}");
            assert!((-1.0..=1.0).contains(&part.contribution), "{part:?}");
        }
    }
}

fn batch(body: Vec<u8>) {
    let request: Option<BatchClassifyRequest> = request_message(&body, MAX_MESSAGE);
    let reply = call("BatchClassify", body);
    let Some(request) = request else { return reply.assert_malformed() };
    let of_movie =
        |index, movie: &Movie| movie_violations(&format!("movies[{index}]."), &movie.title, &movie.overview);
    let violations = batch_violations(
        "movies",
        &request.movies,
        MAX_BATCH,
        of_movie,
        selection_violations(request.min_probability.map(f64::from), request.top_k),
    );
    if !violations.is_empty() {
        return reply.assert_rejected_for(&violations);
    }
    let response: BatchClassifyResponse = reply.message();
    assert_eq!(response.results.len(), request.movies.len(), "one result per movie");
    for result in &response.results {
        assert_valid(result, request.include_scores, request.min_probability, request.top_k);
        assert_eq!(result.model_version, response.model_version);
    }
}

fn stream(body: Vec<u8>) {
    let requests: Option<Vec<ClassifyStreamRequest>> = request_messages(&body, MAX_MESSAGE);
    let reply = call("ClassifyStream", body);
    let Some(requests) = requests else { return reply.assert_malformed() };
    let mut responses: Vec<ClassifyStreamResponse> = reply.messages();
    assert_eq!(responses.len(), requests.len(), "one response per movie");
    for request in &requests {
        let mut violations = movie_violations("", &request.title, &request.overview);
        violations.extend(selection_violations(request.min_probability.map(f64::from), request.top_k));
        // Several movies may have the same ID; the response belongs to one of them.
        let fits = |response: &ClassifyStreamResponse| {
            response.id == request.id
                && match response.result.as_ref().expect("a response is a classification or an error") {
                    StreamResult::Classification(found) => {
                        violations.is_empty() && found.scores.is_empty() != request.include_scores
                    }
                    StreamResult::Error(error) => violations.first().is_some_and(|(field, reason)| {
                        error.reason == *reason && error.message.contains(field)
                    }),
                }
        };
        let at = responses.iter().position(fits).unwrap_or_else(|| panic!("{request:?} in {responses:?}"));
        responses.remove(at);
    }
}

fn assert_valid(
    response: &ClassifyResponse,
    with_scores: bool,
    min_probability: Option<f32>,
    top_k: Option<u32>,
) {
    for score in response.genres.iter().chain(&response.scores) {
        assert!((0.0..=1.0).contains(&score.probability), "{score:?}");
        assert!((0.0..=1.0).contains(&score.threshold), "{score:?}");
    }
    let genres: Vec<_> = response.genres.iter().map(|genre| (genre.probability, genre.threshold)).collect();
    assert!(fits_selection(&genres, min_probability.map(f64::from), top_k), "{genres:?}");
    assert!(response.genres.is_sorted_by(|a, b| a.probability >= b.probability), "most probable first");
    assert_eq!(response.scores.len(), if with_scores { LABELS } else { 0 });
    assert_eq!(response.model_version.len(), 12);
}

fn seeds() -> Vec<Vec<u8>> {
    let text = str::to_owned;
    let movie = |title: &str, overview: &str| Movie { title: text(title), overview: text(overview) };
    let one = |title: &str, overview: &str, explain| {
        ClassifyRequest {
            title: text(title),
            overview: text(overview),
            include_scores: explain,
            explain,
            ..ClassifyRequest::default()
        }
        .encode_to_vec()
    };
    let selected = |min_probability, top_k| {
        let overview = text("A pilot lands.");
        ClassifyRequest { overview, min_probability, top_k, ..ClassifyRequest::default() }.encode_to_vec()
    };
    let batch = |movies: Vec<Movie>| {
        BatchClassifyRequest { movies, include_scores: true, top_k: Some(2), ..Default::default() }
            .encode_to_vec()
    };
    let item = |id: &str, overview: &str| {
        let (id, overview) = (text(id), text(overview));
        let request =
            ClassifyStreamRequest { id, overview, include_scores: true, ..ClassifyStreamRequest::default() };
        frame(&request.encode_to_vec())
    };
    vec![
        seed_with_mode(0, &one("Reef", "A diver loses her map. A storm comes.", true)),
        seed_with_mode(0, &one("", "Un phare, deux sœurs 🎬", false)),
        seed_with_mode(0, &one(&"long title ".repeat(3), &"and a long overview ".repeat(4), false)),
        seed_with_mode(0, &one("", "\u{180e}\u{feff}\0", true)),
        seed_with_mode(0, &selected(Some(0.25), Some(3))),
        seed_with_mode(0, &selected(None, Some(30))),
        seed_with_mode(0, &selected(Some(f32::NAN), Some(0))),
        seed_with_mode(1, &batch(vec![movie("A", "A pilot lands."), movie("", "A train leaves.")])),
        seed_with_mode(
            1,
            &batch(vec![movie("", " "), movie(&"t".repeat(21), "x"), movie("", &"é".repeat(61))]),
        ),
        seed_with_mode(1, &batch(vec![movie("", "x"); 5])),
        seed_with_mode(1, &[]),
        seed_with_mode(6, &[item("a", "A heist."), item("a", ""), item("b", "A duel at dawn.")].concat()),
        seed_with_mode(4, &[0, 0x7f, 0xff, 0xff, 0xff]),
    ]
}
