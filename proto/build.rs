//! Compiles the `.proto` files without an installed `protoc`.

use std::path::PathBuf;

use prost::Message as _;

const OWN: [&str; 2] = [
    "movieclassifier/encoder/v1/encoder_service.proto",
    "movieclassifier/classifier/v1/classifier_service.proto",
];
const OPEN_INFERENCE: [&str; 1] = ["inference/open_inference.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut descriptors = protox::compile(OWN, ["proto"])?;
    tonic_prost_build::configure()
        // An empty movie or text takes two bytes on the wire and tens in memory.
        .codec_path("crate::bounded_codec::BatchCodec")
        .compile_fds(descriptors.clone())?;
    let open_inference = protox::compile(OPEN_INFERENCE, ["proto"])?;
    tonic_prost_build::configure()
        // Slices of the message, not copies.
        .bytes(".inference.ModelInferRequest.raw_input_contents")
        .bytes(".inference.ModelInferResponse.raw_output_contents")
        // A tensor without fields takes two bytes on the wire and hundreds in memory.
        .codec_path("crate::bounded_codec::TensorCodec")
        .compile_fds(open_inference.clone())?;
    descriptors.file.extend(open_inference.file);
    // For reflection; without comments.
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    Ok(())
}
