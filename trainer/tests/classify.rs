//! `classify`: a table of any form in, a table of results out.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod command;
mod fake_encoder;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Float32Type;
use arrow_array::{Array as _, ArrayRef, Int64Array, RecordBatch, StringArray};
use command::{succeed, trainer, write_movies};
use fake_encoder::{Behaviour, Failure, start};
use genre_model::GenreModel;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

const MOVIES: u64 = 400;

/// Writes `movies.csv` and fits `m.safetensors` on it, with the encoder at `url`.
fn fit_model(folder: &Path, url: &str) {
    write_movies(folder, MOVIES);
    succeed(folder, &format!("encode --input movies.csv --encoder {url} --output v.parquet"));
    succeed(folder, "fit --vectors v.parquet --output m.safetensors --preset reference --epochs 2");
}

fn fail(folder: &Path, line: &str) -> String {
    let output = trainer(folder, line).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    String::from_utf8(output.stderr).unwrap()
}

fn read(path: &Path) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let mut batches = builder.with_batch_size(1 << 20).build().unwrap();
    batches.next().unwrap().unwrap()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(column).unwrap().as_string::<i32>();
    column.iter().map(|text| text.map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_has_a_result_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (url, _) = start(Behaviour::default()).await;
    fit_model(path, &url);
    std::fs::write(
        path.join("new.csv"),
        "id,title,overview\nx-1,Movie 5,What happens in number 5\n2,Bad,\n,Untitled,What happens in number 7\n4,\"A\",nan\n",
    )
    .unwrap();
    let line = format!("classify --input new.csv --model m.safetensors --encoder {url} --output r.parquet");
    let text = succeed(path, &line);
    assert!(text.starts_with("wrote r.parquet: 4 rows, 2 with errors, 0 truncated\n"), "{text}");
    let results = read(&path.join("r.parquet"));
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(texts(&results, "id"), [some("x-1"), some("2"), None, some("4")]);
    let errors = texts(&results, "error");
    assert_eq!(errors[1], some("line 3: expected a text as the overview, found none"));
    assert_eq!(errors[3], some("line 5: expected a text as the overview, found the placeholder \"nan\""));
    let probabilities = results.column_by_name("probabilities").unwrap().as_list::<i32>();
    assert_eq!((0..4).map(|row| probabilities.is_valid(row)).collect::<Vec<_>>(), [true, false, true, false]);
    let model = GenreModel::load(&path.join("m.safetensors")).unwrap();
    assert_eq!(texts(&results, "model_version"), vec![some(model.version()); 4]);
    let first = probabilities.value(0);
    assert_eq!(first.as_primitive::<Float32Type>().len(), model.labels().len());
    let labels = results.column_by_name("labels").unwrap().as_list::<i32>().value(0);
    let predicted = first.as_primitive::<Float32Type>().iter().enumerate();
    let predicted = predicted.filter(|(label, p)| model.thresholds().predicts(*label, p.unwrap())).count();
    assert_eq!(labels.len(), predicted);

    assert!(succeed(path, &line).starts_with("nothing to do: r.parquet already holds the results: 4 rows"));
    std::fs::write(path.join("new.csv"), "id,title,overview\n1,Movie 5,Another\n").unwrap();
    let message = fail(path, &line);
    assert!(message.contains("r.parquet belongs to another job: input_digest: expected"), "{message}");
    succeed(path, &format!("{line} --restart"));
    std::fs::write(path.join("r.parquet"), "of another program").unwrap();
    let message = fail(path, &format!("{line} --restart"));
    assert!(message.contains("expected no file, or a table of results"), "{message}");
    let message = fail(path, &format!("{line} --force"));
    let expected = "r.parquet belongs to another job: expected a whole Parquet file";
    assert!(message.contains(expected) && message.contains("--restart replaces it"), "{message}");
    succeed(path, &format!("{line} --restart --force"));
    let message = fail(path, &line.replace("--output r.parquet", "--output new.csv"));
    assert!(message.contains("expected another file than that of --input"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_merge_to_the_bytes_of_a_single_worker() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let busy = |call: usize| call % 5 == 3;
    let (url, _) = start(Behaviour { failure: Some((busy, Failure::Busy)), ..Behaviour::default() }).await;
    fit_model(path, &url);
    let options =
        format!("--input movies.csv --model m.safetensors --encoder {url} --resume-chunk 48 --batch 5");
    succeed(path, &format!("classify {options} --output one.parquet"));
    let expected = std::fs::read(path.join("one.parquet")).unwrap();
    for shards in [1, 2, 4] {
        for shard in 0..shards {
            succeed(path, &format!("classify {options} --output of-{shards} --shard {shard}/{shards}"));
        }
        let text = succeed(path, &format!("merge --shards of-{shards} --output merged-{shards}.parquet"));
        assert!(text.contains("400 rows, 0 with errors"), "{text}");
        assert!(
            std::fs::read(path.join(format!("merged-{shards}.parquet"))).unwrap() == expected,
            "{shards}"
        );
    }
    std::fs::remove_file(path.join("of-4/shard-00002-of-00004.parquet")).unwrap();
    let message = fail(path, "merge --shards of-4 --output merged-4.parquet");
    assert!(message.contains("shard: expected \"2/4\", found \"3/4\""), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parquet_file_of_another_program_gives_the_bytes_of_the_same_csv() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (url, _) = start(Behaviour::default()).await;
    fit_model(path, &url);
    std::fs::create_dir(path.join("tables")).unwrap();
    for (name, ids) in [("part-0.parquet", 1..=250), ("part-1.parquet", 251..=MOVIES.cast_signed())] {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("unused", Arc::new(Int64Array::from_iter_values(ids.clone()))),
            (
                "Overview",
                Arc::new(StringArray::from_iter_values(
                    ids.clone().map(|id| format!("What happens in number {id}")),
                )),
            ),
            ("title", Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("Movie {id}"))))),
            ("id", Arc::new(Int64Array::from_iter_values(ids))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let file = File::create(path.join("tables").join(name)).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
    std::fs::write(path.join("tables/_SUCCESS"), "").unwrap();
    let options = format!("--model m.safetensors --encoder {url}");
    succeed(path, &format!("classify --input movies.csv {options} --output csv.parquet"));
    succeed(path, &format!("classify --input tables {options} --output parquet.parquet"));
    assert!(
        std::fs::read(path.join("csv.parquet")).unwrap()
            == std::fs::read(path.join("parquet.parquet")).unwrap()
    );
    let line = format!("classify --input tables --overview-column plot {options} --output x.parquet");
    let message = fail(path, &line);
    assert!(
        message.contains("expected a column \"plot\" of overviews, found unused, Overview, title, id"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_another_encoder_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (url, _) = start(Behaviour::default()).await;
    fit_model(path, &url);
    let other = Behaviour { fingerprint: Some("ef"), ..Behaviour::default() };
    let (other, _) = start(other).await;
    let line =
        format!("classify --input movies.csv --model m.safetensors --encoder {other} --output r.parquet");
    assert!(fail(path, &line).contains("m.safetensors: expected vectors of the model's encoder"));
}
