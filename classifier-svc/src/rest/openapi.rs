//! `/openapi.json`: `utoipa` generates it from the types and handlers; configured limits are added
//! here, and problems in `service-kit`.

use service_kit::{ErrorForm, NOT_BLANK, describe_errors_and_keys};
use utoipa::OpenApi;
use utoipa::openapi::schema::{ArrayItems, Object, Schema};
use utoipa::openapi::{OpenApi as Document, RefOr};

use super::{movies, predict_genre};
use crate::config::Limits;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Movie classifier",
        description = "Predicts a movie's genres (any of 20) from its title and overview.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    paths(movies::classify, movies::batch_classify, movies::model, predict_genre::predict_genre),
)]
struct Generated;

/// The OpenAPI document, with the limits that are configured.
#[must_use]
pub fn document(limits: Limits) -> Document {
    let mut document = Generated::openapi();
    let schemas = &mut document.components.get_or_insert_default().schemas;
    for request in ["ClassifyRequest", "Movie", "BatchClassifyRequest", "PredictGenreRequest"] {
        if let Some(RefOr::T(Schema::Object(schema))) = schemas.get_mut(request) {
            set_limits(schema, limits);
        }
    }
    describe_errors_and_keys(&mut document, ErrorForm::PROBLEM);
    document
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
