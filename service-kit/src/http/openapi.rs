//! `/openapi.json`: the route, and what the descriptions of all APIs have in common: API keys and
//! errors.
//!
//! A service describes its own operations with `utoipa`.

use axum::body::Bytes;
use axum::routing::{MethodRouter, get};
use http::header::CONTENT_TYPE;
use utoipa::PartialSchema as _;
use utoipa::openapi::content::Content;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi, Ref, RefOr};

use super::problem::{FieldProblem, PROBLEM_CONTENT_TYPE, Problem};

/// Matches texts that are not blank by `is_blank`, in any dialect of regular expressions.
pub const NOT_BLANK: &str = r"[^\s\x00-\x1f\x7f-\x9f\u180e\ufeff]";

/// Why a call fails: status, name of the reusable response, and when it happens.
const ERRORS: [(&str, &str, &str); 10] = [
    ("400", "BadRequest", "The request is invalid, and a retry does not help; the body names the fields."),
    ("401", "Unauthorized", "An API key is required: `Authorization: Bearer KEY`."),
    ("408", "RequestTimeout", "The body did not arrive within the time limit of a request."),
    ("413", "ContentTooLarge", "The body is larger than any allowed request."),
    ("415", "UnsupportedMediaType", "The content type of the body is not one of those above."),
    (MISDIRECTED, "MisdirectedRequest", "The service does not answer under the host name of the request."),
    ("429", "TooManyRequests", "Too many calls with this API key; Retry-After says when to try again."),
    ("500", "InternalServerError", "A defect in the service or a hardware failure."),
    ("503", "ServiceUnavailable", "Overloaded (Retry-After says when to try again), or no encoder answers."),
    ("504", "GatewayTimeout", "The request took longer than its time limit."),
];
/// The errors that a call without a body can have.
const ERRORS_WITHOUT_BODY: [&str; 3] = ["401", MISDIRECTED, "429"];
/// The host name is checked before any API, so this error is a problem in all of them.
const MISDIRECTED: &str = "421";

/// How an API writes its errors.
#[derive(Debug, Clone, Copy)]
pub struct ErrorForm {
    /// What the names of its reusable responses begin with; empty for problems.
    pub prefix: &'static str,
    /// The name of the schema of a body.
    pub schema: &'static str,
    /// The content type of a body.
    pub content_type: &'static str,
}

impl ErrorForm {
    /// `application/problem+json`, the form of every API that has no other.
    pub const PROBLEM: Self = Self { prefix: "", schema: "Problem", content_type: PROBLEM_CONTENT_TYPE };

    fn response(self, description: &str) -> Response {
        let content = Content::new(Some(Ref::from_schema_name(self.schema)));
        ResponseBuilder::new().description(description).content(self.content_type, content).build()
    }
}

/// Serves a description from one copy of its bytes.
pub fn openapi_route<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> MethodRouter<S> {
    let json = serde_json::to_vec(document).expect("a document of strings and numbers is valid JSON");
    let json = Bytes::from(json);
    get(move || async move { ([(CONTENT_TYPE, "application/json")], json) })
}

/// Adds the errors that its operations can have to a description, and that an API key is optional.
///
/// An operation without a body can have fewer errors. Those that it describes itself stay.
pub fn describe_errors_and_keys(document: &mut OpenApi, form: ErrorForm) {
    let name_of = |status: &str, name: &str| {
        if status == MISDIRECTED { name.to_owned() } else { format!("{}{name}", form.prefix) }
    };
    let components = document.components.get_or_insert_default();
    for (name, schema) in [("Problem", Problem::schema()), ("FieldProblem", FieldProblem::schema())] {
        components.schemas.insert(name.to_owned(), schema);
    }
    for (status, name, description) in ERRORS {
        let form = if status == MISDIRECTED { ErrorForm::PROBLEM } else { form };
        components.responses.insert(name_of(status, name), form.response(description).into());
    }
    components.add_security_scheme("apiKey", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let has_body = operation.request_body.is_some();
        for (status, name, _) in ERRORS {
            if has_body || ERRORS_WITHOUT_BODY.contains(&status) {
                let response = RefOr::Ref(Ref::from_response_name(name_of(status, name)));
                operation.responses.responses.entry(status.to_owned()).or_insert(response);
            }
        }
    }
    document.security = Some(optional_key());
}

/// The operations of a path.
pub fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.post].into_iter().flatten()
}

/// Returns the requirement of an API key, which is optional: a service without configured keys
/// accepts calls without one. It stands once for all operations, because `openapi-python-client`
/// makes the key mandatory for an operation that has a requirement of its own.
fn optional_key() -> Vec<SecurityRequirement> {
    vec![SecurityRequirement::default(), SecurityRequirement::new("apiKey", [] as [&str; 0])]
}
