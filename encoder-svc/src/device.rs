//! What ONNX Runtime runs the graph on.

use serde::{Deserialize, Serialize};

/// A kind of processor. Which of them there are is up to ONNX Runtime's library, which is loaded at start: the same program serves
/// on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The machine's cores, each text alone.
    Cpu,
    /// An Nvidia GPU, several texts of similar length in a run.
    Cuda,
}

impl Device {
    /// Sessions that keep it at work, on so many cores: on a device one prepares the next run while the other runs.
    pub(crate) fn sessions(self, cores: usize) -> usize {
        match self {
            Self::Cpu => cores,
            Self::Cuda => 2,
        }
    }

    /// Threads that serve calls, of so many cores.
    pub(crate) fn call_threads(self, cores: usize) -> usize {
        match self {
            // Calls take some hundredths of what their texts take of the sessions, and each further thread that wakes takes a core
            // from one: on two cores, two of them cost 2 to 3 % of the texts a second.
            Self::Cpu => cores.div_ceil(4),
            Self::Cuda => cores.div_ceil(2),
        }
    }

    /// Tokens of a run that keep it at work; `None` where a text alone does.
    pub(crate) fn batch_tokens(self) -> Option<usize> {
        match self {
            Self::Cpu => None,
            Self::Cuda => Some(16_384),
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
