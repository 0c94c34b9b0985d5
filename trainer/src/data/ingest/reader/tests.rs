use std::io::Write as _;
use std::path::Path;

use super::*;
use crate::data::ingest::report::DropReason;

fn open(path: &Path) -> Result<MovieReader, IngestError> {
    MovieReader::open(&Source::new(path), &IngestOptions::default())
}

fn open_with_loss(path: &Path) -> MovieReader {
    let options = IngestOptions { allow_loss: true, ..IngestOptions::default() };
    MovieReader::open(&Source::new(path), &options).unwrap()
}

const HEADER: &str = "adult,genres,id,overview,title\n";
const DRAMA: &str = "\"[{'id': 18, 'name': 'Drama'}]\"";

fn file(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    file.write_all(content.as_ref()).unwrap();
    file
}

fn read(content: impl AsRef<[u8]>) -> (Vec<Movie>, IngestReport) {
    let file = file(content);
    let mut reader = open_with_loss(file.path());
    let movies = reader.by_ref().collect::<Result<_, _>>().unwrap();
    (movies, reader.report().clone())
}

fn names(movie: &Movie) -> Vec<String> {
    LabelSet::built_in().names_of(&movie.labels).map(str::to_owned).collect()
}

fn error(content: impl AsRef<[u8]>) -> String {
    let file = file(content);
    let result = open(file.path()).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let message = result.unwrap_err().to_string();
    assert!(message.contains(&file.path().display().to_string()), "{message}");
    message
}

#[test]
fn finds_columns_by_name_and_keeps_quoted_newlines() {
    let (movies, report) =
        read(format!("{HEADER}False,{DRAMA},7,\"A pilot\nlands. \"\"Here\"\".\",Harbour\n"));
    assert_eq!(movies.len(), 1);
    assert_eq!((movies[0].id, movies[0].title.as_str()), (7, "Harbour"));
    assert_eq!(movies[0].overview, "A pilot\nlands. \"Here\".");
    assert_eq!(names(&movies[0]), ["Drama"]);
    assert_eq!((report.rows, report.kept), (1, 1));
}

#[test]
fn counts_every_dropped_row_with_its_reason_and_line() {
    let mut content = HEADER.as_bytes().to_vec();
    content.extend(format!("False,{DRAMA},1,Kept.,A\n").bytes());
    content.extend(b"[{'name': 'A Company'}],0.5,1997-08-20\n");
    content.extend(format!("False,{DRAMA},2,  ,B\n").bytes());
    content.extend(b"False,[{'id': 18},3,Cut off.,C\n");
    content.extend(b"False,[],4,No genre.,D\n");
    content.extend(format!("False,{DRAMA},1,Again.,A\n").bytes());
    content.extend(format!("False,{DRAMA},5,").bytes());
    content.extend(b"Caf\xe9.,E\n");
    content.extend(format!("False,{DRAMA},6,A storm, at sea.,Harbour\n").bytes());
    let (movies, report) = read(content);
    assert_eq!(movies.len(), 1);
    let dropped: Vec<_> = report
        .dropped
        .iter()
        .map(|(reason, dropped)| (*reason, dropped.rows, dropped.examples[0].line))
        .collect();
    assert_eq!(
        dropped,
        [
            (DropReason::InvalidId, 1, 3),
            (DropReason::NotUtf8, 1, 8),
            (DropReason::ExtraFields, 1, 9),
            (DropReason::NoOverview, 1, 4),
            (DropReason::UnreadableGenres, 1, 5),
            (DropReason::NoGenres, 1, 6),
            (DropReason::DuplicateId, 1, 7),
        ]
    );
    assert_eq!(report.rows, report.kept + report.dropped.values().map(|dropped| dropped.rows).sum::<u64>());
    assert_eq!(report.dropped[&DropReason::InvalidId].examples[0].id, "1997-08-20");
    assert!(report.to_string().contains("1997-08-20"));
}

#[test]
fn drops_a_placeholder_overview() {
    let rows =
        format!("False,{DRAMA},2, No overview found. ,B\nFalse,{DRAMA},3,No overview found. Ever.,C\n");
    let (movies, report) = read(format!("{HEADER}{rows}"));
    assert_eq!((movies.len(), movies[0].id), (1, 3));
    assert_eq!(report.dropped[&DropReason::PlaceholderOverview].rows, 1);
    let file = file(format!("{HEADER}{rows}"));
    let keep_overviews = vec!["No overview found.".to_owned()];
    let options = IngestOptions { keep_overviews, ..IngestOptions::default() };
    assert_eq!(MovieReader::open(&Source::new(file.path()), &options).unwrap().count(), 2);
}

#[test]
fn shows_three_of_many_dropped_rows() {
    let rows = format!("False,{DRAMA},2,,T\nFalse,{DRAMA},3,  ,T\n").repeat(24);
    let (_, report) = read(format!("{HEADER}False,{DRAMA},1,Kept.,A\n{rows}"));
    let dropped = &report.dropped[&DropReason::NoOverview];
    assert_eq!((dropped.rows, dropped.examples.len()), (48, 3));
}

#[test]
fn accepts_a_byte_order_mark_and_windows_line_ends() {
    let (movies, _) = read(format!("\u{feff}id,title,overview,genres\r\n9,T,O.,{DRAMA}\r\n"));
    assert_eq!((movies[0].id, movies[0].overview.as_str()), (9, "O."));
}

#[test]
fn a_table_that_loses_most_rows_to_one_reason_is_an_error() {
    let rows = format!("False,{DRAMA},1,Kept.,A\nFalse,{DRAMA},2,,B\nFalse,{DRAMA},3,,C\n");
    let message = error(format!("{HEADER}{rows}"));
    assert!(message.contains("found 1 in 3; 2 dropped, no overview (line 3, id 2)"), "{message}");
    assert!(message.contains("--allow-loss"), "{message}");
    let (movies, _) = read(format!("{HEADER}{rows}"));
    assert_eq!(movies.len(), 1);
}

#[test]
fn reads_whole_numbers_as_ids_and_says_what_else_was_found() {
    let row = |id: &str| format!("False,{DRAMA},{id},O.,T\n");
    let ids = ["862.0", " 8844", "\"15,602\"", "tt0114709", "31357", "-7"];
    let (movies, report) = read(format!("{HEADER}{}", ids.map(row).concat()));
    assert_eq!(movies.iter().map(|movie| movie.id).collect::<Vec<_>>(), [862, 8844, 15602, 31357]);
    let examples = &report.dropped[&DropReason::InvalidId].examples;
    assert!(examples[0].to_string().contains("line 5: expected a whole number"), "{}", examples[0]);
    assert!(examples[0].found.ends_with("found \"tt0114709\""), "{}", examples[0]);
}

#[test]
fn unknown_genres_are_counted_also_in_kept_movies() {
    let row = |id: u32, genres: &str| format!("False,\"{genres}\",{id},O.,T\n");
    let rows = [row(1, "Drama, Sport"), row(2, "sci-fi|Sport"), row(3, "[18, 7]"), row(4, "Sport")].concat();
    let (movies, report) = read(format!("{HEADER}{rows}"));
    assert_eq!(movies.len(), 3);
    assert_eq!(names(&movies[1]), ["Science Fiction"]);
    assert_eq!(report.unknown(), "Sport (3), id 7 (1)");
    assert!(report.to_string().contains("unknown genres, which are no labels: Sport (3)"));
    assert_eq!(report.dropped[&DropReason::NoKnownGenre].examples[0].found, "found Sport");
}

#[test]
fn names_a_missing_column() {
    let message = error("id,title,plot,genres\n1,T,O,[]\n");
    assert!(message.contains("line 1: expected a header with the column \"overview\""), "{message}");
    assert!(message.contains("found \"id,title,plot,genres\""), "{message}");
}

#[test]
fn rejects_a_binary_file() {
    let message = error(b"\x7fELF\x04\0\0\xff\xfe\n\0\0");
    assert!(message.contains("found bytes that are not text"), "{message}");
}

#[test]
fn rejects_an_empty_file() {
    assert!(error("").contains("found an empty file"));
    assert!(error(HEADER).contains("expected usable movies, found none in 0 rows"));
}

#[test]
fn explains_a_file_without_usable_movies() {
    assert!(error(format!("{HEADER}False,{DRAMA},1,,A\n")).contains("1 dropped, no overview"));
}

#[test]
fn names_a_missing_file_or_folder() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| open(path).err().unwrap().to_string();
    assert!(message(folder.path()).contains("in the folder, found none"));
    assert!(message(&folder.path().join("missing.csv")).contains("missing.csv"));
}

#[test]
fn rejects_an_open_quote_and_names_its_line() {
    let message =
        error(format!("{HEADER}False,{DRAMA},1,Kept.,A\nFalse,{DRAMA},2,\"Open.,B\nFalse,[],3,Lost.,C\n"));
    assert!(message.contains("expected a closing quote"), "{message}");
    assert!(message.contains("line 3"), "{message}");
}

#[test]
fn reads_other_columns_and_another_form_of_genres() {
    let file = file("key,name,plot,tags\n5,T,O.,Drama|War\n");
    let mut options = IngestOptions { genres_format: GenresFormat::Pipe, ..IngestOptions::default() };
    let [id, title, overview, genres] = ["KEY", "name", "plot", "tags"].map(str::to_owned);
    options.table.columns = ColumnNames { id, title, overview, genres, all_required: true };
    let reader = MovieReader::open(&Source::new(file.path()), &options).unwrap();
    let movies: Vec<Movie> = reader.collect::<Result<_, _>>().unwrap();
    assert_eq!((movies[0].id, movies[0].title.as_str(), movies[0].overview.as_str()), (5, "T", "O."));
    assert_eq!(names(&movies[0]), ["Drama", "War"]);
}

#[test]
fn counts_the_languages_of_kept_movies() {
    let header = "id,title,overview,genres,original_language\n";
    let row = |id: u32, language: &str| format!("{id},T,O.,{DRAMA},{language}\n");
    let (_, report) = read(format!("{header}{}{}{}", row(1, "en"), row(2, "fr"), row(3, "en")));
    assert_eq!(
        report.languages.iter().map(|(l, n)| (l.as_str(), *n)).collect::<Vec<_>>(),
        [("en", 2), ("fr", 1)]
    );
}
