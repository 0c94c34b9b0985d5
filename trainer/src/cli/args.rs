//! The command line.
#![allow(clippy::doc_markdown, reason = "these comments are the help that is printed")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use encoder_client::BulkPolicy;
use genre_model::{InputTemplate, LabelSet};
use movie_table::{GenresFormat, Source, TableArgs};
use trainer::data::ingest::label_set::{self, LabelSetError};
use trainer::encode::shard::{InvalidShard, Shard};
use trainer::fit::preset::{PresetChanges, PresetName};
use trainer::search::Space;
use trainer::{IngestOptions, Load, SplitChoice};

use crate::cli::encoder::EncoderArgs;
use crate::cli::source_arg::SourceArg;

const EXAMPLES: &str = "\
From Kaggle's movies_metadata.csv to a model and its metrics, step by step:
  trainer prepare  --input movies_metadata.csv --output movies.parquet
  trainer encode   --movies movies.parquet --output vectors.parquet
  trainer fit      --vectors vectors.parquet --output models/default.safetensors
  trainer evaluate --vectors vectors.parquet --split test --json
  trainer report   --vectors vectors.parquet --model models/default.safetensors --output models/REPORT.md

Other commands:
  trainer search    --vectors vectors.parquet --output search --space ours
  trainer reference --input movies_metadata.csv --embedded

`encode` and `evaluate --input` need an encoder: a running `encoder-svc serve`, or --embedded.
Results go to standard output, everything else to standard error. RUST_LOG=debug logs more.
`trainer COMMAND --help` explains a command.";

#[derive(Debug, Parser)]
#[command(
    name = "trainer",
    version,
    about = "Turn movies into vectors, vectors into a genre model, and measure it"
)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read a table of movies, keep the usable ones, and report what was dropped and why
    Prepare(Prepare),
    /// Encode movies into vectors; an interrupted run resumes where it stopped
    Encode(Encode),
    /// Merge all shards into one table of vectors, identical to the table of a single worker
    Merge(Merge),
    /// Fit a model on the training movies of a table of vectors
    Fit(Box<Fit>),
    /// Try random settings on all cores and fit the best; an interrupted search resumes where it
    /// stopped
    Search(Search),
    /// Repeat the reference system on a data set: encode overviews, search 25 settings, print its
    /// four lines
    Reference(Reference),
    /// Measure a model on the movies of a split
    Evaluate(Evaluate),
    /// Classify a table of any size into a table of results
    Classify(Classify),
    /// Write a Markdown report of one or more models
    Report(Report),
}

#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    pub(crate) table: TableArgs,
    /// Column or key of genres
    #[arg(long, value_name = "NAME", default_value = "genres")]
    pub(crate) genres_column: String,
    /// Form of the genres
    #[arg(long, value_name = "FORM", value_enum, default_value = "auto")]
    pub(crate) genres_format: GenresFormat,
    /// Accept a table of which more than half of the rows are dropped for one reason
    #[arg(long)]
    pub(crate) allow_loss: bool,
    /// Keep movies with this overview although it is a placeholder; can be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) keep_overview: Vec<String>,
    /// Labels that genres become: a labels file, in TOML, or those that the data has. The default
    /// is TMDB's twenty genres, or the labels of the model to measure
    #[arg(long, value_name = "FILE.toml|from-data")]
    pub(crate) labels: Option<PathBuf>,
    /// With --labels from-data, leave out genres of fewer movies
    #[arg(long, value_name = "MOVIES", default_value_t = 10, requires = "labels")]
    pub(crate) min_count: u64,
}

impl IngestArgs {
    /// Whether the input is read once for its labels before it is read for its movies.
    pub(crate) fn labels_are_from_data(&self) -> bool {
        self.labels.as_deref() == Some(Path::new("from-data"))
    }

    /// Returns how `input` is read, with the label set that was asked for, or else `default`.
    pub(crate) fn options(&self, input: &Source, default: LabelSet) -> Result<IngestOptions, LabelSetError> {
        let options = self.with_labels(default);
        let labels = match self.labels.as_deref() {
            None => return Ok(options),
            Some(_) if self.labels_are_from_data() => label_set::from_data(input, &options, self.min_count)?,
            Some(path) => label_set::read(path)?,
        };
        Ok(IngestOptions { labels, ..options })
    }

    fn with_labels(&self, labels: LabelSet) -> IngestOptions {
        let mut table = self.table.options();
        table.columns.genres.clone_from(&self.genres_column);
        table.columns.all_required = true;
        IngestOptions {
            table,
            labels,
            genres_format: self.genres_format,
            allow_loss: self.allow_loss,
            keep_overviews: self.keep_overview.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ReplaceArgs {
    /// Replace outputs even if they are files of another kind
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Prepare {
    /// Table of movies such as Kaggle's movies_metadata.csv: CSV, TSV, JSON Lines or a JSON array,
    /// plain, gzipped or zipped; a folder that holds it; or - for standard input
    #[arg(long, value_name = "FILE|FOLDER|-")]
    pub(crate) input: PathBuf,
    #[command(flatten)]
    pub(crate) ingest: IngestArgs,
    /// Table of usable movies to write
    #[arg(long, value_name = "FILE.parquet")]
    pub(crate) output: PathBuf,
    /// Report of kept and dropped rows to write, as JSON
    #[arg(long, value_name = "FILE.json")]
    pub(crate) report: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) replace: ReplaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Texts in one call
    #[arg(long, value_name = "TEXTS", default_value_t = 16, value_parser = at_least_one)]
    pub(crate) batch: usize,
    /// Calls in flight for each replica of the encoder
    #[arg(long, value_name = "CALLS", default_value_t = 16, value_parser = at_least_one)]
    pub(crate) in_flight: usize,
    /// Fail if no call succeeds for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) give_up_after: u64,
}

impl LoadArgs {
    pub(crate) fn load(&self) -> Load {
        Load { batch: self.batch, in_flight: self.in_flight }
    }

    pub(crate) fn policy(&self) -> BulkPolicy {
        BulkPolicy { patience: Duration::from_secs(self.give_up_after), ..BulkPolicy::default() }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ShardArgs {
    /// Work on shard I (from 0) of N only, such as 0/4. In a Kubernetes Indexed Job, the default comes
    /// from JOB_COMPLETION_INDEX and JOB_COMPLETIONS
    #[arg(long, value_name = "I/N", value_parser = Shard::parse)]
    shard: Option<Shard>,
}

impl ShardArgs {
    /// Returns the shard of the arguments, or else that of a Kubernetes job.
    pub(crate) fn shard(&self) -> Result<Option<Shard>, InvalidShard> {
        let variable = |name| std::env::var(name).ok();
        match self.shard {
            Some(shard) => Ok(Some(shard)),
            None => Shard::of_job(
                variable("JOB_COMPLETION_INDEX").as_deref(),
                variable("JOB_COMPLETIONS").as_deref(),
            ),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Encode {
    /// Table of movies, as for `prepare`
    #[arg(long, value_name = "FILE|FOLDER|-", required_unless_present = "movies")]
    pub(crate) input: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) ingest: IngestArgs,
    /// Table of movies written by `trainer prepare`
    #[arg(long, value_name = "FILE.parquet", conflicts_with_all = [
        "input", "labels", "min_count", "allow_loss", "keep_overview", "genres_column", "genres_format",
        "id_column", "title_column", "overview_column", "input_format", "delimiter", "quoting", "max_input_bytes",
    ])]
    pub(crate) movies: Option<PathBuf>,
    /// Table of vectors to write. With --shard, the folder of shards: a path, or a URL of s3, gs,
    /// az or file
    #[arg(long, value_name = "FILE.parquet|FOLDER|URL")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) shard: ShardArgs,
    /// Working folder for shards that are stored remotely
    #[arg(long, value_name = "FOLDER", default_value = ".runtime/shards")]
    pub(crate) work: PathBuf,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Template of the text to encode. A movie without a title drops the part in brackets
    #[arg(long, default_value = InputTemplate::TITLE_AND_OVERVIEW, value_parser = InputTemplate::parse)]
    pub(crate) template: InputTemplate,
    /// Movies in a chunk. An interruption loses at most one chunk and the calls in flight
    #[arg(long, value_name = "MOVIES", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) resume_chunk: usize,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Discard the checkpoint of another run, and replace an output of other movies or another
    /// encoder
    #[arg(long)]
    pub(crate) restart: bool,
    #[command(flatten)]
    pub(crate) replace: ReplaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Classify {
    /// Tables to classify: Parquet, CSV, TSV, JSON Lines or a JSON array, the texts plain, gzipped or
    /// zipped. Files, folders of which all tables are read in the order of their names, patterns such
    /// as 'in/*.parquet', URLs of these at s3, gs or az, or - for standard input
    #[arg(long, value_name = "FILE|FOLDER|PATTERN|URL|-", required = true, num_args = 1..)]
    pub(crate) input: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) table: TableArgs,
    /// Model file
    #[arg(long, value_name = "FILE.safetensors", default_value = "models/default.safetensors")]
    pub(crate) model: PathBuf,
    /// Table of results to write. With --shard, the folder of shards. A path, or a URL of s3, gs, az or
    /// file
    #[arg(long, value_name = "FILE.parquet|FOLDER|URL")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) shard: ShardArgs,
    /// Folder for unfinished work whose output goes to an object store. A killed run continues from it
    #[arg(long, value_name = "FOLDER", default_value = ".runtime/classify")]
    pub(crate) work: PathBuf,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Rows in a chunk. An interruption loses at most one chunk and the calls in flight
    #[arg(long, value_name = "ROWS", default_value_t = 1024, value_parser = at_least_one)]
    pub(crate) resume_chunk: usize,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Discard the checkpoint of another run, and replace an output of other rows or another model
    #[arg(long)]
    pub(crate) restart: bool,
    #[command(flatten)]
    pub(crate) replace: ReplaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// Folder of shards written by `trainer encode --shard` or `trainer classify --shard`
    #[arg(long, value_name = "FOLDER|URL")]
    pub(crate) shards: PathBuf,
    /// Table of vectors or results to write
    #[arg(long, value_name = "FILE.parquet")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) replace: ReplaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Table of vectors written by `trainer encode`, or a folder of shards. Repeatable: movies of all
    /// tables count, each once. `,unknown=LABEL+LABEL` after the file names labels that its source does
    /// not know, so that their absence says nothing; `,train-only` takes only its training movies
    #[arg(long, required = true, value_name = "FILE[,unknown=LABEL][,train-only]")]
    pub(crate) vectors: Vec<SourceArg>,
}

#[derive(Debug, Args)]
pub(crate) struct Fit {
    #[command(flatten)]
    pub(crate) sources: SourceArgs,
    /// Model file to write
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) output: PathBuf,
    /// Preset for all settings that are not given
    #[arg(long, alias = "recipe", value_enum, default_value = "default")]
    pub(crate) preset: PresetName,
    #[command(flatten)]
    pub(crate) changes: PresetChanges,
    /// Also measure on the test movies, and print the lines of the reference system
    #[arg(long)]
    pub(crate) report_test: bool,
    /// Also fit and measure the baselines on the same vectors: logistic regression and majority
    #[arg(long)]
    pub(crate) baselines: bool,
    #[command(flatten)]
    pub(crate) replace: ReplaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Number of trials
    #[arg(long, default_value_t = 25, value_parser = at_least_one)]
    pub(crate) trials: usize,
    /// Seed of the search; trial i draws everything from seed + i
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Trials in parallel, by default one per core. Results do not depend on it
    #[arg(long, value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// The most passes over the training movies; overrides the limit of the space
    #[arg(long, value_parser = at_least_one)]
    pub(crate) epochs: Option<usize>,
    /// Discard the trials that another search left in the folder, and the vectors that `reference`
    /// left there
    #[arg(long)]
    pub(crate) restart: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    #[command(flatten)]
    pub(crate) sources: SourceArgs,
    /// Folder for journal.jsonl, trials.parquet, trials.svg and model.safetensors
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// Space that settings are drawn from
    #[arg(long, value_enum, default_value = "reference")]
    pub(crate) space: Space,
    #[command(flatten)]
    pub(crate) trials: SearchArgs,
    /// Also measure on the test movies, and print the lines of the reference system
    #[arg(long)]
    pub(crate) report_test: bool,
    #[command(flatten)]
    pub(crate) replace: ReplaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Reference {
    /// Table of movies, as for `prepare`
    #[arg(long, value_name = "FILE|FOLDER|-")]
    pub(crate) input: PathBuf,
    /// Folder that keeps vectors and trials, from which a second run resumes
    #[arg(long, value_name = "FOLDER", default_value = ".runtime/reference")]
    pub(crate) work: PathBuf,
    #[command(flatten)]
    pub(crate) trials: SearchArgs,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    #[command(flatten)]
    pub(crate) replace: ReplaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// Table of movies, as for `prepare`
    #[arg(long, value_name = "FILE|FOLDER|-", required_unless_present = "vectors")]
    pub(crate) input: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) ingest: IngestArgs,
    /// Split to measure on
    #[arg(long, value_enum)]
    pub(crate) split: SplitChoice,
    /// Model file to measure
    #[arg(long, value_name = "FILE.safetensors", default_value = "models/default.safetensors")]
    pub(crate) model: PathBuf,
    /// Table of vectors to use instead of an encoder; repeatable, with the settings of `fit --vectors`
    #[arg(long, value_name = "FILE[,unknown=LABEL]")]
    pub(crate) vectors: Vec<SourceArg>,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Compose texts as if no movie had a title
    #[arg(long, conflicts_with = "vectors")]
    pub(crate) no_title: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    #[command(flatten)]
    pub(crate) sources: SourceArgs,
    /// Model file that the report is about
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) model: PathBuf,
    /// Further model files to compare with it
    #[arg(long, value_name = "FILE.safetensors", num_args = 1..)]
    pub(crate) compare: Vec<PathBuf>,
    /// Markdown file to begin the report with, such as the intended use of the model
    #[arg(long, value_name = "FILE.md")]
    pub(crate) introduction: Option<PathBuf>,
    /// Table with a column `id` and a column for each way to group movies, such as their decade; the
    /// report has the figures of each group
    #[arg(long, value_name = "FILE.csv")]
    pub(crate) groups: Option<PathBuf>,
    /// Skip the baselines, whose fit takes about a minute
    #[arg(long)]
    pub(crate) no_baselines: bool,
    /// Table of movies, written by `trainer prepare`, whose titles name movies in the report
    #[arg(long, value_name = "FILE.parquet")]
    pub(crate) titles: Option<PathBuf>,
    /// Report to write; its figures are written beside it, such as REPORT-reliability.svg
    #[arg(long, value_name = "REPORT.md")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) replace: ReplaceArgs,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number >= 1 => Ok(number),
        _ => Err("expected a whole number, 1 or more".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn rejects_options_of_a_raw_table_for_one_that_prepare_wrote() {
        let parse = |options: &str| {
            let line = format!("trainer encode --movies m.parquet --output v.parquet {options}");
            Cli::try_parse_from(line.split_whitespace())
        };
        assert!(parse("").is_ok());
        for options in [
            "--input movies.csv",
            "--labels l.toml",
            "--labels from-data --min-count 3",
            "--allow-loss",
            "--keep-overview nan",
            "--genres-column tags",
            "--genres-format pipe",
            "--id-column key",
            "--title-column name",
            "--overview-column plot",
            "--input-format csv",
            "--delimiter tab",
            "--quoting double",
            "--max-input-bytes 1000",
        ] {
            assert_eq!(parse(options).unwrap_err().kind(), ErrorKind::ArgumentConflict, "{options}");
        }
    }
}
