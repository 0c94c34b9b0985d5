//! A caller that sends an encoder twice its capacity while the machine's speed changes, and the check
//! that admitted calls are in time and that goodput recovers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use proto::encoder::v1::{EncodeRequest, Priority};
use service_kit::Target;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::hosts::encoder_host;
use crate::plan;
use crate::truth;
use crate::world::World;

/// One seed in this many has the overload, because it takes as long as the rest of a run.
const EVERY: u64 = 25;
/// The deadline of each call.
const DEADLINE: Duration = Duration::from_millis(500);
/// Texts of these calls, which no other load sends.
const FIRST_TEXT: u64 = 1 << 40;
/// The average time of a text, by its definition.
const AVERAGE: Duration = Duration::from_micros(17_500);
/// A stall, and the time from one to the next.
const STALL: Duration = Duration::from_millis(200);
const STALL_EVERY: Duration = Duration::from_secs(1);

/// What the machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Steady,
    SlowerBy3,
    FasterAgain,
    Stalls,
}

/// The phases and their lengths.
const PHASES: [(Phase, u64); 4] =
    [(Phase::Steady, 5), (Phase::SlowerBy3, 6), (Phase::FasterAgain, 5), (Phase::Stalls, 6)];
/// The time after a change that does not count for goodput.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    /// In time, without the calls of the first moments.
    settled: u64,
    in_time: u64,
    late: u64,
    rejected: u64,
}

/// Measures the first encoder after the sharers have ended.
pub(super) async fn run(world: &World) -> turmoil::Result {
    if !world.plan.seed.is_multiple_of(EVERY) {
        return Ok(());
    }
    let target = Target::parse(&format!("http://{}:{}", plan::encoder(0), encoder_host::PORT))?
        .over(Arc::new(world.network.clone()));
    let client = EncoderServiceClient::new(target.channel(None, None));
    let between = AVERAGE.div_f64(2.0 * world.plan.sessions as f64);
    let slow = &world.encoders[0].slow;
    let mut number = FIRST_TEXT;
    let mut found = Vec::new();
    for (phase, seconds) in PHASES {
        let begin = Instant::now();
        let mut calls = JoinSet::new();
        while begin.elapsed() < Duration::from_secs(seconds) {
            slow.store(times(phase, begin.elapsed()), Ordering::Relaxed);
            let is_settled = begin.elapsed() >= SETTLE;
            let client = client.clone();
            calls.spawn(async move { (is_settled, encode(client, number).await) });
            number += 1;
            tokio::time::sleep(between).await;
        }
        slow.store(1, Ordering::Relaxed);
        let mut counts = Counts::default();
        while let Some(call) = calls.join_next().await {
            let (is_settled, code) = call?;
            match code {
                Code::Ok => {
                    counts.in_time += 1;
                    counts.settled += u64::from(is_settled);
                }
                Code::DeadlineExceeded => counts.late += 1,
                Code::Unavailable => counts.rejected += 1,
                code => world.violation(&format!("an overloaded encoder answers {code:?}")),
            }
        }
        world.event(&format!("overload: {phase:?} {counts:?}"));
        world.ledger.add("overload:in_time", counts.in_time);
        world.ledger.add("overload:late", counts.late);
        world.ledger.add("overload:rejected", counts.rejected);
        found.push(counts.settled as f64 / (seconds as f64 - SETTLE.as_secs_f64()));
        check_late(world, phase, counts);
    }
    check_goodput(world, &found);
    Ok(())
}

/// How many times as long as usual a run takes that begins at this time of a phase.
fn times(phase: Phase, since: Duration) -> u32 {
    match phase {
        Phase::Steady | Phase::FasterAgain => 1,
        Phase::SlowerBy3 => 3,
        Phase::Stalls => {
            let into = Duration::from_nanos((since.as_nanos() % STALL_EVERY.as_nanos()) as u64);
            if into < STALL { (STALL.as_millis() / AVERAGE.as_millis()) as u32 } else { 1 }
        }
    }
}

async fn encode(mut client: EncoderServiceClient<Channel>, number: u64) -> Code {
    let movie = truth::movie(number);
    let text = truth::template().compose(&movie.title, &movie.overview);
    let mut request = Request::new(EncodeRequest { texts: vec![text], priority: Priority::Online.into() });
    request.set_timeout(DEADLINE);
    client.encode(request).await.err().map_or(Code::Ok, |status| status.code())
}

/// When the machine slows down by 3, two thirds of what was admitted for the time of a deadline cannot
/// be in time. Apart from that, one admitted call in fifty may be late.
fn check_late(world: &World, phase: Phase, counts: Counts) {
    let capacity = DEADLINE.as_secs_f64() / AVERAGE.as_secs_f64() * world.plan.sessions as f64;
    let admitted_before = match phase {
        Phase::SlowerBy3 => capacity,
        Phase::Steady | Phase::FasterAgain => 0.0,
        Phase::Stalls => capacity / 2.0,
    };
    let most = admitted_before + (counts.in_time + counts.late) as f64 / 50.0;
    if counts.late as f64 > most {
        world.violation(&format!("{phase:?}: expected at most {most:.0} late calls, found {counts:?}"));
    }
}

/// Goodput follows the speed of the machine. It cannot follow exactly: a short queue runs empty more
/// often while texts are long, the learned margin falls slowly once the machine is fast again, and a run
/// that begins in a stall may outlast it.
fn check_goodput(world: &World, rates: &[f64]) {
    let [steady, slower, faster, stalls] = rates else { return };
    for (phase, rate, least) in [
        (Phase::SlowerBy3, slower, steady / 3.0 * 0.8),
        (Phase::FasterAgain, faster, steady * 0.75),
        (Phase::Stalls, stalls, steady * 0.5),
    ] {
        if *steady == 0.0 || *rate < least {
            world.violation(&format!(
                "{phase:?}: expected at least {least:.1} texts/s in time, found {rate:.1}; at first {steady:.1}"
            ));
        }
    }
}
