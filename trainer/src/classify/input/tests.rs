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
