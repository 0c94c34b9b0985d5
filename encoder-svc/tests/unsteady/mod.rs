//! Admission on machines whose speed changes, on a paused clock: the real queue and admission, at
//! twice the capacity.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use encoder_svc::scheduler::admission::{Admission, Permit};
use encoder_svc::scheduler::cost::CostModel;
use encoder_svc::scheduler::entry::Class;
use service_kit::{ApiError, CallerId, Deadline, Metrics};
use tokio::time::{Instant, sleep, sleep_until};

use crate::paused::{RUN, SESSIONS, Scheduler, longest, milliseconds, text};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    InTime,
    Rejected,
    Late,
}

/// The outcomes of calls, each with the second in which the call began.
struct Outcomes(Vec<(f64, Outcome)>);

impl Outcomes {
    fn count(&self, seconds: Range<f64>, outcome: Outcome) -> f64 {
        self.0.iter().filter(|(at, found)| seconds.contains(at) && *found == outcome).count() as f64
    }

    /// The part of the capacity at the start that was served in time.
    fn goodput(&self, seconds: Range<f64>) -> f64 {
        let capacity = SESSIONS as f64 / RUN.as_secs_f64() * (seconds.end - seconds.start);
        self.count(seconds, Outcome::InTime) / capacity
    }

    /// The part of the admitted calls that were late.
    fn late(&self, seconds: Range<f64>) -> f64 {
        let late = self.count(seconds.clone(), Outcome::Late);
        late / (late + self.count(seconds, Outcome::InTime))
    }
}

/// Sends twice the capacity at the start for as many seconds.
async fn overload(speed: fn(Duration) -> f64, seconds: usize) -> Outcomes {
    let scheduler = Scheduler::start_on(Some(speed), longest(2_000, 30_000));
    let per_second = 2.0 * SESSIONS as f64 / RUN.as_secs_f64();
    let begin = Instant::now();
    let mut calls = Vec::new();
    for number in 0..per_second as usize * seconds {
        let scheduler = scheduler.clone();
        let at = number as f64 / per_second;
        calls.push(tokio::spawn(async move {
            let deadline = Deadline::after(milliseconds(1_000));
            let called = scheduler.batch(vec![text()], Class::Online, CallerId::UNKNOWN, deadline).await;
            let outcome = match called {
                Ok(_) => Outcome::InTime,
                Err(ApiError::Overloaded { .. }) => Outcome::Rejected,
                Err(ApiError::DeadlineExceeded) => Outcome::Late,
                Err(error) => panic!("{error:?}"),
            };
            (at, outcome)
        }));
        sleep_until(begin + Duration::from_secs_f64(at)).await;
    }
    let outcomes = futures_util::future::join_all(calls).await;
    let outcomes = Outcomes(outcomes.into_iter().map(Result::unwrap).collect());
    for second in (0..seconds).step_by(2) {
        let seconds = second as f64..second as f64 + 2.0;
        let (good, late) = (outcomes.goodput(seconds.clone()), outcomes.count(seconds, Outcome::Late));
        println!("{second:>3} s: {good:.3} of the capacity in time, {late} late");
    }
    outcomes
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slows_down_by_3_and_recovers() {
    let speed = |since: Duration| if (20..50).contains(&since.as_secs()) { 1.0 / 3.0 } else { 1.0 };
    let outcomes = overload(speed, 80).await;
    let late = outcomes.count(0.0..80.0, Outcome::Late);
    let admitted = late + outcomes.count(0.0..80.0, Outcome::InTime);
    println!("{late} of {admitted} late");
    // What was admitted in the second before cannot all be done in time.
    assert!(late <= 200.0, "{late} late");
    assert!(outcomes.late(1.0..18.0) == 0.0);
    assert!(outcomes.late(22.0..50.0) < 0.001, "{}", outcomes.late(22.0..50.0));
    assert!(outcomes.late(50.0..80.0) == 0.0);
    assert!(outcomes.goodput(1.0..18.0) >= 0.95, "{}", outcomes.goodput(1.0..18.0));
    assert!(outcomes.goodput(22.0..50.0) >= 0.95 / 3.0, "{}", outcomes.goodput(22.0..50.0));
    assert!(outcomes.goodput(52.0..80.0) >= 0.95, "{}", outcomes.goodput(52.0..80.0));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_stalls_for_200_milliseconds_every_second() {
    let speed = |since: Duration| if since.subsec_millis() >= 800 { 0.0 } else { 1.0 };
    let outcomes = overload(speed, 60).await;
    let late = outcomes.count(0.0..60.0, Outcome::Late);
    println!("{late} late");
    assert!(outcomes.late(0.0..60.0) < 0.005, "{}", outcomes.late(0.0..60.0));
    assert!(outcomes.late(10.0..60.0) < 0.001, "{}", outcomes.late(10.0..60.0));
    assert!(outcomes.goodput(5.0..60.0) >= 0.95 * 0.8, "{}", outcomes.goodput(5.0..60.0));
}

/// The margin that `metrics` show for online texts.
fn margin(metrics: &Metrics) -> f64 {
    let text = metrics.render();
    let name = "encoder_margin_ratio{class=\"online\"} ";
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap()
}

/// On an idle machine one text takes a whole run however many cores there are, and some take longer
/// for other reasons. That is no reason to reject the calls of a burst.
#[tokio::test(start_paused = true)]
async fn lone_texts_do_not_raise_the_margin() {
    let metrics = Metrics::default();
    let costs = CostModel::new(256, &text(), RUN);
    let admission = Arc::new(Admission::new(costs, 16, longest(2_000, 30_000), &metrics));
    let lone_text = async |took: Duration| {
        let deadline = Deadline::after(milliseconds(1_000));
        let permits = admission.admit(&[&text()], Class::Online, CallerId::UNKNOWN, deadline).unwrap();
        sleep(took).await;
        permits.into_iter().for_each(Permit::complete);
    };
    let before = margin(&metrics);
    for number in 0..2_000 {
        lone_text(if number % 50 == 0 { 6 * RUN } else { RUN }).await;
    }
    assert!(margin(&metrics) <= before, "{}", margin(&metrics));
    // A stall of half the deadline is one.
    for _ in 0..100 {
        lone_text(milliseconds(500)).await;
    }
    assert!(margin(&metrics) > before, "{}", margin(&metrics));
}

/// A neighbour that takes half of the machine in bursts of irregular length.
#[tokio::test(start_paused = true)]
async fn a_machine_that_is_shared_in_bursts() {
    let speed = |since: Duration| {
        let wave = (since.as_secs_f64() * 1.7).sin() + (since.as_secs_f64() * 0.6).sin();
        if wave > 0.5 { 0.5 } else { 1.0 }
    };
    let outcomes = overload(speed, 60).await;
    println!("{} late", outcomes.count(0.0..60.0, Outcome::Late));
    assert!(outcomes.late(0.0..60.0) < 0.01, "{}", outcomes.late(0.0..60.0));
    assert!(outcomes.late(20.0..60.0) < 0.001, "{}", outcomes.late(20.0..60.0));
    assert!(outcomes.goodput(5.0..60.0) >= 0.65, "{}", outcomes.goodput(5.0..60.0));
}
