//! Bundles converted from a TensorFlow model give TensorFlow's vectors.
//!
//! Next to a bundle is a folder named after it with the suffix `-vectors`, which holds texts and
//! TensorFlow's vectors of them. Those of the fixtures are committed. `make test-use-large`
//! converts the model again, makes vectors of more texts, and names their folder in
//! `TENSORFLOW_CASES`.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::{fixture, settings, start};
use proto::encoder::v1::{EncodeRequest, GetEncoderRequest, Priority};
use safetensors::SafeTensors;

const TOLERANCE: f32 = 1e-5;
const SUFFIX: &str = "-vectors";

struct Case {
    bundle: PathBuf,
    texts: Vec<String>,
    /// TensorFlow's vector of each text.
    vectors: Vec<Vec<f32>>,
}

fn cases(folder: &Path) -> Vec<Case> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let vectors = entries.map(|entry| entry.unwrap().path());
    let cases: Vec<_> = vectors
        .filter_map(|vectors| {
            let bundle = vectors.to_str().unwrap().strip_suffix(SUFFIX)?.into();
            Some(read(bundle, &vectors))
        })
        .collect();
    assert!(!cases.is_empty(), "no folder in {} ends with {SUFFIX}", folder.display());
    cases
}

fn read(bundle: PathBuf, folder: &Path) -> Case {
    let texts: Vec<String> =
        serde_json::from_slice(&std::fs::read(folder.join("texts.json")).unwrap()).unwrap();
    let bytes = std::fs::read(folder.join("vectors.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("vectors").unwrap();
    let [rows, columns] = *tensor.shape() else { panic!("{:?}", tensor.shape()) };
    assert_eq!((rows, tensor.dtype()), (texts.len(), safetensors::Dtype::F32));
    let floats = tensor.data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
    let vectors = floats.collect::<Vec<_>>().chunks_exact(columns).map(<[f32]>::to_vec).collect();
    Case { bundle, texts, vectors }
}

#[tokio::test(flavor = "multi_thread")]
async fn converted_bundles_reproduce_the_vectors_of_tensorflow() {
    let named = std::env::var_os("TENSORFLOW_CASES").map(PathBuf::from);
    for case in cases(&fixture("")).into_iter().chain(named.iter().flat_map(|folder| cases(folder))) {
        let mut settings = settings();
        settings.encoder.bundle = case.bundle;
        let service = start(settings).await;
        let encoder = service.client().get_encoder(GetEncoderRequest {}).await.unwrap().into_inner();
        let mut largest = 0.0_f32;
        for (texts, expected) in case.texts.chunks(64).zip(case.vectors.chunks(64)) {
            let request = EncodeRequest { texts: texts.to_vec(), priority: Priority::Bulk.into() };
            let response = service.client().encode(request).await.unwrap().into_inner();
            for ((text, expected), found) in texts.iter().zip(expected).zip(&response.embeddings) {
                assert!(!found.truncated && found.values.len() == expected.len(), "{text:?}");
                let pairs = found.values.iter().zip(expected);
                let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(difference <= TOLERANCE, "{difference:e} from TensorFlow's vector of {text:?}");
                largest = largest.max(difference);
            }
        }
        println!("{}: {largest:.1e} over {} texts at most", encoder.id, case.texts.len());
    }
}
