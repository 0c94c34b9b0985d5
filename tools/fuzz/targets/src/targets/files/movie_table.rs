//! Tables of movies in every format: each row of the input is returned, reported, or ends the run.
//!
//! The first byte selects how the rest is read: what is given by options, and what is detected.

use csv::ByteRecord;
use movie_table::{Format, Quoting, Row, RowProblem, Source, TableError, TableOptions, TableReader};
use serde_json::Value;

use crate::harness::allocation::bounded;
use crate::harness::inputs::{file, seed_with_mode};
use crate::target::Target;

pub(crate) const TARGET: Target = Target {
    name: "movie_table",
    check,
    seeds,
    dictionary: &[
        "id,title,overview\n",
        "overview",
        "sep=;\n",
        ",",
        ";",
        "\t",
        "|",
        "\"",
        "\"\"",
        "\\\"",
        "\n",
        "\r",
        "\r\n",
        "\u{feff}",
        "{\"overview\": \"a\"}",
        "{",
        "}",
        "[",
        "]",
        "null",
        "8,844",
        "862.0",
        "nan",
    ],
    max_len: 4096,
    cases: 20000,
};

/// The rows of a table, and the error that ended it.
type Rows = (Vec<Result<Row, RowProblem>>, Option<TableError>);

fn check(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let is_packed = data.starts_with(b"PK") || data.starts_with(&[0x1f, 0x8b]);
    // Whatever is detected, no row is out of order and every error names the file.
    let (rows, error) = read(data, &TableOptions::default());
    let line =
        |row: &Result<Row, RowProblem>| row.as_ref().map_or_else(|problem| problem.line, |row| row.line);
    assert!(rows.iter().map(line).is_sorted(), "rows are in the order of their lines: {rows:?}");
    let lines = data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64 + 1;
    assert!(
        is_packed || rows.iter().all(|row| (1..=lines).contains(&line(row))),
        "a line of the file: {rows:?}"
    );
    if let Some(error) = error {
        let message = error.to_string();
        assert!(message.contains("movies.table") && message.len() < 3000, "{message}");
    }

    let mut plain = data;
    while let Some(rest) = plain.strip_prefix(b"\xef\xbb\xbf") {
        plain = rest;
    }
    let start = plain.to_ascii_lowercase();
    if is_packed || start.starts_with(b"sep=") || start.starts_with(b"\"sep=") {
        return;
    }
    match mode % 4 {
        0 => {
            let format =
                if plain.trim_ascii_start().starts_with(b"[") { Format::Json } else { Format::Jsonl };
            let rows = read(data, &TableOptions { format: Some(format), ..TableOptions::default() });
            if format == Format::Json { check_array(plain, &rows) } else { check_lines(plain, &rows) }
        }
        1 => check_delimited(data, plain, b',', Quoting::Double),
        2 => check_delimited(data, plain, b';', Quoting::Backslash),
        _ => check_delimited(data, plain, b'\t', Quoting::Double),
    }
}

fn read(data: &[u8], options: &TableOptions) -> Rows {
    let path = file("movies.table", data);
    bounded(data.len(), || {
        let mut reader = match TableReader::open(&Source::new(&path), options) {
            Ok(reader) => reader,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let (mut rows, mut error) = (Vec::new(), None);
        for row in reader.by_ref() {
            match row {
                Ok(row) => rows.push(row),
                Err(found) => error = Some(found),
            }
        }
        assert!(reader.next().is_none(), "the reader stays at its end");
        (rows, error)
    })
}

fn check_lines(data: &[u8], (rows, error): &Rows) {
    if error.is_some() {
        return;
    }
    let lines = data.split(|byte| matches!(byte, b'\n' | b'\r'));
    let lines: Vec<&[u8]> = lines.filter(|line| !line.trim_ascii().is_empty()).collect();
    assert_eq!(rows.len(), lines.len(), "each line is a row or a problem");
    for (row, line) in rows.iter().zip(lines) {
        assert_is_the_object(row, serde_json::from_slice(line).ok());
    }
}

fn check_array(data: &[u8], (rows, error): &Rows) {
    match serde_json::from_slice::<Vec<Value>>(data) {
        Ok(values) => {
            assert!(error.is_none(), "{error:?}");
            assert_eq!(rows.len(), values.len(), "each element is a row or a problem");
            for (row, value) in rows.iter().zip(values) {
                assert_is_the_object(row, Some(value));
            }
        }
        Err(_) => assert!(error.is_some() || rows.iter().any(Result::is_err), "{rows:?}"),
    }
}

fn assert_is_the_object(row: &Result<Row, RowProblem>, value: Option<Value>) {
    let Ok(row) = row else { return };
    let value = value.expect("a row is valid JSON");
    assert!(value.is_object(), "{value}");
    if let Some(overview) = value["overview"].as_str() {
        let expected = (!overview.trim().is_empty()).then_some(overview);
        assert_eq!(row.overview.as_deref(), expected);
    }
}

fn check_delimited(data: &[u8], plain: &[u8], delimiter: u8, quoting: Quoting) {
    let options = TableOptions {
        format: Some(Format::Csv),
        delimiter: char::from(delimiter).to_string().parse().ok(),
        quoting: Some(quoting),
        ..TableOptions::default()
    };
    let options = match delimiter {
        b'\t' => TableOptions { delimiter: "tab".parse().ok(), ..options },
        _ => options,
    };
    let (rows, error) = read(data, &options);
    let mut builder = csv::ReaderBuilder::new();
    builder.delimiter(delimiter).flexible(true).has_headers(false);
    builder.escape((quoting == Quoting::Backslash).then_some(b'\\'));
    let records: Vec<ByteRecord> =
        builder.from_reader(plain).byte_records().map(|record| record.expect("memory can be read")).collect();
    match error {
        None => assert_eq!(rows.len() + 1, records.len(), "each record is a row or a problem"),
        Some(_) => assert!(rows.len() <= records.len(), "no row is invented"),
    }
    let Some((header, records)) = records.split_first() else { return };
    let is_overview = |name: &[u8]| String::from_utf8_lossy(name).trim().to_lowercase() == "overview";
    let places: Vec<usize> = (0..header.len()).filter(|place| is_overview(&header[*place])).collect();
    let [place] = places[..] else { return };
    for (row, record) in rows.iter().zip(records) {
        let Ok(row) = row else { continue };
        let field = record.get(place).unwrap_or_default();
        let text = std::str::from_utf8(field).expect("a row is UTF-8");
        assert_eq!(
            row.overview.as_deref().unwrap_or_default(),
            if text.trim().is_empty() { "" } else { text }
        );
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let json = [
        "{\"id\": 1, \"overview\": \"A storm.\"}\n{\"id\": \"2\", \"title\": null, \"overview\": \"Rain.\", \"genres\": [18]}\r\n",
        "\u{feff}{\"Overview\": \"a\"}\r{oops\r\n\n7",
        "[{\"overview\": \"a [\\\" }\"},\n {\"overview\": \"b\", \"x\": [{}]}, 7]\n",
        "[]",
    ];
    let comma = [
        "id,title,overview\n1,Reef,\"A \"\"coral\"\"\nreef, dying.\"\n\n2,X,A wedding.,\n3,,\n",
        "id,title,overview\n1,\"open,A storm.\n2,X,\"Rain.\"\n",
        "id, Title ,OVERVIEW\r\n862.0,T,a,b\r8,\"x\"y,c\n",
    ];
    let backslash =
        ["id;overview\r\n1;\"The \\\"Reef\\\"\"\r\n2;\"C:\\\\\"\r\n", "sep=;\nid;overview\n1;a\n"];
    let tab = ["id\ttitle\toverview\n1\tA\t\"B\n C\"\n2\tD\t5\" tape\n"];
    let modes: [(u8, &[&str]); 4] = [(0, &json), (1, &comma), (2, &backslash), (3, &tab)];
    let seeds = modes.into_iter().flat_map(|(mode, texts)| texts.iter().map(move |text| (mode, text)));
    seeds.map(|(mode, text)| seed_with_mode(mode, text.as_bytes())).collect()
}
