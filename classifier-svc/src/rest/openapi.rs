//! `/openapi.json`, generated from the types and handlers themselves.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Array, ArrayItems, Object, Schema};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi as Document, RefOr};
use utoipa::{IntoResponses, OpenApi, ToSchema};

use super::{Api, movies, predict_genre};
use crate::config::Limits;

/// `!service_kit::is_blank`, whatever a dialect of regular expressions counts as white space.
const NOT_BLANK: &str = r"[^\s\x00-\x1f\x7f-\x9f\u180e\ufeff]";

/// What is wrong (RFC 9457).
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what service_kit::Problem writes")]
pub(super) struct Problem {
    /// `urn:movieclassifier:error:REASON`
    #[schema(example = "urn:movieclassifier:error:EMPTY_TEXT")]
    r#type: String,
    /// The HTTP status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What was expected and what was found.
    detail: String,
    /// In `UPPER_SNAKE_CASE`, as in google.rpc.ErrorInfo.
    #[schema(example = "EMPTY_TEXT")]
    reason: String,
    /// The wrong fields, where the request is wrong.
    #[schema(required = false)]
    errors: Vec<FieldProblem>,
    /// Milliseconds after which it may be worth trying again.
    retry_after_ms: Option<u64>,
}

/// One wrong field.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what service_kit::FieldProblem writes")]
pub(super) struct FieldProblem {
    /// Its path in the request.
    #[schema(example = "overview")]
    field: String,
    /// What was expected and what was found.
    description: String,
    /// In `UPPER_SNAKE_CASE`.
    reason: String,
}

/// Every way in which a call with a body fails.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers")]
pub(super) enum Problems {
    /// The request is wrong, and will be wrong again; `errors` names the fields.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(#[to_schema] Problem),
    /// An API key is needed: `Authorization: Bearer KEY`.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// The body did not come in the time that a request may take.
    #[response(status = 408, content_type = "application/problem+json")]
    RequestTimeout(#[to_schema] Problem),
    /// The body is larger than any request that is allowed.
    #[response(status = 413, content_type = "application/problem+json")]
    ContentTooLarge(#[to_schema] Problem),
    /// The body is not said to be application/json.
    #[response(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(#[to_schema] Problem),
    /// Too many calls with this API key; Retry-After says when the next one is taken.
    #[response(status = 429, content_type = "application/problem+json")]
    TooManyRequests(#[to_schema] Problem),
    /// A defect or a broken machine.
    #[response(status = 500, content_type = "application/problem+json")]
    InternalServerError(#[to_schema] Problem),
    /// Overloaded (Retry-After says when to try again), or no encoder answers.
    #[response(status = 503, content_type = "application/problem+json")]
    ServiceUnavailable(#[to_schema] Problem),
    /// It took longer than a request may take.
    #[response(status = 504, content_type = "application/problem+json")]
    GatewayTimeout(#[to_schema] Problem),
}

/// Every way in which a call fails that needs nothing but a key.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers")]
pub(super) enum AuthProblems {
    /// An API key is needed: `Authorization: Bearer KEY`.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// Too many calls with this API key; Retry-After says when the next one is taken.
    #[response(status = 429, content_type = "application/problem+json")]
    TooManyRequests(#[to_schema] Problem),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Movie classifier",
        description = "Tells a movie's genres (any of 20) from its title and overview.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    paths(movies::classify, movies::batch_classify, movies::model, predict_genre::predict_genre),
    components(schemas(Problem, FieldProblem)),
)]
struct Generated;

pub(super) async fn serve(State(api): State<Api>) -> impl IntoResponse {
    Json(document(api.classifier.limits()))
}

/// The description, with the limits that are configured here.
#[must_use]
pub fn document(limits: Limits) -> Document {
    let mut document = Generated::openapi();
    let components = document.components.get_or_insert_with(Components::new);
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme("apiKey", scheme);
    for schema in components.schemas.values_mut() {
        set_limits(schema, limits);
    }
    for path in document.paths.paths.values_mut() {
        for operation in [&mut path.get, &mut path.post].into_iter().flatten() {
            allow_keys(operation);
        }
    }
    document
}

/// A key may be given, and need not be where none is configured.
fn allow_keys(operation: &mut Operation) {
    let key = SecurityRequirement::new("apiKey", [] as [&str; 0]);
    operation.security = Some(vec![SecurityRequirement::default(), key]);
}

/// The types are written with the default limits; the description must state those that hold.
fn set_limits(schema: &mut RefOr<Schema>, limits: Limits) {
    let RefOr::T(Schema::Object(object)) = schema else { return };
    let set_text = |object: &mut Object, name: &str| match (object.max_length, name) {
        (Some(_), "title") => object.max_length = Some(limits.max_title_chars),
        (Some(_), _) => {
            object.max_length = Some(limits.max_overview_chars);
            object.pattern = Some(NOT_BLANK.to_owned());
        }
        _ => {}
    };
    let set_array = |array: &mut Array, name: &str| {
        if array.max_items.is_some() {
            array.max_items = Some(limits.max_batch_size);
        }
        if let ArrayItems::RefOrSchema(items) = &mut array.items
            && let RefOr::T(Schema::Object(text)) = &mut **items
        {
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
    };
    for (name, property) in &mut object.properties {
        match property {
            RefOr::T(Schema::Object(object)) => set_text(object, name),
            RefOr::T(Schema::Array(array)) => set_array(array, name),
            _ => {}
        }
    }
}
