//! Fairness between callers, on a paused clock: the real queue and admission, with workers that
//! spend simulated time on each text.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod paused;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use encoder_svc::scheduler::entry::Class;
use paused::{RUN, SESSIONS, Scheduler, longest, milliseconds, text};
use proptest::prelude::*;
use service_kit::{ApiError, CallerId, Deadline};
use tokio::time::{Instant, sleep, sleep_until};

fn caller(index: usize) -> CallerId {
    CallerId::of_key(&index.to_string())
}

/// How a caller sends its texts, always more than the workers can take.
#[derive(Debug, Clone, Copy)]
enum Habit {
    /// Concurrent unary calls of one text each.
    Unary(usize),
    /// Concurrent batches, and the texts of each.
    Batches(usize, usize),
    /// Concurrent streams, each with 64 texts in flight.
    Streams(usize),
}

fn habit() -> impl Strategy<Value = Habit> {
    prop_oneof![
        (4_usize..40).prop_map(Habit::Unary),
        (2_usize..5, 2_usize..64).prop_map(|(calls, texts)| Habit::Batches(calls, texts)),
        (1_usize..5).prop_map(Habit::Streams),
    ]
}

/// Sends texts of `bytes` bytes for ever.
fn send(scheduler: &Scheduler, caller: CallerId, habit: Habit, bytes: usize, class: Class) {
    let (loops, texts) = match habit {
        Habit::Unary(calls) => (calls, 1),
        Habit::Batches(calls, texts) => (calls, texts),
        Habit::Streams(streams) => (64 * streams, 1),
    };
    for _ in 0..loops {
        let scheduler = scheduler.clone();
        tokio::spawn(async move {
            loop {
                let text = "a".repeat(bytes);
                let sent = match habit {
                    Habit::Streams(_) => scheduler.item(text, class, caller, Deadline::NONE).await.map(drop),
                    _ => scheduler.batch(vec![text; texts], class, caller, Deadline::NONE).await.map(drop),
                };
                if let Err(ApiError::Overloaded { retry_after, .. }) = sent {
                    sleep(retry_after.min(milliseconds(50))).await;
                }
            }
        });
    }
}

fn on_a_paused_clock<F: Future>(test: F) -> F::Output {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn callers_of_equal_right_get_equal_shares_within_a_tenth(
        callers in prop::collection::vec((habit(), 20_usize..1400), 2..7),
        online in any::<bool>(),
    ) {
        let shares = on_a_paused_clock(async {
            let scheduler = Scheduler::start(longest(10_000, 10_000));
            let class = if online { Class::Online } else { Class::Bulk };
            for (index, (habit, bytes)) in callers.iter().enumerate() {
                send(&scheduler, caller(index), *habit, *bytes, class);
            }
            // The first seconds decide who holds what.
            sleep(Duration::from_secs(5)).await;
            scheduler.ran.lock().unwrap().clear();
            sleep(Duration::from_secs(60)).await;
            let ran = scheduler.ran.lock().unwrap();
            (0..callers.len()).map(|index| ran.get(&caller(index)).copied().unwrap_or(0)).collect::<Vec<_>>()
        });
        let mean = shares.iter().sum::<u64>() as f64 / shares.len() as f64;
        for share in &shares {
            prop_assert!((*share as f64 / mean - 1.0).abs() <= 0.1, "{shares:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_long_texts_leaves_unary_calls_prompt() {
    let scheduler = Scheduler::start(longest(2_000, 30_000));
    for hostile in 0..4 {
        send(&scheduler, caller(hostile), Habit::Streams(4), 32_000, Class::Online);
    }
    sleep(Duration::from_secs(3)).await;
    let longest_run =
        scheduler.admission.costs().micros(scheduler.admission.costs().units_of(&"a".repeat(32_000)) as f64);
    let longest_run = Duration::from_micros(longest_run as u64);
    let mut slowest = Duration::ZERO;
    for index in 0..200 {
        let begin = Instant::now();
        let deadline = Deadline::after(milliseconds(1_000));
        scheduler.batch(vec![text()], Class::Online, caller(100), deadline).await.unwrap();
        slowest = slowest.max(begin.elapsed());
        sleep(milliseconds(index % 37)).await;
    }
    // At most the runs in progress, and one text of each other caller.
    assert!(slowest <= longest_run * (1 + 4 / SESSIONS as u32) + RUN + milliseconds(1), "{slowest:?}");
}

/// The texts of a call that its client cancelled neither run nor delay the next call.
#[tokio::test(start_paused = true)]
async fn a_cancelled_batch_does_not_delay_the_next_call_of_its_caller() {
    let scheduler = Scheduler::start(longest(10_000, 10_000));
    send(&scheduler, caller(1), Habit::Unary(40), 360, Class::Online);
    sleep(milliseconds(100)).await;
    let batch = tokio::spawn({
        let scheduler = scheduler.clone();
        async move { scheduler.batch(vec![text(); 200], Class::Online, caller(0), Deadline::NONE).await.map(drop) }
    });
    sleep(milliseconds(5)).await;
    batch.abort();
    assert!(batch.await.unwrap_err().is_cancelled(), "the batch was rejected");
    let begin = Instant::now();
    let deadline = Deadline::after(milliseconds(500));
    scheduler.batch(vec![text()], Class::Online, caller(0), deadline).await.unwrap();
    assert!(begin.elapsed() <= 6 * RUN, "{:?}", begin.elapsed());
}

/// Each of `callers` sends its part of `load` times the capacity. Returns the parts of the capacity
/// that were served in time, rejected, and admitted but late.
async fn overload(callers: usize, load: f64, deadline: Duration, seconds: usize) -> [f64; 3] {
    let scheduler = Scheduler::start(longest(60_000, 60_000));
    let counts: Arc<[AtomicUsize; 3]> = Arc::default();
    let per_second = SESSIONS as f64 / RUN.as_secs_f64();
    let mut calls = Vec::new();
    let begin = Instant::now();
    for number in 0..(load * per_second) as usize * seconds {
        let (scheduler, counts) = (scheduler.clone(), counts.clone());
        // Not in turn: a caller may send several in a row.
        let of = number.wrapping_mul(2_654_435_761) % (callers * 1024) / 1024;
        calls.push(tokio::spawn(async move {
            let begin = Instant::now();
            let deadline = Deadline::after(deadline);
            let outcome = scheduler.batch(vec![text()], Class::Online, caller(of), deadline).await;
            let kind = match outcome {
                Ok(_) => 0,
                Err(ApiError::Overloaded { .. }) => {
                    assert!(begin.elapsed() < milliseconds(1));
                    1
                }
                Err(ApiError::DeadlineExceeded) => 2,
                Err(error) => panic!("{error:?}"),
            };
            counts[kind].fetch_add(1, Relaxed);
        }));
        sleep_until(begin + Duration::from_secs_f64(number as f64 / (load * per_second))).await;
    }
    for call in calls {
        call.await.unwrap();
    }
    [0, 1, 2].map(|kind| counts[kind].load(Relaxed) as f64 / (per_second * seconds as f64))
}

#[tokio::test(start_paused = true)]
async fn at_twice_the_capacity_no_admitted_call_is_late_however_many_callers_there_are() {
    let mut failed = Vec::new();
    for callers in [1, 2, 5, 10, 20, 50, 500] {
        let [good, rejected, late] = overload(callers, 2.0, milliseconds(500), 20).await;
        println!("{callers} callers: {good:.3} in time, {rejected:.3} rejected, {late:.4} late");
        if good <= 0.95 || late > 0.0 {
            failed.push(callers);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// A caller that sends batches with deadlines beside nine that send one text at a time learns how
/// long its work takes there: it is rejected early, not served late.
#[tokio::test(start_paused = true)]
async fn a_heavy_caller_beside_light_ones_is_rejected_rather_than_late() {
    let scheduler = Scheduler::start(longest(60_000, 60_000));
    for light in 1..10 {
        send(&scheduler, caller(light), Habit::Unary(4), 360, Class::Online);
    }
    let counts: Arc<[AtomicUsize; 3]> = Arc::default();
    for _ in 0..16 {
        let (scheduler, counts) = (scheduler.clone(), counts.clone());
        tokio::spawn(async move {
            loop {
                let deadline = Deadline::after(Duration::from_secs(2));
                let texts = vec![text(); 4];
                match scheduler.batch(texts, Class::Online, caller(0), deadline).await {
                    Ok(_) => drop(counts[0].fetch_add(1, Relaxed)),
                    Err(ApiError::Overloaded { retry_after, .. }) => {
                        counts[1].fetch_add(1, Relaxed);
                        sleep(retry_after.max(milliseconds(100))).await;
                    }
                    Err(_) => drop(counts[2].fetch_add(1, Relaxed)),
                }
            }
        });
    }
    sleep(Duration::from_secs(120)).await;
    let [good, rejected, late] = [0, 1, 2].map(|kind| counts[kind].load(Relaxed));
    println!("{good} in time, {rejected} rejected, {late} late");
    assert!(good > 400 && late * 20 < good, "{good} in time, {rejected} rejected, {late} late");
}
