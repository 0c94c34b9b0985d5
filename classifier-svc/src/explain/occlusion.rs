//! Explanation by occlusion: leave out one segment at a time and score the rest again.
//!
//! Occlusion (Zeiler and Fergus, 2014, arXiv:1311.2901; Li, Monroe and Jurafsky, 2016,
//! arXiv:1612.08220) treats encoder and model as a black box. Attribution libraries such as Captum
//! and SHAP do not fit: they are Python, and need gradients or far more model calls than one for
//! each segment.

use genre_model::nfc;
use ndarray::{ArrayView1, ArrayView2};
use proto::classifier::v1::{Contribution, Explanation, Movie, Segment, Source};
use service_kit::is_blank;

use super::sentences::sentences;

/// The variants of a movie that one explanation scores.
pub(crate) struct Occlusions {
    segments: Vec<(Source, String)>,
    /// For each segment, in order, the movie without it.
    pub(crate) movies: Vec<Movie>,
}

impl Occlusions {
    /// Splits a movie into segments: its title, then the sentences of its overview.
    ///
    /// Segments are in NFC, so that explanations of composed and decomposed texts are the same.
    ///
    /// A movie with a single segment has no variants, because nothing can be left out. The title
    /// counts only if the model's template uses it.
    pub(crate) fn of(movie: &Movie, uses_title: bool) -> Self {
        let (title, overview) = (nfc(&movie.title), nfc(&movie.overview));
        let title = if uses_title { title.trim() } else { "" };
        let parts = sentences(&overview);
        let titles = (!title.is_empty()).then(|| (Source::Title, title.to_owned()));
        let parts = titles.into_iter().chain(parts.iter().map(|s| (Source::Overview, (*s).to_owned())));
        // Skip blank segments: the encoder rejects a variant in which only blank segments are left.
        let all: Vec<_> = parts.filter(|(_, text)| !is_blank(text)).collect();
        if all.len() < 2 {
            return Self { segments: Vec::new(), movies: Vec::new() };
        }
        let without = |left_out: usize| {
            let rest = |source| {
                let kept = all.iter().enumerate();
                let kept = kept.filter(|(i, (s, _))| *s == source && *i != left_out).map(|(_, (_, t))| &**t);
                kept.collect::<Vec<_>>().join(" ")
            };
            Movie { title: rest(Source::Title), overview: rest(Source::Overview) }
        };
        Self { movies: (0..all.len()).map(without).collect(), segments: all }
    }

    /// Turns probabilities into contributions.
    ///
    /// `with` holds the movie's own probabilities, of shape `[labels]`; `without` those of
    /// [`Occlusions::movies`], of shape `[segments, labels]`. `shown` lists the indices of the
    /// labels to explain, in order.
    pub(crate) fn explain(
        self,
        labels: &[String],
        shown: &[usize],
        with: ArrayView1<'_, f32>,
        without: ArrayView2<'_, f32>,
    ) -> Explanation {
        let segments = self.segments.into_iter().zip(without.rows()).map(|((source, text), without)| {
            let contributions = shown.iter().map(|&label| Contribution {
                label: labels[label].clone(),
                probability_without: without[label],
                contribution: with[label] - without[label],
            });
            Segment { source: source.into(), text, contributions: contributions.collect() }
        });
        Explanation { segments: segments.collect() }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn movie(title: &str, overview: &str) -> Movie {
        Movie { title: title.to_owned(), overview: overview.to_owned() }
    }

    #[test]
    fn skips_blank_segments() {
        assert!(Occlusions::of(&movie("", "It rains.\n\u{18}\u{18}\n\u{feff}"), true).movies.is_empty());
        let found = Occlusions::of(&movie("\0", "It rains.\n\u{18}\nIt pours."), true);
        assert_eq!(found.movies, [movie("", "It pours."), movie("", "It rains.")]);
    }

    #[test]
    fn leaves_out_each_segment_once() {
        let found = Occlusions::of(&movie(" Reef ", "It rains. It pours."), true);
        assert_eq!(
            found.movies,
            [movie("", "It rains. It pours."), movie("Reef", "It pours."), movie("Reef", "It rains.")]
        );
    }

    #[test]
    fn a_single_segment_has_no_variants() {
        assert!(Occlusions::of(&movie("", "It rains."), true).movies.is_empty());
        assert!(Occlusions::of(&movie("Reef", "It rains."), false).movies.is_empty());
        // The title is a segment: leaving out the only sentence leaves the title.
        assert_eq!(Occlusions::of(&movie("Reef", "It rains."), true).movies[1], movie("Reef", ""));
    }

    #[test]
    fn a_contribution_is_the_drop_in_probability() {
        let labels = ["Drama".to_owned(), "War".to_owned()];
        let without = array![[0.5_f32, 0.25], [0.75, 1.0]];
        let found = Occlusions::of(&movie("", "It rains. It pours."), true).explain(
            &labels,
            &[1],
            array![0.75_f32, 0.5].view(),
            without.view(),
        );
        let contributions: Vec<_> = found
            .segments
            .iter()
            .map(|s| (s.contributions[0].label.as_str(), s.contributions[0].contribution))
            .collect();
        assert_eq!(contributions, [("War", 0.25), ("War", -0.5)]);
    }
}
