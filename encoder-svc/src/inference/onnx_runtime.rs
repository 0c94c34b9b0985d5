//! Loading the shared library of ONNX Runtime.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use ort::environment::Environment;

/// Where `make models` puts the library, relative to the repository's root.
pub const DEFAULT_LIBRARY: &str = ".runtime/lib/libonnxruntime.so";
/// The environment variable that `ort` reads to choose another library.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// ONNX Runtime's library cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error(
    "ONNX Runtime library {path}: {reason} (`make models` puts it at {DEFAULT_LIBRARY}; set `encoder.runtime_library` or {VARIABLE} to use another)"
)]
pub struct RuntimeError {
    path: PathBuf,
    reason: String,
}

// A process can load the library only once. This value keeps it for all later sessions.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Loads `library`, or the one that the environment names, or the default one. If the process has
/// already loaded a library, returns that one.
pub fn load(library: Option<&Path>) -> Result<Environment, RuntimeError> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = environment.as_ref() {
        return Ok(environment.clone());
    }
    let from_variable = std::env::var_os(VARIABLE).map(PathBuf::from);
    let path = library.map(Path::to_owned).or(from_variable).unwrap_or_else(|| DEFAULT_LIBRARY.into());
    let fail = |reason: String| RuntimeError { path: path.clone(), reason };
    // dlopen searches the system's folders for a name without a slash. Anything else must be a
    // file.
    if path.components().count() > 1 && !path.is_file() {
        return Err(fail("no such file".to_owned()));
    }
    let builder = ort::init_from(&path).map_err(|error| fail(error.to_string()))?;
    // Without this, ONNX Runtime may send telemetry to its vendor.
    let loaded = builder.with_telemetry(false).build().map_err(|error| fail(error.to_string()))?;
    Ok(environment.insert(loaded).clone())
}
