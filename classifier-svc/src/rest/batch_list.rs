//! Lists of at most as many elements as the largest batch, for `deserialize_with`.

use proto::LARGEST_BATCH;
use serde::de::{Deserialize, Deserializer};
use service_kit::{Object, bounded_list};

/// Deserializes a list of at most as many elements.
pub(super) fn batch_list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    bounded_list(deserializer, LARGEST_BATCH, "elements")
}

/// Deserializes a list of at most as many objects.
pub(super) fn batch_of_objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = batch_list(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}
