//! Both kinds of tokenizers, on any text.

use std::sync::LazyLock;

use encoder_svc::bundle::Bundle;
use encoder_svc::tokenizer::{TextTokenizer, Tokens};

use crate::harness::allocation::bounded;
use crate::harness::inputs::{repository, seeds_of};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "tokenizer",
    check,
    seeds,
    dictionary: &[
        "\u{301}",
        "\u{200d}",
        "\u{feff}",
        "\u{0}",
        "👨‍👩‍👧",
        "ﷺ",
        "İ",
        "ß",
        "Σ",
        "電影",
        "[SEP]",
        "[CLS]",
        "##a",
        "1,234",
        " ",
        "\u{a0}",
        "\u{85}",
        "...",
        "'s",
        "\u{202e}",
        "\u{1f1e6}",
        "ᄀ",
        "ᅡ",
        "\u{10ffff}",
        "a",
    ],
    max_len: 4096,
    cases: 5000,
};

struct Kind {
    tokenizer: TextTokenizer,
    max_tokens: usize,
    /// IDs of the start token and the end token, if the kind has them.
    ends: Option<(i64, i64)>,
    smallest_id: i64,
    ids: i64,
    hash_buckets: i64,
}

static WORD_PIECE: LazyLock<Kind> = LazyLock::new(|| Kind {
    ends: Some((2, 3)),
    smallest_id: 0,
    ids: 247,
    hash_buckets: 0,
    ..load("tiny-512")
});

static VOCABULARY: LazyLock<Kind> = LazyLock::new(|| Kind {
    ends: None,
    // -1 is the ID of a word that is not in the vocabulary.
    smallest_id: -1,
    ids: 189,
    hash_buckets: 61,
    ..load("use-stand-in-512")
});

fn load(bundle: &str) -> Kind {
    let bundle =
        Bundle::open(&repository("encoder-svc/tests/fixtures").join(bundle)).expect("the fixture is valid");
    let tokenizer = TextTokenizer::load(&bundle).expect("the fixture is valid");
    let max_tokens = bundle.manifest.max_tokens;
    Kind { tokenizer, max_tokens, ends: None, smallest_id: 0, ids: 0, hash_buckets: 0 }
}

fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for kind in [&*WORD_PIECE, &*VOCABULARY] {
        let tokens = bounded(data.len(), || tokenize(kind, &text));
        assert_valid(kind, &tokens);
        assert_eq!(tokenize(kind, &text), tokens, "tokens are a function of the text");
        // Appending to a truncated text does not change its tokens.
        if tokens.truncated {
            let longer = tokenize(kind, &format!("{text} and more"));
            assert!(longer.truncated);
            if kind.ends.is_some() {
                assert_eq!(longer.ids, tokens.ids, "the truncated rest does not matter");
            }
        }
    }
}

fn tokenize(kind: &Kind, text: &str) -> Tokens {
    kind.tokenizer.tokenize(text).expect("any text can be tokenized")
}

fn assert_valid(kind: &Kind, tokens: &Tokens) {
    assert!(tokens.ids.len() <= kind.max_tokens, "{} tokens", tokens.ids.len());
    assert!(!tokens.truncated || tokens.ids.len() == kind.max_tokens, "a truncated text has the most tokens");
    assert!(tokens.ids.iter().all(|id| (kind.smallest_id..kind.ids).contains(id)), "{:?}", tokens.ids);
    let buckets = if kind.hash_buckets == 0 { 0 } else { tokens.ids.len() };
    assert_eq!(tokens.hash_buckets.len(), buckets);
    assert!(tokens.hash_buckets.iter().all(|bucket| (0..kind.hash_buckets).contains(bucket)));
    if let Some((start, end)) = kind.ends {
        assert!(tokens.ids.len() >= 2, "the start and the end token are always present");
        assert_eq!((tokens.ids.first(), tokens.ids.last()), (Some(&start), Some(&end)));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        String::new(),
        "A lighthouse keeper finds a map that isn't hers; 1,234 gulls follow ...".to_owned(),
        "Deux sœurs héritent d'un vignoble, İstanbul'da ΑΣ 電影 e\u{301}".to_owned(),
        "a ".repeat(300),
        "x".repeat(300),
        "\u{202e}\u{200d}👨‍👩‍👧\u{0}\u{feff}[SEP] [MASK]".to_owned(),
        "\u{301}".repeat(100),
        "...'s ... , .".repeat(20),
    ];
    seeds_of(texts)
}
