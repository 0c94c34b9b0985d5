//! Label sets that are not TMDB's, from a table to metrics, as users run the command.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod command;
mod fake_encoder;

use std::fmt::Write as _;
use std::path::Path;

use command::{succeed, trainer, write_movies};
use fake_encoder::{Behaviour, start};
use genre_model::GenreModel;
use trainer::Vectors;

const TICKETS: u64 = 400;

fn fail(folder: &Path, line: &str) -> String {
    let output = trainer(folder, line).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    String::from_utf8(output.stderr).unwrap()
}

/// Writes support tickets in three topics, in several spellings, and a labels file for them.
fn write_tickets(folder: &Path) {
    let topics = [
        ("billing", "The invoice charges the card twice"),
        ("OUTAGE", "The server is down since the night"),
        ("Feature-Request", "Please add a dark theme"),
    ];
    let mut rows = "id,title,overview,genres\n".to_owned();
    for id in 1..=TICKETS {
        let (topic, text) = topics[id as usize % 3];
        let more = if id % 5 == 0 { "|Unknown topic" } else { "" };
        writeln!(rows, "{id},Ticket {id},{text} number {}.,{topic}{more}", id % 11).unwrap();
    }
    std::fs::write(folder.join("tickets.csv"), rows).unwrap();
    let labels = "[[labels]]\nname = \"Outage\"\n\n[[labels]]\nname = \"Billing\"\nids = [1]\n\n\
                  [[labels]]\nname = \"Feature request\"\naliases = [\"Feature-Request\"]\n";
    std::fs::write(folder.join("labels.toml"), labels).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_labels_from_a_labels_file_reach_the_model_and_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    write_tickets(&path);
    write_movies(&path, TICKETS);
    let (url, _) = start(Behaviour::default()).await;
    tokio::task::spawn_blocking(move || {
        let names = ["Outage", "Billing", "Feature request"];
        let prepare = "prepare --input tickets.csv --genres-format pipe --labels labels.toml --output";
        let report = succeed(&path, &format!("{prepare} t.parquet --report t.json"));
        assert!(report.contains("Feature request") && !report.contains("Drama"), "{report}");
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path.join("t.json")).unwrap()).unwrap();
        assert_eq!((&json["kept"], &json["labels"][1]["label"]), (&TICKETS.into(), &"Billing".into()));

        let encode = |from: &str, to: &str| format!("encode --movies {from} --output {to} --encoder {url}");
        succeed(&path, &encode("t.parquet", "t.vectors"));
        let vectors = Vectors::read(&path.join("t.vectors")).unwrap();
        assert_eq!(vectors.labels.names().collect::<Vec<_>>(), names);

        let small = "--units 8 --epochs 3 --ensemble 1";
        succeed(&path, &format!("fit --vectors t.vectors --output t.safetensors --baselines {small}"));
        let model = GenreModel::load(&path.join("t.safetensors")).unwrap();
        assert_eq!(model.labels(), names);
        assert_eq!(model.thresholds().per_genre().len(), 3);

        let evaluate = "evaluate --model t.safetensors --split test --json";
        let from_vectors = succeed(&path, &format!("{evaluate} --vectors t.vectors"));
        let figures: serde_json::Value = serde_json::from_str(&from_vectors).unwrap();
        assert_eq!(figures["per_genre"].as_array().unwrap().len(), 3);
        assert_eq!(figures["per_genre"][2]["label"], "Feature request");
        assert!(figures["micro_f1"].as_f64().unwrap() > 0.9, "{from_vectors}");
        // The table of tickets, by the labels file.
        let table = "--input tickets.csv --genres-format pipe --labels labels.toml";
        assert_eq!(succeed(&path, &format!("{evaluate} {table} --encoder {url}")), from_vectors);

        succeed(&path, "report --vectors t.vectors --model t.safetensors --output T.md");
        let text = std::fs::read_to_string(path.join("T.md")).unwrap();
        assert!(text.contains("| Feature request |") && !text.contains("Drama"), "{text}");
        assert!(std::fs::read_to_string(path.join("T-genres.svg")).unwrap().contains("Feature request"));
        assert!(std::fs::read_to_string(path.join("T-confusion.svg")).unwrap().contains("Outage"));

        succeed(&path, "search --vectors t.vectors --output search --trials 2 --epochs 2");
        assert_eq!(GenreModel::load(&path.join("search/model.safetensors")).unwrap().labels(), names);

        // Label sets are never mixed.
        succeed(&path, "prepare --input movies.csv --output m.parquet");
        succeed(&path, &encode("m.parquet", "m.vectors"));
        let message = fail(&path, "evaluate --model t.safetensors --split test --vectors m.vectors");
        let expected =
            "expected movies with the model's 3 labels (Outage, Billing, Feature request), found 20 labels";
        assert!(message.contains(expected) && message.contains("must not be mixed"), "{message}");
        let message = fail(&path, "report --vectors m.vectors --model t.safetensors --output M.md");
        assert!(message.contains("must not be mixed"), "{message}");
        // The same tickets with the labels of the data are other data.
        let from_data =
            "prepare --input tickets.csv --genres-format pipe --labels from-data --output d.parquet";
        succeed(&path, from_data);
        let message = fail(&path, &encode("d.parquet", "t.vectors"));
        assert!(message.contains("t.vectors already exists and belongs to another job"), "{message}");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_labels_from_the_data_reach_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let mut rows = "id,title,overview,genres\n".to_owned();
    for id in 1..=2400_u64 {
        let topic = id % 300;
        writeln!(rows, "{id},,About subject{topic}.,Topic {topic:03}").unwrap();
    }
    std::fs::write(path.join("topics.csv"), rows).unwrap();
    let (url, _) = start(Behaviour::default()).await;
    tokio::task::spawn_blocking(move || {
        let prepare = "prepare --input topics.csv --genres-format pipe --labels from-data --output t.parquet";
        let message = fail(&path, &format!("{prepare} --min-count 9"));
        assert!(message.contains("with at least 9 movies, found 0; lower --min-count"), "{message}");
        succeed(&path, &format!("{prepare} --min-count 8"));
        succeed(&path, &format!("encode --movies t.parquet --output t.vectors --encoder {url}"));
        let fit = "fit --vectors t.vectors --output t.safetensors --units 8 --epochs 2 --ensemble 1";
        succeed(&path, fit);
        let model = GenreModel::load(&path.join("t.safetensors")).unwrap();
        assert_eq!(model.labels().len(), 300);
        assert_eq!(model.labels()[299], "Topic 299");
        let json = succeed(&path, "evaluate --model t.safetensors --split test --vectors t.vectors --json");
        let figures: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(figures["per_genre"].as_array().unwrap().len(), 300);
        succeed(&path, "report --vectors t.vectors --model t.safetensors --output T.md --no-baselines");
        assert!(std::fs::read_to_string(path.join("T-genres.svg")).unwrap().contains("Topic 299"));
        let text = std::fs::read_to_string(path.join("T.md")).unwrap();
        assert!(text.contains("| Topic 299 |") && text.contains("the 40 most common genres"), "{text}");
    })
    .await
    .unwrap();
}

#[test]
fn a_wrong_labels_file_is_named_with_its_fault() {
    let folder = tempfile::tempdir().unwrap();
    write_tickets(folder.path());
    let prepare = "prepare --input tickets.csv --genres-format pipe --output t.parquet --labels";
    let message = fail(folder.path(), &format!("{prepare} missing.toml"));
    assert!(message.contains("labels file missing.toml: "), "{message}");
    std::fs::write(folder.path().join("wrong.toml"), "[[labels]]\nname = \"A\"\nid = 3\n").unwrap();
    let message = fail(folder.path(), &format!("{prepare} wrong.toml"));
    assert!(
        message.contains("labels file wrong.toml: ") && message.contains("unknown field `id`"),
        "{message}"
    );
    assert!(!folder.path().join("t.parquet").exists());
    let code = trainer(folder.path(), "prepare --input a --output b --min-count 3").output().unwrap();
    assert_eq!(code.status.code(), Some(2), "--min-count needs --labels");
}
