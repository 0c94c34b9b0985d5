//! What each command does: the library's parts, put together.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use genre_model::{GenreModel, write_atomically};
use trainer::encode_job::{self, EncodeJob, EncodeOutcome};
use trainer::encoder_client::{self, EncoderClient};
use trainer::evaluation::{Evaluation, SplitChoice, check_encoder};
use trainer::movie_source::MovieSource;
use trainer::recipe::Recipe;
use trainer::report::{NamedModel, markdown};
use trainer::retry::RetryPolicy;
use trainer::table_file::TableError;
use trainer::{FittingData, Load, Progress, Split, Vectors, embedded, fit_job, plots, prepare};

use crate::args::{Command, Encode, EncoderArgs, Evaluate, Fit, Prepare, RecipeName, Report};

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Prepare(args) => prepare(&args),
        Command::Encode(args) => block_on(encode(args)),
        Command::Fit(args) => fit(&args),
        Command::Evaluate(args) => evaluate(&args),
        Command::Report(args) => report(&args),
    }
}

fn prepare(args: &Prepare) -> Result<()> {
    let report = prepare::run(&args.input, &args.output, args.report.as_deref())?;
    print(&format!("{report}\n\nwrote {}", args.output.display()))
}

async fn encode(args: Encode) -> Result<()> {
    let source = match (args.input, args.movies) {
        (Some(path), _) => MovieSource::Kaggle(path),
        (None, Some(path)) => MovieSource::MoviesFile(path),
        (None, None) => bail!("expected --input or --movies"),
    };
    let policy = RetryPolicy { patience: Duration::from_secs(args.give_up_after), ..RetryPolicy::default() };
    let client = connect(&args.encoder, policy).await?;
    let job = EncodeJob {
        source,
        output: args.output,
        template: args.template,
        chunk: args.resume_chunk,
        load: Load { batch: args.batch, in_flight: args.in_flight },
        restart: args.restart,
    };
    let path = job.output.display();
    match encode_job::run(&job, &client).await? {
        EncodeOutcome::NothingToDo { films } => {
            print(&format!("nothing to do: {path} holds these {films} films' vectors already"))
        }
        EncodeOutcome::Encoded { films, resumed: 0 } => print(&format!("wrote {path}: {films} films")),
        EncodeOutcome::Encoded { films, resumed } => {
            print(&format!("wrote {path}: {films} films, {resumed} of them encoded by an earlier run"))
        }
    }
}

fn fit(args: &Fit) -> Result<()> {
    let vectors = read_vectors(&args.vectors)?;
    let data =
        FittingData::of(&vectors).with_context(|| format!("vectors file {}", args.vectors.display()))?;
    let recipe = recipe(args);
    let epochs = recipe.check()?.max_epochs() * recipe.ensemble;
    let progress = Progress::new(epochs, "epochs at most");
    let model = fit_job::fit(&data, &recipe, |_, losses| {
        let validation = losses.validation.unwrap_or(f64::NAN);
        progress.say(format!("training loss {:.4}, validation loss {validation:.4}", losses.train));
        progress.advance(1);
    })?;
    progress.finish();
    model.save(&args.output)?;

    let mut lines = Vec::new();
    let parts = if args.report_test { vec![Split::Validation, Split::Test] } else { vec![Split::Validation] };
    for split in parts {
        let figures = Evaluation::of(&model, &vectors, SplitChoice::One(split))?;
        let name = if split == Split::Test { "Test" } else { "Val" };
        // The reference system's lines, to the letter: scripts may look for them.
        lines.push(format!("{name} data f1 score: {:.4}", figures.micro_f1_at_0_5));
        lines.push(format!("{name} data f1 score tuned: {:.4}", figures.micro_f1));
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

fn recipe(args: &Fit) -> Recipe {
    let mut recipe = match args.recipe {
        RecipeName::Default => Recipe::best(),
        RecipeName::Reference => Recipe::reference(),
    };
    let plain = recipe.clone();
    macro_rules! change {
        ($($arg:ident => $setter:ident),*) => {
            $(if let Some(value) = args.$arg {
                recipe.params = recipe.params.$setter(value);
            })*
        };
    }
    change!(
        units => units, activation => activation, dropout => dropout, input_dropout => input_dropout,
        learning_rate => learning_rate, batch_size => batch_size, weight_decay => weight_decay,
        label_smoothing => label_smoothing, standardise => standardise, seed => seed, epochs => max_epochs,
        patience => patience
    );
    recipe.ensemble = args.ensemble.unwrap_or(recipe.ensemble);
    recipe.calibrate = args.calibrate.unwrap_or(recipe.calibrate);
    recipe.threshold_rule = args.threshold_rule.unwrap_or(recipe.threshold_rule);
    if recipe != plain {
        recipe.name.push_str(" (changed)");
    }
    recipe
}

fn evaluate(args: &Evaluate) -> Result<()> {
    let model = GenreModel::load(&args.model)?;
    let vectors = match &args.vectors {
        Some(path) => {
            let vectors = read_vectors(path)?;
            if let Some(input) = &args.input {
                let digest = MovieSource::Kaggle(input.clone()).inventory()?.data_digest;
                if digest != vectors.data_digest {
                    let (vectors, input) = (path.display(), input.display());
                    bail!("vectors file {vectors}: expected the films of {input}, found other films");
                }
            }
            vectors
        }
        None => block_on(encode_for(args, &model))?,
    };
    let figures = Evaluation::of(&model, &vectors, args.split).with_context(|| {
        let source = args.vectors.as_ref().or(args.input.as_ref());
        format!(
            "model file {}, films of {}",
            args.model.display(),
            source.map_or(String::new(), |path| path.display().to_string())
        )
    })?;
    if args.json { print(&serde_json::to_string(&figures)?) } else { print(&figures.table()) }
}

async fn encode_for(args: &Evaluate, model: &GenreModel) -> Result<Vectors> {
    let Some(input) = &args.input else { bail!("expected --input or --vectors") };
    let client = connect(&args.encoder, RetryPolicy::default()).await?;
    check_encoder(model, &client.description().identity)
        .with_context(|| format!("model file {}", args.model.display()))?;
    let (source, template) = (MovieSource::Kaggle(input.clone()), &model.provenance().input_template);
    Ok(encode_job::encode_in_memory(&source, args.split, &client, template, !args.no_title).await?)
}

fn report(args: &Report) -> Result<()> {
    let vectors = read_vectors(&args.vectors)?;
    let load = |path: &Path| -> Result<NamedModel> {
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        Ok(NamedModel { name, model: GenreModel::load(path)? })
    };
    let paths = std::iter::once(&args.model).chain(&args.compare);
    let models = paths.map(|path| load(path)).collect::<Result<Vec<_>>>()?;
    let context = || format!("vectors file {}", args.vectors.display());
    let mut text = markdown(&models, &vectors).with_context(context)?;
    let plot = reliability_path(&args.output);
    let drawing = plots::reliability(&models[0].model, &vectors)?;
    write_atomically(&plot, drawing.as_bytes()).with_context(|| format!("plot {}", plot.display()))?;
    text += "\n## Reliability, test films\n\n![share of films that have a genre, by its probability](";
    text += &plot.file_name().unwrap_or_default().to_string_lossy();
    text += ")\n";
    if let Some(notes) = &args.notes {
        let notes = std::fs::read_to_string(notes).with_context(|| format!("notes {}", notes.display()))?;
        text.push('\n');
        text.push_str(&notes);
    }
    write_atomically(&args.output, text.as_bytes())
        .with_context(|| format!("report {}", args.output.display()))?;
    print(&format!("wrote {}", args.output.display()))
}

fn reliability_path(report: &Path) -> PathBuf {
    let stem = report.file_stem().unwrap_or_default().to_string_lossy();
    report.with_file_name(format!("{stem}-reliability.svg"))
}

async fn connect(args: &EncoderArgs, policy: RetryPolicy) -> Result<EncoderClient> {
    let (channel, what) = if args.embedded {
        (embedded::channel().await?, "embedded encoder".to_owned())
    } else {
        (encoder_client::channel(&args.encoder)?, args.encoder.clone())
    };
    let client = EncoderClient::connect(channel, policy).await.with_context(|| what.clone())?;
    tracing::info!("encoder {} at {what}", client.description().identity);
    Ok(client)
}

fn read_vectors(path: &Path) -> Result<Vectors> {
    Vectors::read(path).map_err(|error: TableError| anyhow::anyhow!("vectors file {error}"))
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

/// Standard output; a reader that has left is no error.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
