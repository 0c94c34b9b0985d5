//! `/openapi.json`: `utoipa` generates it from the types and handlers; configured limits and
//! problems are added here.

use axum::body::Bytes;
use axum::routing::{MethodRouter, get};
use http::header::CONTENT_TYPE;
use service_kit::{FieldProblem, PROBLEM_CONTENT_TYPE, Problem};
use utoipa::OpenApi;
use utoipa::openapi::content::Content;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ArrayItems, Object, Schema};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr};

use super::{movies, predict_genre};
use crate::config::Limits;

/// Matches texts that are not blank by `service_kit::is_blank`, in any dialect of regular
/// expressions.
const NOT_BLANK: &str = r"[^\s\x00-\x1f\x7f-\x9f\u180e\ufeff]";

/// Why a call fails: status, name of the reusable response, and when it happens.
const PROBLEMS: [(&str, &str, &str); 10] = [
    ("400", "BadRequest", "The request is invalid, and a retry does not help; `errors` names the fields."),
    ("401", "Unauthorized", "An API key is required: `Authorization: Bearer KEY`."),
    ("408", "RequestTimeout", "The body did not arrive within the time limit of a request."),
    ("413", "ContentTooLarge", "The body is larger than any allowed request."),
    ("415", "UnsupportedMediaType", "The content type of the body is not application/json."),
    ("421", "MisdirectedRequest", "The service does not answer under the host name of the request."),
    ("429", "TooManyRequests", "Too many calls with this API key; Retry-After says when to try again."),
    ("500", "InternalServerError", "A defect in the service or a hardware failure."),
    ("503", "ServiceUnavailable", "Overloaded (Retry-After says when to try again), or no encoder answers."),
    ("504", "GatewayTimeout", "The request took longer than its time limit."),
];
/// The problems that a call without a body can have.
const PROBLEMS_WITHOUT_BODY: [&str; 3] = ["401", "421", "429"];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Movie classifier",
        description = "Predicts a movie's genres (any of 20) from its title and overview.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    paths(movies::classify, movies::batch_classify, movies::model, predict_genre::predict_genre),
    components(schemas(Problem, FieldProblem)),
)]
struct Generated;

/// Serves the document from one copy of its bytes.
pub(super) fn route<S: Clone + Send + Sync + 'static>(limits: Limits) -> MethodRouter<S> {
    let json =
        serde_json::to_vec(&document(limits)).expect("a document of strings and numbers is valid JSON");
    let json = Bytes::from(json);
    get(move || async move { ([(CONTENT_TYPE, "application/json")], json) })
}

/// The OpenAPI document, with the limits that are configured.
#[must_use]
pub fn document(limits: Limits) -> Document {
    let mut document = Generated::openapi();
    let components = document.components.get_or_insert_default();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("apiKey", scheme);
    for (_, name, description) in PROBLEMS {
        let problem = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new().description(description).content(PROBLEM_CONTENT_TYPE, problem);
        components.responses.insert(name.to_owned(), response.into());
    }
    for request in ["ClassifyRequest", "Movie", "BatchClassifyRequest", "PredictGenreRequest"] {
        if let Some(RefOr::T(Schema::Object(schema))) = components.schemas.get_mut(request) {
            set_limits(schema, limits);
        }
    }
    for path in document.paths.paths.values_mut() {
        for operation in [&mut path.get, &mut path.post].into_iter().flatten() {
            add_problems(operation);
        }
    }
    document.security = Some(optional_key());
    document
}

/// Returns the requirement of an API key, which is optional: a service without configured keys
/// accepts calls without one. It stands once for all operations, because `openapi-python-client`
/// makes the key mandatory for an operation that has a requirement of its own.
fn optional_key() -> Vec<SecurityRequirement> {
    vec![SecurityRequirement::default(), SecurityRequirement::new("apiKey", [] as [&str; 0])]
}

fn add_problems(operation: &mut Operation) {
    let has_body = operation.request_body.is_some();
    let possible = PROBLEMS.iter().filter(|(status, ..)| has_body || PROBLEMS_WITHOUT_BODY.contains(status));
    let responses =
        possible.map(|(status, name, _)| (status.to_string(), RefOr::Ref(Ref::from_response_name(*name))));
    operation.responses.responses.extend(responses);
}

fn set_limits(request: &mut Object, limits: Limits) {
    for (name, property) in &mut request.properties {
        match property {
            RefOr::T(Schema::Object(text)) => set_text_limits(name, text, limits),
            RefOr::T(Schema::Array(list)) => {
                list.min_items = Some(1);
                list.max_items = Some(limits.max_batch_size);
                if let ArrayItems::RefOrSchema(items) = &mut list.items
                    && let RefOr::T(Schema::Object(text)) = &mut **items
                {
                    set_text_limits(name, text, limits);
                }
            }
            _ => {}
        }
    }
}

fn set_text_limits(name: &str, text: &mut Object, limits: Limits) {
    match name {
        "title" => text.max_length = Some(limits.max_title_chars),
        "overview" => {
            text.min_length = Some(1);
            text.max_length = Some(limits.max_overview_chars);
            text.pattern = Some(NOT_BLANK.to_owned());
        }
        _ => {}
    }
}
