//! The inputs and outputs of each command that writes, for the guard that is checked first.

use std::path::Path;

use movie_table::is_table_name;
use trainer::classify::output::working_file;
use trainer::encode::job::checkpoint_folder;
use trainer::encode::shard::Shard;
use trainer::evaluate::report::{FIGURES, figure_path};
use trainer::fit::loss_curves::LossCurves;
use trainer::output_guard::{FileKind, OutputGuard};
use trainer::store::{self, Place, StoreError};

use crate::cli::args::{
    Classify, Encode, Fit, IngestArgs, Merge, Prepare, Reference, ReplaceArgs, Report, Search,
};
use crate::cli::source_arg::SourceArg;

fn guard(args: &ReplaceArgs) -> OutputGuard {
    OutputGuard::new(args.force)
}

fn is_shard(name: &str) -> bool {
    name.starts_with("shard-")
}

/// The inputs of a table: itself and its labels file.
fn table(guard: OutputGuard, input: &Path, args: &IngestArgs) -> OutputGuard {
    let guard = guard.input("--input", input, is_table_name);
    match &args.labels {
        Some(labels) if !args.labels_are_from_data() => guard.input("--labels", labels, |_| false),
        _ => guard,
    }
}

fn tables(guard: OutputGuard, vectors: &[SourceArg]) -> OutputGuard {
    vectors.iter().fold(guard, |guard, source| guard.input("--vectors", &source.path, is_shard))
}

pub(super) fn of_prepare(args: &Prepare) -> OutputGuard {
    let guard = table(guard(&args.replace), &args.input, &args.ingest);
    let guard = guard.output("--output", &args.output, FileKind::Movies);
    match &args.report {
        Some(path) => guard.output("--report", path, FileKind::IngestReport),
        None => guard,
    }
}

pub(super) fn of_encode(args: &Encode, shard: Option<Shard>) -> Result<OutputGuard, StoreError> {
    let mut guard = guard(&args.replace);
    if let Some(path) = &args.input {
        guard = table(guard, path, &args.ingest);
    }
    if let Some(path) = &args.movies {
        guard = guard.input("--movies", path, |_| false);
    }
    let Some(shard) = shard else { return Ok(vectors(guard, "--output", &args.output)) };
    let (name, work) = (shard.file_name(), store::local(&args.output).unwrap_or(&args.work));
    let option = if store::local(&args.output).is_some() { "--output" } else { "--work" };
    let file = work.join(&name);
    let guard = vectors(guard, option, &file);
    let guard = guard.output(option, &file.with_extension("json"), FileKind::ShardManifest);
    let manifest = Path::new(&name).with_extension("json");
    let guard = object(guard, &args.output, Some(&name), FileKind::Vectors)?;
    object(guard, &args.output, manifest.to_str(), FileKind::ShardManifest)
}

/// The object at a URL, or with a name, the one of this name in that folder. A path is none.
fn object(
    guard: OutputGuard,
    url: &Path,
    name: Option<&str>,
    kind: FileKind,
) -> Result<OutputGuard, StoreError> {
    if store::local(url).is_some() {
        return Ok(guard);
    }
    let place = Place::new(&url.to_string_lossy())?;
    Ok(guard.object("--output", name.map_or_else(|| place.clone(), |name| place.join(name)), kind))
}

/// A table of vectors and its checkpoint.
fn vectors(guard: OutputGuard, option: &str, path: &Path) -> OutputGuard {
    guard.output(option, path, FileKind::Vectors).removed_folder(option, &checkpoint_folder(path))
}

pub(super) fn of_classify(args: &Classify, shard: Option<Shard>) -> Result<OutputGuard, StoreError> {
    let mut guard = guard(&args.replace).input("--model", &args.model, |_| false);
    for input in &args.input {
        guard = guard.input("--input", input, |_| true);
    }
    let output = working_file(&args.output, shard, &args.work);
    let chunks = checkpoint_folder(&output);
    let guard = guard.output("--output", &output, FileKind::Results);
    let guard = guard.removed_folder("checkpoint of --output", &chunks);
    object(guard, &args.output, shard.map(Shard::file_name).as_deref(), FileKind::Results)
}

pub(super) fn of_merge(args: &Merge, is_of_results: bool) -> OutputGuard {
    let guard = guard(&args.replace).input("--shards", &args.shards, is_shard);
    let kind = if is_of_results { FileKind::Results } else { FileKind::Vectors };
    guard.output("--output", &args.output, kind)
}

pub(super) fn of_fit(args: &Fit) -> OutputGuard {
    let curves = LossCurves::path_beside(&args.output);
    tables(guard(&args.replace), &args.sources.vectors)
        .output("--output", &args.output, FileKind::Model)
        .output("loss curves of --output", &curves, FileKind::LossCurves)
}

pub(super) fn of_search(args: &Search) -> OutputGuard {
    search_folder(tables(guard(&args.replace), &args.sources.vectors), &args.output)
}

fn search_folder(guard: OutputGuard, folder: &Path) -> OutputGuard {
    guard
        .output("--output", &folder.join("journal.jsonl"), FileKind::Journal)
        .output("--output", &folder.join("trials.parquet"), FileKind::Trials)
        .output("--output", &folder.join("trials.svg"), FileKind::Plot)
        .output("--output", &folder.join("model.safetensors"), FileKind::Model)
}

pub(super) fn of_reference(args: &Reference) -> OutputGuard {
    let guard = guard(&args.replace).input("--input", &args.input, is_table_name);
    let guard = guard.output("--work", &args.work.join("movies.parquet"), FileKind::Movies);
    search_folder(vectors(guard, "--work", &args.work.join("overviews.parquet")), &args.work.join("search"))
}

pub(super) fn of_report(args: &Report) -> OutputGuard {
    let mut guard = tables(guard(&args.replace), &args.sources.vectors);
    for model in std::iter::once(&args.model).chain(&args.compare) {
        guard = guard.input("--model", model, |_| false);
    }
    guard = guard.input("loss curves of --model", &LossCurves::path_beside(&args.model), |_| false);
    for (option, path) in
        [("--introduction", &args.introduction), ("--groups", &args.groups), ("--titles", &args.titles)]
    {
        if let Some(path) = path {
            guard = guard.input(option, path, |_| false);
        }
    }
    guard = guard.output("--output", &args.output, FileKind::Report);
    for name in FIGURES {
        guard = guard.output("figure of --output", &figure_path(&args.output, name), FileKind::Plot);
    }
    guard
}
