//! Texts to encode: movie overviews, or generated texts where no data is at hand.
#![allow(clippy::doc_markdown, reason = "doc comments of arguments are the text of --help")]

use std::path::{Path, PathBuf};

/// The words of generated texts.
pub const WORDS: [&str; 12] =
    ["a", "pilot", "hunts", "the", "smuggler", "who", "burned", "her", "harbour", "and", "storms", "home"];

/// Options that choose the texts.
#[derive(clap::Args)]
pub struct TextArguments {
    /// A movies_metadata.csv whose overviews are encoded; if it is missing, texts are generated
    #[arg(long, value_name = "CSV", default_value = "../shared/data/movies_metadata.csv")]
    pub data: PathBuf,
    /// Number of different texts
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub texts: usize,
}

impl TextArguments {
    /// Returns distinct texts and a description of their source. Data with too few overviews gives
    /// fewer texts.
    #[must_use]
    pub fn read(&self) -> (Vec<String>, String) {
        let overviews = overviews(&self.data, self.texts).unwrap_or_default();
        if !overviews.is_empty() {
            return (overviews, self.data.display().to_string());
        }
        println!("found no overviews at {}: generating texts of 20 to 100 words", self.data.display());
        ((0..self.texts).map(generated).collect(), "generated text".to_owned())
    }
}

fn overviews(data: &Path, count: usize) -> Option<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(data).ok()?;
    let column = reader.headers().ok()?.iter().position(|name| name == "overview")?;
    let mut seen = std::collections::HashSet::new();
    let overviews = reader.records().filter_map(|record| record.ok()?.get(column).map(str::to_owned));
    let distinct = overviews.filter(|text| !text.trim().is_empty() && seen.insert(text.clone()));
    Some(distinct.take(count).collect())
}

fn generated(i: usize) -> String {
    let words = (0..20 + i * 37 % 81).map(|j| WORDS[(i * 7 + j * j) % WORDS.len()]);
    format!("{i} {}", words.collect::<Vec<_>>().join(" "))
}
