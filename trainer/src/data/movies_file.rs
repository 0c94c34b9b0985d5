//! The table of usable movies, which `prepare` writes and `encode` reads.
//!
//! One row per movie, in the order of the source: `id` (int64), `split` (utf8), `title` (utf8),
//! `overview` (utf8), `labels` (list of utf8).

use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{Schema, SchemaRef};
use genre_model::{LabelSet, MovieLabels, SPLIT_RULE};
use movie_table::MAX_TEXT_BYTES;

use crate::data::movie_columns;
use crate::data::movie_columns::{
    Formats, id_column, id_field, labels_column, labels_field, split_column, text_field,
};
use crate::data::table_file::{TableError, TableReader, TableWriter};
use crate::{DataDigest, Movie};

const FORMATS: Formats =
    Formats { built_in: "movieclassifier.movies/1", labelled: "movieclassifier.movies/2" };
/// Movies buffered before they are written.
const BATCH: usize = 1024;
/// Bytes of text buffered before they are written.
const BATCH_BYTES: usize = 4 << 20;
/// Movies read at a time. Each may come with a page of its own.
const READ_BATCH: usize = 64;

fn schema() -> SchemaRef {
    let (title, overview) = (text_field("title"), text_field("overview"));
    Arc::new(Schema::new(vec![id_field(), text_field("split"), title, overview, labels_field()]))
}

/// Writes movies one by one, in constant memory. A writer dropped before [`finish`](Self::finish)
/// leaves no file behind.
pub struct MoviesWriter {
    table: TableWriter,
    schema: SchemaRef,
    labels: LabelSet,
    digest: DataDigest,
    waiting: Vec<Movie>,
    waiting_bytes: usize,
}

impl MoviesWriter {
    /// Starts a file of movies with these labels, which appears at `path` once it is finished.
    pub fn create(path: &Path, labels: LabelSet) -> Result<Self, TableError> {
        let schema = schema();
        let table = TableWriter::create(path, schema.clone(), |properties| properties)?;
        let digest = DataDigest::new(labels.clone());
        let waiting = Vec::with_capacity(BATCH);
        Ok(Self { table, schema, labels, digest, waiting, waiting_bytes: 0 })
    }

    /// Adds a movie.
    pub fn write(&mut self, movie: Movie) -> Result<(), TableError> {
        self.digest.add(&movie);
        self.waiting_bytes += movie.title.len() + movie.overview.len();
        self.waiting.push(movie);
        let is_full = self.waiting.len() == BATCH || self.waiting_bytes >= BATCH_BYTES;
        if is_full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), TableError> {
        let movies = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let ids: Vec<u64> = movies.iter().map(|movie| movie.id).collect();
        let text = |field: fn(&Movie) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(movies.iter().map(field)))
        };
        let columns = vec![
            id_column(&ids),
            split_column(&ids),
            text(|movie| &movie.title),
            text(|movie| &movie.overview),
            labels_column(&self.labels, movies.iter().map(|movie| &movie.labels)),
        ];
        let batch =
            RecordBatch::try_new(self.schema.clone(), columns).expect("the columns are those of the schema");
        self.table.write(&batch)
    }

    /// Completes the file and gives it its name. Returns the digest over all movies.
    pub fn finish(mut self) -> Result<String, TableError> {
        self.flush()?;
        let digest = self.digest.finish();
        let mut metadata = FORMATS.metadata(&self.labels);
        metadata.extend([("data_digest", digest.clone()), ("split_rule", SPLIT_RULE.to_owned())]);
        self.table.finish(metadata)?;
        Ok(digest)
    }
}

/// Reads movies one by one and verifies the digest after the last.
pub struct MoviesReader {
    table: TableReader,
    labels: LabelSet,
    digest: Option<DataDigest>,
    batch: Option<Batch>,
}

/// Rows that were read, and the first of them that was not returned yet. The texts stay in their
/// pages until then, since a small file can hold a long text a thousand times.
struct Batch {
    rows: RecordBatch,
    ids: Vec<u64>,
    labels: Vec<MovieLabels>,
    next: usize,
}

impl Batch {
    fn next_movie(&mut self) -> Option<Result<Movie, String>> {
        let row = self.next;
        let (id, labels) = (*self.ids.get(row)?, std::mem::take(&mut self.labels[row]));
        self.next += 1;
        let text = |column: usize, name: &str| {
            let text = self.rows.column(column).as_string_view().value(row);
            if text.len() > MAX_TEXT_BYTES {
                let bytes = text.len();
                return Err(format!(
                    "movie {id}: expected at most {MAX_TEXT_BYTES} bytes as the {name}, found {bytes}"
                ));
            }
            Ok(text.to_owned())
        };
        let movie = text(2, "title")
            .and_then(|title| text(3, "overview").map(|overview| Movie { id, title, overview, labels }));
        Some(movie)
    }
}

impl MoviesReader {
    /// Opens a file and checks its metadata and columns.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let (table, labels) = FORMATS.open(path, READ_BATCH)?;
        table.expect("split_rule", SPLIT_RULE)?;
        if table.schema.fields() != schema().fields() {
            let (expected, found) = (schema(), &table.schema);
            return Err(TableError::invalid(path, format!("expected columns {expected}, found {found}")));
        }
        let digest = Some(DataDigest::new(labels.clone()));
        Ok(Self { table, labels, digest, batch: None })
    }

    /// The label set of the movies.
    #[must_use]
    pub fn labels(&self) -> &LabelSet {
        &self.labels
    }

    fn read(&mut self) -> Result<Option<Movie>, TableError> {
        let Some(digest) = &mut self.digest else { return Ok(None) };
        loop {
            if let Some(movie) = self.batch.as_mut().and_then(Batch::next_movie) {
                let movie = movie.map_err(|reason| TableError::invalid(&self.table.path, reason))?;
                digest.add(&movie);
                return Ok(Some(movie));
            }
            let Some(rows) = self.table.next_batch()? else { break };
            let (ids, labels) = movie_columns::read(&rows, &self.labels)
                .map_err(|reason| TableError::invalid(&self.table.path, reason))?;
            self.batch = Some(Batch { rows, ids, labels, next: 0 });
        }
        let found = digest.clone().finish();
        self.table.expect("data_digest", &found).map(|()| None)
    }
}

impl Iterator for MoviesReader {
    type Item = Result<Movie, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let movie = self.read().transpose();
        if !matches!(movie, Some(Ok(_))) {
            self.digest = None;
        }
        movie
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn movies(count: u64) -> Vec<Movie> {
        movies_of(&LabelSet::built_in(), ["Drama", "War"], count)
    }

    fn movies_of(set: &LabelSet, names: [&str; 2], count: u64) -> Vec<Movie> {
        let movie = |id| Movie {
            id,
            title: format!("Movie {id}"),
            overview: "é\n\"".repeat(3),
            labels: set.movie_labels([names[id as usize % 2]]).unwrap(),
        };
        (1..=count).map(movie).collect()
    }

    fn write(path: &Path, movies: &[Movie]) -> String {
        write_of(LabelSet::built_in(), path, movies)
    }

    fn write_of(labels: LabelSet, path: &Path, movies: &[Movie]) -> String {
        let mut writer = MoviesWriter::create(path, labels).unwrap();
        for movie in movies {
            writer.write(movie.clone()).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn reads_movies_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("movies.parquet");
        let written = movies(2500);
        write(&path, &written);
        let read: Vec<Movie> = MoviesReader::open(&path).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(read, written);
    }

    #[test]
    fn movies_of_another_label_set_carry_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("movies.parquet");
        let set = LabelSet::of_names(&["Billing", "Spam", "War"].map(str::to_owned)).unwrap();
        let written = movies_of(&set, ["Billing", "Spam"], 3);
        write_of(set.clone(), &path, &written);
        let reader = MoviesReader::open(&path).unwrap();
        assert_eq!(reader.labels(), &set);
        assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), written);
        let old = TableReader::open(&path, &[FORMATS.built_in], READ_BATCH).err().unwrap().to_string();
        assert!(old.contains("expected format \"movieclassifier.movies/1\""), "{old}");
    }

    #[test]
    fn the_same_movies_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        assert_eq!(write(&first, &movies(1500)), write(&second, &movies(1500)));
        assert_eq!(std::fs::read(first).unwrap(), std::fs::read(second).unwrap());
    }

    #[test]
    fn an_unfinished_file_leaves_only_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("movies.parquet");
        write(&path, &movies(3));
        let before = std::fs::read(&path).unwrap();
        let mut writer = MoviesWriter::create(&path, LabelSet::built_in()).unwrap();
        for movie in movies(5) {
            writer.write(movie).unwrap();
        }
        drop(writer);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// The parquet crate would allocate the length that the page header states.
    #[test]
    fn rejects_an_oversized_page_before_memory_is_allocated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("movies.parquet");
        let overview = "a storm ".repeat(200);
        write(&path, &[Movie { overview, ..movies(1).remove(0) }]);
        let mut bytes = std::fs::read(&path).unwrap();
        // The page of the overviews: type (0 data, 2 dictionary), decompressed length of two bytes,
        // compressed length.
        let [.., at] = (0..bytes.len() - 8)
            .filter(|at| {
                let head = &bytes[*at..at + 8];
                matches!(head, [0x15, 0 | 4, 0x15, low, high, 0x15, ..] if *low >= 0x80 && (8..0x7f).contains(high))
            })
            .collect::<Vec<_>>()[..]
        else {
            panic!("no page of more than a kilobyte");
        };
        // The highest length that two bytes can state.
        bytes[at + 3..at + 5].copy_from_slice(&[0xfe, 0x7f]);
        std::fs::write(&path, bytes).unwrap();
        let read: Result<Vec<_>, _> = MoviesReader::open(&path).unwrap().collect();
        let message = read.unwrap_err().to_string();
        assert!(message.contains("bytes decompressed, found a header that states 8191"), "{message}");
    }

    /// A small file can hold a long overview a thousand times, as an entry of a dictionary.
    #[test]
    fn rejects_a_text_that_is_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("movies.parquet");
        let overview = "a storm ".repeat(1 << 17);
        let movie = |id| Movie { id, overview: overview.clone(), ..movies(1).remove(0) };
        let all: Vec<Movie> = (1..=200).map(movie).collect();
        write(&path, &all);
        assert!(std::fs::metadata(&path).unwrap().len() < 16 << 20, "a tenth of its texts");
        let read: Result<Vec<_>, _> = MoviesReader::open(&path).unwrap().collect();
        let message = read.unwrap_err().to_string();
        assert!(message.contains("movie 1: expected at most 65536 bytes as the overview"), "{message}");
    }

    #[test]
    fn says_what_to_do_with_a_table_that_was_saved_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("again.parquet");
        let writer = TableWriter::create(&path, schema(), |properties| {
            properties.set_created_by("parquet-cpp-arrow version 21.0.0".to_owned())
        });
        writer.unwrap().finish([]).unwrap();
        let message = MoviesReader::open(&path).err().unwrap().to_string();
        for words in ["parquet-cpp-arrow version 21.0.0", "saving a table again", "trainer prepare --input"] {
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn rejects_a_table_of_another_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.parquet");
        let writer = TableWriter::create(&path, schema(), |properties| properties).unwrap();
        writer.finish([("format", "something/1".to_owned())]).unwrap();
        let message = MoviesReader::open(&path).err().unwrap().to_string();
        assert!(message.contains("other.parquet: expected format"), "{message}");
    }
}
