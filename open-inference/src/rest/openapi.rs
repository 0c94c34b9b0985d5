//! The description of `/v2` for OpenAPI: `utoipa` generates it from the types and handlers; the
//! names of the model and its tensors are added here, and errors in `service-kit`.

use service_kit::{ErrorForm, describe_errors_and_keys, operations};
use utoipa::OpenApi;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{OpenApi as Document, RefOr, Required};

use crate::model::Description;
use crate::tensor::TensorDescription;

#[derive(OpenApi)]
#[openapi(paths(
    super::live,
    super::ready,
    super::server,
    super::describe,
    super::config,
    super::model_ready,
    super::infer
))]
struct Generated;

/// How the protocol writes its errors.
const ERRORS: ErrorForm =
    ErrorForm { prefix: "Inference", schema: "InferenceError", content_type: "application/json" };
/// The beginning of the paths of a model.
const MODEL: &str = "/v2/models/{name}";

/// Returns the description of the routes for a model.
#[must_use]
pub fn openapi(model: &Description) -> Document {
    let mut document = Generated::openapi();
    let of_versions: Vec<_> = document
        .paths
        .paths
        .iter()
        .filter_map(|(path, item)| {
            let rest = path.strip_prefix(MODEL)?;
            Some((format!("{MODEL}/versions/{{version}}{rest}"), of_version(item.clone(), &model.version)))
        })
        .collect();
    document.paths.paths.extend(of_versions);
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        for parameter in operation.parameters.iter_mut().flatten().filter(|found| found.name == "name") {
            parameter.schema = Some(one_of([model.name.as_str()]));
        }
    }
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let names = |tensors: &[TensorDescription]| one_of(tensors.iter().map(|tensor| tensor.name));
    let datatypes = || one_of(model.inputs.iter().map(|tensor| tensor.datatype.name()));
    for (schema, properties) in [
        ("InferRequest", vec![]),
        ("InferInput", vec![("name", names(&model.inputs)), ("datatype", datatypes())]),
        ("InferOutputRequest", vec![("name", names(&model.outputs))]),
    ] {
        if let Some(RefOr::T(Schema::Object(object))) = schemas.get_mut(schema) {
            object.properties.insert("parameters".to_owned(), parameters());
            object.properties.extend(properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
        }
    }
    if let Some(RefOr::T(Schema::Object(request))) = schemas.get_mut("InferRequest") {
        set_lengths(request, "inputs", 1, model.inputs.len());
        set_lengths(request, "outputs", 0, model.outputs.len());
    }
    describe_errors_and_keys(&mut document, ERRORS);
    document
}

/// The same operations for a version.
fn of_version(mut path: PathItem, version: &str) -> PathItem {
    for operation in operations(&mut path) {
        operation.parameters.get_or_insert_default().push(version_parameter(version));
        if let Some(id) = &mut operation.operation_id {
            id.push_str("OfVersion");
        }
    }
    path
}

fn version_parameter(version: &str) -> Parameter {
    ParameterBuilder::new()
        .name("version")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("The current version; the others are not served."))
        .schema(Some(one_of([version])))
        .build()
}

/// The schema of a string that is one of these.
fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> RefOr<Schema> {
    let mut words: Vec<_> = words.into_iter().collect();
    words.dedup();
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
}

/// The schema of parameters, whose values are scalars.
fn parameters() -> RefOr<Schema> {
    let scalar = SchemaType::from_iter([Type::Boolean, Type::Number, Type::String]);
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .additional_properties(Some(ObjectBuilder::new().schema_type(scalar)))
        .into()
}

fn set_lengths(object: &mut Object, property: &str, min: usize, max: usize) {
    if let Some(RefOr::T(Schema::Array(list))) = object.properties.get_mut(property) {
        list.min_items = Some(min);
        list.max_items = Some(max);
    }
}
