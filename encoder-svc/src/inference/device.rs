//! The device that runs the graph.

use serde::{Deserialize, Serialize};

/// A kind of device. The ONNX Runtime library that is loaded at startup decides which devices
/// exist, so one program serves on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The machine's cores. Each text runs alone.
    Cpu,
    /// An Nvidia GPU. Texts of similar length run in batches.
    Cuda,
}

// How these defaults were chosen is recorded in docs/experiments.md.
impl Device {
    /// The number of sessions that keep the device busy. On a GPU, one session prepares its next
    /// run while others run.
    pub(crate) fn sessions(self, cores: usize) -> usize {
        match self {
            Self::Cpu => cores,
            Self::Cuda => cores.div_ceil(2).clamp(2, 8),
        }
    }

    /// The batch size in tokens that keeps the device busy; `None` if each text runs alone.
    pub(crate) fn batch_tokens(self) -> Option<usize> {
        match self {
            Self::Cpu => None,
            Self::Cuda => Some(2048),
        }
    }

    /// The number of texts in flight on one stream that keeps all sessions busy.
    pub(crate) fn stream_in_flight(self) -> usize {
        match self {
            Self::Cpu => 64,
            Self::Cuda => 512,
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}
