//! Runs the real command, on movies that tests make up.

// Each test binary compiles its own copy and uses only part of it.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Returns the command, ready to run in `folder`.
pub(crate) fn trainer(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.current_dir(folder).args(line.split(' ')).env("RUST_LOG", "warn");
    command.env_remove("JOB_COMPLETION_INDEX").env_remove("JOB_COMPLETIONS");
    command
}

/// Starts the command without output.
pub(crate) fn spawn(folder: &Path, line: &str) -> Child {
    let mut command = trainer(folder, line);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

pub(crate) fn succeed(folder: &Path, line: &str) -> String {
    finished(trainer(folder, line).output().unwrap(), line)
}

pub(crate) fn finished(output: Output, line: &str) -> String {
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Writes a CSV of synthetic movies in three alternating genres.
pub(crate) fn write_movies(folder: &Path, movies: u64) {
    let genres = ["Drama', 'id': 18", "Comedy', 'id': 35", "War', 'id': 10752"];
    let row = |id: u64| {
        let genre = genres[(id % 3) as usize];
        format!("{id},Movie {id},What happens in number {id},\"[{{'name': '{genre}}}]\"\n")
    };
    let rows: String = (1..=movies).map(row).collect();
    std::fs::write(folder.join("movies.csv"), format!("id,title,overview,genres\n{rows}")).unwrap();
}
