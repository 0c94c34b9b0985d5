//! `seeds TARGET FOLDER DICTIONARY`: writes the target's seeds into the folder and its words into the dictionary, for libFuzzer.

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
    let target = target.ok_or_else(|| std::io::Error::other(format!("there is no target {name}")))?;
    std::fs::create_dir_all(folder)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(format!("{folder}/seed-{number:02}"), seed)?;
    }
    let mut words = String::new();
    for word in target.words {
        words.push('"');
        for byte in word.bytes() {
            let _ = write!(words, "\\x{byte:02x}");
        }
        words.push_str("\"\n");
    }
    std::fs::write(dictionary, words)
}
