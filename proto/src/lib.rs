//! The wire: code that prost and tonic generate from `proto/**/*.proto`. Nothing else lives here.
#![allow(clippy::pedantic, missing_docs, unreachable_pub)]

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

/// The encoded `FileDescriptorSet` of both packages, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
