//! Measures the seconds of an epoch: a pass over the training movies and the validation loss, on
//! one thread. Uses processor time where the system reports it, so other programs do not count, and
//! wall time elsewhere.
//!
//! `benches/against_pytorch.py` compares it with the same network in PyTorch.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot run may panic")]
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Parser, Subcommand};
use genre_model::{
    Activation, EncoderIdentity, Fingerprint, GENRES, InputTemplate, LabelSet, MovieLabels, WordFeatures,
};
use rand::{Rng as _, SeedableRng as _};
use rand_xoshiro::Xoshiro256PlusPlus;
use trainer::data::vectors_file::{VectorRows, VectorsHeader, VectorsWriter};
use trainer::{FittingData, MlpParams, Vectors};

const DIMENSION: usize = 512;

/// Seconds of an epoch on one thread.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
    /// Passed by cargo bench.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Task {
    /// Write synthetic vectors from which genres can be learnt in part.
    Synthetic {
        /// Table of vectors to write.
        output: PathBuf,
        /// Movies in all three splits.
        #[arg(long, default_value_t = 17_778)]
        movies: u64,
    },
    /// Write training and validation rows as raw float32, for other programs.
    Raw {
        /// A table of vectors.
        vectors: PathBuf,
        /// Folder for train.x, train.y, validation.x and validation.y.
        output: PathBuf,
    },
    /// Print the seconds of each epoch, one per line.
    Epochs {
        /// A table of vectors.
        vectors: PathBuf,
        #[arg(long)]
        units: usize,
        #[arg(long)]
        batch: usize,
        #[arg(long)]
        activation: String,
        #[arg(long, default_value_t = 0.0)]
        dropout: f32,
        #[arg(long, default_value_t = 0.0)]
        input_dropout: f32,
        #[arg(long, default_value_t = 0.0)]
        weight_decay: f32,
        #[arg(long, default_value_t = 8)]
        epochs: usize,
    },
}

fn main() {
    match Arguments::parse().command {
        Task::Synthetic { output, movies } => synthetic(&output, movies),
        Task::Raw { vectors, output } => raw(&vectors, &output),
        Task::Epochs { vectors, units, batch, activation, dropout, input_dropout, weight_decay, epochs } => {
            let data = FittingData::of(&Vectors::read(&vectors).unwrap()).unwrap();
            let params = MlpParams {
                units,
                batch_size: batch,
                activation: Activation::from_name(&activation).unwrap(),
                dropout,
                input_dropout,
                weight_decay,
                patience: epochs,
                max_epochs: epochs,
                ..MlpParams::default()
            };
            let clock = Instant::now();
            let mut begin = seconds(clock);
            let observe = |_| {
                let now = seconds(clock);
                println!("{}", now - begin);
                begin = seconds(clock);
            };
            params.fit_validated(data.train(), data.validation(), observe).unwrap();
        }
    }
}

fn seconds(clock: Instant) -> f64 {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = statistics.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| clock.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

/// Writes unit vectors. A movie has a genre if its vector, with noise, points along the direction
/// of the genre.
fn synthetic(output: &Path, movies: u64) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut normal = |count: usize| -> Vec<f32> {
        let sum = |_| (0..4).map(|_| rng.gen_range(-1.0_f32..1.0)).sum::<f32>();
        (0..count).map(sum).collect()
    };
    let directions: Vec<Vec<f32>> = GENRES.iter().map(|_| normal(DIMENSION)).collect();
    let header = VectorsHeader {
        encoder: EncoderIdentity {
            id: "synthetic-512".to_owned(),
            version: "1".to_owned(),
            fingerprint: Fingerprint::parse("00".repeat(32)).unwrap(),
        },
        dimension: DIMENSION,
        template: InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap(),
        data_digest: "00".repeat(32),
        labels: LabelSet::built_in(),
    };
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).unwrap();
    let mut writer = VectorsWriter::create_in(folder, output, header).unwrap();
    for id in 1..=movies {
        let mut vector = normal(DIMENSION);
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        for value in &mut vector {
            *value /= length;
        }
        let noise = normal(GENRES.len());
        let mut labels = MovieLabels::default();
        for (index, direction) in directions.iter().enumerate() {
            let along: f32 = vector.iter().zip(direction).map(|(a, b)| a * b).sum();
            if along + 0.5 * noise[index] > 1.0 + 0.08 * index as f32 {
                labels.insert(index);
            }
        }
        writer
            .write(VectorRows {
                ids: vec![id],
                labels: vec![labels],
                values: vector,
                word_features: vec![WordFeatures::default()],
                overviews: vec![id],
            })
            .unwrap();
    }
    writer.finish().unwrap();
}

fn raw(vectors: &Path, output: &Path) {
    let data = FittingData::of(&Vectors::read(vectors).unwrap()).unwrap();
    std::fs::create_dir_all(output).unwrap();
    for (name, rows) in [("train", data.train()), ("validation", data.validation())] {
        for (kind, matrix) in [("x", rows.records()), ("y", rows.targets())] {
            let bytes: Vec<u8> = matrix.iter().copied().flat_map(f32::to_le_bytes).collect();
            std::fs::write(output.join(format!("{name}.{kind}")), bytes).unwrap();
        }
    }
}
