//! Counts the responses of a stream: at most one for each item, and exactly one for each if the
//! stream ends without an error.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use tonic::{Status, Streaming};

/// Passes each response to `take`; returns how the stream ended.
pub(crate) async fn for_each<T>(mut responses: Streaming<T>, mut take: impl FnMut(T)) -> Result<(), Status> {
    while let Some(response) = responses.next().await {
        take(response?);
    }
    Ok(())
}

/// The items of a stream, and the number of responses to each.
pub(crate) struct Items {
    requests: usize,
    responses: BTreeMap<usize, u32>,
}

impl Items {
    pub(crate) fn of(requests: usize) -> Self {
        Self { requests, responses: BTreeMap::new() }
    }

    /// Records a response; returns the index of its item, or the violation if there is none.
    pub(crate) fn responded(&mut self, id: &str) -> Result<usize, String> {
        let index = id.parse().ok().filter(|index| *index < self.requests);
        let index = index.ok_or_else(|| format!("a response to {id:?}, which was not sent"))?;
        *self.responses.entry(index).or_default() += 1;
        Ok(index)
    }

    /// The violations at the end of the stream.
    pub(crate) fn violations(&self, ended_well: bool) -> impl Iterator<Item = String> {
        let twice = self.responses.iter().find(|(_, times)| **times > 1);
        let twice = twice.map(|(index, times)| format!("item {index} of a stream has {times} responses"));
        let (expected, found) = (self.requests, self.responses.len());
        let missing = (ended_well && found != expected)
            .then(|| format!("a stream of {expected} items ended without an error after {found} responses"));
        twice.into_iter().chain(missing)
    }
}
