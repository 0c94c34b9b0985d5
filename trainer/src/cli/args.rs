//! The command line.
#![allow(clippy::doc_markdown, reason = "these comments are the help that is printed")]

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use genre_model::InputTemplate;
use trainer::SplitChoice;
use trainer::data::ingest::columns::{GenresFormat, Layout};
use trainer::encode::shard::Shard;
use trainer::fit::preset::{PresetChanges, PresetName};
use trainer::search::Space;

const EXAMPLES: &str = "\
From Kaggle's movies_metadata.csv to a model and its figures:
  trainer prepare  --input movies_metadata.csv --output movies.parquet
  trainer encode   --movies movies.parquet --output vectors.parquet
  trainer fit      --vectors vectors.parquet --output models/default.safetensors
  trainer evaluate --vectors vectors.parquet --split test --json
  trainer report   --vectors vectors.parquet --model models/default.safetensors --output models/REPORT.md
  trainer search   --vectors vectors.parquet --output search --space ours
  trainer reference --input movies_metadata.csv --embedded

`encode` and `evaluate --input` need an encoder: one that `encoder-svc serve` runs, or --embedded.
What is asked for goes to standard output, all else to standard error; RUST_LOG=debug says more.";

#[derive(Debug, Parser)]
#[command(name = "trainer", version, about = "Movies to vectors, vectors to a genre model, and its figures")]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read Kaggle's CSV, keep the usable movies, and say what was dropped and why
    Prepare(Prepare),
    /// Have movies encoded; stopped at any point, the next run goes on from there
    Encode(Encode),
    /// Make one table of vectors of all shards, the same that one worker writes
    Merge(Merge),
    /// Fit a model on the training movies of a vectors file
    Fit(Box<Fit>),
    /// Try settings by chance, over all cores, and fit the best of them; stopped at any point, the next run goes on
    Search(Search),
    /// The reference system's whole recipe on a data set: encode overviews, search 25 settings, print its four lines
    Reference(Reference),
    /// Measure a model
    Evaluate(Evaluate),
    /// Write a Markdown report of one or more models
    Report(Report),
}

#[derive(Debug, Args)]
pub(crate) struct LayoutArgs {
    /// Column of whole numbers, by which movies are split
    #[arg(long, value_name = "NAME", default_value = "id")]
    pub(crate) id_column: String,
    /// Column of titles
    #[arg(long, value_name = "NAME", default_value = "title")]
    pub(crate) title_column: String,
    /// Column of overviews
    #[arg(long, value_name = "NAME", default_value = "overview")]
    pub(crate) overview_column: String,
    /// Column of genres
    #[arg(long, value_name = "NAME", default_value = "genres")]
    pub(crate) genres_column: String,
    /// How genres stand there: a Python list as Kaggle has it, a JSON list, or names with | between them
    #[arg(long, value_name = "python|json|pipe", value_enum, default_value = "python")]
    pub(crate) genres_format: GenresFormat,
}

impl LayoutArgs {
    pub(crate) fn layout(&self) -> Layout {
        Layout {
            id: self.id_column.clone(),
            title: self.title_column.clone(),
            overview: self.overview_column.clone(),
            genres: self.genres_column.clone(),
            genres_format: self.genres_format,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Prepare {
    /// Kaggle's movies_metadata.csv, plain, gzipped or zipped; its folder; or - for standard input
    #[arg(long, value_name = "FILE|FOLDER|-")]
    pub(crate) input: PathBuf,
    #[command(flatten)]
    pub(crate) layout: LayoutArgs,
    /// The table of usable movies
    #[arg(long, value_name = "FILE.parquet")]
    pub(crate) output: PathBuf,
    /// What was kept and dropped, as JSON
    #[arg(long, value_name = "FILE.json")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct EncoderArgs {
    /// The encoder service, or replicas of it: repeated, or separated by commas; all are kept busy
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051", value_delimiter = ',')]
    pub(crate) encoder: Vec<String>,
    /// Run the encoder in this process instead
    #[arg(long, conflicts_with = "encoder")]
    pub(crate) embedded: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Encode {
    /// Kaggle's movies_metadata.csv, as `prepare` takes it
    #[arg(long, value_name = "FILE|FOLDER|-", required_unless_present = "movies")]
    pub(crate) input: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) layout: LayoutArgs,
    /// A table written by `trainer prepare`
    #[arg(long, value_name = "FILE.parquet", conflicts_with = "input")]
    pub(crate) movies: Option<PathBuf>,
    /// The table of vectors; with a shard, the folder of shards: a path, or a URL of s3, gs, az or file
    #[arg(long, value_name = "FILE.parquet|FOLDER|URL")]
    pub(crate) output: PathBuf,
    /// Encode only the I-th (from 0) of N parts of the movies, such as 0/4. A Kubernetes Indexed Job's
    /// JOB_COMPLETION_INDEX, with JOB_COMPLETIONS set beside it, says the same
    #[arg(long, value_name = "I/N", value_parser = Shard::parse)]
    pub(crate) shard: Option<Shard>,
    /// Where a shard is worked at whose folder is not on this machine
    #[arg(long, value_name = "FOLDER", default_value = ".runtime/shards")]
    pub(crate) work: PathBuf,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// How title and overview become one text; what is in brackets falls away where there is no title
    #[arg(long, default_value = InputTemplate::TITLE_AND_OVERVIEW, value_parser = InputTemplate::parse)]
    pub(crate) template: InputTemplate,
    /// Movies in a part: what is lost at most when the run is stopped
    #[arg(long, value_name = "MOVIES", default_value_t = 256, value_parser = at_least_one)]
    pub(crate) resume_chunk: usize,
    /// Texts in one call
    #[arg(long, value_name = "TEXTS", default_value_t = 16, value_parser = at_least_one)]
    pub(crate) batch: usize,
    /// Calls under way at the same time, for each encoder
    #[arg(long, value_name = "CALLS", default_value_t = 16, value_parser = at_least_one)]
    pub(crate) in_flight: usize,
    /// Give up when no call has succeeded for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) give_up_after: u64,
    /// Throw away what other runs left, and replace an output of other movies or another encoder
    #[arg(long)]
    pub(crate) restart: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// The folder of shards that `trainer encode --shard` wrote
    #[arg(long, value_name = "FOLDER|URL")]
    pub(crate) shards: PathBuf,
    /// The table of vectors
    #[arg(long, value_name = "FILE.parquet")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Fit {
    /// A table written by `trainer encode`, or a folder of shards
    #[arg(long, value_name = "FILE.parquet|FOLDER|URL")]
    pub(crate) vectors: PathBuf,
    /// The model file
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) output: PathBuf,
    /// Where the settings come from that are not given
    #[arg(long, alias = "recipe", value_enum, default_value = "default")]
    pub(crate) preset: PresetName,
    #[command(flatten)]
    pub(crate) changes: PresetChanges,
    /// Measure on the test movies as well, as the reference system printed them
    #[arg(long)]
    pub(crate) report_test: bool,
    /// Fit the baselines on the same vectors, and say their figures: logistic regression, and the majority
    #[arg(long)]
    pub(crate) baselines: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Settings to try
    #[arg(long, default_value_t = 25, value_parser = at_least_one)]
    pub(crate) trials: usize,
    /// Trial i draws everything from seed + i
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Trials at the same time; by default as many as there are cores. The results do not depend on it
    #[arg(long, value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Passes over the training movies at most, in place of the space's own limit
    #[arg(long, value_parser = at_least_one)]
    pub(crate) epochs: Option<usize>,
    /// Throw away the trials that another search left in the folder
    #[arg(long)]
    pub(crate) restart: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// A table written by `trainer encode`, or a folder of shards
    #[arg(long, value_name = "FILE.parquet|FOLDER|URL")]
    pub(crate) vectors: PathBuf,
    /// The folder of journal.jsonl, trials.parquet, trials.svg and model.safetensors
    #[arg(long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// Which settings: those of the reference system, or ours around the default recipe
    #[arg(long, value_enum, default_value = "reference")]
    pub(crate) space: Space,
    #[command(flatten)]
    pub(crate) trials: SearchArgs,
    /// Measure on the test movies as well, as the reference system printed them
    #[arg(long)]
    pub(crate) report_test: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reference {
    /// Kaggle's movies_metadata.csv, as `prepare` takes it
    #[arg(long, value_name = "FILE.csv")]
    pub(crate) input: PathBuf,
    /// Keeps the vectors and the search, so that a second run goes on from there
    #[arg(long, value_name = "FOLDER", default_value = ".runtime/reference")]
    pub(crate) work: PathBuf,
    #[command(flatten)]
    pub(crate) trials: SearchArgs,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// Kaggle's movies_metadata.csv, as `prepare` takes it
    #[arg(long, value_name = "FILE.csv", required_unless_present = "vectors")]
    pub(crate) input: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) layout: LayoutArgs,
    /// Which movies: train, validation, test or all
    #[arg(long, value_enum)]
    pub(crate) split: SplitChoice,
    /// The model file
    #[arg(long, value_name = "FILE.safetensors", default_value = "models/default.safetensors")]
    pub(crate) model: PathBuf,
    /// Take vectors from this table instead of an encoder
    #[arg(long, value_name = "FILE.parquet")]
    pub(crate) vectors: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) encoder: EncoderArgs,
    /// Measure as if no movie had a title
    #[arg(long, conflicts_with = "vectors")]
    pub(crate) no_title: bool,
    /// One JSON object on standard output
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// A table written by `trainer encode`, or a folder of shards
    #[arg(long, value_name = "FILE.parquet|FOLDER|URL")]
    pub(crate) vectors: PathBuf,
    /// The model that the report is about
    #[arg(long, value_name = "FILE.safetensors")]
    pub(crate) model: PathBuf,
    /// Further models to set beside it
    #[arg(long, value_name = "FILE.safetensors", num_args = 1..)]
    pub(crate) compare: Vec<PathBuf>,
    /// Markdown to put at the report's end
    #[arg(long, value_name = "FILE.md")]
    pub(crate) notes: Option<PathBuf>,
    /// Leave out the baselines, which are fitted on the same vectors for the report (a minute)
    #[arg(long)]
    pub(crate) no_baselines: bool,
    /// Name movies by the titles in this table, which `trainer prepare` wrote, and not by their ids alone
    #[arg(long, value_name = "FILE.parquet")]
    pub(crate) titles: Option<PathBuf>,
    /// The report; its plots are written beside it, such as REPORT-reliability.svg
    #[arg(long, value_name = "REPORT.md")]
    pub(crate) output: PathBuf,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number >= 1 => Ok(number),
        _ => Err("expected a whole number, 1 or more".to_owned()),
    }
}
