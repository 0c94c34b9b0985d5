//! The promises of the scheduler, on a paused clock: the real queue and admission, with workers
//! that spend simulated time on each text.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod paused;
mod unsteady;

use std::sync::Arc;
use std::time::Duration;

use encoder_svc::scheduler::admission::Admission;
use encoder_svc::scheduler::cost::CostModel;
use encoder_svc::scheduler::entry::Class;
use paused::{RUN, SESSIONS, Scheduler, longest, milliseconds, text};
use proptest::prelude::*;
use service_kit::{ApiError, CallerId, Deadline, Metrics};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn at_twice_the_capacity_serves_admitted_calls_in_time_and_rejects_the_rest_at_once() {
    let scheduler = Scheduler::start(longest(60_000, 60_000));
    let capacity = SESSIONS as f64 / RUN.as_secs_f64();
    let seconds = 20;
    let mut calls = Vec::new();
    for _ in 0..(2.0 * capacity) as usize * seconds {
        let scheduler = scheduler.clone();
        calls.push(tokio::spawn(async move {
            scheduler.call(Class::Online, Deadline::after(milliseconds(500))).await
        }));
        sleep(RUN / (2 * SESSIONS as u32)).await;
    }
    let (mut good, mut rejected) = (0_usize, 0_usize);
    for call in calls {
        match call.await.unwrap() {
            (Ok(_), took) => {
                assert!(took <= milliseconds(500), "{took:?}");
                good += 1;
            }
            (Err(ApiError::Overloaded { retry_after, .. }), took) => {
                assert!(took < milliseconds(1) && retry_after < Duration::from_secs(1));
                rejected += 1;
            }
            (Err(error), _) => panic!("{error:?}"),
        }
    }
    let ratio = good as f64 / seconds as f64 / capacity;
    assert!(ratio > 0.95 && rejected > good / 2, "goodput {ratio} of the capacity, {rejected} rejected");
    // No permit is still held.
    assert_eq!(scheduler.admission.wait(Class::Online), Duration::ZERO);
}

#[test]
fn expects_a_longer_wait_when_the_machine_slows_down() {
    let costs = CostModel::new(256, &text(), RUN);
    let admission = Arc::new(Admission::new(costs, SESSIONS, longest(60_000, 60_000), &Metrics::default()));
    let text = text();
    let _permits =
        admission.admit(&[text.as_str(); 40], Class::Online, CallerId::UNKNOWN, Deadline::NONE).unwrap();
    let before = admission.wait(Class::Online);
    for _ in 0..200 {
        admission.costs().learn(&[text.len()], 2 * RUN);
    }
    let times = admission.wait(Class::Online).as_secs_f64() / before.as_secs_f64();
    assert!((1.95..2.05).contains(&times), "{times}");
    // A call that would have fitted before is now rejected.
    let deadline = Deadline::after(before + before / 2);
    assert!(matches!(
        admission.admit(&[text.as_str()], Class::Online, CallerId::UNKNOWN, deadline),
        Err(ApiError::Overloaded { .. })
    ));
}

#[test]
fn a_rejection_names_a_wait_over_the_limit_even_if_the_machine_speeds_up() {
    let costs = CostModel::new(256, &text(), RUN);
    let admission = Arc::new(Admission::new(costs, SESSIONS, longest(1_000, 1_000), &Metrics::default()));
    let text = text();
    let admit = || admission.admit(&[text.as_str()], Class::Online, CallerId::UNKNOWN, Deadline::NONE);
    let mut permits = vec![];
    let fill = |permits: &mut Vec<_>| loop {
        match admit() {
            Ok(permit) => permits.push(permit),
            Err(ApiError::Overloaded { message, .. }) => return message,
            Err(error) => panic!("{error:?}"),
        }
    };
    fill(&mut permits);
    for _ in 0..200 {
        admission.costs().learn(&[text.len()], RUN / 2);
    }
    // Admitted texts keep the permits that they were given, and the error counts these permits.
    let message = fill(&mut permits);
    let mut told = message.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
    let (expected, allowed) = (told.next().unwrap(), told.next().unwrap());
    assert!(expected >= allowed && allowed == 1_000, "{message}");
}

#[tokio::test(start_paused = true)]
async fn neither_class_starves_the_other() {
    let scheduler = Scheduler::start(longest(2_000, 60_000));
    let bulk = tokio::spawn({
        let scheduler = scheduler.clone();
        async move {
            let text = text();
            let permits = scheduler
                .admission
                .admit(&vec![text.as_str(); 400], Class::Bulk, CallerId::UNKNOWN, Deadline::NONE)
                .unwrap();
            let runs = permits
                .into_iter()
                .map(|permit| scheduler.run(permit, paused::text(), Class::Bulk, Deadline::NONE));
            futures_util::future::join_all(runs).await
        }
    });
    sleep(milliseconds(5)).await;
    // A lone online text among bulk waits for one run at most.
    for _ in 0..20 {
        let (outcome, took) = scheduler.call(Class::Online, Deadline::NONE).await;
        assert!(outcome.is_ok() && took <= 2 * RUN + milliseconds(1), "{took:?}");
    }
    // Online load beyond the capacity leaves bulk one run in eight.
    let begin = Instant::now();
    let flood = tokio::spawn({
        let scheduler = scheduler.clone();
        async move {
            loop {
                let scheduler = scheduler.clone();
                tokio::spawn(async move { scheduler.call(Class::Online, Deadline::NONE).await });
                sleep(RUN / 4).await;
            }
        }
    });
    assert!(bulk.await.unwrap().iter().all(Result::is_ok));
    let least = RUN * 400 / (SESSIONS as u32) * 8;
    assert!(begin.elapsed() < least + milliseconds(500), "{:?}", begin.elapsed());
    flood.abort();
}

/// Keeps 64 bulk texts waiting for ever.
fn saturate_with_bulk(scheduler: &Scheduler) {
    for _ in 0..64 {
        let scheduler = scheduler.clone();
        tokio::spawn(async move {
            loop {
                scheduler.call(Class::Bulk, Deadline::NONE).await.0.unwrap();
            }
        });
    }
}

/// The reserved worker runs a lone text at once, although it has one core only. A text that comes
/// beside it gets the next single-core worker.
#[tokio::test(start_paused = true)]
async fn a_worker_on_one_core_is_free_for_a_lone_text_beside_saturating_bulk() {
    let scheduler = Scheduler::start(longest(2_000, 60_000)).with_reserved_worker();
    saturate_with_bulk(&scheduler);
    for pause in 0..100 {
        sleep(milliseconds(40 + pause % 10)).await;
        let (outcome, took) = scheduler.call(Class::Online, Deadline::NONE).await;
        assert!(outcome.is_ok() && took <= RUN + milliseconds(1), "{took:?}");
    }
    for pause in 0..100 {
        sleep(milliseconds(40 + pause % 10)).await;
        let lone = scheduler.call(Class::Online, Deadline::NONE);
        let beside = async {
            sleep(milliseconds(1)).await;
            scheduler.call(Class::Online, Deadline::NONE).await
        };
        let ((_, lone), (_, beside)) = tokio::join!(lone, beside);
        assert!(lone <= RUN + milliseconds(1) && beside <= 2 * RUN + milliseconds(1), "{lone:?}, {beside:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn does_not_run_entries_whose_caller_has_left() {
    let scheduler = Scheduler::start(longest(60_000, 60_000));
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let scheduler = scheduler.clone();
            tokio::spawn(async move { scheduler.call(Class::Online, Deadline::NONE).await })
        })
        .collect();
    sleep(RUN * 5 / 2).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    let (outcome, took) = scheduler.call(Class::Online, Deadline::after(milliseconds(5_000))).await;
    assert!(outcome.is_ok() && took <= 2 * RUN, "{took:?}");
    // Three rounds of two runs had begun when the callers left.
    assert_eq!(scheduler.texts_run.load(std::sync::atomic::Ordering::Relaxed), 3 * SESSIONS + 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_for_permits_in_order_and_until_its_deadline() {
    let scheduler = Scheduler::start(longest(50, 50));
    let text = text();
    // The limit is ten texts of 10 ms on two sessions.
    let full = scheduler
        .admission
        .admit(&[text.as_str(); 10], Class::Bulk, CallerId::UNKNOWN, Deadline::NONE)
        .unwrap();
    assert!(matches!(
        scheduler.admission.admit(&[&text], Class::Bulk, CallerId::UNKNOWN, Deadline::NONE),
        Err(ApiError::Overloaded { .. })
    ));
    let late = scheduler
        .admission
        .admit_waiting(&text, Class::Bulk, CallerId::UNKNOWN, Deadline::after(milliseconds(30)))
        .await;
    assert_eq!(late.err(), Some(ApiError::DeadlineExceeded));
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let waiting: Vec<_> = (0..10)
        .map(|index| {
            let (scheduler, order, text) = (scheduler.clone(), order.clone(), text.clone());
            tokio::spawn(async move {
                let permit = scheduler
                    .admission
                    .admit_waiting(&text, Class::Bulk, CallerId::UNKNOWN, Deadline::NONE)
                    .await
                    .unwrap();
                order.lock().unwrap().push(index);
                scheduler.run(permit, paused::text(), Class::Bulk, Deadline::NONE).await
            })
        })
        .collect();
    sleep(milliseconds(100)).await;
    assert!(order.lock().unwrap().is_empty(), "there was no permit");
    drop(full);
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    assert!(order.lock().unwrap().is_sorted());
}

#[tokio::test(start_paused = true)]
async fn an_idle_encoder_admits_a_batch_over_its_limit() {
    let scheduler = Scheduler::start(longest(50, 50));
    let text = text();
    let permits = scheduler
        .admission
        .admit(&[text.as_str(); 100], Class::Online, CallerId::UNKNOWN, Deadline::NONE)
        .unwrap();
    assert_eq!(permits.len(), 100);
    drop(permits);
    assert_eq!(scheduler.admission.wait(Class::Online), Duration::ZERO);
    assert!(scheduler.admission.admit(&[&text], Class::Online, CallerId::UNKNOWN, Deadline::NONE).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Calls have any size, class and deadline, and some leave. Each call that stays gets each
    /// reply once and in time, or is rejected. At the end all permits are free.
    #[test]
    fn each_call_gets_its_replies_once_or_is_rejected(
        calls in prop::collection::vec((1_usize..40, any::<bool>(), 5_u64..800, 0_u64..40, prop::bool::weighted(0.2)), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let scheduler = Scheduler::start(longest(400, 2_000));
            let mut running = Vec::new();
            for (size, online, patience, pause, leaves) in calls {
                let scheduler = scheduler.clone();
                let class = if online { Class::Online } else { Class::Bulk };
                let deadline = Deadline::after(milliseconds(patience));
                let call = tokio::spawn(async move {
                    let begin = Instant::now();
                    let text = text();
                    let admitted = scheduler.admission.admit(&vec![text.as_str(); size], class, CallerId::UNKNOWN, deadline);
                    let Ok(permits) = admitted else { return (None, begin.elapsed()) };
                    let runs = permits.into_iter().map(|permit| scheduler.run(permit, paused::text(), class, deadline));
                    (Some(futures_util::future::join_all(runs).await), begin.elapsed())
                });
                if leaves {
                    sleep(milliseconds(1)).await;
                    call.abort();
                } else {
                    running.push((call, size, patience));
                }
                sleep(milliseconds(pause)).await;
            }
            for (call, size, patience) in running {
                match call.await.unwrap() {
                    (None, took) => assert_eq!(took, Duration::ZERO, "a rejection does not wait"),
                    (Some(results), took) => {
                        assert_eq!(results.len(), size);
                        let whole = results.iter().all(Result::is_ok);
                        assert!(!whole || took <= milliseconds(patience) + RUN, "{took:?} of {patience}");
                    }
                }
            }
            // Workers drop abandoned entries when they take them.
            sleep(milliseconds(100)).await;
            for class in [Class::Online, Class::Bulk] {
                assert_eq!(scheduler.admission.wait(class), Duration::ZERO);
            }
        });
    }
}
