//! A Parquet file whose pages are looked at before they are unpacked.
//!
//! A page says how long it is unpacked, and the parquet crate makes room for so much, up to 2 GiB, before it has seen the first
//! byte. Here a page that says more than its packed bytes can hold is refused. The crate reads a page with its header in one
//! piece where the file has an offset index, which ours have.

use std::fs::File;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Snappy's densest element is 3 bytes that stand for 64.
const SNAPPY_EXPANSION: u64 = 22;

/// Only pages are read from it; metadata are read from the file itself.
pub(crate) struct CheckedPages(pub(crate) File);

impl Length for CheckedPages {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for CheckedPages {
    type T = <File as ChunkReader>::T;

    /// How pages are read without an offset index.
    fn get_read(&self, _start: u64) -> Result<Self::T> {
        Err(ParquetError::General("expected an offset index, found none".to_owned()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.len();
        if start.checked_add(length as u64).is_none_or(|end| end > bytes) {
            return Err(ParquetError::General(format!(
                "expected a page within {bytes} bytes, found one beyond"
            )));
        }
        let page = self.0.get_bytes(start, length)?;
        check_header(&page)?;
        Ok(page)
    }
}

/// What a page says of its length against what there is of it.
fn check_header(page: &[u8]) -> Result<()> {
    let [_type, unpacked, _packed] = first_integers(page)
        .ok_or_else(|| ParquetError::General("expected a page's header, found none".to_owned()))?;
    let most = page.len() as u64 * SNAPPY_EXPANSION;
    if unpacked > most {
        return Err(ParquetError::General(format!(
            "expected a page of at most {most} bytes unpacked, found one that says {unpacked}"
        )));
    }
    Ok(())
}

/// The first three fields of a page's header, which are the same for all pages: type, length unpacked, length packed. In Thrift's
/// compact protocol each is a byte (one field on, of type i32) and a zigzag varint. `None` where it is anything else.
fn first_integers(header: &[u8]) -> Option<[u64; 3]> {
    const NEXT_FIELD_IS_I32: u8 = 0x15;
    let mut bytes = header.iter().copied();
    let mut integer = || {
        (bytes.next()? == NEXT_FIELD_IS_I32).then_some(())?;
        let mut zigzag = 0_u64;
        // An i32 takes five bytes at most.
        for shift in (0..35).step_by(7) {
            let byte = bytes.next()?;
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                // None of the three is negative, and so each is even.
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
    fn integers_are_read_as_thrift_writes_them() {
        // Type 0, 300 unpacked, 8 packed.
        let header = [0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x10, 0x2c];
        assert_eq!(first_integers(&header), Some([0, 300, 8]));
        assert_eq!(first_integers(&header[..6]), None, "cut");
        assert_eq!(first_integers(&[0x15, 0x01]), None, "negative");
        assert_eq!(first_integers(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None, "longer than any i32");
        assert_eq!(first_integers(&[0x25, 0x00]), None, "another field");
    }

    #[test]
    fn a_page_that_says_more_than_it_can_hold_is_refused() {
        let page = |says: [u8; 5]| [&[0x15, 0x00, 0x15][..], &says, &[0x15, 0x10], &[0; 100]].concat();
        // 4, and 2^31 - 2, in five bytes each.
        assert!(check_header(&page([0x88, 0x80, 0x80, 0x80, 0x00])).is_ok());
        let message = check_header(&page([0xfc, 0xff, 0xff, 0xff, 0x0f])).unwrap_err().to_string();
        assert!(message.contains("at most 2420 bytes") && message.contains("2147483646"), "{message}");
    }
}
