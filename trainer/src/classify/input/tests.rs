use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use movie_table::ColumnNames;
use parquet::arrow::ArrowWriter;

use super::*;

async fn input(paths: &[PathBuf]) -> Result<Input, InputError> {
    Input::new(paths, TableOptions::default()).await
}

async fn ids(input: &Input, start: usize) -> Result<String, InputError> {
    let inventory = input.inventory().await?;
    let rows: Vec<InputRow> = input.rows(&inventory, start).try_collect().await?;
    Ok(rows.into_iter().map(|row| row.id.unwrap_or_default()).collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn a_folder_is_read_in_the_order_of_names_and_the_digest_follows_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("b.csv", "id,title,overview\n2,Two,A ship.\n");
    write("a.csv", "id,title,overview\n1,One,A storm.\n3,Three,\n");
    write("_SUCCESS", "");
    let tables = input(&[folder.path().to_owned()]).await.unwrap();
    for (start, expected) in [(0, "1 3 2"), (1, "3 2"), (2, "2"), (3, "")] {
        assert_eq!(ids(&tables, start).await.unwrap(), expected);
    }
    let before = tables.inventory().await.unwrap();
    assert_eq!((before.rows, tables.inventory().await.unwrap()), (3, before.clone()));
    assert!(tables.reads_from(folder.path(), true) && !tables.reads_from(folder.path(), false));
    assert!(tables.reads_from(&folder.path().join("./a.csv"), false));
    write("b.csv", "id,title,overview\n2,Two,A shop.\n");
    assert_ne!(tables.inventory().await.unwrap().digest, before.digest);

    for (text, found) in [("id,title,overview\n", "fewer"), ("id,title,overview\n2,,A.\n4,,B.\n", "more")] {
        write("b.csv", text);
        let rows: Result<Vec<_>, _> = tables.rows(&before, 0).try_collect().await;
        let message = rows.unwrap_err().to_string();
        assert!(
            message.contains(&format!("expected the 1 rows that were counted, found {found}")),
            "{message}"
        );
    }
    let empty = tempfile::tempdir().unwrap();
    let error = input(&[empty.path().to_owned()]).await.unwrap_err();
    assert!(error.to_string().contains("expected tables such as *.parquet or *.csv, found none"));
}

#[tokio::test]
async fn a_pattern_names_the_files_that_it_matches() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (id, name) in
        ["a-1.csv", "a-2.csv", "b.csv", "_a-3.csv", "year=1999/a-4.csv", "a[1].csv"].iter().enumerate()
    {
        std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        std::fs::write(path(name), format!("id,title,overview\n{id},T,A ship.\n")).unwrap();
    }
    for (pattern, expected) in [
        ("a-*.csv", "0 1"),
        ("a-?.csv", "0 1"),
        ("[ab].csv", "2"),
        ("**/a-*.csv", "0 1 4"),
        ("a[1].csv", "5"),
    ] {
        let found = input(&[path(pattern)]).await.unwrap();
        assert_eq!(ids(&found, 0).await.unwrap(), expected, "{pattern}");
    }
    let message = input(&[path("c-*.csv")]).await.unwrap_err().to_string();
    assert!(message.contains("c-*.csv: expected tables such as"), "{message}");
    assert!(input(&[path("a-[.csv")]).await.is_err());
}

#[tokio::test]
async fn an_output_that_the_next_run_would_read_counts_as_read() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a.csv"), "id,title,overview\n1,One,A storm.\n").unwrap();
    let of_folder = input(&[folder.path().to_owned()]).await.unwrap();
    assert!(of_folder.reads_from(&path("results.parquet"), false));
    for output in [path("results"), path("_results.parquet"), other.path().join("results.parquet")] {
        assert!(!of_folder.reads_from(&output, false), "{}", output.display());
    }
    let of_file = input(&[path("a.csv")]).await.unwrap();
    assert!(!of_file.reads_from(&path("results.parquet"), false));
}

fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn row(id: &str, title: &str, overview: &str) -> InputRow {
    let movie = MovieText { title: title.to_owned(), overview: overview.to_owned() };
    InputRow { id: Some(id.to_owned()), movie: Ok(movie) }
}

/// Writes a Parquet file with these columns, and reads those of these names.
async fn rows_of(columns: Vec<(&str, ArrayRef)>, names: ColumnNames) -> Vec<InputRow> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("movies.parquet");
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let options = TableOptions { columns: names, ..TableOptions::default() };
    let found = Input::new(&[path], options).await.unwrap();
    let inventory = found.inventory().await.unwrap();
    found.rows(&inventory, 0).try_collect().await.unwrap()
}

#[tokio::test]
async fn one_parquet_column_may_have_two_names() {
    let columns = vec![("overview", texts(&["A ship."])), ("title", texts(&["One"]))];
    let names = ColumnNames { id: "overview".to_owned(), ..ColumnNames::default() };
    assert_eq!(rows_of(columns, names).await, [row("A ship.", "One", "A ship.")]);
}

#[tokio::test]
async fn a_parquet_column_of_the_exact_name_goes_before_one_in_another_case() {
    let columns = vec![
        ("Overview", texts(&["Rain."])),
        ("overview", texts(&["A ship."])),
        ("title", texts(&["One"])),
        ("id", texts(&["1"])),
    ];
    assert_eq!(rows_of(columns, ColumnNames::default()).await, [row("1", "One", "A ship.")]);
}

#[tokio::test]
async fn reads_unsigned_ids_of_a_parquet_file() {
    let ids: ArrayRef = Arc::new(UInt32Array::from(vec![4_000_000_000_u32]));
    let columns = vec![("id", ids), ("title", texts(&["One"])), ("overview", texts(&["A ship."]))];
    assert_eq!(rows_of(columns, ColumnNames::default()).await, [row("4000000000", "One", "A ship.")]);
}
