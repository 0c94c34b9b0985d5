//! `seeds TARGET FOLDER DICTIONARY`: writes the seeds of a fuzz target into a folder and its
//! dictionary into a file, for libFuzzer. Without arguments, lists each target with its maximal
//! input length.

use std::fmt::Write as _;

use fuzz_targets::TARGETS;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, folder, dictionary] = &arguments[..] else {
        for target in &TARGETS {
            println!("{} {}", target.name, target.max_len);
        }
        return Ok(());
    };
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.ok_or_else(|| std::io::Error::other(format!("no fuzz target is called {name}")))?;
    std::fs::create_dir_all(folder)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(format!("{folder}/seed-{number:02}"), seed)?;
    }
    let mut entries = String::new();
    for entry in target.dictionary {
        entries.push('"');
        for byte in entry.bytes() {
            let _ = write!(entries, "\\x{byte:02x}");
        }
        entries.push_str("\"\n");
    }
    std::fs::write(dictionary, entries)
}
