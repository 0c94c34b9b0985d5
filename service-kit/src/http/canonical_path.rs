//! One form of a path for all the forms that clients write.
//!
//! tower-http's `NormalizePath` removes trailing slashes, but decodes nothing.

use http::Request;
use http::uri::PathAndQuery;
use percent_encoding::percent_decode_str;

/// Decodes percent-encoded characters of the path, such as the colon that clients of Java and Dart
/// encode, and removes slashes at its end. The query stays as it is.
///
/// Routes are matched after this, so each route has all these forms.
pub fn canonical_path<B>(mut request: Request<B>) -> Request<B> {
    if let Some(path) = canonical(request.uri().path()) {
        let query = request.uri().query().map_or_else(String::new, |query| format!("?{query}"));
        let mut parts = request.uri().clone().into_parts();
        if let Ok(path) = PathAndQuery::try_from(format!("{path}{query}")) {
            parts.path_and_query = Some(path);
            // A URI that was valid is valid with another path.
            if let Ok(uri) = http::Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
    request
}

/// Returns the path in another form, or `None` if it has the right one already.
fn canonical(path: &str) -> Option<String> {
    let encoded = path.contains('%');
    if !encoded && (path.len() < 2 || !path.ends_with('/')) {
        return None;
    }
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    // An encoded slash, question mark or number sign belongs to a name and divides nothing.
    let divides = |text: &str| text.matches(['/', '?', '#']).count();
    let decoded = if divides(&decoded) == divides(path) { &decoded } else { path };
    Some(format!("/{}", decoded.trim_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> String {
        canonical_path(Request::get(uri).body(()).unwrap()).uri().to_string()
    }

    #[test]
    fn decodes_what_clients_encode_without_need() {
        assert_eq!(of("/v1/movies%3Aclassify"), "/v1/movies:classify");
        assert_eq!(of("/v1/movies%3aclassify/?a=%3A/"), "/v1/movies:classify?a=%3A/");
        assert_eq!(of("/predict%5Fgenre/"), "/predict_genre");
        assert_eq!(of("http://a:1/v1/model/"), "http://a:1/v1/model");
    }

    #[test]
    fn removes_slashes_at_the_end_but_not_the_root() {
        assert_eq!(of("/livez//"), "/livez");
        assert_eq!(of("/"), "/");
        assert_eq!(of("/?a=b"), "/?a=b");
        assert_eq!(of("//"), "/");
    }

    #[test]
    fn an_encoded_divider_divides_nothing() {
        for path in ["/v1%2Fmodel", "/livez%3Fa", "/livez%23", "/%ff", "/%00", "/%2525"] {
            assert_ne!(of(path), "/v1/model");
            assert_ne!(of(path), "/livez");
            assert!(!of(path).contains('?'), "{path}");
        }
    }
}
