//! The filter of log lines.

use tracing_subscriber::EnvFilter;

/// What a filter looks like, for error messages.
pub(crate) const EXAMPLE: &str = "a log filter such as info or service_kit=debug,info";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Levels of other loggers.
const FOREIGN_LEVELS: [&str; 7] = ["all", "critical", "fatal", "none", "notice", "verbose", "warning"];
/// Words that are more alike than this are taken as the same, misspelled.
const ALIKE: f64 = 0.8;

/// Parses a filter.
///
/// A word alone, without `=`, is a level or the name of a module, all lines of which are shown. A
/// misspelled level would thus hide every line, so a word like one is an error.
pub(crate) fn parse(filter: &str) -> Result<EnvFilter, String> {
    for word in filter.split(',').map(|word| word.trim().to_lowercase()) {
        let is_alone = word.chars().all(char::is_alphabetic);
        if is_alone && !LEVELS.contains(&word.as_str()) && is_like_a_level(&word) {
            return Err(format!("{word:?} is none of the levels {}", LEVELS.join(", ")));
        }
    }
    EnvFilter::try_new(filter).map_err(|error| error.to_string())
}

fn is_like_a_level(word: &str) -> bool {
    FOREIGN_LEVELS.contains(&word) || LEVELS.iter().any(|level| strsim::jaro_winkler(word, level) > ALIKE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_level_is_rejected_and_a_module_is_not() {
        for wrong in ["inof", "ort=warn,infoo", "warning", "Verbose", "eror", "debgu"] {
            let reason = parse(wrong).unwrap_err();
            assert!(reason.contains("is none of the levels off, error"), "{reason}");
        }
        for right in [
            "INFO",
            "",
            "info,ort=warn,h2=error",
            "h2",
            "tonic",
            "service_kit",
            "ort",
            "hyper=debug,info",
            "off",
            "tower,warn",
        ] {
            parse(right).unwrap();
        }
        assert!(parse("ort=loud").is_err());
    }
}
