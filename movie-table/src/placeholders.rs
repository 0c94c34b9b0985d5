//! Texts that stand where an overview is missing.

/// Overviews that say nothing about a movie, in lower case, without a full stop at the end. Data
/// frames, databases and the contributors of TMDB write them.
const PLACEHOLDERS: [&str; 31] = [
    "\\n",
    "-",
    "--",
    "?",
    "coming soon",
    "description not available",
    "n/a",
    "na",
    "nan",
    "nil",
    "no description",
    "no description available",
    "no description found",
    "no description yet",
    "no overview",
    "no overview available",
    "no overview found",
    "no overview yet",
    "no plot",
    "no plot available",
    "no summary",
    "no summary available",
    "no synopsis",
    "no synopsis available",
    "none",
    "not available",
    "null",
    "overview not available",
    "tba",
    "tbd",
    "unknown",
];

/// Whether an overview is a placeholder. A blank one is not: it is absent.
#[must_use]
pub fn is_placeholder(overview: &str) -> bool {
    let text = overview.trim().trim_end_matches(['.', '!', '…']).trim_end();
    if text.is_empty() {
        return !overview.trim().is_empty();
    }
    // Nothing on the list is longer.
    text.len() <= 32 && PLACEHOLDERS.contains(&text.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_placeholders_in_any_case_and_with_a_full_stop() {
        assert!(PLACEHOLDERS.iter().all(|text| text.len() <= 32));
        for text in ["nan", "NaN", " No overview found. ", "No Overview Yet.", "N/A", "\\N", "...", "None"] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in ["", "  ", "No overview found. Ever.", "Nancy", "A storm.", "Unknown soldiers march."] {
            assert!(!is_placeholder(text), "{text}");
        }
    }
}
