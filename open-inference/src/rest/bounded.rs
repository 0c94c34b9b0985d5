//! Lists and objects of a few entries.
//!
//! An entry takes several times more memory than its JSON, so a body within its limit of bytes
//! could take hundreds of megabytes. serde has no attribute that bounds a list.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use service_kit::Object;

/// The most tensors and parameters of a request, each. No model has more than a few.
const MAX: usize = 64;

/// Deserializes a list of at most 64 objects; for `deserialize_with`.
pub(super) fn few_objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(FewObjects(PhantomData))
}

struct FewObjects<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewObjects<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut objects = Vec::new();
        while let Some(Object(object)) = list.next_element()? {
            if objects.len() == MAX {
                return Err(A::Error::custom(format!("expected at most {MAX} tensors, found more")));
            }
            objects.push(object);
        }
        Ok(objects)
    }
}

/// An object with at most 64 fields.
pub(super) struct Few<T>(pub(super) HashMap<String, T>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FewFields(PhantomData)).map(Self)
    }
}

struct FewFields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewFields<T> {
    type Value = HashMap<String, T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<HashMap<String, T>, A::Error> {
        let mut fields = HashMap::new();
        while let Some((name, value)) = entries.next_entry()? {
            fields.insert(name, value);
            if fields.len() > MAX {
                return Err(A::Error::custom(format!("expected at most {MAX} parameters, found more")));
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn rejects_more_than_64_entries() {
        let object = |count: usize| {
            let fields: Vec<_> = (0..count).map(|number| format!("\"{number}\": 1")).collect();
            serde_json::from_str::<Few<u8>>(&format!("{{{}}}", fields.join(",")))
        };
        assert_eq!(object(MAX).unwrap().0.len(), MAX);
        let error = object(MAX + 1).err().unwrap().to_string();
        assert!(error.starts_with("expected at most 64 parameters, found more"), "{error}");
        let list = |count: usize| {
            let json = format!("[{}]", vec!["{}"; count].join(","));
            few_objects::<Value, _>(&mut serde_json::Deserializer::from_str(&json))
        };
        assert_eq!(list(MAX).unwrap().len(), MAX);
        let error = list(MAX + 1).unwrap_err().to_string();
        assert!(error.starts_with("expected at most 64 tensors, found more"), "{error}");
    }
}
