//! The answers to the items of a stream: each at most once, and all of them where the stream ends well.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use tonic::{Status, Streaming};

/// Hands each answer to `take`; says how the stream ended.
pub(crate) async fn each<T>(mut answers: Streaming<T>, mut take: impl FnMut(T)) -> Result<(), Status> {
    while let Some(answer) = answers.next().await {
        take(answer?);
    }
    Ok(())
}

/// What was asked by its place, and how often each was answered.
pub(crate) struct Items {
    asked: usize,
    answered: BTreeMap<usize, u32>,
}

impl Items {
    pub(crate) fn of(asked: usize) -> Self {
        Self { asked, answered: BTreeMap::new() }
    }

    /// The place of the item that an answer is for; what is wrong, where it is for none.
    pub(crate) fn answered(&mut self, id: &str) -> Result<usize, String> {
        let place = id.parse().ok().filter(|place| *place < self.asked);
        let place = place.ok_or_else(|| format!("an answer to {id:?}, which was not asked"))?;
        *self.answered.entry(place).or_default() += 1;
        Ok(place)
    }

    /// What is wrong at the end of the stream.
    pub(crate) fn violations(&self, ended_well: bool) -> impl Iterator<Item = String> {
        let twice = self.answered.iter().find(|(_, times)| **times > 1);
        let twice =
            twice.map(|(place, times)| format!("item {place} of a stream was answered {times} times"));
        let (asked, found) = (self.asked, self.answered.len());
        let missing = (ended_well && found != asked)
            .then(|| format!("a stream of {asked} ended well with {found} answers"));
        twice.into_iter().chain(missing)
    }
}
