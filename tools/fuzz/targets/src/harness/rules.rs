//! Limits of the services under test, and which movies and texts they must reject: the documented rules, written a second time.

/// Movies in a call.
pub(crate) const MAX_BATCH: usize = 4;
/// Texts in a call: as many as an explanation takes, which is a movie, its title and 31 sentences.
pub(crate) const MAX_TEXTS: usize = 33;
/// Bytes of a text, for the encoder.
pub(crate) const MAX_TEXT_BYTES: usize = 512;
/// Characters of a title, for the classifier.
pub(crate) const MAX_TITLE_CHARS: usize = 20;
/// Characters of an overview, for the classifier.
pub(crate) const MAX_OVERVIEW_CHARS: usize = 60;

/// What both services take for a text that says nothing, written down a second time.
pub(crate) fn is_blank(text: &str) -> bool {
    let says_nothing = |c: char| c.is_whitespace() || c.is_control() || c == '\u{180e}' || c == '\u{feff}';
    !text.chars().any(|c| !says_nothing(c))
}

/// The field and reason of each movie or text that a request must be refused for.
pub(crate) type Violations = Vec<(String, &'static str)>;

/// What is wrong with a movie at `path`, such as `movies[3].`.
pub(crate) fn wrong_movie(path: &str, title: &str, overview: &str) -> Violations {
    let mut wrong = Vec::new();
    if title.chars().count() > MAX_TITLE_CHARS {
        wrong.push((format!("{path}title"), "TEXT_TOO_LONG"));
    }
    if overview.chars().count() > MAX_OVERVIEW_CHARS {
        wrong.push((format!("{path}overview"), "TEXT_TOO_LONG"));
    } else if is_blank(overview) {
        wrong.push((format!("{path}overview"), "EMPTY_TEXT"));
    }
    wrong
}

/// What is wrong with a batch of so many.
pub(crate) fn wrong_batch(field: &str, count: usize, max: usize) -> Violations {
    match count {
        0 => vec![(field.to_owned(), "EMPTY_BATCH")],
        _ if count <= max => Vec::new(),
        _ => vec![(field.to_owned(), "BATCH_TOO_LARGE")],
    }
}
