//! The wire: code that prost and tonic generate from `proto/**/*.proto`, and the codecs of that code
//! with their bound.
//! Nothing else lives here.
#![allow(clippy::pedantic, missing_docs, unreachable_pub)]

mod bounded_codec;

pub use bounded_codec::LARGEST_BATCH;

/// From texts to vectors.
pub mod encoder {
    /// Package `movieclassifier.encoder.v1`.
    pub mod v1 {
        tonic::include_proto!("movieclassifier.encoder.v1");
    }
}

/// From titles and overviews to genres.
pub mod classifier {
    /// Package `movieclassifier.classifier.v1`.
    pub mod v1 {
        tonic::include_proto!("movieclassifier.classifier.v1");
    }
}

/// The Open Inference Protocol, package `inference`.
pub mod inference {
    tonic::include_proto!("inference");
}

/// The encoded `FileDescriptorSet` of all packages, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
