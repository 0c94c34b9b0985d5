//! The losses of a fit by epoch, in a file beside the model.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use genre_model::write_atomically;
use serde::{Deserialize, Serialize};

use crate::fit::mlp::estimator::EpochLosses;

const FORMAT: &str = "movieclassifier.loss-curves/1";

/// The losses of one network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LossCurve {
    /// Training loss of each epoch.
    pub train: Vec<f64>,
    /// Validation loss of each epoch.
    pub validation: Vec<f64>,
}

/// The losses of all networks of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossCurves {
    format: String,
    /// The version of the model that the curves belong to.
    pub model_version: String,
    /// One curve per network of the ensemble.
    pub members: Vec<LossCurve>,
}

/// Collects losses from the threads of a fit.
#[derive(Debug, Default)]
pub struct LossRecorder(Mutex<Vec<LossCurve>>);

impl LossRecorder {
    /// Records one epoch of a member.
    pub fn record(&self, member: usize, losses: EpochLosses) {
        let mut curves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if curves.len() <= member {
            curves.resize(member + 1, LossCurve::default());
        }
        curves[member].train.push(losses.train);
        curves[member].validation.extend(losses.validation);
    }

    /// Returns the curves of the fitted model.
    #[must_use]
    pub fn finish(self, model_version: &str) -> LossCurves {
        let members = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        LossCurves { format: FORMAT.to_owned(), model_version: model_version.to_owned(), members }
    }
}

impl LossCurves {
    /// The path of the curves of a model file: `default.fit.json` for `default.safetensors`.
    #[must_use]
    pub fn path_beside(model: &Path) -> PathBuf {
        model.with_extension("fit.json")
    }

    /// Writes the curves beside the model file.
    pub fn save_beside(&self, model: &Path) -> std::io::Result<()> {
        let json = serde_json::to_vec(self).expect("texts and numbers are JSON");
        write_atomically(&Self::path_beside(model), &json)
    }

    /// Reads the curves of this version of the model, or `None` if there are none.
    pub fn load_beside(model: &Path, version: &str) -> std::io::Result<Option<Self>> {
        match std::fs::read(Self::path_beside(model)) {
            Ok(bytes) => {
                let curves: Self = serde_json::from_slice(&bytes)?;
                Ok((curves.format == FORMAT && curves.model_version == version).then_some(curves))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_curves_back_for_their_model_only() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.safetensors");
        let recorder = LossRecorder::default();
        recorder.record(1, EpochLosses { epoch: 1, train: 0.5, validation: Some(0.6) });
        recorder.record(0, EpochLosses { epoch: 1, train: 0.4, validation: Some(0.7) });
        recorder.record(1, EpochLosses { epoch: 2, train: 0.3, validation: Some(0.5) });
        let curves = recorder.finish("abc");
        curves.save_beside(&model).unwrap();
        assert_eq!(curves.members[1].train, [0.5, 0.3]);
        assert_eq!(LossCurves::load_beside(&model, "abc").unwrap(), Some(curves));
        assert_eq!(LossCurves::load_beside(&model, "other").unwrap(), None);
        assert_eq!(LossCurves::load_beside(&folder.path().join("n"), "abc").unwrap(), None);
    }
}
