//! Headers that a service parses: the API key, the deadline and the trace context.

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use proto::classifier::v1::GetModelResponse;
use tonic::Code;

use crate::harness::grpc::frame;
use crate::harness::inputs::{SEPARATOR, seeds_of, split};
use crate::harness::services::{KEY, SERVICES};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "request_headers",
    check,
    seeds,
    dictionary: &[
        "Bearer ",
        "bearer\t",
        "sesame",
        " ",
        "99999999H",
        "1n",
        "0S",
        "00-",
        "-01",
        "4bf92f3577b34da6a3ce929d0e0e4736",
    ],
    max_len: 512,
    cases: 1500,
};

/// The sections of an input are the values of five headers; an empty one leaves its header out.
fn check(data: &[u8]) {
    let names = [
        AUTHORIZATION,
        HeaderName::from_static("x-api-key"),
        HeaderName::from_static("grpc-timeout"),
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
    ];
    let values = split::<5>(data);
    let headers: Vec<(HeaderName, HeaderValue)> = names
        .into_iter()
        .zip(values)
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, value)| Some((name, HeaderValue::from_bytes(value).ok()?)))
        .collect();
    let given = |name: &str| {
        headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_bytes()).unwrap_or_default()
    };
    let path = "/movieclassifier.classifier.v1.ClassifierService/GetModel";
    let reply = SERVICES.call(&SERVICES.guarded, path, &headers, frame(&[]));

    let has_key = has_key(given("authorization"), given("x-api-key"));
    match reply.status.code() {
        Code::Ok => {
            assert!(has_key, "a call without the key is rejected");
            assert_eq!(reply.message::<GetModelResponse>().labels.len(), 20);
        }
        Code::Unauthenticated => {
            assert!(!has_key, "a call with the key is admitted");
            assert!(!reply.status.message().contains(KEY), "an error does not reveal the key");
        }
        Code::DeadlineExceeded | Code::Cancelled => {
            assert!(!given("grpc-timeout").is_empty(), "{:?}", reply.status);
        }
        _ => panic!("{:?}", reply.status),
    }
}

/// An independent implementation of the documented rule. A bearer token, even an empty one, takes
/// precedence over `x-api-key`.
fn has_key(authorization: &[u8], api_key: &[u8]) -> bool {
    let given = match authorization.split_at_checked(7) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => key,
        _ => api_key,
    };
    given.trim_ascii() == KEY.as_bytes()
}

fn seeds() -> Vec<Vec<u8>> {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [
        ["Bearer sesame", "", "1S", trace, "vendor=1"],
        ["bearer  sesame ", "", "20000m", "", ""],
        ["", "sesame", "99999999H", "00-zz-zz-zz", ""],
        ["Basic sesame", "open", "1n", "", "a=b,c=d"],
        ["", "", "", "", ""],
        ["Bearer ", "sesame", "1x", "ff-0-0-0", ""],
    ];
    let separator = std::str::from_utf8(SEPARATOR).unwrap_or_default();
    seeds_of(headers.map(|values| values.join(separator)))
}
