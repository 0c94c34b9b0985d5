//! The source of models: loads a model, and reports when a new one may be available.

use std::path::PathBuf;
use std::time::Duration;

use genre_model::{GenreModel, ModelFileError};
use service_kit::FileWatch;

/// A source of models. The simulation has its own.
pub trait ModelSource: Send + 'static {
    /// Returns when the model may have changed.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;

    /// Reads and checks the model.
    fn load(&mut self) -> impl Future<Output = Result<GenreModel, ModelFileError>> + Send;
}

/// A model file on disk.
pub struct ModelFile {
    path: PathBuf,
    watch: FileWatch,
}

impl ModelFile {
    /// Watches the file, and checks it every `poll` even without a change event.
    #[must_use]
    pub fn watch(path: PathBuf, poll: Duration) -> Self {
        Self { watch: FileWatch::new(vec![path.clone()], poll), path }
    }
}

impl ModelSource for ModelFile {
    async fn changed(&mut self) {
        self.watch.changed().await;
    }

    async fn load(&mut self) -> Result<GenreModel, ModelFileError> {
        let path = self.path.clone();
        // Reading and hashing megabytes would delay the calls on this thread.
        tokio::task::spawn_blocking(move || GenreModel::load(&path)).await.unwrap_or_else(|error| {
            let reason = format!("reading it failed: {error}");
            Err(ModelFileError::Invalid { path: self.path.clone(), reason })
        })
    }
}
