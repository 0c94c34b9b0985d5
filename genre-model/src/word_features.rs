//! Word features: the hashed words of a movie, used beside its vector.
//!
//! A vector captures what a movie is about, but little of single words, such as a name in a title
//! that identifies a series. A linear model over words sees only these. The two make different
//! errors, so their weighted sum is better than either of them (docs/experiments.md).

use ndarray::{Array1, Array2};
use xxhash_rust::xxh3::xxh3_64;

use crate::nfc;

/// The rule by which text becomes word features, as written in model files. Any change of the rule
/// needs a new name. Texts are in NFC; the name is older than that, and the rule for texts in NFC
/// the same.
pub(crate) const RULE: &str = "words of title and overview, words of title; binary; xxh3_64/1";
/// The length of the vector of title words, relative to that of all words.
const TITLE_LENGTH: f32 = 0.7;
/// The largest absolute value of a quantised weight.
const MAX_QUANTISED: f32 = 127.0;
/// The largest scale. With a larger one, the sum of a label could be infinite.
const MAX_SCALE: f32 = 1e6;

/// The hashes of a movie's words, sorted and distinct.
///
/// A word is a run of letters and digits of the text in NFC, in lowercase. A word of the title has two hashes: one as
/// a word of the whole text, and a different one as a word of the title.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WordFeatures {
    text: Vec<u32>,
    title: Vec<u32>,
}

impl WordFeatures {
    /// Returns the word features of a movie. Either field may be blank.
    #[must_use]
    pub fn of(title: &str, overview: &str) -> Self {
        let (title, overview) = (nfc(title), nfc(overview));
        Self {
            text: distinct(words(&title).chain(words(&overview)).map(|word| hash(b't', &word)).collect()),
            title: distinct(words(&title).map(|word| hash(b'i', &word)).collect()),
        }
    }

    /// Returns word features of stored hashes, which need not be sorted.
    #[must_use]
    pub fn from_hashes(text: Vec<u32>, title: Vec<u32>) -> Self {
        Self { text: distinct(text), title: distinct(title) }
    }

    /// The hashes of the words of title and overview.
    #[must_use]
    pub fn text(&self) -> &[u32] {
        &self.text
    }

    /// The hashes of the words of the title.
    #[must_use]
    pub fn title(&self) -> &[u32] {
        &self.title
    }

    /// Returns both lists of hashes, each preceded by its length, for digests.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + 4 * (self.text.len() + self.title.len()));
        for hashes in [&self.text, &self.title] {
            bytes.extend((hashes.len() as u64).to_le_bytes());
            bytes.extend(hashes.iter().flat_map(|hash| hash.to_le_bytes()));
        }
        bytes
    }

    /// Returns the movie's sparse vector over `buckets`, a power of two: a bucket and a value for
    /// each word.
    ///
    /// The words of the text form a vector of length 1, and the words of the title one of length
    /// 0.7. Both lengths hold only if no two words share a bucket.
    pub fn features(&self, buckets: usize) -> impl Iterator<Item = (usize, f32)> {
        let of = |hashes: &'_ [u32], length: f32| length / (hashes.len().max(1) as f32).sqrt();
        let (text, title) = (of(&self.text, 1.0), of(&self.title, TITLE_LENGTH));
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

/// A linear model over word features, with 8-bit weights. Its logits are added to the network's.
#[derive(Debug, Clone, PartialEq)]
pub struct WordWeights {
    /// Shape `[buckets, labels]`.
    weight: Array2<i8>,
    /// Shape `[labels]`: the value of a weight of 1.
    scale: Array1<f32>,
}

/// Invalid word weights.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum InvalidWordWeights {
    /// The number of buckets is not a power of two, or out of range.
    #[error("words.weight: expected 2 to 2^24 buckets, a power of two, found {found}")]
    Buckets {
        /// The number found.
        found: usize,
    },
    /// The number of scales differs from the number of labels.
    #[error("words.scale: expected {expected} scales, found {found}")]
    Labels {
        /// The number of labels.
        expected: usize,
        /// The number found.
        found: usize,
    },
    /// A scale is negative, too large or not a number.
    #[error("words.scale: expected 0 to {MAX_SCALE:e}, found {found}")]
    Scale {
        /// The scale found.
        found: f32,
    },
}

impl WordWeights {
    /// Checks `weight` of shape `[buckets, labels]` and `scale` of shape `[labels]`.
    pub fn new(weight: Array2<i8>, scale: Array1<f32>) -> Result<Self, InvalidWordWeights> {
        let buckets = weight.nrows();
        if !buckets.is_power_of_two() || !(2..=1 << 24).contains(&buckets) {
            return Err(InvalidWordWeights::Buckets { found: buckets });
        }
        if scale.len() != weight.ncols() {
            return Err(InvalidWordWeights::Labels { expected: weight.ncols(), found: scale.len() });
        }
        if let Some(&found) = scale.iter().find(|scale| !(0.0..=MAX_SCALE).contains(*scale)) {
            return Err(InvalidWordWeights::Scale { found });
        }
        Ok(Self { weight, scale })
    }

    /// Quantises weights of shape `[buckets, labels]` to 8 bits, with a scale for each label.
    pub fn quantised(weights: &Array2<f32>) -> Result<Self, InvalidWordWeights> {
        let scale: Array1<f32> = weights
            .columns()
            .into_iter()
            .map(|column| column.iter().fold(0.0_f32, |most, weight| most.max(weight.abs())) / MAX_QUANTISED)
            .collect();
        let in_units = |(bucket, label): (usize, usize)| match scale[label] {
            0.0 => 0,
            scale => (weights[[bucket, label]] / scale).round() as i8,
        };
        Self::new(Array2::from_shape_fn(weights.dim(), in_units), scale)
    }

    /// Multiplies all logits by `factor`, which must not be negative.
    pub fn times(self, factor: f32) -> Result<Self, InvalidWordWeights> {
        let scale = &self.scale * factor;
        Self::new(self.weight, scale)
    }

    /// Returns the logits of a movie, of shape `[labels]`.
    #[must_use]
    pub fn logits(&self, words: &WordFeatures) -> Array1<f32> {
        let mut sums = Array1::<f32>::zeros(self.labels());
        for (bucket, value) in words.features(self.buckets()) {
            sums.zip_mut_with(&self.weight.row(bucket), |sum, weight| *sum += value * f32::from(*weight));
        }
        sums * &self.scale
    }

    /// Adds the logits of each movie to its row of `logits`, of shape `[movies, labels]`.
    ///
    /// # Panics
    /// Panics if `logits` does not have one row for each movie.
    pub fn add_to(&self, logits: &mut Array2<f32>, movies: &[WordFeatures]) {
        assert_eq!(movies.len(), logits.nrows(), "one movie for each row");
        for (mut row, movie) in logits.rows_mut().into_iter().zip(movies) {
            row += &self.logits(movie);
        }
    }

    /// The number of buckets.
    #[must_use]
    pub fn buckets(&self) -> usize {
        self.weight.nrows()
    }

    /// The number of labels.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.weight.ncols()
    }

    /// The quantised weights, of shape `[buckets, labels]`.
    #[must_use]
    pub fn weight(&self) -> &Array2<i8> {
        &self.weight
    }

    /// The scale of each label, of shape `[labels]`.
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
    fn splits_text_into_lowercase_runs_of_letters_and_digits() {
        let found: Vec<_> = words("  R2-D2's ÉTÉ: 2001, 東京! ").collect();
        assert_eq!(found, ["r2", "d2", "s", "été", "2001", "東京"]);
    }

    #[test]
    fn hashes_words_as_model_files_expect() {
        // The lower halves of xxh3_64_intdigest(b"tstorm") and xxh3_64_intdigest(b"istorm") in
        // Python's xxhash.
        let words = WordFeatures::of("Storm", "");
        assert_eq!((words.text(), words.title()), (&[hash(b't', "storm")][..], &[hash(b'i', "storm")][..]));
        assert_eq!((hash(b't', "storm"), hash(b'i', "storm")), (2_707_890_442, 560_727_916));
    }

    #[test]
    fn composed_and_decomposed_texts_have_the_same_features() {
        let composed = WordFeatures::of("Pi\u{f1}ata", "El Ni\u{f1}o, \u{d55c}");
        assert_eq!(WordFeatures::of("Pin\u{303}ata", "El Nin\u{303}o, \u{1112}\u{1161}\u{11ab}"), composed);
        assert_eq!(composed.text().len(), 4);
    }

    #[test]
    fn words_of_a_title_count_in_the_text_too_and_each_word_once() {
        let words = WordFeatures::of("Storm", "A storm, a storm");
        assert_eq!((words.text().len(), words.title().len()), (2, 1));
        assert_eq!(WordFeatures::of(" ", "..."), WordFeatures::default());
        assert_eq!(WordFeatures::default().features(8).count(), 0);
    }

    #[test]
    fn sums_the_weights_of_all_words() {
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
    fn rejects_parts_that_do_not_fit() {
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
            let rejected = WordWeights::new(Array2::zeros((4, 1)), array![bad]);
            assert!(matches!(rejected, Err(InvalidWordWeights::Scale { .. })));
        }
    }

    proptest! {
        #[test]
        fn features_of_any_text_are_sorted_distinct_and_of_known_length(
            title in "\\PC{0,60}", overview in "\\PC{0,300}"
        ) {
            let words = WordFeatures::of(&title, &overview);
            for hashes in [words.text(), words.title()] {
                prop_assert!(hashes.windows(2).all(|pair| pair[0] < pair[1]));
            }
            prop_assert_eq!(&WordFeatures::from_hashes(words.text().to_vec(), words.title().to_vec()), &words);
            let square: f32 = words.features(1 << 16).map(|(_, value)| value * value).sum();
            let expected = f32::from(u8::from(!words.text().is_empty())) + TITLE_LENGTH * TITLE_LENGTH * f32::from(u8::from(!words.title().is_empty()));
            prop_assert!((square - expected).abs() < 1e-4);
        }
    }
}
