//! `classify`.

use anyhow::{Context as _, Result};
use genre_model::GenreModel;
use trainer::classify::input::Input;
use trainer::classify::job::{self, ClassifyJob};
use trainer::evaluate::evaluation::check_encoder;

use super::{outputs, print};
use crate::cli::args::Classify;

pub(super) async fn classify(args: &Classify) -> Result<()> {
    let shard = args.shard.shard()?;
    let outputs = outputs::of_classify(args, shard)?;
    outputs.check()?;
    let model = GenreModel::load(&args.model)?;
    let input = Input::new(&args.input, args.table.options()).await.context("--input")?;
    // The job rejects an output that is an input.
    if !input.reads_from(&args.output, shard.is_some()) {
        outputs.check_all().await?;
    }
    let client = args.encoder.connect(args.load.policy()).await?;
    check_encoder(&model, &client.description().identity)
        .with_context(|| format!("model file {}", args.model.display()))?;
    let job = ClassifyJob {
        input,
        output: args.output.clone(),
        work: args.work.clone(),
        chunk: args.resume_chunk,
        load: args.load.load(),
        restart: args.restart,
        shard,
    };
    let outcome = job::run(&job, &client, &model).await?;
    let (path, summary) = (outcome.output.display(), &outcome.summary);
    match outcome.resumed {
        0 => print(&format!("wrote {path}: {summary}")),
        resumed if resumed == summary.rows => {
            print(&format!("nothing to do: {path} already holds the results: {summary}"))
        }
        resumed => print(&format!("wrote {path}, {resumed} rows of it by an earlier run: {summary}")),
    }
}
