//! The keys of settings, as dotted paths such as `limits.max_batch`.

use serde_json::Value as Json;

/// Returns the keys of all values that are not tables, as dotted paths.
#[must_use]
pub fn keys(settings: &Json) -> Vec<String> {
    fn walk(value: &Json, path: &str, found: &mut Vec<String>) {
        match value {
            Json::Object(fields) if !fields.is_empty() => {
                for (key, value) in fields {
                    walk(value, &join(path, key), found);
                }
            }
            _ => found.push(path.to_owned()),
        }
    }
    let mut found = Vec::new();
    walk(settings, "", &mut found);
    found
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Returns the default of a key.
pub(super) fn at<'a>(known: &'a Json, key: &str) -> Option<&'a Json> {
    key.split('.').try_fold(known, |value, part| value.get(part))
}

/// Returns the keys whose defaults are of a kind.
pub(super) fn keys_of(known: &Json, kind: impl Fn(&Json) -> bool) -> Vec<String> {
    keys(known).into_iter().filter(|key| at(known, key).is_some_and(&kind)).collect()
}
