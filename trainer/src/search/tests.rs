use std::path::Path;

use super::*;
use crate::FittingData;
use crate::fit::job as fit_job;
use crate::testing::vectors;

fn job(folder: &Path) -> SearchJob {
    SearchJob {
        space: Space::Reference,
        trials: 6,
        seed: 3,
        max_epochs: Some(3),
        threads: 2,
        folder: folder.to_owned(),
        restart: false,
    }
}

fn data() -> FittingData {
    FittingData::of(&vectors(300)).unwrap()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn results_do_not_depend_on_threads_or_interruptions() {
    let data = data();
    let folder = || tempfile::tempdir().unwrap();
    let (one, three, resumed) = (folder(), folder(), folder());
    run(&SearchJob { threads: 1, ..job(one.path()) }, &data).unwrap();
    run(&SearchJob { threads: 3, ..job(three.path()) }, &data).unwrap();
    assert_eq!(files(one.path()).len(), 4);
    assert!(files(one.path()) == files(three.path()));

    // Two trials out of order, and a third that was cut off.
    let journal = String::from_utf8(std::fs::read(one.path().join("journal.jsonl")).unwrap()).unwrap();
    let lines: Vec<&str> = journal.lines().collect();
    let cut = format!("{}\n{}\n{}\n{}", lines[0], lines[5], lines[2], &lines[3][..40]);
    std::fs::write(resumed.path().join("journal.jsonl"), cut).unwrap();
    let outcome = run(&job(resumed.path()), &data).unwrap();
    assert_eq!(outcome.resumed, 2);
    assert!(files(one.path()) == files(resumed.path()));

    // All trials are present, the model is missing.
    std::fs::remove_file(resumed.path().join("model.safetensors")).unwrap();
    assert_eq!(run(&job(resumed.path()), &data).unwrap().resumed, 6);
    assert!(files(one.path()) == files(resumed.path()));
}

#[test]
fn the_winner_has_the_lowest_loss_and_can_be_refitted() {
    let (data, folder) = (data(), tempfile::tempdir().unwrap());
    let outcome = run(&job(folder.path()), &data).unwrap();
    let loss = |trial: usize| outcome.trials[trial].validation_loss.unwrap();
    assert!((0..6).all(|trial| loss(trial) >= loss(outcome.winner)));
    let again = fit_job::fit(&data, &outcome.preset, |_, _| {}).unwrap();
    assert!(again.to_bytes() == outcome.model.to_bytes());
    assert!((outcome.model.provenance().metrics["validation_loss"] - loss(outcome.winner)).abs() < 1e-6);
}

#[test]
fn pairs_that_nobody_knows_are_in_no_loss() {
    let mut vectors = vectors(300);
    let drama = vectors.labels.names().position(|name| name == "Drama").unwrap();
    vectors.set_unknown(drama);
    let (data, folder) = (FittingData::of(&vectors).unwrap(), tempfile::tempdir().unwrap());
    let outcome = run(&job(folder.path()), &data).unwrap();
    let loss = outcome.trials[outcome.winner].validation_loss.unwrap();
    let found = outcome.model.provenance().metrics["validation_loss"];
    assert!((found - loss).abs() < 1e-6, "{found} {loss}");
}

#[test]
fn rejects_the_journal_of_another_search_and_leaves_it_unchanged() {
    let (data, folder) = (data(), tempfile::tempdir().unwrap());
    run(&job(folder.path()), &data).unwrap();
    let before = files(folder.path());
    let message = |job: &SearchJob, data: &FittingData| run(job, data).unwrap_err().to_string();
    let found = message(&SearchJob { seed: 4, ..job(folder.path()) }, &data);
    assert!(found.contains("seed: expected 4, found 3"), "{found}");
    let found = message(&SearchJob { space: Space::Ours, ..job(folder.path()) }, &data);
    assert!(found.contains("space: expected \"ours\", found \"reference\""), "{found}");
    let other = FittingData::of(&vectors(310)).unwrap();
    let found = message(&job(folder.path()), &other);
    assert!(found.contains("vectors_sha256: expected") && found.contains("--restart"), "{found}");
    assert!(files(folder.path()) == before);
    let longer = run(&SearchJob { trials: 8, ..job(folder.path()) }, &data).unwrap();
    assert_eq!((longer.resumed, longer.trials.len()), (6, 8));
    run(&SearchJob { seed: 4, restart: true, ..job(folder.path()) }, &data).unwrap();
}

#[test]
fn rejects_a_damaged_line_and_names_its_number() {
    let (data, folder) = (data(), tempfile::tempdir().unwrap());
    run(&job(folder.path()), &data).unwrap();
    let path = folder.path().join("journal.jsonl");
    let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    std::fs::write(&path, text.replacen("{\"trial\":1", "{\"trial\":x", 1)).unwrap();
    let message = run(&job(folder.path()), &data).unwrap_err().to_string();
    assert!(message.contains("line 3: expected a trial"), "{message}");
}
