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

// Of the GPU's defaults. Measured on an H100 beside 16 cores with MiniLM in single precision, as parts of ONNX Runtime's own 14,400
// texts a second with the best of all numbers of sessions and sizes of batches, sorted by length: two sessions 0.51 to 0.57, four
// 0.72 to 0.78, eight 0.84 to 0.88, sixteen 0.84 to 0.91 at twice the latency; runs of 16,384 tokens 0.71 to 0.78 where those of
// 4,096 gave 0.90, of 2,048 0.89 to 0.92 where those of 8,192 gave 0.79 to 0.89, and an online text beside bulk 19 ms (p99) in the
// place of 64; one stream of 64 texts at a time 0.75, of 512 0.90.
impl Device {
    /// Sessions that keep it at work, on so many cores: on a GPU one prepares the next run and answers the last while others run.
    pub(crate) fn sessions(self, cores: usize) -> usize {
        match self {
            Self::Cpu => cores,
            Self::Cuda => cores.div_ceil(2).clamp(2, 8),
        }
    }

    /// Tokens of a run that keep it at work; `None` where a text alone does.
    pub(crate) fn batch_tokens(self) -> Option<usize> {
        match self {
            Self::Cpu => None,
            Self::Cuda => Some(2048),
        }
    }

    /// Texts of one stream at a time that keep all sessions at work.
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
