//! The limits of the services and the requests that they must reject: an independent implementation
//! of the documented rules.
//!
//! The limits are small, so that short inputs reach them.

/// Movies per call.
pub(crate) const MAX_BATCH: usize = 4;
/// Texts per call: enough for an explanation, which takes the movie, its title and 31 sentences.
pub(crate) const MAX_TEXTS: usize = 33;
/// Bytes per text, for the encoder.
pub(crate) const MAX_TEXT_BYTES: usize = 512;
/// Characters per title, for the classifier.
pub(crate) const MAX_TITLE_CHARS: usize = 20;
/// Labels of the model.
pub(crate) const LABELS: usize = 20;
/// Characters per overview, for the classifier.
pub(crate) const MAX_OVERVIEW_CHARS: usize = 60;

/// Field and reason of each violation in a request; none in a valid one.
pub(crate) type Violations = Vec<(String, &'static str)>;

fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c.is_control() || c == '\u{180e}' || c == '\u{feff}')
}

/// Returns the violations of a text for the encoder.
pub(crate) fn text_violations(field: &str, text: &str) -> Violations {
    if text.len() > MAX_TEXT_BYTES {
        vec![(field.to_owned(), "TEXT_TOO_LONG")]
    } else if is_blank(text) {
        vec![(field.to_owned(), "EMPTY_TEXT")]
    } else {
        Vec::new()
    }
}

/// Returns the violations of a movie whose fields start with `prefix`, such as `movies[3].`.
pub(crate) fn movie_violations(prefix: &str, title: &str, overview: &str) -> Violations {
    let mut violations = Vec::new();
    if title.chars().count() > MAX_TITLE_CHARS {
        violations.push((format!("{prefix}title"), "TEXT_TOO_LONG"));
    }
    if overview.chars().count() > MAX_OVERVIEW_CHARS {
        violations.push((format!("{prefix}overview"), "TEXT_TOO_LONG"));
    } else if is_blank(overview) {
        violations.push((format!("{prefix}overview"), "EMPTY_TEXT"));
    }
    violations
}

/// Returns the violations of a request's own rule for its genres.
pub(crate) fn selection_violations(min_probability: Option<f64>, top_k: Option<u32>) -> Violations {
    let mut violations = Vec::new();
    if min_probability.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
        violations.push(("min_probability".to_owned(), "OUT_OF_RANGE"));
    }
    if top_k == Some(0) {
        violations.push(("top_k".to_owned(), "OUT_OF_RANGE"));
    }
    violations
}

/// Whether so many genres, each with its probability and threshold, fit a request's own rule.
pub(crate) fn fits_selection(
    genres: &[(f32, f32)],
    min_probability: Option<f64>,
    top_k: Option<u32>,
) -> bool {
    let is_above = genres.iter().all(|(probability, threshold)| probability > threshold);
    let is_min = min_probability
        .is_none_or(|min| genres.iter().all(|(_, threshold)| threshold.to_bits() == (min as f32).to_bits()));
    match (min_probability, top_k) {
        (None, Some(top_k)) => genres.len() == (top_k as usize).min(LABELS),
        (_, top_k) => is_above && is_min && top_k.is_none_or(|top_k| genres.len() <= top_k as usize),
    }
}

/// Returns the violations of a batch: of its size, or else of its items, which `of_item` gets with
/// their index, and of the `rest` of the request.
pub(crate) fn batch_violations<T>(
    field: &str,
    items: &[T],
    max: usize,
    of_item: impl Fn(usize, &T) -> Violations,
    rest: Violations,
) -> Violations {
    match items.len() {
        0 => vec![(field.to_owned(), "EMPTY_BATCH")],
        count if count > max => vec![(field.to_owned(), "BATCH_TOO_LARGE")],
        _ => items.iter().enumerate().flat_map(|(index, item)| of_item(index, item)).chain(rest).collect(),
    }
}
