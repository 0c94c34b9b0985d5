//! The origins whose pages may call REST, as settings give them.

use service_kit::InvalidSetting;

/// Checks origins and writes them as browsers do, which send the name in lower case and omit the
/// default port.
pub(crate) fn checked(origins: &[String]) -> Result<Vec<http::HeaderValue>, InvalidSetting> {
    let origin = |text: &String| {
        let lower = text.to_ascii_lowercase();
        let (host, default_port) = match (lower.strip_prefix("http://"), lower.strip_prefix("https://")) {
            (Some(host), _) => (host, ":80"),
            (None, host) => (host.unwrap_or_default(), ":443"),
        };
        let authority = host.parse::<http::uri::Authority>().ok();
        let is_origin = authority.is_some_and(|found| !found.host().is_empty() && !host.contains(['@', '*']));
        let value = lower.strip_suffix(default_port).unwrap_or(&lower);
        let value = http::HeaderValue::from_str(value).ok().filter(|_| is_origin || text == "*");
        value.ok_or_else(|| InvalidSetting {
            key: "rest.cors_origins",
            expected:
                "whole origins such as https://movies.example, or * for all; a * inside an origin matches \
                nothing, so list each subdomain"
                    .to_owned(),
            found: format!("{text:?}"),
        })
    };
    origins.iter().map(origin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_what_no_browser_sends_as_an_origin() {
        for origin in [
            "https://movies.example/",
            "https://movies.example/app",
            "https://*.movies.example",
            "movies.example",
            "https://",
            "https://a b",
            "https://user@movies.example",
            "ftp://movies.example",
            "",
        ] {
            let message = checked(&[origin.to_owned()]).unwrap_err().to_string();
            assert!(message.starts_with("setting rest.cors_origins: expected whole origins"), "{message}");
        }
    }

    #[test]
    fn writes_origins_as_browsers_do() {
        for (setting, sent) in [
            ("https://movies.example", "https://movies.example"),
            ("HTTPS://Movies.example:443", "https://movies.example"),
            ("http://localhost:80", "http://localhost"),
            ("https://movies.example:80", "https://movies.example:80"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("*", "*"),
        ] {
            assert_eq!(checked(&[setting.to_owned()]).unwrap(), [sent]);
        }
    }
}
