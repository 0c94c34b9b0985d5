//! The two text formats of metrics, and which of them a scraper gets.
//!
//! `prometheus-client` writes OpenMetrics only; the crates that write the older format, such as
//! `prometheus`, bring a registry of their own. The formats differ only in their comments.

use std::fmt::Write as _;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exposition {
    /// Prometheus' text format 0.0.4, which every scraper reads.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// Returns the format for a request: OpenMetrics if `Accept` names it, unless it prefers text.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (mut open_metrics, mut text) = (0.0_f32, (0, 0.0_f32));
        for range in values.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
            let media_type = parts.next().unwrap_or_default();
            let (mut quality, mut version) = (1.0, None);
            for parameter in parts {
                match parameter.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                    // A range whose weight cannot be read is not accepted.
                    Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                    Some(("version", value)) => version = Some(value.trim_matches('"').to_owned()),
                    _ => {}
                }
            }
            // How closely a range names the text format: the closest decides its weight (RFC 9110,
            // section 12.5.1).
            let closeness = match media_type.as_str() {
                "application/openmetrics-text" => {
                    if version.is_none_or(|version| version == "1.0.0") {
                        open_metrics = f32::max(open_metrics, quality);
                    }
                    continue;
                }
                "text/plain" if version.as_deref() == Some("0.0.4") => 4,
                "text/plain" if version.is_none() => 3,
                "text/*" => 2,
                "*/*" => 1,
                _ => continue,
            };
            if closeness > text.0 || (closeness == text.0 && quality > text.1) {
                text = (closeness, quality);
            }
        }
        if open_metrics > 0.0 && open_metrics >= text.1 { Self::OpenMetrics } else { Self::Text }
    }

    /// Returns the content type of the format.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        })
    }
}

/// Converts metrics from OpenMetrics to the text format 0.0.4, in which a counter's comments name
/// it as its samples do.
pub(crate) fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // The help of a metric comes before its type, on which its name depends.
    let mut help = None;
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), _, words) => help = words,
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", kind),
                    "info" => ("_info", "gauge"),
                    "stateset" => ("", "gauge"),
                    "unknown" => ("", "untyped"),
                    _ => ("", kind),
                };
                // Writing to a string does not fail.
                if let Some(help) = help.take() {
                    let _ = writeln!(text, "# HELP {name}{suffix} {help}");
                }
                let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
            }
            // Units and the end have no comment in this format.
            (Some("#"), ..) => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &[&'static str]) -> Exposition {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_static(value));
        }
        Exposition::of(&headers)
    }

    #[test]
    fn a_scraper_gets_open_metrics_only_if_it_asks_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [
            prometheus,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; Version=1.0.0, text/plain;q=0.9",
            "application/openmetrics-text; version=\"1.0.0\"; charset=utf-8",
            "*/*, application/openmetrics-text",
            "text/plain;q=0.1,application/openmetrics-text;q=0.1",
            "*/*;q=1, text/plain;q=0, application/openmetrics-text;q=0.1",
        ] {
            assert_eq!(chosen(&[accept]), Exposition::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/*",
            "application/*",
            "text/plain;version=0.0.4",
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=abc",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0.3, text/plain",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
        ] {
            assert_eq!(chosen(&[accept]), Exposition::Text, "{accept}");
        }
        assert_eq!(chosen(&[]), Exposition::Text);
        assert_eq!(chosen(&["text/html", "application/openmetrics-text"]), Exposition::OpenMetrics);
    }

    #[test]
    fn converts_names_and_types() {
        let open_metrics = "# HELP a_b Calls # of a.\n# TYPE a_b counter\n# UNIT a_b b\na_b_total{x=\"# HELP\"} 1\n\
            # HELP g G.\n# TYPE g gauge\ng 2\n# HELP t T.\n# TYPE t info\nt_info{v=\"1\"} 1\n\
            # HELP u U.\n# TYPE u unknown\nu 1\n# EOF\n";
        let text = "# HELP a_b_total Calls # of a.\n# TYPE a_b_total counter\na_b_total{x=\"# HELP\"} 1\n\
            # HELP g G.\n# TYPE g gauge\ng 2\n# HELP t_info T.\n# TYPE t_info gauge\nt_info{v=\"1\"} 1\n\
            # HELP u U.\n# TYPE u untyped\nu 1\n";
        assert_eq!(to_text(open_metrics), text);
    }
}
