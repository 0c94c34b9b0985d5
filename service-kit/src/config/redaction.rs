//! URLs without their passwords, for everything that is printed.

use serde::Serializer;

/// Returns `text`, one URL or several, without user names and passwords.
#[must_use]
pub fn redact_urls(text: &str) -> String {
    // A password may contain commas and slashes, so everything up to the last `@` is hidden.
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}://[hidden]{}", &text[..scheme], &text[at..]),
        // Without a scheme it is no valid URL, but may have been meant as one.
        (None, Some(at)) => format!("[hidden]{}", &text[at..]),
        _ => text.to_owned(),
    }
}

/// Serializes URLs without user names and passwords; for `serialize_with`.
pub fn serialize_redacted<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&redact_urls(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_user_names_and_passwords() {
        for (text, shown) in [
            ("http://encoder:50051", "http://encoder:50051"),
            ("http://a:1, https://b:2", "http://a:1, https://b:2"),
            ("http://user:hunter2@encoder:1", "http://[hidden]@encoder:1"),
            ("http://user:hunter2,hunter2/@encoder:1", "http://[hidden]@encoder:1"),
            ("http://a:1,http://u:hunter2@b:2", "http://[hidden]@b:2"),
            ("user:hunter2@encoder", "[hidden]@encoder"),
            ("hunter2@x://y", "hunter2@x://y"),
        ] {
            assert_eq!(redact_urls(text), shown);
        }
    }
}
