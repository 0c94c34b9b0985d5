//! ONNX Runtime's shared library.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

/// Where `make models` puts it, seen from the repository's root.
pub const DEFAULT_LIBRARY: &str = ".runtime/lib/libonnxruntime.so";
/// Names another, as everywhere where ort is used.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// The library cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "ONNX Runtime library {path}: {reason} (`make models` puts it at {DEFAULT_LIBRARY}; the setting `encoder.runtime_library` or the variable {VARIABLE} names another)"
)]
pub struct RuntimeError {
    path: PathBuf,
    reason: String,
}

// The library can be loaded once a process; sessions hold it by reference, this keeps it for the next one.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Loads the library: the one given, else the one that the environment names, else the default one. Once a process
/// has one loaded, that one is used whatever is asked for.
pub fn load(library: Option<&Path>) -> Result<Environment, RuntimeError> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = environment.as_ref() {
        return Ok(environment.clone());
    }
    let from_variable = std::env::var_os(VARIABLE).map(PathBuf::from);
    let path = library.map(Path::to_owned).or(from_variable).unwrap_or_else(|| DEFAULT_LIBRARY.into());
    let fail = |reason: String| RuntimeError { path: path.clone(), reason };
    // dlopen looks for a name without a slash in the system's folders; for anything else the file must be there.
    if path.components().count() > 1 && !path.is_file() {
        return Err(fail("no such file".to_owned()));
    }
    let builder = ort::init_from(&path).map_err(|error| fail(error.to_string()))?;
    // Nothing that runs here is to be reported to anybody.
    let loaded = builder.with_telemetry(false).build().map_err(|error| fail(error.to_string()))?;
    Ok(environment.insert(loaded).clone())
}
