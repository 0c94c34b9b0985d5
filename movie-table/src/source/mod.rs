//! Opens a source and unpacks it: a file, plain or compressed, a folder, or standard input.

pub(crate) mod foreign;
mod zip_entry;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::columns::is_table_name;
use crate::error::{TableError, invalid_data};

use self::zip_entry::KAGGLE_NAME;

/// Where a table comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file, or a folder with one table.
    Path(PathBuf),
    /// Standard input, which can be read once.
    Stdin,
    /// A copy of standard input, or of an object in a store, in an unnamed temporary file, which can be
    /// read more than once. The system removes the file however the process ends.
    Spooled {
        /// The copy.
        file: Arc<File>,
        /// The name for messages, whose ending may tell the format.
        name: String,
    },
}

/// How much of a source has been read.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    read: Arc<AtomicU64>,
    /// The bytes of the source, before unpacking; `None` if unknown.
    pub total: Option<u64>,
}

impl Progress {
    /// Bytes read so far, before unpacking.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

/// An open source: its bytes, unpacked and limited.
pub(crate) struct Opened {
    /// The name for messages.
    pub(crate) name: String,
    /// The name of the table, whose ending may tell its format: that of the file, or of the entry
    /// in an archive.
    pub(crate) table: String,
    pub(crate) bytes: Box<dyn Read + Send>,
    pub(crate) progress: Progress,
}

impl Source {
    /// The source that `path` names; `-` is standard input.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        if path == Path::new("-") { Self::Stdin } else { Self::Path(path.to_owned()) }
    }

    /// Copies standard input or a pipe to a temporary file, so the source can be read more than once.
    /// Fails if it is longer than `max_bytes`.
    pub fn spooled(self, max_bytes: u64) -> Result<Self, TableError> {
        let name = self.name();
        let is_pipe =
            |path: &Path| std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
        let spool = match &self {
            Self::Stdin => spool(Limited::new(io::stdin().lock(), max_bytes)),
            Self::Path(path) if is_pipe(path) => {
                File::open(path).and_then(|pipe| spool(Limited::new(pipe, max_bytes)))
            }
            Self::Path(_) | Self::Spooled { .. } => return Ok(self),
        };
        match spool {
            Ok(file) => Ok(Self::Spooled { file: Arc::new(file), name }),
            Err(error) => Err(TableError::reading(&name, error)),
        }
    }

    /// The name for messages: the path, or `standard input`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Stdin => "standard input".to_owned(),
            Self::Spooled { name, .. } => name.clone(),
        }
    }

    /// Opens the source. Its first bytes, not its name, decide whether it is gzipped or zipped.
    pub(crate) fn open(&self, max_bytes: u64) -> Result<Opened, TableError> {
        let mut name = self.name();
        let read = Arc::new(AtomicU64::new(0));
        let (total, unpacked) = match self {
            Self::Path(path) => {
                let path = table_at(path).map_err(|error| TableError::reading(&name, error))?;
                name = path.display().to_string();
                let io = |source| TableError::Io { name: name.clone(), source };
                let file = File::open(&path).map_err(io)?;
                let metadata = file.metadata().map_err(io)?;
                // A pipe has no length and cannot be rewound.
                let total = metadata.is_file().then_some(metadata.len());
                let unpacked = if metadata.is_file() {
                    unpack_file(Counted::new(file, &read))
                } else {
                    unpack_stream(Counted::new(file, &read), max_bytes)
                };
                (total, unpacked)
            }
            Self::Stdin => (None, unpack_stream(Counted::new(io::stdin(), &read), max_bytes)),
            Self::Spooled { file, .. } => {
                let total = file.metadata().ok().map(|metadata| metadata.len());
                (total, unpack_file(Counted::new(SharedFile { file: file.clone(), position: 0 }, &read)))
            }
        };
        let (table, bytes) = unpacked.map_err(|error| TableError::reading(&name, error))?;
        let bytes = Box::new(Limited::new(bytes, max_bytes));
        let table = table.unwrap_or_else(|| name.clone());
        Ok(Opened { name, table, bytes, progress: Progress { read, total } })
    }
}

/// Returns the file itself, or the table in a folder: Kaggle's, or the only one.
fn table_at(path: &Path) -> io::Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let kaggle = ["", ".gz", ".zip"].map(|ending| path.join(format!("{KAGGLE_NAME}{ending}")));
    if let Some(path) = kaggle.into_iter().find(|path| path.is_file()) {
        return Ok(path);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_table_name(&name) && path.join(&name).is_file() {
            names.push(name);
        }
    }
    names.sort();
    match &names[..] {
        [name] => Ok(path.join(name)),
        [] => Err(invalid_data(format!("expected {KAGGLE_NAME} or one table in the folder, found none"))),
        [first, second, ..] => Err(invalid_data(format!(
            "expected {KAGGLE_NAME} or one table in the folder, found {} such as {first} and {second}",
            names.len()
        ))),
    }
}

/// The name of a table inside an archive, and the bytes.
type Unpacked = (Option<String>, Box<dyn Read + Send>);

fn unpack_file<R: Read + Seek + Send + 'static>(mut file: R) -> io::Result<Unpacked> {
    let start = start_of(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    if is_zip(&start) {
        let (name, bytes) = zip_entry::open(file)?;
        return Ok((Some(name), bytes));
    }
    Ok((None, gunzipped(&start, file)))
}

/// As [`unpack_file`], for input that cannot be rewound. A zip archive has its directory at the
/// end, so it is copied to a temporary file first.
fn unpack_stream<R: Read + Send + 'static>(mut input: R, max_bytes: u64) -> io::Result<Unpacked> {
    let start = start_of(&mut input)?;
    let input = io::Cursor::new(start.clone()).chain(input);
    if is_zip(&start) {
        return unpack_file(spool(Limited::new(input, max_bytes))?);
    }
    Ok((None, gunzipped(&start, input)))
}

fn is_zip(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06")
}

fn gunzipped<R: Read + Send + 'static>(start: &[u8], input: R) -> Box<dyn Read + Send> {
    if start.starts_with(&[0x1f, 0x8b]) {
        return Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(64 << 10, input)));
    }
    Box::new(input)
}

fn start_of(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(4);
    input.take(4).read_to_end(&mut start)?;
    Ok(start)
}

fn spool(mut input: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut input, &mut file)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// A position of its own in a shared file.
struct SharedFile {
    file: Arc<File>,
    position: u64,
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (self.position, offset),
            SeekFrom::End(offset) => (self.file.metadata()?.len(), offset),
        };
        self.position = base
            .checked_add_signed(offset)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the start"))?;
        Ok(self.position)
    }
}

/// Counts the bytes that are read.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    fn new(inner: R, read: &Arc<AtomicU64>) -> Self {
        Self { inner, read: read.clone() }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Fails once more than `max` bytes were read, so a small file cannot unpack without end.
struct Limited<R> {
    inner: R,
    max: u64,
    left: u64,
}

impl<R: Read> Limited<R> {
    fn new(inner: R, max: u64) -> Self {
        Self { inner, max, left: max }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let max = self.max;
            invalid_data(format!(
                "expected at most {max} bytes of input after unpacking, found more; --max-input-bytes raises the limit"
            ))
        })?;
        Ok(read)
    }
}
