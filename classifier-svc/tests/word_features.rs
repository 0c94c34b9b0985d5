//! A model with word weights predicts from the vector and the word features of title and overview.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{any_port, model_for, start_classifier, start_encoder};
use genre_model::{Activation, Dense, GenreModel, Mlp, WordFeatures, WordWeights};
use ndarray::{Array1, Array2};
use proto::classifier::v1::{BatchClassifyRequest, ClassifyRequest, Movie};

const BUCKETS: usize = 1 << 10;

/// A network that always predicts 0.5, and word weights: "storm" in the title speaks for the first
/// genre, and "storm" anywhere against the second.
fn model() -> GenreModel {
    let model = model_for("tiny-512");
    let constant = Mlp::new(
        Dense { weight: Array2::zeros((1, 512)), bias: Array1::zeros(1) },
        Activation::Relu,
        Dense { weight: Array2::zeros((20, 1)), bias: Array1::zeros(20) },
    );
    let mut weights = Array2::zeros((BUCKETS, 20));
    let storm = WordFeatures::of("storm", "");
    weights[[storm.title()[0] as usize % BUCKETS, 0]] = 4.0;
    weights[[storm.text()[0] as usize % BUCKETS, 1]] = -4.0;
    let (labels, thresholds) = (model.labels().to_vec(), model.thresholds().clone());
    GenreModel::new(labels, constant.unwrap(), thresholds, model.provenance().clone())
        .unwrap()
        .with_words(WordWeights::quantised(&weights).unwrap())
        .unwrap()
}

fn movie(title: &str, overview: &str) -> Movie {
    Movie { title: title.to_owned(), overview: overview.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn word_features_count_alone_and_in_a_batch() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = model();
    model.save(&path).unwrap();
    let classifier = start_classifier(&path, &encoder.url());
    let mut client = classifier.client();

    let movies =
        [movie("Storm", "calm"), movie("Calm", "a STORM!"), movie("", "quiet"), movie("Calm", "calm")];
    let mut alone = Vec::new();
    for movie in &movies {
        let Movie { title, overview } = movie.clone();
        let request = ClassifyRequest { title, overview, include_scores: true, ..ClassifyRequest::default() };
        alone.push(client.classify(request).await.unwrap().into_inner());
    }
    let probability = |movie: usize, genre: usize| alone[movie].scores[genre].probability;
    // sigmoid(0.7 · 4), and -4 averaged over two words and over three.
    assert!((probability(0, 0) - 0.942_676).abs() < 1e-3, "{}", probability(0, 0));
    assert!((probability(0, 1) - 0.055_806).abs() < 1e-3, "{}", probability(0, 1));
    assert!((probability(1, 1) - 0.090_350).abs() < 1e-3, "{}", probability(1, 1));
    for (movie, genre) in [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (0, 2)] {
        assert!((probability(movie, genre) - 0.5).abs() < 1e-6, "movie {movie}, genre {genre}");
    }

    let request = BatchClassifyRequest {
        movies: movies.to_vec(),
        include_scores: true,
        ..BatchClassifyRequest::default()
    };
    let together = client.batch_classify(request).await.unwrap().into_inner();
    let results: Vec<_> = together.results.iter().map(|result| &result.scores).collect();
    assert_eq!(
        results,
        alone.iter().map(|response| &response.scores).collect::<Vec<_>>(),
        "a batch changes nothing"
    );
}
