//! The same movies in every form give the same rows.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use movie_table::{
    ColumnNames, GenresField, GenresFormat, ProblemKind, Row, RowProblem, Source, TableError, TableOptions,
    TableReader,
};
use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const TABLE: &str = "id,title,overview\n1,A,Storm.\n";

fn read_with(path: &Path, options: &TableOptions) -> Result<Vec<Result<Row, RowProblem>>, TableError> {
    TableReader::open(&Source::new(path), options)?.collect()
}

fn read(path: &Path) -> Result<Vec<Result<Row, RowProblem>>, TableError> {
    read_with(path, &TableOptions::default())
}

fn message(path: &Path) -> String {
    read(path).unwrap_err().to_string()
}

/// The fields of a row, with its genres as a list and without its line, which depends on the form.
type Fields = (Option<String>, Option<String>, Option<String>, Vec<String>);

fn fields(row: Result<Row, RowProblem>) -> Fields {
    let row = row.unwrap();
    let genres = row.genres.map_or(Vec::new(), |field| field.genres(GenresFormat::Auto).unwrap());
    (row.id, row.title, row.overview, genres.iter().map(ToString::to_string).collect())
}

#[derive(Debug, Clone)]
struct Movie {
    id: u64,
    title: String,
    overview: String,
    genres: Vec<&'static str>,
}

fn movies() -> impl Strategy<Value = Vec<Movie>> {
    let text = "[a-z\"',;|\t {}\\[\\]é電:.]{0,12}";
    let genres = prop::sample::subsequence(vec!["Drama", "War", "Science Fiction"], 0..=3);
    let movie = (any::<u32>(), text, text, genres).prop_map(|(id, title, overview, genres)| Movie {
        id: id.into(),
        title: title.clone(),
        overview: overview.clone(),
        genres,
    });
    prop::collection::vec(movie, 1..6)
}

fn delimited(movies: &[Movie], delimiter: u8, end: &str, names: [&str; 4]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new()
        .delimiter(delimiter)
        .quote_style(csv::QuoteStyle::Always)
        .terminator(csv::Terminator::Any(b'\n'))
        .from_writer(Vec::new());
    writer.write_record(names).unwrap();
    for Movie { id, title, overview, genres } in movies {
        writer.write_record([&id.to_string(), title, overview, &genres.join("|")]).unwrap();
    }
    // The texts have no line ends.
    String::from_utf8(writer.into_inner().unwrap()).unwrap().replace('\n', end).into_bytes()
}

fn lines(movies: &[Movie], end: &str) -> Vec<u8> {
    let line = |Movie { id, title, overview, genres }: &Movie| {
        serde_json::json!({"ID": id, "title": title, "Overview": overview, "genres": genres, "x": [{}]})
            .to_string()
    };
    movies.iter().map(|movie| line(movie) + end).collect::<String>().into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn the_same_movies_in_every_form_give_the_same_rows(movies in movies()) {
        let none_if_blank = |text: &str| (!text.trim().is_empty()).then(|| text.to_owned());
        let expected: Vec<Fields> = movies
            .iter()
            .map(|movie| (
                Some(movie.id.to_string()),
                none_if_blank(&movie.title),
                none_if_blank(&movie.overview),
                movie.genres.iter().map(|&genre| genre.to_owned()).collect(),
            ))
            .collect();
        let names = ["id", "title", "overview", "genres"];
        let csv = delimited(&movies, b',', "\n", names);
        let array = {
            let text = String::from_utf8(lines(&movies, "\n")).unwrap();
            format!("[{}]\n", text.trim_end().replace('\n', ",\n ")).into_bytes()
        };
        let forms = [
            ("plain.csv", csv.clone()),
            ("bom.csv", [&b"\xef\xbb\xbf"[..], &csv].concat()),
            ("crlf.csv", delimited(&movies, b',', "\r\n", names)),
            ("cr.csv", delimited(&movies, b',', "\r", names)),
            ("names.csv", delimited(&movies, b',', "\n", [" ID ", "Title", "OVERVIEW", "Genres"])),
            ("tab.tsv", delimited(&movies, b'\t', "\n", names)),
            ("semicolon.CSV", delimited(&movies, b';', "\r\n", names)),
            ("bar", delimited(&movies, b'|', "\n", names)),
            ("sep.csv", [&b"sep=;\r\n"[..], &delimited(&movies, b';', "\r\n", names)].concat()),
            ("packed.csv.gz", gzip(&csv)),
            ("lines.jsonl", lines(&movies, "\n")),
            ("crlf.ndjson", [&b"\xef\xbb\xbf"[..], &lines(&movies, "\r\n")].concat()),
            ("cr.json", lines(&movies, "\r")),
            ("lines-without-a-name", lines(&movies, "\n\n")),
            ("packed.jsonl.gz", gzip(&lines(&movies, "\n"))),
            ("array.json", array),
        ];
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in forms {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let rows = read(&path).unwrap();
            let found: Vec<Fields> = rows.into_iter().map(fields).collect();
            prop_assert_eq!(&found, &expected, "{}", name);
        }
    }
}

fn zip(path: &Path, names: &[&str], method: zip::CompressionMethod) {
    let mut writer = ZipWriter::new(File::create(path).unwrap());
    for name in names {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(if name.contains("ratings") { b"other" } else { TABLE.as_bytes() }).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn reads_a_table_plain_gzipped_zipped_and_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("plain"), TABLE).unwrap();
    let (stored, deflated) = (zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated);
    zip(&at("archive"), &["ratings.csv", "data/movies_metadata.csv"], deflated);
    zip(&at("single.zip"), &["README", "movies.CSV", "__MACOSX/._movies.csv"], deflated);
    zip(&at("stored"), &["movies.tsv.txt"], stored);
    for name in ["kaggle", "alone"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    std::fs::write(at("kaggle/movies_metadata.csv.gz"), gzip(TABLE.as_bytes())).unwrap();
    std::fs::write(at("kaggle/ratings.csv"), "x").unwrap();
    std::fs::write(at("alone/my.CSV"), TABLE).unwrap();
    std::fs::write(at("alone/README"), "x").unwrap();
    for name in ["plain", "archive", "single.zip", "stored", "kaggle", "alone"] {
        let rows = read(&at(name)).unwrap();
        let row = rows[0].as_ref().unwrap();
        assert_eq!((rows.len(), row.line, row.overview.as_deref()), (1, 2, Some("Storm.")), "{name}");
    }
}

#[test]
fn a_spooled_pipe_can_be_read_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let pipe = path.clone();
    // Each end of the pipe waits until the other is open.
    let writer = std::thread::spawn(move || std::fs::write(pipe, TABLE).unwrap());
    let source = Source::new(&path).spooled(1 << 20).unwrap();
    assert!(matches!(source, Source::Spooled { .. }), "{source:?}");
    writer.join().unwrap();
    for _ in 0..2 {
        let reader = TableReader::open(&source, &TableOptions::default()).unwrap();
        let rows: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
        assert_eq!(rows.len(), 1);
    }
}

#[test]
fn rejects_input_without_a_table_and_names_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        message(folder.path())
            .contains("expected movies_metadata.csv or one table in the folder, found none")
    );
    let path = folder.path().join("archive.zip");
    let deflated = zip::CompressionMethod::Deflated;
    zip(&path, &["a.csv", "b.csv"], deflated);
    assert!(message(&path).contains("in the archive, found a.csv, b.csv"), "{}", message(&path));
    zip(&path, &["xl/workbook.xml"], deflated);
    assert!(message(&path).contains("found an Excel workbook"), "{}", message(&path));
    zip(&path, &["movies.csv"], deflated);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(message(&path).contains("not a zip archive"), "{}", message(&path));
    zip(&path, &["movies.csv"], zip::CompressionMethod::Stored);
    let mut changed = std::fs::read(&path).unwrap();
    let at = changed.windows(6).position(|bytes| bytes == b"Storm.").unwrap();
    changed[at] = b'X';
    std::fs::write(&path, changed).unwrap();
    assert!(message(&path).contains("another checksum"), "{}", message(&path));
    let bytes = gzip(TABLE.repeat(999).as_bytes());
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(read(&path).is_err());
}

#[test]
fn stops_at_the_limit_of_unpacked_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("movies.csv.gz");
    std::fs::write(&path, gzip((TABLE.to_owned() + &"2,B,Rain.\n".repeat(10_000)).as_bytes())).unwrap();
    let options = TableOptions { max_bytes: 50_000, ..TableOptions::default() };
    let error = read_with(&path, &options).unwrap_err().to_string();
    assert!(error.contains("expected at most 50000 bytes") && error.contains("--max-input-bytes"), "{error}");
    assert_eq!(read(&path).unwrap().len(), 10_001);
}

#[test]
fn a_bad_row_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows");
    let long = "x".repeat(70_000);
    let read_text = |text: &[u8]| {
        std::fs::write(&path, text).unwrap();
        let rows = read(&path).unwrap();
        rows.into_iter()
            .map(|row| row.map(|row| row.line).map_err(|problem| (problem.line, problem.kind)))
            .collect::<Vec<_>>()
    };
    let text = format!(
        "{{\"overview\": \"a\"}}\n{{oops\n\n7\n{{\"overview\": [1]}}\n{{\"overview\": \"a\", \"overview\": \"b\"}}\n\
         {{\"overview\": \"{long}\"}}\n{{\"overview\": null}}"
    );
    let malformed = |line| Err((line, ProblemKind::Malformed));
    let expected = [
        Ok(1),
        malformed(2),
        malformed(4),
        malformed(5),
        malformed(6),
        Err((7, ProblemKind::TextTooLong)),
        Ok(8),
    ];
    assert_eq!(read_text(text.as_bytes()), expected);
    let mut text = format!("title,overview\na,b\nc\na,b,,\na,b,c\na,{long}\n").into_bytes();
    text.extend(b"a,Caf\xe9\n");
    let expected = [
        Ok(2),
        Ok(3),
        Ok(4),
        Err((5, ProblemKind::ExtraFields)),
        Err((6, ProblemKind::TextTooLong)),
        Err((7, ProblemKind::NotUtf8)),
    ];
    assert_eq!(read_text(&text), expected);
}

#[test]
fn an_exact_key_goes_before_one_in_another_case() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("movies.jsonl");
    for (line, expected) in [
        (r#"{"overview": "a", "Overview": "b"}"#, Some("a")),
        (r#"{"Overview": "b", "overview": "a"}"#, Some("a")),
        (r#"{"overview": "a", "overview": "b"}"#, None),
        (r#"{"Overview": "a", "OVERVIEW": "b"}"#, None),
    ] {
        std::fs::write(&path, line).unwrap();
        match (&read(&path).unwrap()[..], expected) {
            ([Ok(row)], Some(_)) => assert_eq!(row.overview.as_deref(), expected, "{line}"),
            ([Err(problem)], None) => assert!(problem.reason.contains("found it twice"), "{line}: {problem}"),
            (rows, _) => panic!("{line}: {rows:?}"),
        }
    }
}

#[test]
fn an_array_that_is_not_one_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.json");
    let row = r#"{"overview": "[a] \\\" }"}"#;
    for (text, expected) in [
        (format!("[{row},\n{row}"), "line 2: expected a comma or the end of the JSON array, found the end"),
        (format!("[{row},\n{{\"a\": 1"), "line 2: expected the end of the JSON array"),
        (format!("[{row},]"), "expected a row of the JSON array, found ']'"),
        (format!("[{row} {row}]"), "expected a comma or the end"),
        (format!("[{row}] x"), "expected nothing after the JSON array"),
    ] {
        std::fs::write(&path, &text).unwrap();
        assert!(message(&path).contains(expected), "{text}: {}", message(&path));
    }
    std::fs::write(&path, format!(" [ {row} ,\n7, {row} ] \n")).unwrap();
    let lines: Vec<_> = read(&path).unwrap().into_iter().map(|row| row.map(|row| row.line)).collect();
    assert_eq!((lines[0].clone(), lines[2].clone(), lines.len()), (Ok(1), Ok(2), 3));
    assert!(lines[1].is_err());
    std::fs::write(&path, "[]").unwrap();
    assert!(read(&path).unwrap().is_empty());
}

#[test]
fn an_unclosed_quote_ends_the_run_before_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("open.csv");
    std::fs::write(&path, "id,overview\n1,Rain.\n2,\"Open.\n3,Storm.\n").unwrap();
    let mut reader = TableReader::open(&Source::new(&path), &TableOptions::default()).unwrap();
    assert!(matches!(reader.next(), Some(Ok(Ok(_)))));
    let error = reader.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("expected a closing quote for line 3"), "{error}");
    assert!(reader.next().is_none());
}

#[test]
fn genres_keep_their_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("movies.jsonl");
    std::fs::write(&path, r#"{"overview": "a", "genre_ids": [18, 35]}"#).unwrap();
    let columns = ColumnNames { genres: "genre_ids".to_owned(), ..ColumnNames::default() };
    let rows = read_with(&path, &TableOptions { columns, ..TableOptions::default() }).unwrap();
    let Some(GenresField::Json(found)) = &rows[0].as_ref().unwrap().genres else { panic!("{rows:?}") };
    assert_eq!(found, &serde_json::json!([18, 35]));
}
