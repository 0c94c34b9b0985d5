//! One function per command.

mod classify;
mod outputs;
mod search;
mod sources;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use encoder_client::BulkPolicy;
use genre_model::{GenreModel, LabelSet, write_atomically};
use movie_table::Source;
use trainer::classify::merge as merge_results;
use trainer::data::ingest::prepare;
use trainer::data::movie_source::MovieSource;
use trainer::encode::job::{self as encode_job, EncodeJob, EncodeOutcome};
use trainer::encode::shard_store::ShardFolder;
use trainer::evaluate::baselines;
use trainer::evaluate::evaluation::{Evaluation, check_encoder};
use trainer::evaluate::report::{self, Details, Grouping, NamedModel, markdown};
use trainer::fit;
use trainer::fit::loss_curves::{LossCurves, LossRecorder};
use trainer::fit::preset::Preset;
use trainer::{FittingData, Progress, Split, SplitChoice, Vectors};

use self::sources::Sources;
use crate::cli::args::{Command, Encode, Evaluate, Fit, IngestArgs, Merge, Prepare, Report};
use crate::cli::runtime::block_on;

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Prepare(args) => prepare(&args),
        Command::Encode(args) => block_on(encode(args)),
        Command::Merge(args) => block_on(merge(&args)),
        Command::Fit(args) => fit(&args),
        Command::Search(args) => search::search(&args),
        Command::Reference(args) => search::reference(&args),
        Command::Evaluate(args) => evaluate(&args),
        Command::Classify(args) => block_on(classify::classify(&args)),
        Command::Report(args) => report(&args),
    }
}

fn prepare(args: &Prepare) -> Result<()> {
    outputs::of_prepare(args).check()?;
    let mut input = Source::new(&args.input);
    if args.ingest.labels_are_from_data() {
        input = input.spooled(args.ingest.table.max_input_bytes)?;
    }
    let options = args.ingest.options(&input, LabelSet::built_in())?;
    let report = prepare::run(&input, &options, &args.output, args.report.as_deref())?;
    print(&format!("{report}\n\nwrote {}", args.output.display()))
}

async fn encode(args: Encode) -> Result<()> {
    let shard = args.shard.shard()?;
    outputs::of_encode(&args, shard)?.check_all().await?;
    let source = match (&args.input, args.movies) {
        (Some(input), _) => table(input, &args.ingest, LabelSet::built_in())?,
        (None, Some(path)) => MovieSource::MoviesFile(path),
        (None, None) => bail!("expected --input or --movies"),
    };
    let client = args.encoder.connect(args.load.policy()).await?;
    let job = EncodeJob {
        source,
        output: args.output,
        template: args.template,
        chunk: args.resume_chunk,
        load: args.load.load(),
        restart: args.restart,
        shard: None,
    };
    let (outcome, path) = match shard {
        None => (encode_job::run(&job, &client).await?, job.output.display().to_string()),
        Some(shard) => {
            let folder = ShardFolder::open(&job.output)?;
            let path = format!("shard {shard} in {}", job.output.display());
            let job = EncodeJob { output: args.work, ..job };
            (encode_job::run_shard(&job, shard, &folder, &client).await?, path)
        }
    };
    match outcome {
        EncodeOutcome::NothingToDo { movies } => {
            print(&format!("nothing to do: {path} already holds the vectors of these {movies} movies"))
        }
        EncodeOutcome::Encoded { movies, resumed: 0 } => print(&format!("wrote {path}: {movies} movies")),
        EncodeOutcome::Encoded { movies, resumed } => {
            print(&format!("wrote {path}: {movies} movies, {resumed} of them encoded by an earlier run"))
        }
    }
}

fn fit(args: &Fit) -> Result<()> {
    outputs::of_fit(args).check()?;
    let sources = Sources::read(&args.sources.vectors)?;
    let data = sources.fitting_data()?;
    let preset = Preset::named(args.preset).with(&args.changes);
    preset.check()?;
    let epochs = preset.network.max_epochs * preset.model.ensemble;
    let progress = Progress::new(epochs, "epochs, at most");
    let recorder = LossRecorder::default();
    let model = fit::job::fit(&data, &preset, |member, losses| {
        recorder.record(member, losses);
        let validation = losses.validation.unwrap_or(f64::NAN);
        progress.say(format!("training loss {:.4}, validation loss {validation:.4}", losses.train));
        progress.advance(1);
    })?;
    progress.finish();
    model.save(&args.output)?;
    recorder
        .finish(model.version())
        .save_beside(&args.output)
        .with_context(|| format!("loss curves {}", LossCurves::path_beside(&args.output).display()))?;

    let mut lines = reference_lines(&model, &sources.measured()?, args.report_test)?;
    if args.baselines {
        for NamedModel { name, model } in baselines(&data)? {
            let metrics = &model.provenance().metrics;
            let (micro, macro_) = (metrics["validation_micro_f1"], metrics["validation_macro_f1"]);
            lines.push(format!("baseline {name}: validation micro-F1 {micro:.4}, macro-F1 {macro_:.4}"));
        }
    }
    let metrics = &model.provenance().metrics;
    lines.push(format!(
        "wrote {}: model {}, {} hidden units, validation loss {:.4} after {} epochs, thresholds by {}",
        args.output.display(),
        model.version(),
        model.mlp().units(),
        metrics["validation_loss"],
        metrics["epochs"],
        model.thresholds().rule(),
    ));
    print(&lines.join("\n"))
}

/// Returns the lines of the reference system, verbatim, since scripts may search for them.
fn reference_lines(model: &GenreModel, vectors: &Vectors, with_test: bool) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (split, name) in [(Split::Validation, "Val"), (Split::Test, "Test")] {
        if split == Split::Test && !with_test {
            continue;
        }
        let figures = Evaluation::of(model, vectors, SplitChoice::One(split))?;
        lines.push(format!("{name} data f1 score: {:.4}", figures.micro_f1_at_0_5));
        lines.push(format!("{name} data f1 score tuned: {:.4}", figures.micro_f1));
    }
    Ok(lines)
}

fn baselines(data: &FittingData) -> Result<Vec<NamedModel>> {
    let named = |name: &str, model| NamedModel { name: name.to_owned(), model };
    Ok(vec![
        named("logistic regression", baselines::logistic(data)?),
        named("majority", baselines::majority(data)?),
    ])
}

fn evaluate(args: &Evaluate) -> Result<()> {
    let model = GenreModel::load(&args.model)?;
    let vectors = match &args.vectors[..] {
        [] => block_on(encode_for(args, &model))?,
        sources => {
            let vectors = Sources::read(sources)?.measured()?;
            if let Some(input) = &args.input {
                let source = table(input, &args.ingest, vectors.labels.clone())?;
                let digest = source.inventory()?.data_digest;
                if digest != vectors.data_digest {
                    let (vectors, input) = (sources[0].path.display(), input.display());
                    bail!("vectors file {vectors}: expected the movies of {input}, found other movies");
                }
            }
            vectors
        }
    };
    let figures = Evaluation::of(&model, &vectors, args.split).with_context(|| {
        let source = args.vectors.first().map(|source| &source.path).or(args.input.as_ref());
        format!(
            "model file {}, movies of {}",
            args.model.display(),
            source.map_or(String::new(), |path| path.display().to_string())
        )
    })?;
    if args.json { print(&serde_json::to_string(&figures)?) } else { print(&figures.table()) }
}

async fn encode_for(args: &Evaluate, model: &GenreModel) -> Result<Vectors> {
    let Some(input) = &args.input else { bail!("expected --input or --vectors") };
    let client = args.encoder.connect(BulkPolicy::default()).await?;
    check_encoder(model, &client.description().identity)
        .with_context(|| format!("model file {}", args.model.display()))?;
    let labels =
        LabelSet::of_names(model.labels()).with_context(|| format!("model file {}", args.model.display()))?;
    let source = table(input, &args.ingest, labels)?;
    let template = &model.provenance().input_template;
    Ok(encode_job::encode_in_memory(&source, args.split, &client, template, !args.no_title).await?)
}

fn report(args: &Report) -> Result<()> {
    outputs::of_report(args).check()?;
    let sources = Sources::read(&args.sources.vectors)?;
    let load = |path: &Path| -> Result<NamedModel> {
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(NamedModel { name, model: GenreModel::load(path)? })
    };
    let paths = std::iter::once(&args.model).chain(&args.compare);
    let mut models = paths.map(|path| load(path)).collect::<Result<Vec<_>>>()?;
    if !args.no_baselines {
        models.extend(baselines(&sources.fitting_data()?)?);
    }
    let names = sources.names();
    let vectors = sources.measured()?;
    let introduction = match &args.introduction {
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("introduction {}", path.display()))?
        }
        None => String::new(),
    };
    let groupings = match &args.groups {
        Some(path) => Grouping::read(path).map_err(|error| anyhow!("groups {error}"))?,
        None => Vec::new(),
    };
    let mut text = markdown(&introduction, &models, &vectors).with_context(|| names)?;
    let titles = titles(args.titles.as_deref())?;
    let subject = &models[0].model;
    let curves = LossCurves::load_beside(&args.model, subject.version())
        .with_context(|| format!("loss curves {}", LossCurves::path_beside(&args.model).display()))?;
    let details =
        Details { curves: curves.as_ref(), titles: &|id| titles.get(&id).cloned(), groupings: &groupings };
    let stem = args.output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (more, figures) = report::details(subject, &vectors, &details, &stem)?;
    text += &more;
    for figure in figures {
        let path = report::figure_path(&args.output, figure.name);
        write_atomically(&path, figure.svg.as_bytes()).with_context(|| format!("plot {}", path.display()))?;
    }
    write_atomically(&args.output, text.as_bytes())
        .with_context(|| format!("report {}", args.output.display()))?;
    print(&format!("wrote {}", args.output.display()))
}

/// Returns the titles in a table of movies by id, or none without a table.
fn titles(movies: Option<&Path>) -> Result<HashMap<u64, String>> {
    let Some(path) = movies else { return Ok(HashMap::new()) };
    let movies = MovieSource::MoviesFile(path.to_owned()).open()?;
    movies.map(|movie| movie.map(|movie| (movie.id, movie.title)).map_err(Into::into)).collect()
}

/// A table of movies that can be read more than once.
fn table(input: &Path, args: &IngestArgs, labels: LabelSet) -> Result<MovieSource> {
    let source = Source::new(input).spooled(args.table.max_input_bytes)?;
    let options = args.options(&source, labels)?;
    Ok(MovieSource::Table(source, options))
}

async fn merge(args: &Merge) -> Result<()> {
    let is_of_results = merge_results::has_results(&args.shards).await?;
    outputs::of_merge(args, is_of_results).check()?;
    if let Some(folder) = trainer::store::local(&args.shards)
        && !folder.is_dir()
    {
        bail!("--shards {}: expected a folder of shards, found none", folder.display());
    }
    if is_of_results {
        let summary = merge_results::merge(&args.shards, &args.output).await?;
        return print(&format!("wrote {}: {summary}", args.output.display()));
    }
    let movies = ShardFolder::open(&args.shards)?.merge(&args.output).await?;
    print(&format!("wrote {}: {movies} movies", args.output.display()))
}

/// Prints to standard output. The work goes on if nothing reads it.
fn print(text: &str) -> Result<()> {
    Ok(service_kit::print(text)?)
}
