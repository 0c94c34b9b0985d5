//! The sentences of an overview, which an explanation leaves out one at a time.
//!
//! No character but white space is lost, the number of sentences is bounded, and the time is at
//! most a multiple of the length: each input also becomes a long text of two repeated parts,
//! because superlinear time shows only there.

use std::time::{Duration, Instant};

use classifier_svc::explain::sentences::sentences;

use crate::harness::inputs::seeds_of;
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "sentences",
    check,
    seeds,
    dictionary: &[
        ". ", "! ", "? ", ".", ",", " ", "\n", "\r\n", "\t", ")", "(", "\"", "\u{a0}", "\u{85}", "\u{2029}",
        "\u{301}", "\u{ad}", "\u{3002}", "a", "A", "1", "Dr.", "J.", "\u{6771}", "\u{5d0}",
    ],
    max_len: 256,
    cases: 1000,
};

/// Bytes of each repeated part.
const PART: usize = 16 << 10;
/// About fifty times the usual time. Quadratic time is some hundred times more than this.
const TIME_A_BYTE: Duration = Duration::from_micros(1);

fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check_parts(&text);
    let third = |part: usize| {
        let at = |part| text.ceil_char_boundary(text.len() * part / 3);
        &text[at(part)..at(part + 1)]
    };
    let fill = |part: &str| part.repeat(PART / part.len().max(1));
    let long = [third(0), &fill(third(1)), &fill(third(2))].concat();
    check_parts(&long);
    // The best of three, because the machine may pause.
    let limit = TIME_A_BYTE * u32::try_from(long.len().max(1000)).expect("two parts and an input");
    let time = || {
        let begin = Instant::now();
        std::hint::black_box(sentences(&long));
        begin.elapsed()
    };
    let mut times = std::iter::repeat_with(time).take(3);
    assert!(times.any(|took| took < limit), "expected at most {limit:?} for {} bytes", long.len());
}

fn check_parts(text: &str) {
    let parts = sentences(text);
    assert!(parts.len() <= 31, "{} sentences", parts.len());
    assert!(parts.iter().all(|part| !part.is_empty() && part.trim() == *part), "{parts:?}");
    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    assert_eq!(bare(&parts.concat()), bare(text));
}

fn seeds() -> Vec<Vec<u8>> {
    seeds_of([
        "It rains. Dr. Ada J. Finch returns to St. Mary! Who else? Nobody.",
        "a.     ,,,,,",
        "a.)(-,",
        "a. \u{301}\u{301},",
        "aaaa....\u{2029}\u{2029}\u{2029}\u{2029}",
        "\u{5f7c}\u{306f}\u{6765}\u{305f}\u{3002}\u{5f7c}\u{5973}\u{306f}\u{53bb}\u{3063}\u{305f}\u{3002}",
        "3.14 etc.) \"Quoted.\" e.g. this",
    ])
}
