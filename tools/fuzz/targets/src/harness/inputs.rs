//! Inputs: seeds, inputs of several sections, and files for readers that take a path.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Separates the sections of an input, on a line of its own.
pub(crate) const SEPARATOR: &[u8] = b"\n====\n";

/// Returns the first `N` sections of an input. Missing sections are empty; the last one takes the
/// rest.
pub(crate) fn split<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = data;
    std::array::from_fn(|index| {
        let at = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        match at.filter(|_| index + 1 < N) {
            Some(at) => {
                let section = &rest[..at];
                rest = &rest[at + SEPARATOR.len()..];
                section
            }
            None => std::mem::take(&mut rest),
        }
    })
}

/// The dictionary of a target that reads JSON: its own fragments, and those of every JSON.
macro_rules! json_dictionary {
    ($($own:literal),* $(,)?) => {
        &[
            $($own,)*
            "null",
            "\\ud800",
            "\\u0000",
            "\\ud83c\\udfac",
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            "1e999",
            "\u{feff}",
            "é",
            "\"",
        ]
    };
}
pub(crate) use json_dictionary;

/// Returns the bytes of each seed.
pub(crate) fn seeds_of<T: AsRef<[u8]>>(seeds: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    seeds.into_iter().map(|seed| seed.as_ref().to_vec()).collect()
}

/// Returns a seed whose first byte selects the method to call.
pub(crate) fn seed_with_mode(mode: u8, body: &[u8]) -> Vec<u8> {
    [&[mode], body].concat()
}

/// Writes `content` to a file of the thread's temporary folder and returns its path.
pub(crate) fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, content).expect("a temporary file can be written");
    path
}

/// Returns the thread's temporary folder, which is removed when the thread ends.
pub(crate) fn folder() -> PathBuf {
    thread_local! {
        static FOLDER: RefCell<Option<TempDir>> = const { RefCell::new(None) };
    }
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(|| in_memory().expect("a temporary folder can be created"));
        folder.path().to_owned()
    })
}

/// Creates a temporary folder, in memory if the system offers it.
fn in_memory() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(folder) = tempfile::Builder::new().prefix("fuzz-").tempdir_in(memory)
    {
        return Ok(folder);
    }
    tempfile::tempdir()
}

/// Returns the path of a file or folder of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_sections_are_empty_and_the_last_one_takes_the_rest() {
        assert_eq!(split::<2>(b"a\n====\nb\n====\nc"), [&b"a"[..], b"b\n====\nc"]);
        assert_eq!(split::<3>(b"a"), [&b"a"[..], b"", b""]);
    }
}
