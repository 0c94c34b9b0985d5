//! The table inside a zip archive, unpacked while it is read. Nothing is written to disk.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::Crc;
use flate2::read::DeflateDecoder;
use zip::{CompressionMethod, ZipArchive};

use crate::columns::is_table_name;
use crate::error::invalid_data;

use super::foreign;

/// The file of movies in Kaggle's data set.
pub(crate) const KAGGLE_NAME: &str = "movies_metadata.csv";
/// The most names that an error lists.
const MAX_NAMES: usize = 20;

/// Opens the one table in the archive, or Kaggle's. Also returns its name.
///
/// `zip` finds the entry. Its own reader borrows the archive, so the bytes are inflated here.
pub(crate) fn open<R: Read + Seek + Send + 'static>(
    mut file: R,
) -> io::Result<(String, Box<dyn Read + Send>)> {
    let mut archive =
        ZipArchive::new(&mut file).map_err(|error| invalid_data(format!("not a zip archive: {error}")))?;
    let index = table_in(&archive)?;
    let entry = archive.by_index_raw(index).map_err(|error| invalid_data(error.to_string()))?;
    let name = entry.name().map_err(|error| invalid_data(error.to_string()))?.into_owned();
    let wrong =
        |found: &str| invalid_data(format!("{name}: expected a file that can be unpacked, found {found}"));
    if entry.encrypted() {
        return Err(wrong("an encrypted one"));
    }
    let (method, packed, crc32) = (entry.compression(), entry.compressed_size(), entry.crc32());
    let start = entry.data_start().ok_or_else(|| wrong("no data"))?;
    drop(entry);
    drop(archive);
    file.seek(SeekFrom::Start(start))?;
    let bytes = io::BufReader::new(file.take(packed));
    let unpacked: Box<dyn Read + Send> = match method {
        CompressionMethod::Stored => Box::new(bytes),
        CompressionMethod::Deflated => Box::new(DeflateDecoder::new(bytes)),
        other => return Err(wrong(&format!("compression {other}"))),
    };
    Ok((name.clone(), Box::new(Checked { inner: unpacked, crc: Crc::new(), expected: crc32, name })))
}

fn table_in<R: Read + Seek>(archive: &ZipArchive<R>) -> io::Result<usize> {
    let (mut tables, mut names) = (Vec::new(), Vec::new());
    for (index, name) in archive.file_names().enumerate() {
        let name = name.map_err(|error| invalid_data(error.to_string()))?.into_owned();
        let base = Path::new(&name).file_name().map(|base| base.to_string_lossy().into_owned());
        let is_hidden =
            name.starts_with("__MACOSX") || base.as_ref().is_some_and(|base| base.starts_with('.'));
        if let Some(base) = base.filter(|base| !is_hidden && is_table_name(base)) {
            tables.push((index, base));
        }
        names.push(name);
    }
    let of_kind = |ending: &str| {
        let mut found = tables.iter().filter(|(_, base)| base.to_lowercase().ends_with(ending));
        found.next().filter(|_| found.next().is_none())
    };
    let kaggle = tables.iter().find(|(_, base)| base == KAGGLE_NAME);
    if let Some((index, _)) =
        kaggle.or_else(|| (tables.len() == 1).then(|| &tables[0])).or_else(|| of_kind(".csv"))
    {
        return Ok(*index);
    }
    if let Some(advice) = foreign::of_archive(archive) {
        return Err(invalid_data(advice));
    }
    let more = if names.len() > MAX_NAMES { ", …" } else { "" };
    names.truncate(MAX_NAMES);
    let found = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Err(invalid_data(format!(
        "expected {KAGGLE_NAME} or one table, such as a .csv file, in the archive, found {found}{more}"
    )))
}

/// Checks the checksum at the end.
struct Checked {
    inner: Box<dyn Read + Send>,
    crc: Crc,
    expected: u32,
    name: String,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.crc.update(&buffer[..read]);
        if read == 0 && !buffer.is_empty() && self.crc.sum() != self.expected {
            return Err(invalid_data(format!(
                "{}: expected an undamaged file, found another checksum",
                self.name
            )));
        }
        Ok(read)
    }
}
