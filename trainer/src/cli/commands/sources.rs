//! Tables of vectors given with `--vectors`, to fit and to measure on.

use anyhow::{Context as _, Result, anyhow, bail};
use trainer::data::table_file::TableError;
use trainer::encode::shard_store::ShardFolder;
use trainer::{Copies, FittingData, FittingSource, Vectors};

use crate::cli::runtime::block_on;
use crate::cli::source_arg::SourceArg;

/// The tables of several arguments, in memory.
pub(super) struct Sources<'a> {
    args: &'a [SourceArg],
    tables: Vec<Vectors>,
}

impl<'a> Sources<'a> {
    pub(super) fn read(args: &'a [SourceArg]) -> Result<Self> {
        let tables = args.iter().map(read).collect::<Result<_>>()?;
        Ok(Self { args, tables })
    }

    /// Returns the movies to fit on, and reports those that appear twice.
    pub(super) fn fitting_data(&self) -> Result<FittingData> {
        let sources = self.args.iter().zip(&self.tables);
        let sources: Vec<_> = sources
            .map(|(arg, vectors)| FittingSource { vectors, is_train_only: arg.is_train_only })
            .collect();
        let data = FittingData::join(&sources).with_context(|| self.names())?;
        if data.dropped() != Copies::default() {
            tracing::info!("left out {}", data.dropped());
        }
        Ok(data)
    }

    /// Returns the movies to measure on: those of all tables that are not only for training.
    pub(super) fn measured(mut self) -> Result<Vectors> {
        let names = self.names();
        let mut measured = self.args.iter().map(|arg| !arg.is_train_only);
        self.tables.retain(|_| measured.next().unwrap_or_default());
        concatenated(self.tables).with_context(|| names)
    }

    /// Names the tables, for errors.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.args.iter().map(|arg| arg.path.display().to_string()).collect();
        format!("vectors file {}", names.join(", "))
    }
}

fn concatenated(mut tables: Vec<Vectors>) -> Result<Vectors> {
    match &tables[..] {
        [] => Err(anyhow!("expected a table that is not train-only, found none")),
        [_] => Ok(tables.remove(0)),
        _ => Vectors::concatenated(&tables).map_err(|what| {
            anyhow!("expected vectors of one encoder, template and label set, found different {what}s")
        }),
    }
}

fn read(arg: &SourceArg) -> Result<Vectors> {
    let path = &arg.path;
    let mut vectors = if ShardFolder::is_one(path) {
        let folder = ShardFolder::open(path)?;
        block_on(async { Ok(folder.vectors().await?) })?
    } else {
        Vectors::read(path).map_err(|error: TableError| anyhow!("vectors file {error}"))?
    };
    for name in &arg.unknown {
        let Some(label) = vectors.labels.names().position(|label| label == name) else {
            let labels = vectors.labels.names().collect::<Vec<_>>().join(", ");
            bail!("--vectors {}: unknown={name}: expected one of {labels}", path.display());
        };
        vectors.set_unknown(label);
    }
    Ok(vectors)
}
