//! Calls of `movieclassifier.classifier.v1.ClassifierService`, from the bytes of their body to genres or a refusal.

use prost::Message as _;
use proto::classifier::v1::classify_stream_response::Result as StreamResult;
use proto::classifier::v1::{
    BatchClassifyRequest, BatchClassifyResponse, ClassifyRequest, ClassifyResponse, ClassifyStreamRequest,
    ClassifyStreamResponse, Movie,
};

use crate::harness::grpc::{Reply, frame, stream_frames};
use crate::harness::rules::{MAX_BATCH, MAX_OVERVIEW_CHARS, MAX_TITLE_CHARS, wrong_batch, wrong_movie};
use crate::harness::services::SERVICES;
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "classify_request",
    check,
    seeds,
    words: &[
        "\n",
        "\u{12}\u{2}",
        "\u{18}\u{1}",
        "\u{20}\u{1}",
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

/// Bytes of a message that the limits allow.
const MAX_MESSAGE: usize = MAX_BATCH * (4 * (MAX_TITLE_CHARS + MAX_OVERVIEW_CHARS) + 64) + 1024;

/// The first byte says which method, and whether the rest is its whole body or one message for it.
fn check(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    let body = if mode & 4 == 0 { frame(data) } else { data.to_vec() };
    match mode & 3 {
        0 | 3 => one(body),
        1 => batch(body),
        _ => stream(body),
    }
}

fn call(method: &str, body: Vec<u8>) -> Reply {
    let path = format!("/movieclassifier.classifier.v1.ClassifierService/{method}");
    SERVICES.call(&SERVICES.classifier, &path, &[], body)
}

fn decoded<M: prost::Message + Default>(body: &[u8]) -> Option<M> {
    match stream_frames(body, MAX_MESSAGE)?[..] {
        [message] => M::decode(message).ok(),
        _ => None,
    }
}

fn one(body: Vec<u8>) {
    let request: Option<ClassifyRequest> = decoded(&body);
    let reply = call("Classify", body);
    let Some(request) = request else { return reply.is_refused_as_malformed() };
    let wrong = wrong_movie("", &request.title, &request.overview);
    if !wrong.is_empty() {
        return reply.is_refused_for(&wrong);
    }
    let answer: ClassifyResponse = reply.only();
    is_sound(&answer, request.include_scores);
    assert_eq!(answer.explanation.is_some(), request.explain);
    for segment in answer.explanation.iter().flat_map(|explanation| &explanation.segments) {
        let of = [&request.title, &request.overview];
        assert!(
            of.iter().any(|text| text.contains(segment.text.as_str())),
            "a segment is a part of the movie"
        );
        for part in &segment.contributions {
            assert!((0.0..=1.0).contains(&part.probability_without), "{part:?}");
            assert!((-1.0..=1.0).contains(&part.contribution), "{part:?}");
        }
    }
}

fn batch(body: Vec<u8>) {
    let request: Option<BatchClassifyRequest> = decoded(&body);
    let reply = call("BatchClassify", body);
    let Some(request) = request else { return reply.is_refused_as_malformed() };
    let mut wrong = wrong_batch("movies", request.movies.len(), MAX_BATCH);
    if wrong.is_empty() {
        let movies = request.movies.iter().enumerate();
        wrong = movies
            .flat_map(|(index, movie)| {
                wrong_movie(&format!("movies[{index}]."), &movie.title, &movie.overview)
            })
            .collect();
    }
    if !wrong.is_empty() {
        return reply.is_refused_for(&wrong);
    }
    let answer: BatchClassifyResponse = reply.only();
    assert_eq!(answer.results.len(), request.movies.len(), "one answer for each movie");
    for result in &answer.results {
        is_sound(result, request.include_scores);
        assert_eq!(result.model_version, answer.model_version);
    }
}

fn stream(body: Vec<u8>) {
    let requests: Option<Vec<ClassifyStreamRequest>> = stream_frames(&body, MAX_MESSAGE)
        .and_then(|messages| messages.into_iter().map(|m| ClassifyStreamRequest::decode(m).ok()).collect());
    let reply = call("ClassifyStream", body);
    let Some(requests) = requests else { return reply.is_refused_as_malformed() };
    assert_eq!(reply.status.code(), tonic::Code::Ok, "{:?}", reply.status);
    let mut answers: Vec<ClassifyStreamResponse> = reply.messages();
    assert_eq!(answers.len(), requests.len(), "one answer for each movie");
    for request in &requests {
        let wrong = wrong_movie("", &request.title, &request.overview);
        // Of several with one id any may be this one's.
        let fits = |answer: &ClassifyStreamResponse| {
            answer.id == request.id
                && match answer.result.as_ref().expect("each answer is one or the other") {
                    StreamResult::Classification(found) => {
                        wrong.is_empty() && found.scores.is_empty() != request.include_scores
                    }
                    StreamResult::Error(error) => wrong.first().is_some_and(|(field, reason)| {
                        error.reason == *reason && error.message.contains(field)
                    }),
                }
        };
        let at = answers.iter().position(fits).unwrap_or_else(|| panic!("{request:?} in {answers:?}"));
        answers.remove(at);
    }
}

fn is_sound(answer: &ClassifyResponse, with_scores: bool) {
    for score in answer.genres.iter().chain(&answer.scores) {
        assert!((0.0..=1.0).contains(&score.probability), "{score:?}");
        assert!((0.0..=1.0).contains(&score.threshold), "{score:?}");
    }
    assert!(answer.genres.iter().all(|genre| genre.probability > genre.threshold));
    assert!(answer.genres.is_sorted_by(|a, b| a.probability >= b.probability), "most probable first");
    assert_eq!(answer.scores.len(), if with_scores { 20 } else { 0 });
    assert_eq!(answer.model_version.len(), 12);
}

fn seeds() -> Vec<Vec<u8>> {
    let text = str::to_owned;
    let movie = |title: &str, overview: &str| Movie { title: text(title), overview: text(overview) };
    let one = |title: &str, overview: &str, explain| {
        ClassifyRequest { title: text(title), overview: text(overview), include_scores: explain, explain }
            .encode_to_vec()
    };
    let batch = |movies: Vec<Movie>| BatchClassifyRequest { movies, include_scores: true }.encode_to_vec();
    let item = |id: &str, overview: &str| {
        let (id, overview) = (text(id), text(overview));
        frame(
            &ClassifyStreamRequest { id, title: String::new(), overview, include_scores: true }
                .encode_to_vec(),
        )
    };
    let with = |mode: u8, body: Vec<u8>| [vec![mode], body].concat();
    vec![
        with(0, one("Reef", "A diver loses her map. A storm comes.", true)),
        with(0, one("", "Un phare, deux sœurs 🎬", false)),
        with(0, one(&"long title ".repeat(3), &"and a long overview ".repeat(4), false)),
        with(0, one("", "\u{180e}\u{feff}\0", true)),
        with(1, batch(vec![movie("A", "A pilot lands."), movie("", "A train leaves.")])),
        with(1, batch(vec![movie("", " "), movie(&"t".repeat(21), "x"), movie("", &"é".repeat(61))])),
        with(1, batch(vec![movie("", "x"); 5])),
        with(1, Vec::new()),
        with(6, [item("a", "A heist."), item("a", ""), item("b", "A duel at dawn.")].concat()),
        with(4, vec![0, 0x7f, 0xff, 0xff, 0xff]),
    ]
}
