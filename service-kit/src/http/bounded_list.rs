//! JSON lists with a bound on their elements.
//!
//! An element takes several times more memory than its JSON, so that a body within its limit of bytes
//! could take hundreds of megabytes before its content is checked. serde has no attribute that bounds
//! a list.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// Deserializes a list of at most `max` elements. `what` names them in the error, in the plural.
pub fn bounded_list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
    max: usize,
    what: &'static str,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(BoundedList { max, what, element: PhantomData })
}

struct BoundedList<T> {
    max: usize,
    what: &'static str,
    element: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedList<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let Self { max, what, .. } = self;
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            if elements.len() == max {
                return Err(A::Error::custom(format!("expected at most {max} {what}, found more")));
            }
            elements.push(element);
        }
        Ok(elements)
    }
}
