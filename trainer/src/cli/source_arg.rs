//! A table of vectors to fit on, with what its source does not know.

use std::path::PathBuf;
use std::str::FromStr;

/// `FILE[,unknown=LABEL+LABEL][,train-only]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceArg {
    /// Table of vectors, or a folder of shards.
    pub(crate) path: PathBuf,
    /// Names of labels that the source does not know.
    pub(crate) unknown: Vec<String>,
    /// Whether only its training movies are used.
    pub(crate) is_train_only: bool,
}

impl FromStr for SourceArg {
    type Err = String;

    /// Settings are read from the end, so a path may contain commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut path, mut unknown, mut is_train_only) = (text, Vec::new(), false);
        while let Some((rest, setting)) = path.rsplit_once(',') {
            if setting == "train-only" {
                is_train_only = true;
            } else if let Some(labels) = setting.strip_prefix("unknown=") {
                unknown.extend(labels.split('+').map(str::to_owned));
            } else {
                break;
            }
            path = rest;
        }
        if unknown.iter().any(String::is_empty) {
            return Err("expected unknown=LABEL or unknown=LABEL+LABEL, found an empty label".to_owned());
        }
        if path.is_empty() {
            return Err("expected a file before its settings, found none".to_owned());
        }
        Ok(Self { path: path.into(), unknown, is_train_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_follow_a_path_that_may_contain_commas() {
        let parsed = |text: &str| text.parse::<SourceArg>();
        let expected = |path: &str, unknown: &[&str], is_train_only| SourceArg {
            path: path.into(),
            unknown: unknown.iter().map(|label| (*label).to_owned()).collect(),
            is_train_only,
        };
        assert_eq!(parsed("a.parquet"), Ok(expected("a.parquet", &[], false)));
        assert_eq!(parsed("a,b.parquet"), Ok(expected("a,b.parquet", &[], false)));
        assert_eq!(
            parsed("a,b.parquet,unknown=Foreign+TV Movie,train-only"),
            Ok(expected("a,b.parquet", &["Foreign", "TV Movie"], true))
        );
        assert!(parsed("a.parquet,unknown=").is_err() && parsed(",train-only").is_err());
    }
}
