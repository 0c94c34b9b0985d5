//! A text's vector is a pure function of the text: whatever company it has, in any order, on any session.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::{fixture, settings};
use encoder_svc::scheduler::queue::{Class, Encoded};
use encoder_svc::{Encoder, EncoderSvcConfig};
use proptest::prelude::*;
use service_kit::Deadline;
use tokio::runtime::Runtime;

fn bits(encoded: &Encoded) -> Vec<u32> {
    encoded.vector.iter().map(|value| value.to_bits()).collect()
}

fn start(runtime: &Runtime, bundle: &str, sessions: usize) -> Arc<Encoder> {
    let mut settings = settings();
    settings.encoder.bundle = fixture(bundle);
    settings.encoder.sessions = sessions;
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    Arc::new(runtime.block_on(Encoder::start(config.encoder, service_kit::Metrics::default())).unwrap())
}

/// Texts of one to forty words, some outside of the vocabulary, some not even letters.
fn text() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-z]{1,8}|[0-9]{1,4}|[A-Zéß語🎬!?.,]{1,3}", 1..40)
        .prop_map(|words| words.join(" "))
}

#[test]
fn a_vector_is_bit_identical_whatever_company_it_has() {
    assert_company_does_not_matter("tiny-512");
}

#[test]
fn a_quantised_vector_is_bit_identical_whatever_company_it_has() {
    // The scale of an int8 activation spans its tensor: in a batch it would depend on the neighbours.
    assert_company_does_not_matter("tiny-int8-512");
}

fn assert_company_does_not_matter(bundle: &str) {
    let runtime = Runtime::new().unwrap();
    let alone = start(&runtime, bundle, 1);
    let busy = start(&runtime, bundle, 3);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(40));
    runner
        .run(&(prop::collection::vec(text(), 1..24), any::<u64>()), |(texts, seed)| {
            let mut expected = HashMap::new();
            for text in &texts {
                let encoded = runtime
                    .block_on(alone.encode_batch(vec![text.clone()], Class::Online, Deadline::NONE))
                    .unwrap();
                expected.insert(text.clone(), bits(&encoded[0]));
            }
            // The same texts in another order, three times at once, over three sessions.
            let mut shuffled = texts.clone();
            let middle = (seed % texts.len() as u64) as usize;
            shuffled.rotate_left(middle);
            shuffled.reverse();
            let calls = (0..3).map(|call| {
                let class = if call == 1 { Class::Bulk } else { Class::Online };
                busy.encode_batch(shuffled.clone(), class, Deadline::NONE)
            });
            let answers = runtime.block_on(futures_util::future::join_all(calls));
            for answer in answers {
                for (text, encoded) in shuffled.iter().zip(answer.unwrap()) {
                    prop_assert_eq!(&bits(&encoded), &expected[text], "{:?}", text);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_caller_that_left_is_never_run() {
    let runtime = Runtime::new().unwrap();
    let encoder = start(&runtime, "tiny-512", 1);
    runtime.block_on(async {
        let long = "storm over the sea ".repeat(40);
        // Dropped at its first await: all of its texts are queued, and nobody waits for them.
        let abandoned = encoder.encode_batch(vec![long; 4000], Class::Online, Deadline::NONE);
        assert!(futures_util::FutureExt::now_or_never(abandoned).is_none());
        let begin = std::time::Instant::now();
        encoder.encode_batch(vec!["rain".to_owned()], Class::Online, Deadline::NONE).await.unwrap();
        // Running 4,000 long texts takes the tiny encoder seconds.
        assert!(begin.elapsed().as_millis() < 1000, "{:?}", begin.elapsed());
    });
}
