//! The footer of a Parquet file in an object store. Only the footer is requested.

use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::data::table_file::unless_it_panics;
use crate::store::{Place, StoreError};

/// The first and last bytes of a Parquet file.
pub(crate) const PARQUET_MAGIC: &[u8] = b"PAR1";
/// Bytes of an object that are requested first.
const TAIL: u64 = 64 << 10;
/// Bytes of the longest footer that is requested.
const LONGEST_FOOTER: usize = 256 << 20;

/// The footer of an object, if it has one.
pub(crate) enum Footer {
    /// The object is no Parquet file.
    None,
    /// The object ends like a Parquet file, but its footer cannot be parsed, for this reason.
    Damaged(String),
    /// A footer.
    Whole(Box<ParquetMetaData>),
}

/// Reads the footer of an object of `size` bytes.
pub(crate) async fn footer(place: &Place, size: u64) -> Result<Footer, StoreError> {
    let mut tail = place.tail(size, TAIL).await?;
    if !tail.ends_with(PARQUET_MAGIC) {
        return Ok(Footer::None);
    }
    loop {
        let mut reader = ParquetMetaDataReader::new();
        let parsed = unless_it_panics(|| match reader.try_parse_sized(&tail, size) {
            Ok(()) => reader.finish().map(Ok),
            Err(ParquetError::NeedMoreData(needed)) => Ok(Err(needed)),
            Err(error) => Err(error),
        });
        match parsed {
            Ok(Ok(metadata)) => return Ok(Footer::Whole(Box::new(metadata))),
            Ok(Err(needed)) if needed > tail.len() && needed <= LONGEST_FOOTER => {
                tail = place.tail(size, needed as u64).await?;
            }
            Ok(Err(needed)) => {
                let expected = format!("expected a footer of at most {LONGEST_FOOTER} bytes");
                return Ok(Footer::Damaged(format!("{expected}, found one of {needed}")));
            }
            Err(error) => return Ok(Footer::Damaged(format!("expected a whole Parquet file: {error}"))),
        }
    }
}
