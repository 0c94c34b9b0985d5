//! `movies_metadata.csv` with its defects: shifted rows, unclosed quotes, invalid UTF-8, invalid
//! archives.

use std::collections::HashSet;

use csv::ByteRecord;
use movie_table::{Format, Quoting, Source, movie_id};
use trainer::{IngestError, IngestOptions, Movie, MovieReader};

use crate::harness::allocation::bounded;
use crate::harness::inputs::{file, seeds_of};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "movies_csv",
    check,
    seeds,
    dictionary: &[
        "id,title,overview,genres\n",
        "\"",
        "\"\"",
        ",",
        "\n",
        "\r",
        "\r\n",
        "\u{feff}",
        "[{'id': 18}]",
        "\"[{'id': 18, 'name': 'Drama'}]\"",
        "No overview found.",
        "7",
        "9223372036854775807",
        "9223372036854775808",
        "original_language",
    ],
    max_len: 4096,
    cases: 20000,
};

fn check(data: &[u8]) {
    let path = file("movies_metadata.csv", data);
    let mut options = IngestOptions { allow_loss: true, ..IngestOptions::default() };
    options.table.format = Some(Format::Csv);
    options.table.delimiter = Some(",".parse().expect("a comma is a delimiter"));
    options.table.quoting = Some(Quoting::Double);
    let (movies, error, report) = bounded(data.len(), || {
        let mut reader = match MovieReader::open(&Source::new(&path), &options) {
            Ok(reader) => reader,
            Err(error) => return (Vec::new(), Some(error), None),
        };
        let (mut movies, mut error) = (Vec::new(), None);
        for movie in reader.by_ref() {
            match movie {
                Ok(movie) => movies.push(movie),
                Err(found) => error = Some(found),
            }
        }
        assert!(reader.next().is_none(), "the reader stays at its end");
        (movies, error, Some(reader.report().clone()))
    });
    if let Some(error) = &error {
        assert_names_the_file(error);
    }
    let is_packed = data.starts_with(b"PK") || data.starts_with(&[0x1f, 0x8b]);
    let Some(report) = report.filter(|_| !is_packed) else { return };
    let mut data = data;
    while let Some(rest) = data.strip_prefix(b"\xef\xbb\xbf") {
        data = rest;
    }
    // A line that names the delimiter is no row.
    if data.to_ascii_lowercase().starts_with(b"sep=") || data.to_ascii_lowercase().starts_with(b"\"sep=") {
        return;
    }

    // The same bytes, read with the csv crate alone.
    let records = records(data);
    let dropped: u64 = report.dropped.values().map(|dropped| dropped.rows).sum();
    assert_eq!(report.rows, report.kept + dropped, "each row is kept or dropped");
    assert_eq!(report.kept, movies.len() as u64);
    assert!(
        report.dropped.values().all(|dropped| !dropped.examples.is_empty() && dropped.examples.len() <= 3)
    );
    let says = |text: &str| error.as_ref().is_some_and(|error| error.to_string().contains(text));
    // An endless or misplaced quote ends the run where it is found.
    if says("1 MiB, found none") || says("8 MiB, found none") || says("with text after it") {
        assert!(report.rows < records.len() as u64, "no row is invented");
        return assert_from_the_file(&movies, &records);
    }
    let is_open = ends_in_a_quote(data, records.len());
    assert_eq!(
        is_open,
        says("expected a closing quote"),
        "the error about an unclosed quote is returned for exactly that"
    );
    assert_eq!(report.rows + 1 + u64::from(is_open), records.len() as u64, "no row is lost");
    assert!(error.is_some() || !movies.is_empty(), "a file without movies is an error");
    assert_from_the_file(&movies, &records);
}

fn assert_names_the_file(error: &IngestError) {
    let message = error.to_string();
    assert!(message.contains("movies_metadata.csv"), "{message}");
    // Errors of invalid archives come from the system and from flate2.
    let is_io = matches!(error, IngestError::Table(movie_table::TableError::Io { .. }));
    let says = |words: &str| message.contains(words);
    assert!(is_io || says("expected") || says("found") || says("not a zip archive"), "{message}");
    assert!(message.len() < 3000, "expected a short message, found {} bytes", message.len());
}

/// Returns the header and all rows.
fn records(data: &[u8]) -> Vec<ByteRecord> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(data);
    reader.byte_records().map(|record| record.expect("memory can be read")).collect()
}

/// Returns whether the last quote is unclosed: then further bytes add no record.
fn ends_in_a_quote(data: &[u8], count: usize) -> bool {
    records(&[data, b"\nx"].concat()).len() == count
}

fn assert_from_the_file(movies: &[Movie], records: &[ByteRecord]) {
    let (header, rows) = records.split_first().expect("a file with movies has a header");
    let name = |field: &[u8]| String::from_utf8_lossy(field).trim().to_owned();
    let column = |wanted: &str| {
        let exact = header.iter().position(|field| name(field) == wanted);
        exact.or_else(|| header.iter().position(|field| name(field).to_lowercase() == wanted))
    };
    let (id, title, overview) = (column("id"), column("title"), column("overview"));
    let (Some(id), Some(title), Some(overview)) = (id, title, overview) else { panic!("{header:?}") };
    let mut rows = rows.iter();
    let mut seen = HashSet::new();
    for movie in movies {
        assert!(i64::try_from(movie.id).is_ok() && seen.insert(movie.id), "{movie:?}");
        assert!(!movie.overview.trim().is_empty() && !movie.labels.is_empty(), "{movie:?}");
        let fields = |row: &&ByteRecord| {
            row.get(id).and_then(|field| movie_id(std::str::from_utf8(field).ok()?).ok()) == Some(movie.id)
                && (row.get(title).unwrap_or_default() == movie.title.as_bytes() || movie.title.is_empty())
                && row.get(overview) == Some(movie.overview.as_bytes())
        };
        assert!(
            rows.any(|row| fields(&row)),
            "expected the movies to be rows of the file in its order, found {movie:?}"
        );
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let header = "adult,genres,id,original_language,overview,title\n";
    let drama = "\"[{'id': 18, 'name': 'Drama'}]\"";
    let texts = [
        format!("{header}False,{drama},7,en,\"A pilot\nlands. \"\"Here\"\".\",Harbour, 2\n"),
        format!("{header}False,{drama},7,en,Kept.,A\n[{{'name': 'A Company'}}],0.5,1997-08-20\n"),
        format!(
            "{header}False,{drama},8,fr,No overview found.,B\r\nFalse,[],9,fr,None known.,C\rFalse,{drama},8,,D,D"
        ),
        format!("{header}False,{drama},7,en,\"Open.,B\nFalse,[],3,de,Lost.,C\n"),
        format!("\u{feff}id,title,overview,genres\r\n9,T,O.,{drama}\r\n"),
        format!("\u{feff}\"id\",\"ti\ntle\",title,overview,genres\n9,,T,O.,{drama}\n"),
        format!("id,title,overview,genres\n1,\"a\"b,O.\"x\",{drama}\n1,\"a\" ,O.,{drama}\n,\"\"\n\n"),
        header.to_owned(),
        String::new(),
    ];
    let mut seeds = seeds_of(texts);
    seeds.push([header.as_bytes(), b"False,\"[{'id': 18}]\",5,en,Caf\xe9.,E\n"].concat());
    // Starts of a gzip file and of a zip archive.
    seeds.push(vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
    seeds.push(b"PK\x03\x04\x14\0\0\0\0\0".to_vec());
    seeds
}
