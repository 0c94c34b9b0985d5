//! Requests are JSON objects, as their description says. Code that is derived would take a list of the fields in their order,
//! too.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A `T` that stood there as an object.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(entries))
    }
}

/// A list of objects, for `deserialize_with`.
pub(super) fn all<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects: Vec<Object<T>> = Vec::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;

    use super::*;
    use crate::rest::types::{BatchClassifyRequest, ClassifyRequest};

    #[test]
    fn a_list_of_a_movies_fields_is_no_movie() {
        let list = r#"["Reef", "A diver.", true, false]"#;
        let error = serde_json::from_str::<Object<ClassifyRequest>>(list).err().unwrap().to_string();
        assert!(error.contains("expected an object"), "{error}");
        let movies = r#"{"movies": [{"overview": "A diver."}, ["Reef", "A diver."]]}"#;
        let mut json = serde_json::Deserializer::from_str(movies);
        let error =
            serde_path_to_error::deserialize::<_, Object<BatchClassifyRequest>>(&mut json).err().unwrap();
        assert_eq!(error.path().to_string(), "movies[1]");
        let movie = serde_json::Value::from_iter([("overview", "A diver.")]);
        assert!(Object::<ClassifyRequest>::deserialize(movie).is_ok());
    }
}
