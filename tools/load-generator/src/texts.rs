//! What is encoded: real overviews, or made-up ones where there are none.

use std::path::Path;

const WORDS: [&str; 12] =
    ["a", "pilot", "hunts", "the", "smuggler", "who", "burned", "her", "harbour", "and", "storms", "home"];

/// `count` texts, no two alike, and where they come from; fewer where the data has fewer.
#[must_use]
pub fn texts(data: &Path, count: usize) -> (Vec<String>, String) {
    if let Ok(mut reader) = csv::ReaderBuilder::new().flexible(true).from_path(data)
        && let Some(column) =
            reader.headers().ok().and_then(|names| names.iter().position(|name| name == "overview"))
    {
        let mut seen = std::collections::HashSet::new();
        let overviews = reader.records().filter_map(|record| record.ok()?.get(column).map(str::to_owned));
        let texts: Vec<_> = overviews
            .filter(|text| !text.trim().is_empty() && seen.insert(text.clone()))
            .take(count)
            .collect();
        if !texts.is_empty() {
            return (texts, data.display().to_string());
        }
    }
    println!("no overviews at {}: texts are made up, of 20 to 100 words", data.display());
    let text = |i: usize| {
        let words = (0..20 + i * 37 % 81).map(|j| WORDS[(i * 7 + j * j) % WORDS.len()]);
        format!("{i} {}", words.collect::<Vec<_>>().join(" "))
    };
    ((0..count).map(text).collect(), "made-up text".to_owned())
}
