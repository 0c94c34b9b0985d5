//! Inputs of several parts, and files that readers want to be given by their path.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Stands between the parts of an input, on a line of its own.
pub(crate) const SEPARATOR: &[u8] = b"\n====\n";

/// The first `N` parts of an input, empty where it has fewer; the last is all the rest.
pub(crate) fn split<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = data;
    std::array::from_fn(|index| {
        let at = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        match at.filter(|_| index + 1 < N) {
            Some(at) => {
                let part = &rest[..at];
                rest = &rest[at + SEPARATOR.len()..];
                part
            }
            None => std::mem::take(&mut rest),
        }
    })
}

/// Writes `content` into the file of that name, the same one each time in a thread.
pub(crate) fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, content).expect("a temporary file can be written");
    path
}

/// The thread's folder, which goes with it.
pub(crate) fn folder() -> PathBuf {
    thread_local! {
        static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
    }
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| in_memory().expect("a temporary folder can be made"));
        folder.path().to_owned()
    })
}

/// In memory where the system has such a place.
fn in_memory() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(folder) = tempfile::Builder::new().prefix("fuzz-").tempdir_in(memory)
    {
        return Ok(folder);
    }
    tempfile::tempdir()
}

/// A folder or file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_missing_are_empty_and_the_last_takes_the_rest() {
        assert_eq!(split::<2>(b"a\n====\nb\n====\nc"), [&b"a"[..], b"b\n====\nc"]);
        assert_eq!(split::<3>(b"a"), [&b"a"[..], b"", b""]);
    }
}
