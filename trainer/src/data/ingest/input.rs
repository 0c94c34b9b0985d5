//! Opens a data set: a file, plain or compressed, a folder, or standard input.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use zip::ZipArchive;

/// The file of movies in Kaggle's data set.
const KAGGLE_NAME: &str = "movies_metadata.csv";

/// The bytes of a table of movies.
pub(crate) struct Input(Box<dyn Read + Send>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Input")
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Opens a CSV file or the folder of Kaggle's data set. The first bytes of a file, not its name,
/// decide whether it is plain, gzipped or a zip archive.
pub(crate) fn open(path: &Path) -> io::Result<Input> {
    if path.is_dir() {
        return open_file(&in_folder(path)?);
    }
    open_file(path)
}

fn open_file(path: &Path) -> io::Result<Input> {
    let mut file = File::open(path)?;
    let mut magic = [0; 4];
    let mut length = 0;
    while length < magic.len() {
        match file.read(&mut magic[length..])? {
            0 => break,
            read => length += read,
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(Input(match magic {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(io::BufReader::new(file))),
        [b'P', b'K', 3, 4] => Box::new(unpack(file)?),
        _ => Box::new(file),
    }))
}

fn in_folder(folder: &Path) -> io::Result<PathBuf> {
    let names = [KAGGLE_NAME.to_owned(), format!("{KAGGLE_NAME}.gz"), format!("{KAGGLE_NAME}.zip")];
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| invalid(format!("expected {KAGGLE_NAME} in the folder, found none")))
}

/// Extracts the table of an archive to an unnamed temporary file, since an entry borrows its
/// archive.
fn unpack(file: File) -> io::Result<File> {
    let mut archive =
        ZipArchive::new(file).map_err(|error| invalid(format!("not a zip archive: {error}")))?;
    let names: Vec<String> = archive.file_names().filter_map(Result::ok).map(Cow::into_owned).collect();
    let base = |name: &str| Path::new(name).file_name().map(|name| name.to_string_lossy().into_owned());
    let is_csv = |name: &&String| name.to_lowercase().ends_with(".csv") && !name.starts_with("__MACOSX");
    let tables: Vec<&String> = names.iter().filter(is_csv).collect();
    let kaggle = tables.iter().find(|name| base(name).as_deref() == Some(KAGGLE_NAME));
    let name = match (kaggle, &tables[..]) {
        (Some(name), _) | (None, [name]) => *name,
        _ => {
            let found = names.join(", ");
            return Err(invalid(format!(
                "expected {KAGGLE_NAME} or one .csv file in the archive, found {found}"
            )));
        }
    };
    let mut entry = archive.by_name(name).map_err(|error| invalid(format!("{name}: {error}")))?;
    let mut unpacked = tempfile::tempfile()?;
    io::copy(&mut entry, &mut unpacked)?;
    unpacked.seek(SeekFrom::Start(0))?;
    Ok(unpacked)
}

/// Copies standard input to a temporary file, since movies are read more than once.
pub fn spool(mut input: impl Read) -> io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    io::copy(&mut input, file.as_file_mut())?;
    Ok(file)
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    const TABLE: &str = "id,title\n1,A\n";

    fn read(path: &Path) -> io::Result<String> {
        let mut text = String::new();
        open(path)?.read_to_string(&mut text).map(|_| text)
    }

    fn zip(path: &Path, names: &[&str]) {
        let mut writer = ZipWriter::new(File::create(path).unwrap());
        for name in names {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(if name.contains("ratings") { b"other" } else { TABLE.as_bytes() }).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn reads_a_table_plain_gzipped_zipped_and_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), TABLE).unwrap();
        let mut gzip = GzEncoder::new(File::create(at("gzipped")).unwrap(), Compression::fast());
        gzip.write_all(TABLE.as_bytes()).unwrap();
        gzip.finish().unwrap();
        zip(&at("archive"), &["ratings.csv", "data/movies_metadata.csv"]);
        zip(&at("single"), &["README", "movies.CSV"]);
        std::fs::create_dir(at("unpacked")).unwrap();
        std::fs::rename(at("gzipped"), at("unpacked/movies_metadata.csv.gz")).unwrap();
        for name in ["plain", "archive", "single", "unpacked", "unpacked/movies_metadata.csv.gz"] {
            assert_eq!(read(&at(name)).unwrap(), TABLE, "{name}");
        }
    }

    #[test]
    fn rejects_input_without_a_table_and_names_what_it_found() {
        let folder = tempfile::tempdir().unwrap();
        let message = read(folder.path()).unwrap_err().to_string();
        assert!(message.contains("expected movies_metadata.csv in the folder"), "{message}");
        let path = folder.path().join("archive.zip");
        zip(&path, &["a.csv", "b.csv"]);
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("one .csv file in the archive, found"), "{message}");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("not a zip archive"));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(TABLE.repeat(999).as_bytes()).unwrap();
        let bytes = gzip.finish().unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(read(&path).is_err());
    }
}
