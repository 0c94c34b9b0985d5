//! A Parquet file whose page headers are checked before pages are decompressed.
//!
//! A page header states the decompressed length, and the parquet crate allocates that much, up to 2
//! GiB, before it reads the first byte. This reader rejects a header that states more than the
//! compressed bytes can hold. It relies on the offset index, with which the crate reads a page and
//! its header in one call; all files that we write have one.
//!
//! The parquet crate has no limit for the size of a page, so there is no setting to use instead.

use std::fs::File;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// The largest page, decompressed. The largest that we write has a few MiB.
const MAX_PAGE_BYTES: u64 = 64 << 20;
/// The highest compression ratio of Snappy: its densest element encodes 64 bytes in 3.
const SNAPPY_EXPANSION: u64 = 22;

/// Serves pages only; metadata is read from the file itself.
pub(crate) struct CheckedPages(pub(crate) File);

impl Length for CheckedPages {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for CheckedPages {
    type T = <File as ChunkReader>::T;

    /// Called only for files without an offset index.
    fn get_read(&self, _start: u64) -> Result<Self::T> {
        Err(ParquetError::General("expected an offset index, found none".to_owned()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.len();
        if start.checked_add(length as u64).is_none_or(|end| end > bytes) {
            return Err(ParquetError::General(format!(
                "expected a page within the {bytes} bytes of the file, found one beyond them"
            )));
        }
        let page = self.0.get_bytes(start, length)?;
        check_header(&page)?;
        Ok(page)
    }
}

/// Checks the stated decompressed length against the bytes of the page.
fn check_header(page: &[u8]) -> Result<()> {
    let [_type, unpacked, _packed] = first_integers(page)
        .ok_or_else(|| ParquetError::General("expected a page header, found none".to_owned()))?;
    let most = (page.len() as u64 * SNAPPY_EXPANSION).min(MAX_PAGE_BYTES);
    if unpacked > most {
        return Err(ParquetError::General(format!(
            "expected a page of at most {most} bytes decompressed, found a header that states {unpacked}"
        )));
    }
    Ok(())
}

/// Reads the first three fields of a page header, which every kind of page has: type, decompressed
/// length, compressed length. In Thrift's compact protocol each is one byte (the next field, of
/// type i32) and a zigzag varint. Returns `None` for anything else.
fn first_integers(header: &[u8]) -> Option<[u64; 3]> {
    const NEXT_FIELD_IS_I32: u8 = 0x15;
    let mut bytes = header.iter().copied();
    let mut integer = || {
        (bytes.next()? == NEXT_FIELD_IS_I32).then_some(())?;
        let mut zigzag = 0_u64;
        // The varint of an i32 has at most five bytes.
        for shift in (0..35).step_by(7) {
            let byte = bytes.next()?;
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // None of the three can be negative, so the zigzag value is even.
                return zigzag.is_multiple_of(2).then_some(zigzag / 2);
            }
        }
        None
    };
    Some([integer()?, integer()?, integer()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_integers_as_thrift_writes_them() {
        // Type 0, 300 bytes decompressed, 8 compressed.
        let header = [0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x10, 0x2c];
        assert_eq!(first_integers(&header), Some([0, 300, 8]));
        assert_eq!(first_integers(&header[..6]), None, "cut");
        assert_eq!(first_integers(&[0x15, 0x01]), None, "negative");
        assert_eq!(first_integers(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None, "longer than any i32");
        assert_eq!(first_integers(&[0x25, 0x00]), None, "another field");
    }

    #[test]
    fn rejects_a_header_that_states_more_than_the_page_can_hold() {
        let page = |says: [u8; 5]| [&[0x15, 0x00, 0x15][..], &says, &[0x15, 0x10], &[0; 100]].concat();
        // 4, and 2^31 - 2, in five bytes each.
        assert!(check_header(&page([0x88, 0x80, 0x80, 0x80, 0x00])).is_ok());
        let message = check_header(&page([0xfc, 0xff, 0xff, 0xff, 0x0f])).unwrap_err().to_string();
        assert!(message.contains("at most 2420 bytes") && message.contains("2147483646"), "{message}");
    }
}
