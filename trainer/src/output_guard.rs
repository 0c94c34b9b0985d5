//! Checks the outputs of a command before it reads or writes anything.
//!
//! No output may be an input or another output, under whatever name, and a file or object that no
//! command of the same kind wrote is replaced only with `--force`.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use same_file::Handle;

use crate::FileError;
use crate::data::object_footer::{Footer, PARQUET_MAGIC, footer};
use crate::data::table_file;
use crate::store::{self, StoreError, local};

/// Symbolic links that are followed in a row, as Linux does.
const MAX_LINKS: usize = 40;
/// Bytes of a file that tell its kind, unless it is a table.
const START: u64 = 64;

/// What the metadata of a file or object tells about its kind.
enum Table {
    /// It is no Parquet file.
    None,
    /// A Parquet file of this format.
    Format(String),
    /// A Parquet file whose metadata cannot be read. Any table may replace it.
    Damaged,
}

/// The content that a command writes to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A table of movies.
    Movies,
    /// A table of vectors.
    Vectors,
    /// A table of results.
    Results,
    /// A table of trials.
    Trials,
    /// A model file.
    Model,
    /// The loss curves of a model.
    LossCurves,
    /// The report of `prepare`.
    IngestReport,
    /// The report of a model.
    Report,
    /// A plot.
    Plot,
    /// The journal of a search.
    Journal,
    /// The manifest of a shard.
    ShardManifest,
}

/// Why a command may not write.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// An output is an input.
    #[error("{output} {path}: expected another file than that of {input}, found the same")]
    IsInput {
        /// The option of the output.
        output: String,
        /// The path of the output.
        path: PathBuf,
        /// The option of the input.
        input: String,
    },
    /// Two outputs are one file.
    #[error("{first} and {second}: expected two files, found {path} twice")]
    Twice {
        /// The option of one.
        first: String,
        /// The option of the other.
        second: String,
        /// The path of the second.
        path: PathBuf,
    },
    /// The file at the path is of another kind.
    #[error("{output} {path}: expected no file, or {expected}, found another file; --force replaces it")]
    Foreign {
        /// The option of the output.
        output: String,
        /// The path.
        path: PathBuf,
        /// The kind that may be replaced.
        expected: &'static str,
    },
    /// The path is a folder.
    #[error("{output} {path}: expected a file to write to, found a folder")]
    Folder {
        /// The option of the output.
        output: String,
        /// The path.
        path: PathBuf,
    },
    /// The path is the URL of an object store.
    #[error("{output} {path}: expected a file to write to, found a URL")]
    Url {
        /// The option of the output.
        output: String,
        /// The URL.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error(transparent)]
    Io(#[from] FileError),
    /// An object cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The inputs and outputs of a command.
#[derive(Debug, Default)]
pub struct OutputGuard {
    force: bool,
    inputs: Vec<Place>,
    outputs: Vec<(Place, FileKind)>,
    folders: Vec<Place>,
    /// Outputs that are URLs, with their options.
    urls: Vec<(String, PathBuf)>,
    /// Objects that are replaced, with their options.
    objects: Vec<(String, store::Place, FileKind)>,
}

/// A path with the option that names it.
#[derive(Debug)]
struct Place {
    option: String,
    path: PathBuf,
    resolved: PathBuf,
    /// The file itself; `None` if there is none yet.
    handle: Option<Handle>,
}

impl Place {
    fn new(option: &str, path: &Path) -> Self {
        let resolved = resolve(path, MAX_LINKS);
        // To open a named pipe and close it again would end its writer.
        let can_open = std::fs::metadata(path).is_ok_and(|found| found.is_file() || found.is_dir());
        let handle = can_open.then(|| Handle::from_path(path).ok()).flatten();
        Self { option: option.to_owned(), path: path.to_owned(), resolved, handle }
    }

    fn is(&self, other: &Self) -> bool {
        self.resolved == other.resolved || (self.handle.is_some() && self.handle == other.handle)
    }
}

impl OutputGuard {
    /// A guard that, with `force`, lets files of any kind be replaced.
    #[must_use]
    pub fn new(force: bool) -> Self {
        Self { force, ..Self::default() }
    }

    /// Adds an input: a file, or a folder of which the files are read whose names `is_read` accepts.
    /// `-` is standard input. The URL of an object store is no file.
    #[must_use]
    pub fn input(mut self, option: &str, path: &Path, is_read: impl Fn(&str) -> bool) -> Self {
        if path == Path::new("-") {
            let resolved = PathBuf::from("-");
            let handle = Handle::stdin().ok();
            self.inputs.push(Place { option: option.to_owned(), path: path.to_owned(), resolved, handle });
        } else if let Some(path) = local(path) {
            let entries = path.is_dir().then(|| std::fs::read_dir(path)).and_then(Result::ok);
            for entry in entries.into_iter().flatten().flatten() {
                if is_read(&entry.file_name().to_string_lossy()) {
                    self.inputs.push(Place::new(option, &entry.path()));
                }
            }
            self.inputs.push(Place::new(option, path));
        }
        self
    }

    /// Adds a file that the command replaces. A URL is rejected, also one that begins with `file://`:
    /// a command that accepts it gives the file that it stands for.
    #[must_use]
    pub fn output(mut self, option: &str, path: &Path, kind: FileKind) -> Self {
        if path.to_string_lossy().contains("://") {
            self.urls.push((option.to_owned(), path.to_owned()));
        } else {
            self.outputs.push((Place::new(option, path), kind));
        }
        self
    }

    /// Adds an object that the command replaces.
    #[must_use]
    pub fn object(mut self, option: &str, object: store::Place, kind: FileKind) -> Self {
        self.objects.push((option.to_owned(), object, kind));
        self
    }

    /// Adds a folder that the command removes with everything in it.
    #[must_use]
    pub fn removed_folder(mut self, option: &str, path: &Path) -> Self {
        if let Some(path) = local(path) {
            self.folders.push(Place::new(option, path));
        }
        self
    }

    /// Checks everything that was added, including objects.
    pub async fn check_all(&self) -> Result<(), OutputError> {
        self.check()?;
        if self.force {
            return Ok(());
        }
        for (option, object, kind) in &self.objects {
            if !kind.may_replace_object(object).await? {
                let (output, path) = (option.clone(), object.location().into());
                return Err(OutputError::Foreign { output, path, expected: kind.description() });
            }
        }
        Ok(())
    }

    /// Checks everything that was added except objects.
    pub fn check(&self) -> Result<(), OutputError> {
        if let Some((output, path)) = self.urls.first() {
            return Err(OutputError::Url { output: output.clone(), path: path.clone() });
        }
        for (index, (output, kind)) in self.outputs.iter().enumerate() {
            let Place { option, path, .. } = output;
            let (name, path) = (option.clone(), path.clone());
            if let Some(input) = self.inputs.iter().find(|input| input.is(output)) {
                return Err(OutputError::IsInput { output: name, path, input: input.option.clone() });
            }
            if let Some((other, _)) = self.outputs[..index].iter().find(|(other, _)| other.is(output)) {
                return Err(OutputError::Twice { first: other.option.clone(), second: name, path });
            }
            if path.is_dir() {
                return Err(OutputError::Folder { output: name, path });
            }
            if !self.force && !kind.may_replace(&path)? {
                return Err(OutputError::Foreign { output: name, path, expected: kind.description() });
            }
        }
        for folder in &self.folders {
            if let Some(input) = self.inputs.iter().find(|input| input.resolved.starts_with(&folder.resolved))
            {
                let (output, path, input) =
                    (folder.option.clone(), folder.path.clone(), input.option.clone());
                return Err(OutputError::IsInput { output, path, input });
            }
        }
        Ok(())
    }
}

impl FileKind {
    /// Whether the file at `path`, if there is one, is empty or of this kind.
    fn may_replace(self, path: &Path) -> Result<bool, FileError> {
        let mut start = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(START).read_to_end(&mut start).map_err(FileError::at(path))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(FileError::at(path)(error)),
        };
        let table = if start.starts_with(PARQUET_MAGIC) {
            table_file::format_of(path).map_or(Table::Damaged, Table::Format)
        } else {
            Table::None
        };
        Ok(self.accepts(&start, &table))
    }

    /// Whether the object, if there is one, is empty or of this kind.
    async fn may_replace_object(self, object: &store::Place) -> Result<bool, StoreError> {
        let Some(found) = object.find().await? else { return Ok(true) };
        let start = object.start(found.size, START).await?;
        let table = if start.starts_with(PARQUET_MAGIC) {
            match footer(object, found.size).await? {
                Footer::Whole(metadata) => Table::Format(table_file::format_in(&metadata)),
                Footer::None | Footer::Damaged(_) => Table::Damaged,
            }
        } else {
            Table::None
        };
        Ok(self.accepts(&start, &table))
    }

    /// Whether content with this start and this metadata is empty or of this kind.
    fn accepts(self, start: &[u8], table: &Table) -> bool {
        let table = |expected: &str| match table {
            Table::None => false,
            Table::Format(format) => format.starts_with(expected),
            Table::Damaged => true,
        };
        let text = |beginning: &str| start.starts_with(beginning.as_bytes());
        start.is_empty()
            || match self {
                Self::Movies => table("movieclassifier.movies/"),
                Self::Vectors => table("movieclassifier.vectors/"),
                Self::Results => table("movieclassifier.results/"),
                Self::Trials => table("movieclassifier.search/"),
                // The length of the header, and the header.
                Self::Model => start.get(8) == Some(&b'{') && start[4..8] == [0; 4],
                Self::LossCurves => text("{\"format\":\"movieclassifier."),
                Self::IngestReport => text("{\n  \"input\":"),
                Self::Report => text("# Genre model"),
                Self::Plot => text("<svg"),
                Self::Journal => text("{\"format\":\"movieclassifier.search/"),
                Self::ShardManifest => text("{\n  \"format\": \"movieclassifier.shard/"),
            }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Movies => "a table of movies",
            Self::Vectors => "a table of vectors",
            Self::Results => "a table of results",
            Self::Trials => "a table of trials",
            Self::Model => "a model file",
            Self::LossCurves => "the loss curves of a model",
            Self::IngestReport => "a report of `prepare`",
            Self::Report => "a report of `trainer report`",
            Self::Plot => "an SVG",
            Self::Journal => "the journal of a search",
            Self::ShardManifest => "the manifest of a shard",
        }
    }
}

/// Returns the absolute path without symbolic links, also of a file that does not exist yet.
fn resolve(path: &Path, links: usize) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if links > 0
        && let Ok(target) = path.read_link()
    {
        return resolve(&parent.unwrap_or(Path::new("")).join(target), links - 1);
    }
    match (parent, path.file_name()) {
        (Some(parent), Some(name)) => resolve(parent, links).join(name),
        (None, Some(name)) => resolve(Path::new("."), 0).join(name),
        _ => path.to_owned(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(folder: &Path, input: &str, output: &str, second: &str) -> Result<(), OutputError> {
        let at = |name: &str| folder.join(name);
        OutputGuard::new(true)
            .input("--input", &at(input), |name| name.contains(".csv"))
            .output("--output", &at(output), FileKind::Movies)
            .output("--report", &at(second), FileKind::IngestReport)
            .check()
    }

    #[test]
    fn an_output_is_no_input_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("f")).unwrap();
        std::fs::write(at("f/x.csv"), "x").unwrap();
        symlink("f/x.csv", at("link")).unwrap();
        symlink("link", at("second")).unwrap();
        symlink("f", at("g")).unwrap();
        symlink("new/one", at("dangling")).unwrap();
        std::fs::hard_link(at("f/x.csv"), at("hard")).unwrap();
        for output in ["f/x.csv", "f/../f/x.csv", "link", "second", "g/x.csv", "hard"] {
            for (output, other) in [(output, "r"), ("r", output)] {
                let error = check(folder.path(), "f/x.csv", output, other).unwrap_err();
                assert!(matches!(error, OutputError::IsInput { .. }), "{output}: {error}");
            }
        }
        std::fs::write(at("f/not-read"), "").unwrap();
        check(folder.path(), "f", "f/not-read", "r").unwrap();
        let inside = check(folder.path(), "f", "link", "r").unwrap_err();
        assert!(matches!(inside, OutputError::IsInput { .. }), "a file of an input folder: {inside}");
        for (output, second) in
            [("a", "a"), ("new/one", "dangling"), ("f/new", "g/new"), ("a/b/c", "./a/b/c")]
        {
            let error = check(folder.path(), "f/x.csv", output, second).unwrap_err();
            assert!(matches!(error, OutputError::Twice { .. }), "{output}: {error}");
        }
        let error = check(folder.path(), "f/x.csv", "g", "r").unwrap_err();
        assert!(matches!(error, OutputError::Folder { .. }), "{error}");
        check(folder.path(), "f/x.csv", "a", "b").unwrap();
    }

    /// A local folder stands for a bucket.
    #[tokio::test]
    async fn only_an_object_of_the_same_kind_is_replaced_without_force() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = store::Place::folder(folder.path()).unwrap();
        let check = async |force, kind| {
            OutputGuard::new(force).object("--output", bucket.join("object"), kind).check_all().await
        };
        let kinds = [FileKind::Results, FileKind::Vectors, FileKind::ShardManifest];
        for kind in kinds {
            check(false, kind).await.unwrap();
        }
        for (content, accepting) in [
            (&b""[..], &kinds[..]),
            (b"id,title,overview\n", &[]),
            (b"PAR1 damaged PAR1", &[FileKind::Results, FileKind::Vectors]),
            (b"{\n  \"format\": \"movieclassifier.shard/1\"", &[FileKind::ShardManifest]),
        ] {
            std::fs::write(folder.path().join("object"), content).unwrap();
            for kind in kinds {
                let outcome = check(false, kind).await;
                assert_eq!(outcome.is_ok(), accepting.contains(&kind), "{kind:?}: {outcome:?}");
                check(true, kind).await.unwrap();
            }
        }
        let path = folder.path().join("object");
        let schema = std::sync::Arc::new(arrow_schema::Schema::empty());
        let table = table_file::TableWriter::create(&path, schema, |properties| properties).unwrap();
        table.finish([("format", "movieclassifier.vectors/9".to_owned())]).unwrap();
        check(false, FileKind::Vectors).await.unwrap();
        let error = check(false, FileKind::Results).await.unwrap_err().to_string();
        assert!(error.contains("expected no file, or a table of results, found another file"), "{error}");
    }

    #[test]
    fn only_a_file_of_the_same_kind_is_replaced_without_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let contents = [
            (FileKind::Model, &b"\x40\0\0\0\0\0\0\0{\"__metadata__\""[..]),
            (FileKind::IngestReport, b"{\n  \"input\": \"x.csv\""),
            (FileKind::LossCurves, b"{\"format\":\"movieclassifier.fit/1\""),
            (FileKind::Report, b"# Genre model: metrics\n"),
            (FileKind::Plot, b"<svg width"),
            (FileKind::Journal, b"{\"format\":\"movieclassifier.search/1\""),
            (FileKind::Movies, b"PAR1 damaged"),
        ];
        let check = |force, kind| OutputGuard::new(force).output("--output", &path, kind).check();
        for (kind, _) in contents {
            check(false, kind).unwrap();
        }
        for (kind, content) in contents {
            std::fs::write(&path, content).unwrap();
            check(false, kind).unwrap();
        }
        std::fs::write(&path, "id,title,overview\n").unwrap();
        for (kind, _) in contents {
            let error = check(false, kind).unwrap_err();
            assert!(error.to_string().contains("--force replaces it"), "{error}");
            check(true, kind).unwrap();
        }
    }
}
