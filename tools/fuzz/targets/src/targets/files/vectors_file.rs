//! Parquet files of vectors and of movies.

use genre_model::{InputTemplate, LabelSet, WordFeatures};
use trainer::data::movies_file::{MoviesReader, MoviesWriter};
use trainer::data::table_file::TableError;
use trainer::data::vectors_file::{VectorRows, VectorsHeader, VectorsReader, VectorsWriter};
use trainer::{DataDigest, Movie, Split, Vectors};

use crate::harness::allocation::bounded;
use crate::harness::inputs::{file, folder};
use crate::harness::models::tiny_encoder;
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "vectors_file",
    check,
    seeds,
    dictionary: &[
        "PAR1",
        "movieclassifier.vectors/4",
        "movieclassifier.movies/1",
        "\u{15}\u{4}",
        "\u{7f}\u{7f}\u{7f}\u{7f}",
        "train",
        "Drama",
    ],
    max_len: 16_384,
    cases: 20000,
};

fn check(data: &[u8]) {
    let path = file("vectors.parquet", data);
    match bounded(data.len(), || Vectors::read(&path)) {
        Ok(vectors) => assert_valid(&vectors),
        Err(error) => assert_explains(&error),
    }
    // Batch by batch, as a job reads it: every batch before an error is complete.
    if let Ok(mut reader) = bounded(data.len(), || VectorsReader::open(&path)) {
        let dimension = reader.header().dimension;
        while let Ok(Some(rows)) = bounded(data.len(), || reader.next_rows()) {
            assert_eq!(rows.values.len(), rows.ids.len() * dimension);
            assert_eq!(rows.labels.len(), rows.ids.len());
        }
    }
    let read = || {
        let reader = MoviesReader::open(&path)?;
        let labels = reader.labels().clone();
        reader.collect::<Result<Vec<Movie>, _>>().map(|movies| (labels, movies))
    };
    match bounded(data.len(), read) {
        Ok((labels, movies)) => assert_round_trips(labels, &movies),
        Err(error) => assert_explains(&error),
    }
}

fn assert_valid(vectors: &Vectors) {
    let movies = vectors.len();
    assert!(movies > 0);
    assert_eq!(vectors.vectors.dim(), (movies, vectors.dimension()));
    assert_eq!((vectors.splits.len(), vectors.targets.nrows()), (movies, movies));
    assert!(vectors.vectors.iter().all(|value| value.is_finite()));
    assert!(vectors.ids.iter().zip(&vectors.splits).all(|(id, split)| Split::of(*id) == *split));
    assert!(vectors.targets.iter().all(|target| [0.0, 1.0].contains(target)));
}

fn assert_round_trips(labels: LabelSet, movies: &[Movie]) {
    let path = folder().join("again.parquet");
    let mut digest = DataDigest::new(labels.clone());
    let mut writer = MoviesWriter::create(&path, labels).expect("a temporary file can be written");
    for movie in movies {
        digest.add(movie);
        writer.write(movie.clone()).expect("a temporary file can be written");
    }
    assert_eq!(writer.finish().expect("a temporary file can be written"), digest.finish());
    let again: Result<Vec<Movie>, _> =
        MoviesReader::open(&path).expect("a written file can be read").collect();
    assert_eq!(again.expect("a written file can be read"), movies);
}

fn assert_explains(error: &TableError) {
    let message = error.to_string();
    assert!(message.contains("vectors.parquet"), "{message}");
    assert!(
        ["expected", "template"].iter().any(|word| message.contains(word)),
        "an error says what was expected: {message}"
    );
}

fn header(dimension: usize, labels: LabelSet) -> VectorsHeader {
    VectorsHeader {
        encoder: tiny_encoder(&"ab".repeat(32)),
        dimension,
        template: InputTemplate::parse(InputTemplate::OVERVIEW).expect("the template is valid"),
        data_digest: "cd".repeat(32),
        labels,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let three = LabelSet::of_names(&["Drama", "Spam", "\u{6771}\u{4eac}"].map(str::to_owned));
    let three = three.expect("three names form a label set");
    let mut seeds = Vec::new();
    for (movies, dimension, set) in
        [(1_u64, 1_usize, LabelSet::built_in()), (3, 2, three), (40, 4, LabelSet::built_in())]
    {
        let drama = set.movie_labels(["Drama"]).expect("the label is in the set");
        let path = folder().join("seed.parquet");
        let mut writer = VectorsWriter::create_in(&folder(), &path, header(dimension, set.clone()))
            .expect("a seed can be written");
        let values = (0..movies as usize * dimension).map(|value| (value as f32).sin()).collect();
        let rows = {
            let word_features =
                (1..=movies).map(|id| WordFeatures::of(&format!("Movie {id}"), "a diver")).collect();
            VectorRows {
                ids: (1..=movies).collect(),
                labels: vec![drama.clone(); movies as usize],
                values,
                word_features,
                overviews: (1..=movies).collect(),
            }
        };
        writer.write(rows).and_then(|()| writer.finish()).expect("a seed can be written");
        seeds.push(std::fs::read(&path).expect("a seed can be read"));

        let mut writer = MoviesWriter::create(&path, set).expect("a seed can be written");
        for id in 1..=movies {
            let (title, overview) = (format!("Movie {id}"), "A diver loses her map. ".repeat(3));
            let movie = Movie { id, title, overview, labels: drama.clone() };
            writer.write(movie).expect("a seed can be written");
        }
        writer.finish().expect("a seed can be written");
        seeds.push(std::fs::read(&path).expect("a seed can be read"));
    }
    seeds
}
