//! The vector of a text depends only on the text, not on other texts, their order, or the session.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::{fixture, settings};
use encoder_svc::scheduler::entry::{Class, Reply};
use encoder_svc::{Encoder, EncoderSvcConfig, startup};
use proptest::prelude::*;
use service_kit::{CallerId, Deadline};
use tokio::runtime::Runtime;

fn bits(reply: &Reply) -> Vec<u32> {
    reply.vector.iter().map(|value| value.to_bits()).collect()
}

fn start(runtime: &Runtime, bundle: &str, sessions: usize) -> Arc<Encoder> {
    let mut settings = settings();
    settings.encoder.bundle = fixture(bundle);
    settings.encoder.sessions = sessions;
    let config = EncoderSvcConfig::try_from(settings).unwrap();
    Arc::new(runtime.block_on(startup::start(config.encoder, service_kit::Metrics::default())).unwrap())
}

/// Texts of one to forty words, some of them not in the vocabulary or not made of letters.
fn text() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-z]{1,8}|[0-9]{1,4}|[A-Zéß語🎬!?.,]{1,3}", 1..40)
        .prop_map(|words| words.join(" "))
}

#[test]
fn a_vector_does_not_depend_on_other_texts() {
    assert_independent_of_other_texts("tiny-512");
}

#[test]
fn a_quantised_vector_does_not_depend_on_other_texts() {
    // The scale of an int8 activation spans its tensor, so in a batch it would depend on the other
    // texts.
    assert_independent_of_other_texts("tiny-int8-512");
}

fn assert_independent_of_other_texts(bundle: &str) {
    let runtime = Runtime::new().unwrap();
    let alone = start(&runtime, bundle, 1);
    let busy = start(&runtime, bundle, 3);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(40));
    runner
        .run(&(prop::collection::vec(text(), 1..24), any::<u64>()), |(texts, seed)| {
            let mut expected = HashMap::new();
            for text in &texts {
                let replies = runtime
                    .block_on(alone.encode_batch(
                        vec![text.clone()],
                        Class::Online,
                        CallerId::UNKNOWN,
                        Deadline::NONE,
                    ))
                    .unwrap();
                expected.insert(text.clone(), bits(&replies[0]));
            }
            // The same texts in another order, in three concurrent calls over three sessions.
            let mut shuffled = texts.clone();
            let middle = (seed % texts.len() as u64) as usize;
            shuffled.rotate_left(middle);
            shuffled.reverse();
            let calls = (0..3).map(|call| {
                let class = if call == 1 { Class::Bulk } else { Class::Online };
                busy.encode_batch(shuffled.clone(), class, CallerId::UNKNOWN, Deadline::NONE)
            });
            let results = runtime.block_on(futures_util::future::join_all(calls));
            for result in results {
                for (text, reply) in shuffled.iter().zip(result.unwrap()) {
                    prop_assert_eq!(&bits(&reply), &expected[text], "{:?}", text);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn does_not_run_texts_whose_caller_has_left() {
    let runtime = Runtime::new().unwrap();
    let encoder = start(&runtime, "tiny-512", 1);
    runtime.block_on(async {
        let long = "storm over the sea ".repeat(40);
        // Dropped at its first await, when all of its texts are queued.
        let abandoned =
            encoder.encode_batch(vec![long; 4000], Class::Online, CallerId::UNKNOWN, Deadline::NONE);
        assert!(futures_util::FutureExt::now_or_never(abandoned).is_none());
        let begin = std::time::Instant::now();
        encoder
            .encode_batch(vec!["rain".to_owned()], Class::Online, CallerId::UNKNOWN, Deadline::NONE)
            .await
            .unwrap();
        // Running 4,000 long texts would take the tiny encoder seconds.
        assert!(begin.elapsed().as_millis() < 1000, "{:?}", begin.elapsed());
    });
}
