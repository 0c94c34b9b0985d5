use std::path::PathBuf;

use super::*;
use crate::{Split, Vectors};

fn header(dimension: usize) -> VectorsHeader {
    VectorsHeader {
        encoder: EncoderIdentity {
            id: "tiny".to_owned(),
            version: "1".to_owned(),
            fingerprint: Fingerprint::parse("ab".repeat(32)).unwrap(),
        },
        dimension,
        template: InputTemplate::parse(InputTemplate::TITLE_AND_OVERVIEW).unwrap(),
        data_digest: "cd".repeat(32),
        labels: LabelSet::built_in(),
    }
}

fn rows(ids: impl IntoIterator<Item = u64>, dimension: usize) -> VectorRows {
    let ids: Vec<u64> = ids.into_iter().collect();
    let drama = LabelSet::built_in().movie_labels(["Drama"]).unwrap();
    let values = ids.iter().flat_map(|id| (0..dimension).map(move |i| (*id as f32 + i as f32 * 0.1).sin()));
    let word_features =
        ids.iter().map(|id| WordFeatures::of(&format!("Movie {id}"), "a diver and a map")).collect();
    let overviews = ids.iter().map(|id| id << 32).collect();
    VectorRows { labels: vec![drama; ids.len()], values: values.collect(), word_features, overviews, ids }
}

fn write(path: &Path, batches: Vec<VectorRows>) {
    let mut writer = VectorsWriter::create_in(path.parent().unwrap(), path, header(3)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap();
}

fn file(name: &str, batches: Vec<VectorRows>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write(&path, batches);
    (folder, path)
}

#[test]
fn reads_vectors_back_bit_for_bit() {
    let (_folder, path) = file("v.parquet", vec![rows(1..1500, 3), rows(2000..4100, 3)]);
    let read = Vectors::read(&path).unwrap();
    let mut expected = rows((1..1500).chain(2000..4100), 3);
    assert_eq!(read.vectors.as_slice().unwrap(), expected.values);
    assert_eq!(read.overviews, std::mem::take(&mut expected.overviews));
    assert_eq!(read.ids, std::mem::take(&mut expected.ids));
    assert_eq!((read.targets.dim(), read.targets.sum()), ((3599, 20), 3599.0));
    assert_eq!(
        (read.encoder, read.template.to_string()),
        (header(3).encoder, header(3).template.to_string())
    );
}

#[test]
fn subsets_of_a_file_are_its_movies_by_id() {
    let (_folder, path) = file("v.parquet", vec![rows(1..500, 3)]);
    let all = Vectors::read(&path).unwrap();
    let subsets = Split::ALL.map(|split| all.subset(split));
    assert_eq!(subsets.iter().map(Vectors::len).sum::<usize>(), all.len());
    for (subset, split) in subsets.iter().zip(Split::ALL) {
        assert!(subset.ids.iter().all(|id| Split::of(*id) == split));
        let row = all.ids.iter().position(|id| *id == subset.ids[0]).unwrap();
        assert_eq!(subset.vectors.row(0), all.vectors.row(row));
    }
}

#[test]
fn rejects_a_truncated_file_by_name() {
    let (_folder, path) = file("cut.parquet", vec![rows(1..300, 3)]);
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 3, 4, 11, 100, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let message = Vectors::read(&path).unwrap_err().to_string();
        assert!(message.contains("cut.parquet: expected a whole Parquet file"), "{message}");
    }
}

#[test]
fn a_flipped_bit_is_detected_or_harmless() {
    let (_folder, path) = file("flipped.parquet", vec![rows(1..100, 3)]);
    let bytes = std::fs::read(&path).unwrap();
    let sound = Vectors::read(&path).unwrap();
    for position in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        std::fs::write(&path, flipped).unwrap();
        if let Ok(read) = Vectors::read(&path) {
            assert_eq!(
                (&read.vectors, &read.targets, &read.ids),
                (&sound.vectors, &sound.targets, &sound.ids)
            );
        }
    }
}

#[test]
fn rejects_nan_and_names_the_movie() {
    let mut batch = rows(1..50, 3);
    batch.values[3 * 6 + 1] = f32::NAN;
    let (_folder, path) = file("nan.parquet", vec![batch]);
    let message = Vectors::read(&path).unwrap_err().to_string();
    assert!(
        message.contains("nan.parquet: movie 7: expected a vector of finite numbers, found NaN"),
        "{message}"
    );
}

#[test]
fn rejects_a_movie_that_appears_twice() {
    let (_folder, path) = file("twice.parquet", vec![rows([5, 6], 3), rows([5], 3)]);
    assert!(Vectors::read(&path).unwrap_err().to_string().contains("found movie 5 twice"));
}

#[test]
fn rejects_a_file_without_movies() {
    let (_folder, path) = file("empty.parquet", vec![]);
    assert!(Vectors::read(&path).unwrap_err().to_string().contains("expected movies, found none"));
}

#[test]
fn rejects_a_split_that_contradicts_the_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leak.parquet");
    let mut writer = VectorsWriter::create_in(folder.path(), &path, header(1)).unwrap();
    let test_movie = (1..1000).find(|id| Split::of(*id) == Split::Test).unwrap();
    let train_movie = (1..1000).find(|id| Split::of(*id) == Split::Train).unwrap();
    let vector = FixedSizeListArray::try_new(
        Arc::new(element(DataType::Float32)),
        1,
        Arc::new(Float32Array::from(vec![0.5])),
        None,
    );
    let labels = labels_column(&LabelSet::built_in(), [&MovieLabels::default()]);
    let words =
        [WordFeatures::text, WordFeatures::title].map(|of| words_column(&[WordFeatures::default()], of));
    let movies: [ArrayRef; 4] =
        [id_column(&[test_movie]), split_column(&[train_movie]), labels, Arc::new(vector.unwrap())];
    let overview: ArrayRef = Arc::new(UInt64Array::from(vec![1]));
    let columns = movies.into_iter().chain(words).chain([overview]).collect();
    writer.table.write(&RecordBatch::try_new(schema(1), columns).unwrap()).unwrap();
    writer.finish().unwrap();
    let message = Vectors::read(&path).unwrap_err().to_string();
    let expected = format!("movie {test_movie}: expected split \"test\" by its id, found \"train\"");
    assert!(message.contains(&expected), "{message}");
}

#[test]
fn rejects_other_columns_and_formats() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.parquet");
    let other: SchemaRef = Arc::new(Schema::new(vec![id_field()]));
    let table = TableWriter::create(&path, other.clone(), |properties| properties).unwrap();
    table.finish([("format", "movieclassifier.movies/1".to_owned())]).unwrap();
    assert!(
        Vectors::read(&path)
            .unwrap_err()
            .to_string()
            .contains("expected format \"movieclassifier.vectors/4\"")
    );
    let table = TableWriter::create(&path, other, |properties| properties).unwrap();
    table.finish([("format", FORMATS.built_in.to_owned()), ("split_rule", SPLIT_RULE.to_owned())]).unwrap();
    assert!(Vectors::read(&path).unwrap_err().to_string().contains("other.parquet: expected columns"));
    std::fs::write(&path, "id,title\n1,A\n").unwrap();
    assert!(Vectors::read(&path).unwrap_err().to_string().contains("expected a whole Parquet file"));
}

#[test]
fn vectors_of_another_label_set_carry_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vectors.parquet");
    let labels = LabelSet::of_names(&["Billing", "Spam"].map(str::to_owned)).unwrap();
    let header = VectorsHeader { labels: labels.clone(), ..header(3) };
    let mut writer = VectorsWriter::create_in(folder.path(), &path, header).unwrap();
    let spam = labels.movie_labels(["spam"]).unwrap();
    writer.write(VectorRows { labels: vec![spam; 4], ..rows(1..5, 3) }).unwrap();
    writer.finish().unwrap();
    let vectors = Vectors::read(&path).unwrap();
    assert_eq!(vectors.labels, labels);
    assert_eq!(vectors.targets.shape(), [4, 2]);
    assert!(vectors.targets.rows().into_iter().all(|row| row.to_vec() == [0.0, 1.0]));
    let old = TableReader::open(&path, &[FORMATS.built_in], BATCH).err().unwrap().to_string();
    assert!(old.contains("found \"movieclassifier.vectors/5\""), "{old}");
}
