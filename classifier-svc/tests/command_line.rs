//! The command line: output, messages and exit codes of the binary.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::process::{Command, Output};

use common::{any_port, bundle, model_file, runtime_library, start_classifier, start_encoder};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_classifier-svc"))
        .args(arguments)
        .env("ORT_DYLIB_PATH", runtime_library())
        // The default port may be in use.
        .env("CLASSIFIER_SVC_REST__LISTEN", "127.0.0.1:0")
        .output()
        .unwrap()
}

async fn run_blocking(arguments: Vec<String>) -> Output {
    tokio::task::spawn_blocking(move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))
        .await
        .unwrap()
}

fn arguments(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_and_an_embedded_encoder_classify_alike() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let movie = ["classify", "--json", "--title", "Harbour", "--overview", "a storm over the sea"];
    let served =
        run_blocking([arguments(&movie), arguments(&["--address", &classifier.url()])].concat()).await;
    let (model, bundle) = (model.to_string_lossy(), bundle("tiny-512"));
    let backend = arguments(&["--embedded", "--model", &model, "--bundle", &bundle.to_string_lossy()]);
    let embedded = run_blocking([arguments(&movie), backend].concat()).await;
    assert!(served.status.success(), "{}", text(&served.stderr));
    assert!(embedded.status.success(), "{}", text(&embedded.stderr));
    let json: serde_json::Value = serde_json::from_slice(&served.stdout).unwrap();
    assert_eq!(json["scores"].as_array().unwrap().len(), 20);
    assert_eq!(text(&served.stdout), text(&embedded.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_output_is_a_table() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let call = ["classify", "--all", "--overview", "a horse", "--address", &classifier.url()];
    let output = run_blocking(arguments(&call)).await;
    let table = text(&output.stdout);
    for word in ["Genre", "Probability", "Threshold", "Western"] {
        assert!(table.contains(word), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_classified_in_order_and_failed_rows_are_named() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let input = folder.path().join("movies.csv");
    let mut movies = String::from("id,title,overview\n");
    for id in 0..100 {
        let overview = if id == 41 || id == 7 { String::new() } else { format!("a storm of {id} days") };
        writeln!(movies, "{id},Movie {id},{overview}").unwrap();
    }
    std::fs::write(&input, movies).unwrap();
    let call = ["classify", "--input", &input.to_string_lossy(), "--address", &classifier.url()];
    let output = run_blocking(arguments(&call)).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("2 of 100 movies failed: rows 8, 42"), "{}", text(&output.stderr));
    let records: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 100);
    for (index, record) in records.iter().enumerate() {
        assert_eq!((&record["row"], &record["id"]), (&(index + 1).into(), &index.to_string().into()));
        assert_eq!(record["error"].is_string(), index == 7 || index == 41, "{record}");
        assert_eq!(record["genres"].is_array(), index != 7 && index != 41, "{record}");
    }

    let call = [&call[..], &["--output", "csv"]].concat();
    let output = run_blocking(arguments(&call)).await;
    let rows: Vec<_> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(rows[0], "row,id,title,genres,truncated,model_version,error");
    assert_eq!(rows.len(), 101);
    assert!(rows[8].starts_with("8,7,Movie 7,") && rows[8].contains("expected a text"), "{}", rows[8]);
}

/// Tables as people have them. Each row is answered, or its error says what was found; what cannot be
/// read to its end fails with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn reads_tables_of_every_form() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let url = classifier.url();
    let csv = "id,title,overview\n1,Reef,\"A storm, and\nrain.\"\n2,X,A wedding.\n";
    let classify = async |name: &str, content: &[u8], more: &[&str]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let path = path.to_string_lossy().into_owned();
        let call = [&["classify", "--input", &path, "--address", &url][..], more].concat();
        run_blocking(arguments(&call)).await
    };
    let expected = text(&classify("plain.csv", csv.as_bytes(), &[]).await.stdout);
    assert_eq!(expected.lines().count(), 2, "{expected}");
    let with = |delimiter: &str| csv.replace("storm,", "storm~").replace(',', delimiter).replace('~', ",");
    let json = "\u{feff}{\"id\": 1, \"title\": \"Reef\", \"overview\": \"A storm, and\\nrain.\"}\r\n\
                {\"id\": \"2\", \"title\": \"X\", \"overview\": \"A wedding.\", \"x\": null}\r\n";
    for (name, content, more) in [
        ("tab.tsv", with("\t"), &[][..]),
        ("semicolon.CSV", with(";"), &[]),
        ("given.txt", with(";"), &["--delimiter", ";"]),
        ("sep.csv", format!("sep=;\r\n{}", with(";")), &[]),
        ("crlf.csv", format!("\u{feff}{csv}").replace("\n1", "\r\n1").replace("\n2", "\r\n2"), &[]),
        ("heads.csv", csv.replacen("id,title,overview", "Id, Title, OverView", 1), &[]),
        ("lines.jsonl", json.to_owned(), &[]),
        ("lines.json", json.to_owned(), &[]),
        ("no-name", json.to_owned(), &["--input-format", "jsonl"]),
    ] {
        let output = classify(name, content.as_bytes(), more).await;
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout), expected, "{name}");
    }

    let records = |output: &Output| -> Vec<serde_json::Value> {
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let output =
        classify("spark.csv", b"id,title,overview\n1,\"The \\\"Reef\\\"\",\"A storm, dark.\"\n", &[]).await;
    assert_eq!(records(&output)[0]["title"], "The \"Reef\"");
    let output =
        classify("null.jsonl", b"{\"id\": \"1\", \"title\": null, \"overview\": \"A storm.\"}\n", &[]).await;
    assert_eq!((&records(&output)[0]["title"], output.status.success()), (&"".into(), true));
    let table = b"id,title,overview\n1,A,nan\n2,B,\n3,C,Caf\xe9.\n4,D,a,b\n5.0,nan,A storm.\n";
    let output = classify("mixed.csv", table, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let found = records(&output);
    for (row, words) in [
        "line 2: expected a text as the overview, found the placeholder \"nan\"",
        "line 3: expected a text as the overview, found none",
        "line 4: expected UTF-8, found byte 0xE9; if the table is in latin-1, convert it first: iconv",
        "line 5: expected 3 fields as in the header, found 4",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(found[row]["error"].as_str().unwrap().starts_with(words), "{}", found[row]);
    }
    assert_eq!(
        (&found[4]["id"], &found[4]["title"], found[4]["genres"].is_array()),
        (&"5.0".into(), &"".into(), true)
    );

    for (name, content, words) in [
        (
            "open.csv",
            &b"id,title,overview\n1,Reef,\"A storm.\n2,X,A wedding.\n3,Y,Rain.\n"[..],
            "closing quote for line 2",
        ),
        (
            "dup.csv",
            b"id,title,overview,overview\n1,A,B,C\n",
            "expected one column \"overview\" in the header, found 2",
        ),
        ("utf16.csv", b"\xff\xfei\0d\0", "iconv -f UTF-16LE -t UTF-8"),
        ("x.csv.bz2", b"BZh91AY", "bunzip2 -k"),
    ] {
        let output = classify(name, content, &[]).await;
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{name}");
        assert!(text(&output.stderr).contains(words), "{name}: {}", text(&output.stderr));
    }
}

/// As with `classify --input movies.csv >> movies.csv`, which would read its own records.
#[test]
fn rejects_an_input_that_is_also_standard_output() {
    let table = "id,title,overview\n1,Reef,A storm.\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("movies.csv");
    std::fs::write(&path, table).unwrap();
    for input in ["-", &path.to_string_lossy()] {
        let output = Command::new(env!("CARGO_BIN_EXE_classifier-svc"))
            .args(["classify", "--input", input, "--address", "http://127.0.0.1:9"])
            .stdin(File::open(&path).unwrap())
            .stdout(OpenOptions::new().append(true).open(&path).unwrap())
            .output()
            .unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{input}: {message}");
        assert!(message.contains("expected another file than standard output"), "{input}: {message}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), table, "{input}");
    }
}

#[test]
fn names_a_missing_input_file() {
    let output = run(&["classify", "--input", "no/such.csv", "--address", "http://127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no/such.csv"), "{}", text(&output.stderr));
}

#[test]
fn without_a_service_the_error_says_how_to_start_one() {
    let output = run(&["classify", "--overview", "a horse", "--address", "http://127.0.0.1:9"]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("http://127.0.0.1:9") && message.contains("--embedded"), "{message}");
    assert!(output.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_a_blank_overview_by_its_field() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-512");
    let classifier = start_classifier(&model, &encoder.url());
    let output =
        run_blocking(arguments(&["classify", "--overview", " ", "--address", &classifier.url()])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("overview: expected a text"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_to_start_with_a_model_for_another_encoder() {
    let encoder = start_encoder("tiny-512", any_port()).await;
    let (_folder, model) = model_file("tiny-other-512");
    let model = model.to_string_lossy().into_owned();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--model", &model, "--encoder", &encoder.url()];
    let served = run_blocking(arguments(&serve)).await;
    let bundle = bundle("tiny-512").to_string_lossy().into_owned();
    let classify = ["classify", "--overview", "a", "--embedded", "--model", &model, "--bundle", &bundle];
    let embedded = run_blocking(arguments(&classify)).await;
    for output in [served, embedded] {
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for word in [model.as_str(), "the model expects encoder tiny-other-512", "found tiny-512"] {
            assert!(message.contains(word), "expected {word:?} in: {message}");
        }
    }
}

#[test]
fn names_a_truncated_model_file_and_leaves_it_unchanged() {
    let (_folder, model) = model_file("tiny-512");
    let bytes = std::fs::read(&model).unwrap();
    std::fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let output = run(&["serve", "--listen", "127.0.0.1:0", "--model", &model.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&*model.to_string_lossy()), "{}", text(&output.stderr));
    assert_eq!(std::fs::read(&model).unwrap(), bytes[..bytes.len() / 2]);
}
