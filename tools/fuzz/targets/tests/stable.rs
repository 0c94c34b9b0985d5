//! Runs every target on its seeds, its corpus, and mutations of both, which are the same in every
//! run.
//!
//! `FUZZ_CASES=20` runs twenty times as many mutations, from another random seed.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use fuzz_targets::{TARGETS, Target};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// A mutation of an input.
#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Index),
    Bytes(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Cut(Index),
    /// Joins the start of this input to the end of another.
    Splice(Index, Index, Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (at(), 0_u8..8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (at(), at()).prop_map(|(at, entry)| Edit::Insert(at, entry)),
        (at(), prop::collection::vec(any::<u8>(), 1..5)).prop_map(|(at, bytes)| Edit::Bytes(at, bytes)),
        (at(), 1_usize..40).prop_map(|(at, length)| Edit::Remove(at, length)),
        (at(), 1_usize..80).prop_map(|(at, length)| Edit::Repeat(at, length)),
        at().prop_map(Edit::Cut),
        (at(), at(), at()).prop_map(|(at, other, from)| Edit::Splice(at, other, from)),
    ]
}

fn apply(edit: &Edit, input: &mut Vec<u8>, inputs: &[Vec<u8>], dictionary: &[&str]) {
    let position = |at: &Index, input: &Vec<u8>| at.index(input.len() + 1);
    match edit {
        Edit::Set(at, byte) if !input.is_empty() => {
            let at = at.index(input.len());
            input[at] = *byte;
        }
        Edit::Flip(at, bit) if !input.is_empty() => {
            let at = at.index(input.len());
            input[at] ^= 1 << bit;
        }
        Edit::Set(..) | Edit::Flip(..) => {}
        Edit::Insert(at, entry) => {
            let at = position(at, input);
            input.splice(at..at, entry.get(dictionary).bytes());
        }
        Edit::Bytes(at, bytes) => {
            let at = position(at, input);
            input.splice(at..at, bytes.iter().copied());
        }
        Edit::Remove(at, length) => {
            let at = position(at, input);
            input.drain(at..input.len().min(at + length));
        }
        Edit::Repeat(at, length) => {
            let at = position(at, input);
            let repeated = input[at..input.len().min(at + length)].to_vec();
            input.splice(at..at, repeated);
        }
        Edit::Cut(at) => input.truncate(at.index(input.len() + 1)),
        Edit::Splice(at, other, from) => {
            let other = other.get(inputs);
            input.truncate(position(at, input));
            input.extend_from_slice(&other[from.index(other.len() + 1)..]);
        }
    }
}

/// Returns the committed corpus of a target, sorted by file name.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn fuzz(name: &str) {
    // The default hook makes a backtrace, even of a panic that a reader catches. Its tens of
    // megabytes would count as the reader's memory.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let mut inputs = (target.seeds)();
    inputs.extend(corpus(target));
    for input in &inputs {
        target.run(input);
    }
    target.run(&[]);

    let factor: Option<u32> = std::env::var("FUZZ_CASES").ok().map(|factor| factor.parse().unwrap());
    let cases = target.cases * factor.unwrap_or(1);
    let seed: [u8; 32] = std::array::from_fn(|at| if at == 0 { u8::from(factor.is_some()) } else { 7 });
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let mutation = (any::<Index>(), prop::collection::vec(edit(), 1..7));
    let result = runner.run(&mutation, |(first, edits)| {
        let mut input = first.get(&inputs).clone();
        for edit in &edits {
            apply(edit, &mut input, &inputs, target.dictionary);
        }
        input.truncate(target.max_len);
        let run = std::panic::AssertUnwindSafe(|| target.run(&input));
        std::panic::catch_unwind(run)
            .map_err(|_| TestCaseError::fail(format!("a promise is broken by \"{}\"", input.escape_ascii())))
    });
    if let Err(error) = result {
        panic!("{name}: {error}");
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// The targets that have a test.
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name));
            }
        )*
    };
}

targets! {
    encode_request, classify_request, infer_request, request_headers, rest_body, embeddings_body, movie_table, movies_csv,
    genres_field, model_file, bundle, vectors_file, settings, tokenizer, sentences,
}

#[test]
fn every_target_has_a_test() {
    assert_eq!(TARGETS.map(|target| target.name).as_slice(), TESTED);
}
