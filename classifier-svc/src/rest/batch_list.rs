//! Lists of at most as many elements as the largest batch.
//!
//! An empty text takes three bytes of JSON and eight times as many in memory, so that a body within
//! its limit of bytes could take hundreds of megabytes before the batch is checked. serde has no
//! attribute that bounds a list.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use service_kit::Object;

/// The most elements, which is the highest value of `limits.max_batch_size`.
const MAX: usize = 1 << 16;

/// Deserializes a list of at most 65,536 elements; for `deserialize_with`.
pub(super) fn batch_list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(BatchVisitor(PhantomData))
}

/// Deserializes a list of at most 65,536 objects; for `deserialize_with`.
pub(super) fn batch_of_objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = batch_list(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

struct BatchVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BatchVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            if elements.len() == MAX {
                return Err(A::Error::custom(format!("expected at most {MAX} elements, found more")));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}
