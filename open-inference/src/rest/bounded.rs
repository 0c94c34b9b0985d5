//! Lists and objects of a few entries, bounded for the reason of [`bounded_list`].

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use service_kit::{Object, bounded_list};

/// The most tensors and parameters of a request, each. No model has more than a few.
const MAX: usize = 64;

/// Deserializes a list of at most 64 objects; for `deserialize_with`.
pub(super) fn few_objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = bounded_list(deserializer, MAX, "tensors")?;
    Ok(objects.into_iter().map(|object| object.0).collect())
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
