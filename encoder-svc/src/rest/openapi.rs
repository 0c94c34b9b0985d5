//! `/openapi.json`: `utoipa` generates it from the types and handlers; what depends on the bundle
//! and on configured limits is added here, and errors in `service-kit`.

use service_kit::{ErrorForm, NOT_BLANK, describe_errors_and_keys, operations};
use utoipa::OpenApi;
use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{OpenApi as Document, RefOr};

use super::{embeddings, models};
use crate::bundle::Description;
use crate::config::Limits;
use crate::open_inference::description;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Movie encoder",
        description = "Encodes texts as vectors of 512 floats, by the interfaces of OpenAI and of the Open \
                       Inference Protocol.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    paths(embeddings::create, models::list, models::one),
)]
struct Generated;

/// How OpenAI writes its errors.
const ERRORS: ErrorForm =
    ErrorForm { prefix: "OpenAi", schema: "OpenAiError", content_type: "application/json" };

/// Returns the OpenAPI document of the whole port, with the limits that are configured.
pub(super) fn document(bundle: &Description, limits: Limits) -> Document {
    let mut document = Generated::openapi();
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        for parameter in operation.parameters.iter_mut().flatten() {
            parameter.schema = Some(id_of(bundle));
        }
    }
    let schemas = &mut document.components.get_or_insert_default().schemas;
    if let Some(RefOr::T(Schema::Object(request))) = schemas.get_mut("EmbeddingsRequest") {
        request.properties.insert("model".to_owned(), id_of(bundle));
        request.properties.insert("input".to_owned(), input(limits));
        let dimensions = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
            .enum_values(Some([serde_json::json!(bundle.dimension), serde_json::Value::Null]));
        request.properties.insert("dimensions".to_owned(), dimensions.into());
    }
    describe_errors_and_keys(&mut document, ERRORS);
    document.merge(inference(bundle, limits));
    document
}

/// Returns the description of `/v2`, with the limits of a text and of a batch.
fn inference(bundle: &Description, limits: Limits) -> Document {
    let mut document = open_inference::openapi(&description(bundle));
    let schemas = &mut document.components.get_or_insert_default().schemas;
    if let Some(RefOr::T(Schema::Object(input))) = schemas.get_mut("InferInput") {
        let data = ArrayBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
            .description(Some("The texts, unless they are raw; also as lists in lists."))
            .items(text(limits))
            .min_items(Some(1))
            .max_items(Some(limits.max_batch_size));
        input.properties.insert("data".to_owned(), data.into());
    }
    if let Some(RefOr::T(Schema::Object(request))) = schemas.get_mut("InferRequest") {
        let priority = ObjectBuilder::new()
            .description(Some("In which queue the texts wait: online (also 0 and 1) or bulk (also 2)."))
            .schema_type(SchemaType::from_iter([Type::String, Type::Integer]))
            .enum_values(Some(["online".into(), "bulk".into(), 0.into(), 1.into(), serde_json::json!(2)]));
        if let Some(RefOr::T(Schema::Object(parameters))) = request.properties.get_mut("parameters") {
            parameters.properties.insert("priority".to_owned(), priority.into());
        }
    }
    document
}

fn id_of(bundle: &Description) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([bundle.id.as_str()]))
        .description(Some("The id of the bundle."))
        .into()
}

/// The schema of a text, or of a list of texts.
fn input(limits: Limits) -> RefOr<Schema> {
    let texts =
        ArrayBuilder::new().items(text(limits)).min_items(Some(1)).max_items(Some(limits.max_batch_size));
    OneOfBuilder::new().item(text(limits)).item(texts).into()
}

/// The schema of a text. The limit counts bytes, so a text of that many characters may be too long.
fn text(limits: Limits) -> Object {
    let bytes = limits.max_text_bytes;
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(bytes))
        .pattern(Some(NOT_BLANK))
        .description(Some(format!("A text that is not blank, of at most {bytes} bytes.")))
        .build()
}
