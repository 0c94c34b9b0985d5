//! The model `genres` of the Open Inference Protocol.

use open_inference::{
    Datatype, Description, Elements, Inference, Inferred, Model, OutputTensor, ServerDescription,
    TensorDescription,
};
use proto::classifier::v1::{ClassifyResponse, Movie};
use service_kit::{ApiError, Readiness};

use crate::call::Call;
use crate::classifier::Classifier;
use crate::columns::in_columns;
use crate::pipeline::Include;

/// The name of the model. Its version is that of the model file.
const NAME: &str = "genres";

/// A [`Classifier`] as a model of the protocol. Clones share it.
#[derive(Clone)]
pub(crate) struct Genres {
    classifier: Classifier,
    readiness: Readiness,
}

impl Genres {
    /// Returns a model that is ready while `readiness` says so.
    pub(crate) fn new(classifier: Classifier, readiness: Readiness) -> Self {
        Self { classifier, readiness }
    }
}

impl Model for Genres {
    fn server(&self) -> ServerDescription {
        ServerDescription { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") }
    }

    fn description(&self) -> Description {
        let model = self.classifier.model();
        let labels = model.labels.len();
        Description {
            name: NAME.to_owned(),
            version: model.model_version,
            platform: "movieclassifier_safetensors",
            inputs: vec![
                TensorDescription::optional("TITLE", Datatype::Bytes, &[None]),
                TensorDescription::new("OVERVIEW", Datatype::Bytes, &[None]),
            ],
            outputs: vec![
                TensorDescription::new("PROBABILITY", Datatype::Fp32, &[None, Some(labels)]),
                TensorDescription::new("LABELS", Datatype::Bytes, &[Some(labels)]),
                TensorDescription::new("PREDICTED", Datatype::Bool, &[None, Some(labels)]),
            ],
        }
    }

    fn is_ready(&self) -> bool {
        self.readiness.get()
    }

    async fn infer(&self, inference: Inference, call: open_inference::Call) -> Result<Inferred, ApiError> {
        let mut inputs = inference.inputs.into_iter();
        let titles = inputs.next().flatten();
        let overviews = inputs.next().flatten().unwrap_or_default();
        let mut titles = titles.into_iter().flatten();
        let movies: Vec<_> = overviews
            .into_iter()
            .map(|overview| Movie { title: titles.next().unwrap_or_default(), overview })
            .collect();
        let include = Include { scores: true, ..Include::default() };
        let call = Call::new(call.caller, call.deadline);
        let classified = self.classifier.classify_batch(&movies, include, &call).await;
        let (responses, version) = classified.map_err(in_tensors)?;
        Ok(Inferred { version, outputs: outputs(&responses) })
    }
}

/// Translates field paths to the names of tensors.
fn in_tensors(error: ApiError) -> ApiError {
    let error = in_columns(error);
    let ApiError::Invalid(mut violations) = error else { return error };
    for violation in &mut violations {
        violation.field.make_ascii_uppercase();
    }
    ApiError::Invalid(violations)
}

/// Returns the tensors of responses that have the scores of all labels.
fn outputs(responses: &[ClassifyResponse]) -> Vec<OutputTensor> {
    let rows = responses.len();
    let scores = responses.first().map(|first| &first.scores[..]).unwrap_or_default();
    let labels = scores.len();
    let probabilities = responses.iter().flat_map(|response| &response.scores).map(|score| score.probability);
    let predicted = responses.iter().flat_map(|response| {
        let is_predicted = |label: &str| response.genres.iter().any(|genre| genre.label == label);
        response.scores.iter().map(move |score| is_predicted(&score.label))
    });
    vec![
        OutputTensor {
            name: "PROBABILITY",
            shape: vec![rows, labels],
            elements: Elements::Fp32(probabilities.collect()),
        },
        OutputTensor {
            name: "LABELS",
            shape: vec![labels],
            elements: Elements::Texts(scores.iter().map(|score| score.label.clone()).collect()),
        },
        OutputTensor {
            name: "PREDICTED",
            shape: vec![rows, labels],
            elements: Elements::Bool(predicted.collect()),
        },
    ]
}
