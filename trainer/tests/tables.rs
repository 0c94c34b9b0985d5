//! Tables of movies as people have them, by the real command: read, or rejected with what to do.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod command;

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use command::{succeed, trainer};
use genre_model::LabelSet;
use movie_table::Source;
use serde_json::Value;
use trainer::data::movie_source::MovieSource;

const DRAMA_AND_WAR: [&str; 2] = ["Drama", "War"];

/// Id, title, overview and labels of a movie.
type Kept = (u64, String, String, Vec<String>);

/// Runs `prepare` and returns the movies and the report.
fn prepare(folder: &Path, name: &str, content: &[u8], options: &str) -> (Vec<Kept>, Value) {
    std::fs::write(folder.join(name), content).unwrap();
    succeed(folder, &format!("prepare --input {name} --output m.parquet --report r.json{options}"));
    let report = std::fs::read(folder.join("r.json")).unwrap();
    let movies = MovieSource::MoviesFile(folder.join("m.parquet")).open().unwrap().map(Result::unwrap);
    let movies = movies.map(|movie| {
        (
            movie.id,
            movie.title,
            movie.overview,
            LabelSet::built_in().names_of(&movie.labels).map(str::to_owned).collect(),
        )
    });
    (movies.collect(), serde_json::from_slice(&report).unwrap())
}

fn refuse(folder: &Path, name: &str, content: &[u8], options: &str) -> String {
    std::fs::write(folder.join(name), content).unwrap();
    let output =
        trainer(folder, &format!("prepare --input {name} --output none.parquet{options}")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{name}: {}", String::from_utf8_lossy(&output.stdout));
    assert!(!folder.join("none.parquet").exists(), "{name}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn reads_genres_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    for (genres, options) in [
        ("[{'id': 18, 'name': 'Drama'}, {'id': 10752, 'name': 'War'}]", ""),
        ("['Drama', 'War']", ""),
        ("[18, 10752]", ""),
        ("[\"\"Drama\"\", \"\"war\"\"]", ""),
        ("Drama, War", ""),
        ("drama|WAR", ""),
        ("Drama;War", " --genres-format semicolon"),
        ("18,10752", ""),
        ("Drama|War|Sport", " --genres-format pipe"),
    ] {
        let table = format!("id,title,overview,genres\n862,T,A storm.,\"{genres}\"\n");
        let (movies, report) = prepare(folder.path(), "movies.csv", table.as_bytes(), options);
        assert_eq!(movies[0].3, DRAMA_AND_WAR, "{genres}");
        let unknown =
            if genres.contains("Sport") { serde_json::json!({"Sport": 1}) } else { serde_json::json!({}) };
        assert_eq!(report["unknown_genres"], unknown, "{genres}");
    }
    let (movies, _) = prepare(folder.path(), "movies.csv", b"id,title,overview,genres\n1,T,O.,Sci-Fi\n", "");
    assert_eq!(movies[0].3, ["Science Fiction"]);
}

#[test]
fn reads_ids_that_are_whole_numbers_and_names_others() {
    let folder = tempfile::tempdir().unwrap();
    let table = "id,title,overview,genres\n862.0,A,O.,Drama\n 8844,B,O.,Drama\n\"15,602\",C,O.,Drama\ntt0114709,D,O.,Drama\n";
    let (movies, report) = prepare(folder.path(), "movies.csv", table.as_bytes(), "");
    assert_eq!(movies.iter().map(|movie| movie.0).collect::<Vec<_>>(), [862, 8844, 15602]);
    let example = &report["dropped"]["invalid_id"]["examples"][0];
    assert_eq!(example["line"], 5);
    assert!(example["found"].as_str().unwrap().ends_with("found \"tt0114709\""), "{example}");
}

#[test]
fn reads_every_delimiter_line_end_and_packing() {
    let folder = tempfile::tempdir().unwrap();
    let csv = "id,title,overview,genres\n1,A,\"A storm,\n\"\"at\"\" sea.\",Drama\n2,B,Rain.,War\n";
    let plain = prepare(folder.path(), "plain.csv", csv.as_bytes(), "").0;
    assert_eq!(plain[0].2, "A storm,\n\"at\" sea.");
    // Quoted, so that a delimiter inside the text is not replaced.
    let with = |delimiter: &str| {
        csv.replace("A storm,", "A storm;;").replace(',', delimiter).replace("A storm;;", "A storm,")
    };
    let gzip = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(csv.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let json = "\u{feff}{\"id\": 1, \"title\": \"A\", \"overview\": \"A storm,\\n\\\"at\\\" sea.\", \"genres\": [18]}\r\n\
                {\"id\": \"2\", \"title\": \"B\", \"overview\": \"Rain.\", \"genres\": [\"War\"]}\r\n";
    let array = format!("[{}]", json.trim_start_matches('\u{feff}').trim().replace("}\r\n{", "},\r\n{"));
    for (name, content, options) in [
        ("tab.tsv", with("\t").into_bytes(), ""),
        ("semicolon.csv", with(";").into_bytes(), ""),
        ("given.txt", with(";").into_bytes(), " --delimiter ;"),
        ("sep.csv", format!("sep=;\r\n{}", with(";")).into_bytes(), ""),
        ("bom.CSV", format!("\u{feff}{csv}").into_bytes(), ""),
        (
            "heads.csv",
            csv.replacen("id,title,overview,genres", "ID, Title , OVERVIEW,Genres", 1).into_bytes(),
            "",
        ),
        ("spark.csv", csv.replace("\"\"", "\\\"").into_bytes(), ""),
        ("quoting.csv", csv.replace("\"\"", "\\\"").into_bytes(), " --quoting backslash"),
        ("packed.csv.gz", gzip, ""),
        ("lines.jsonl", json.into(), ""),
        ("array.json", array.into_bytes(), ""),
    ] {
        assert_eq!(prepare(folder.path(), name, &content, options).0, plain, "{name}");
    }
    // Standard input, and a pipe that cannot be rewound.
    let mut command = trainer(folder.path(), "prepare --input - --output m.parquet");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(csv.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let movies = MovieSource::MoviesFile(folder.path().join("m.parquet")).open().unwrap().count();
    assert_eq!(movies, 2);
}

#[test]
fn counts_placeholders_and_missing_values() {
    let folder = tempfile::tempdir().unwrap();
    let table = "id,title,overview,genres\n1,A,nan,Drama\n2,B,No overview yet.,Drama\n3,C,,Drama\n4,nan,Kept.,Drama\n\
                 5,E,Kept.,nan\n6,F,Kept.,Drama\n7,G,Kept.,Drama\n";
    let (movies, report) = prepare(folder.path(), "movies.csv", table.as_bytes(), "");
    assert_eq!(movies.iter().map(|movie| movie.0).collect::<Vec<_>>(), [4, 6, 7]);
    assert_eq!(movies[0].1, "", "a data frame's nan is no title");
    assert_eq!(report["without_title"], 1);
    let rows = |reason: &str| report["dropped"][reason]["rows"].clone();
    assert_eq!(
        (rows("placeholder_overview"), rows("no_overview"), rows("no_genres")),
        (2.into(), 1.into(), 1.into())
    );
    assert_eq!(
        report["dropped"]["placeholder_overview"]["examples"][1]["found"],
        "found \"No overview yet.\""
    );
    let (movies, _) = prepare(folder.path(), "movies.csv", table.as_bytes(), " --keep-overview nan");
    assert_eq!(movies.len(), 4);
}

#[test]
fn a_table_that_loses_most_of_its_rows_fails_unless_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let table = b"id,title,overview,genres\n1,A,O.,Sport\n2,B,O.,Sport\n3,C,O.,Drama\n";
    let message = refuse(folder.path(), "movies.csv", table, "");
    for words in [
        "found 1 in 3",
        "2 dropped, no genre of the label set (line 2",
        "unknown genres: Sport (2)",
        "--allow-loss",
    ] {
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(prepare(folder.path(), "movies.csv", table, " --allow-loss").0.len(), 1);
}

#[test]
fn names_the_command_that_converts_an_unreadable_file() {
    let folder = tempfile::tempdir().unwrap();
    let utf16: Vec<u8> = "\u{feff}id,title\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut tar = vec![0; 1024];
    tar[..5].copy_from_slice(b"x.csv");
    tar[257..262].copy_from_slice(b"ustar");
    let header = "id,title,overview,genres\n";
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("utf16.csv", utf16, "found UTF-16LE; convert it first: iconv -f UTF-16LE -t UTF-8 utf16.csv"),
        ("x.tar", tar, "found a tar archive; unpack it first: tar -xf x.tar"),
        ("x.csv.bz2", b"BZh91AY&SY".to_vec(), "found a bzip2 file; unpack it first: bunzip2 -k x.csv.bz2"),
        (
            "latin1.csv",
            [header.as_bytes(), b"1,Caf\xe9,O.,Drama\n"].concat(),
            "if the table is in latin-1, convert it first: iconv -f ISO-8859-1",
        ),
        (
            "dup.csv",
            b"id,title,overview,genres,Overview, overview\n".to_vec(),
            "expected one column \"overview\" in the header, found 2",
        ),
        (
            "none.csv",
            b"id,title,plot,genres\n".to_vec(),
            "expected a header with the column \"overview\", found \"id,title,plot,genres\"",
        ),
        (
            "open.csv",
            format!("{header}1,A,\"open.,Drama\n2,B,O.,Drama\n").into_bytes(),
            "expected a closing quote for line 2",
        ),
        (
            "closed.csv",
            format!("{header}1,A,\"open.,Drama\n2,B,\"O.\",Drama\n").into_bytes(),
            "line 2: expected a closing quote at the end of a field",
        ),
        (
            "late.csv",
            format!("{header}1,A,\"a \"\"b\"\"\",Drama\n2,\"The \\\"Reef\\\" II\",O.,Drama\n").into_bytes(),
            "--quoting backslash",
        ),
        (
            "m.parquet",
            b"PAR1".to_vec(),
            "found a Parquet file; give a table of `trainer prepare` by --movies",
        ),
    ];
    for (name, content, expected) in cases {
        let message = refuse(folder.path(), name, &content, "");
        assert!(message.contains(expected), "{name}: {message}");
    }
}

/// A small file that unpacks to much more.
#[test]
fn stops_at_the_limit_of_unpacked_bytes_and_drops_long_texts() {
    let folder = tempfile::tempdir().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(b"id,title,overview,genres\n").unwrap();
    let long = "a storm ".repeat(1 << 17);
    for id in 1..=20 {
        writeln!(gzip, "{id},T,{},Drama", if id < 12 { "short." } else { &long }).unwrap();
    }
    let bytes = gzip.finish().unwrap();
    let message = refuse(folder.path(), "bomb.csv.gz", &bytes, " --max-input-bytes 2000000");
    assert!(message.contains("expected at most 2000000 bytes of input after unpacking"), "{message}");
    let (movies, report) = prepare(folder.path(), "bomb.csv.gz", &bytes, "");
    assert_eq!((movies.len(), &report["dropped"]["text_too_long"]["rows"]), (11, &9.into()));
    // Standard input is copied to disk for commands that read it more than once.
    let mut command = trainer(folder.path(), "encode --input - --output v.parquet --max-input-bytes 1000");
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(&bytes);
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("expected at most 1000 bytes"), "{output:?}");
    let name = Source::new(Path::new("-")).name();
    assert_eq!(name, "standard input");
}
