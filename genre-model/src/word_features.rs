//! A movie's words, beside its vector.
//!
//! A sentence vector says what a movie is about, and little of the very words: a name in a title that tells a series, a word that
//! one genre alone uses. A linear model over words knows those and nothing else, so the two err differently, and their weighted
//! sum is better than either (`docs/experiments.md`).

use ndarray::{Array1, Array2};
use xxhash_rust::xxh3::xxh3_64;

/// What a movie's words are, as it stands in model files: a change of the rules below is another name.
pub(crate) const RULE: &str = "words of title and overview, words of title; binary; xxh3_64/1";
/// A movie's title is worth so much of its whole text: each of both is a vector of that length.
const TITLE: f32 = 0.7;
/// Weights are at most this many times their scale.
const LARGEST: f32 = 127.0;
/// Beyond this a label's sum could be infinite.
const LARGEST_SCALE: f32 = 1e6;

/// Hashes of a movie's words, each once and sorted.
///
/// A word is a run of letters and digits, in lower case. Those of the title count twice: among all words, and as words of a title,
/// which are other hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WordFeatures {
    text: Vec<u32>,
    title: Vec<u32>,
}

impl WordFeatures {
    /// The words of a movie; either field may be blank.
    #[must_use]
    pub fn of(title: &str, overview: &str) -> Self {
        Self {
            text: distinct(words(title).chain(words(overview)).map(|word| hash(b't', &word)).collect()),
            title: distinct(words(title).map(|word| hash(b'i', &word)).collect()),
        }
    }

    /// Of hashes that were made before; sorts them.
    #[must_use]
    pub fn from_hashes(text: Vec<u32>, title: Vec<u32>) -> Self {
        Self { text: distinct(text), title: distinct(title) }
    }

    /// Of the title and the overview together.
    #[must_use]
    pub fn text(&self) -> &[u32] {
        &self.text
    }

    /// Of the title alone.
    #[must_use]
    pub fn title(&self) -> &[u32] {
        &self.title
    }

    /// Both, each with its number of hashes before it, for digests.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + 4 * (self.text.len() + self.title.len()));
        for hashes in [&self.text, &self.title] {
            bytes.extend((hashes.len() as u64).to_le_bytes());
            bytes.extend(hashes.iter().flat_map(|hash| hash.to_le_bytes()));
        }
        bytes
    }

    /// Where a movie stands among so many buckets, a power of two: a bucket for each word, and what it counts there. All words of the
    /// text are a vector of length 1, those of the title one of 0.7, but for words that share a bucket.
    pub fn features(&self, buckets: usize) -> impl Iterator<Item = (usize, f32)> {
        let of = |hashes: &'_ [u32], length: f32| length / (hashes.len().max(1) as f32).sqrt();
        let (text, title) = (of(&self.text, 1.0), of(&self.title, TITLE));
        let text = self.text.iter().map(move |hash| (*hash, text));
        let title = self.title.iter().map(move |hash| (*hash, title));
        text.chain(title).map(move |(hash, value)| (hash as usize & (buckets - 1), value))
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

fn hash(field: u8, word: &str) -> u32 {
    xxh3_64(&[&[field], word.as_bytes()].concat()) as u32
}

fn distinct(mut hashes: Vec<u32>) -> Vec<u32> {
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// A linear model over a movie's words, in 8 bits: what is added to the network's outputs before the sigmoid.
#[derive(Debug, Clone, PartialEq)]
pub struct WordWeights {
    /// Shape `[buckets, labels]`.
    weight: Array2<i8>,
    /// Shape `[labels]`: what a weight of 1 stands for.
    scale: Array1<f32>,
}

/// Weights that are no model.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum InvalidWordWeights {
    /// Not a power of two.
    #[error("words.weight: expected 2 to 2^24 buckets, a power of two, found {found}")]
    Buckets {
        /// How many there are.
        found: usize,
    },
    /// As many scales as labels are needed.
    #[error("words.scale: expected {expected} scales, found {found}")]
    Labels {
        /// Columns of the weights.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A scale of which no use can be made.
    #[error("words.scale: expected 0 to {LARGEST_SCALE:e}, found {found}")]
    Scale {
        /// What it is.
        found: f32,
    },
}

impl WordWeights {
    /// Checks that the parts fit.
    pub fn new(weight: Array2<i8>, scale: Array1<f32>) -> Result<Self, InvalidWordWeights> {
        let buckets = weight.nrows();
        if !buckets.is_power_of_two() || !(2..=1 << 24).contains(&buckets) {
            return Err(InvalidWordWeights::Buckets { found: buckets });
        }
        if scale.len() != weight.ncols() {
            return Err(InvalidWordWeights::Labels { expected: weight.ncols(), found: scale.len() });
        }
        if let Some(&found) = scale.iter().find(|scale| !(0.0..=LARGEST_SCALE).contains(*scale)) {
            return Err(InvalidWordWeights::Scale { found });
        }
        Ok(Self { weight, scale })
    }

    /// The nearest 8-bit weights to those of shape `[buckets, labels]`, with a scale for each label.
    pub fn quantised(weights: &Array2<f32>) -> Result<Self, InvalidWordWeights> {
        let scale: Array1<f32> = weights
            .columns()
            .into_iter()
            .map(|column| column.iter().fold(0.0_f32, |most, weight| most.max(weight.abs())) / LARGEST)
            .collect();
        let in_units = |(bucket, label): (usize, usize)| match scale[label] {
            0.0 => 0,
            scale => (weights[[bucket, label]] / scale).round() as i8,
        };
        Self::new(Array2::from_shape_fn(weights.dim(), in_units), scale)
    }

    /// The same model with all its outputs times `factor`, which is 0 or more.
    pub fn times(self, factor: f32) -> Result<Self, InvalidWordWeights> {
        let scale = &self.scale * factor;
        Self::new(self.weight, scale)
    }

    /// What a movie's words add for each label, of shape `[labels]`.
    #[must_use]
    pub fn logits(&self, words: &WordFeatures) -> Array1<f32> {
        let mut sums = Array1::<f32>::zeros(self.labels());
        for (bucket, value) in words.features(self.buckets()) {
            sums.zip_mut_with(&self.weight.row(bucket), |sum, weight| *sum += value * f32::from(*weight));
        }
        sums * &self.scale
    }

    /// Adds that to the outputs of many movies, `logits` of shape `[movies, labels]`.
    ///
    /// # Panics
    /// If there are other movies than one a row.
    pub fn add_to(&self, logits: &mut Array2<f32>, movies: &[WordFeatures]) {
        assert_eq!(movies.len(), logits.nrows(), "a movie's words for each row");
        for (mut row, movie) in logits.rows_mut().into_iter().zip(movies) {
            row += &self.logits(movie);
        }
    }

    /// Number of buckets.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.weight.nrows()
    }

    /// Number of labels.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.weight.ncols()
    }

    /// Shape `[buckets, labels]`.
    #[must_use]
    pub fn weight(&self) -> &Array2<i8> {
        &self.weight
    }

    /// Shape `[labels]`.
    #[must_use]
    pub fn scale(&self) -> &Array1<f32> {
        &self.scale
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_is_a_run_of_letters_and_digits_in_lower_case() {
        let found: Vec<_> = words("  R2-D2's ÉTÉ: 2001, 東京! ").collect();
        assert_eq!(found, ["r2", "d2", "s", "été", "2001", "東京"]);
    }

    #[test]
    fn a_words_hash_is_what_it_always_was() {
        // xxh3_64_intdigest(b"tstorm") and (b"istorm") of the Python package xxhash, the lower half.
        let words = WordFeatures::of("Storm", "");
        assert_eq!((words.text(), words.title()), (&[hash(b't', "storm")][..], &[hash(b'i', "storm")][..]));
        assert_eq!((hash(b't', "storm"), hash(b'i', "storm")), (2_707_890_442, 560_727_916));
    }

    #[test]
    fn words_of_a_title_count_in_the_text_too_and_each_word_once() {
        let words = WordFeatures::of("Storm", "A storm, a storm");
        assert_eq!((words.text().len(), words.title().len()), (2, 1));
        assert_eq!(WordFeatures::of(" ", "..."), WordFeatures::default());
        assert_eq!(WordFeatures::default().features(8).count(), 0);
    }

    #[test]
    fn logits_are_the_sum_of_what_each_word_weighs() {
        let weights =
            Array2::from_shape_fn(
                (1 << 16, 2),
                |(bucket, label)| {
                    if label == 0 { (bucket % 7) as f32 - 3.0 } else { 0.0 }
                },
            );
        let model = WordWeights::quantised(&weights).unwrap();
        let words = WordFeatures::of("Storm", "a ship in a storm");
        let expected: f32 = words.features(1 << 16).map(|(bucket, value)| weights[[bucket, 0]] * value).sum();
        let found = model.logits(&words);
        assert!((found[0] - expected).abs() < 0.02 * 3.0 * 3.0, "{found} {expected}");
        assert!(found[1].abs() < f32::EPSILON);
        let halved = model.clone().times(0.5).unwrap().logits(&words);
        assert!((halved[0] * 2.0 - found[0]).abs() < 1e-5);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let scale = |count| Array1::from_elem(count, 0.1);
        assert!(matches!(
            WordWeights::new(Array2::zeros((3, 2)), scale(2)),
            Err(InvalidWordWeights::Buckets { found: 3 })
        ));
        assert!(matches!(
            WordWeights::new(Array2::zeros((4, 2)), scale(3)),
            Err(InvalidWordWeights::Labels { expected: 2, found: 3 })
        ));
        for bad in [f32::NAN, f32::INFINITY, -0.1, 1e7] {
            let refused = WordWeights::new(Array2::zeros((4, 1)), array![bad]);
            assert!(matches!(refused, Err(InvalidWordWeights::Scale { .. })));
        }
    }

    proptest! {
        #[test]
        fn any_two_texts_have_words_that_are_sorted_and_distinct_and_vectors_of_their_length(
            title in "\\PC{0,60}", overview in "\\PC{0,300}"
        ) {
            let words = WordFeatures::of(&title, &overview);
            for hashes in [words.text(), words.title()] {
                prop_assert!(hashes.windows(2).all(|pair| pair[0] < pair[1]));
            }
            prop_assert_eq!(&WordFeatures::from_hashes(words.text().to_vec(), words.title().to_vec()), &words);
            let square: f32 = words.features(1 << 16).map(|(_, value)| value * value).sum();
            let expected = f32::from(u8::from(!words.text().is_empty())) + TITLE * TITLE * f32::from(u8::from(!words.title().is_empty()));
            prop_assert!((square - expected).abs() < 1e-4);
        }
    }
}
