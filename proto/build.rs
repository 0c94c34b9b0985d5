//! Compiles the `.proto` files without an installed `protoc`.

use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 2] = [
    "movieclassifier/encoder/v1/encoder_service.proto",
    "movieclassifier/classifier/v1/classifier_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // For reflection; without comments.
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
