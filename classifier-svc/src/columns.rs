//! Field paths of requests that have their movies as columns: a list of titles and one of overviews.

use service_kit::ApiError;

/// Translates field paths: `movies[3].overview` is `overview[3]` in a request of columns.
pub(crate) fn in_columns(error: ApiError) -> ApiError {
    let ApiError::Invalid(mut violations) = error else { return error };
    for violation in &mut violations {
        let place = violation.field.strip_prefix("movies[").and_then(|rest| rest.split_once("]."));
        if let Some((index, column)) = place {
            violation.field = format!("{column}[{index}]");
        } else if violation.field == "movies" {
            "overview".clone_into(&mut violation.field);
        }
    }
    ApiError::Invalid(violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_wrong_movie_by_its_index_in_the_lists() {
        let error = in_columns(ApiError::invalid("movies[3].overview", "EMPTY_TEXT", "blank"));
        assert_eq!(error.to_string(), "overview[3]: blank");
        assert_eq!(
            in_columns(ApiError::invalid("movies", "EMPTY_BATCH", "none")).to_string(),
            "overview: none"
        );
    }
}
