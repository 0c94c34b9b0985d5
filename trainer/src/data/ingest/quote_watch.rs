//! Detects a quote that is never closed and a row that never ends.
//!
//! A CSV reader then takes the rest of the file for one field or row: movies are lost silently, or
//! memory runs out. The csv crate neither limits a field nor reports an open quote at the end of
//! the file, so this wrapper follows the same grammar (RFC 4180, as lenient as the csv crate)
//! beside it.

use std::io::{self, Read};

/// The longest quoted field. Overviews and company lists have a few kilobytes.
const MAX_QUOTED_BYTES: usize = 1 << 20;
/// The longest row. A small compressed file can hold a row of gigabytes.
const MAX_ROW_BYTES: usize = 8 << 20;
/// May precede the first field and does not belong to it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote in a quoted field: the end of the field, or the first half of an escaped
    /// quote.
    QuoteInQuoted,
}

#[derive(Debug)]
pub(crate) struct QuoteWatch<R> {
    inner: R,
    state: State,
    line: u64,
    opened_at: u64,
    quoted_bytes: usize,
    row_bytes: usize,
    /// Bytes of the byte order mark that were seen, or its length once anything else was seen.
    mark: usize,
}

impl<R> QuoteWatch<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            state: State::FieldStart,
            line: 1,
            opened_at: 0,
            quoted_bytes: 0,
            row_bytes: 0,
            mark: 0,
        }
    }

    /// Returns the line of the quote that is still open.
    pub(crate) fn open_quote(&self) -> Option<u64> {
        (self.state == State::Quoted).then_some(self.opened_at)
    }

    fn follow(&mut self, bytes: &[u8]) -> io::Result<()> {
        for &byte in bytes {
            self.row_bytes += 1;
            if BYTE_ORDER_MARK.get(self.mark) == Some(&byte) {
                self.mark += 1;
                continue;
            }
            self.mark = BYTE_ORDER_MARK.len();
            self.state = match (self.state, byte) {
                (State::FieldStart, b'"') => {
                    self.opened_at = self.line;
                    self.quoted_bytes = 0;
                    State::Quoted
                }
                (State::QuoteInQuoted, b'"') => State::Quoted,
                (State::Quoted, b'"') => State::QuoteInQuoted,
                (State::Quoted, _) => {
                    self.quoted_bytes += 1;
                    State::Quoted
                }
                (_, b'\n' | b'\r') => {
                    self.row_bytes = 0;
                    State::FieldStart
                }
                (_, b',') => State::FieldStart,
                _ => State::Unquoted,
            };
            self.line += u64::from(byte == b'\n');
        }
        if self.state == State::Quoted && self.quoted_bytes > MAX_QUOTED_BYTES {
            let reason =
                format!("line {}: expected the closing quote within 1 MiB, found none", self.opened_at);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        if self.row_bytes > MAX_ROW_BYTES {
            let reason = format!("line {}: expected the end of the row within 8 MiB, found none", self.line);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(())
    }
}

impl<R: Read> Read for QuoteWatch<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.follow(&buffer[..length])?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_quote(text: &str) -> Option<u64> {
        let mut watch = QuoteWatch::new(text.as_bytes());
        io::copy(&mut watch, &mut io::sink()).unwrap();
        watch.open_quote()
    }

    #[test]
    fn closed_escaped_and_unquoted_quotes_are_not_open() {
        for text in ["a,b\n", "\"a\nb\",c", "\"say \"\"no\"\"\"\n", "5\" tape,b\n", "\"\",\"\"", "\"a\"b,c"] {
            assert_eq!(open_quote(text), None, "{text}");
        }
    }

    #[test]
    fn reports_the_line_of_an_open_quote() {
        assert_eq!(open_quote("id\n1,\"closed\"\n2,\"open\n3,x\n"), Some(3));
    }

    #[test]
    fn sees_a_quote_after_a_byte_order_mark() {
        assert_eq!(open_quote("\u{feff}\"id\n\",title\n1,a\n"), None);
        assert_eq!(open_quote("\u{feff}\"id,title\n1,a\n"), Some(1));
        assert_eq!(open_quote("id\n\u{feff}\"no quote\n"), None);
    }

    #[test]
    fn rejects_an_endless_row_before_the_end_of_the_file() {
        let text = format!("id,title\n1,{}", "x,".repeat(5 << 20));
        let error = io::copy(&mut QuoteWatch::new(text.as_bytes()), &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("line 2: expected the end of the row"), "{error}");
    }

    #[test]
    fn rejects_an_endless_quoted_field_before_the_end_of_the_file() {
        let text = format!("id\n\"{}", "x".repeat(3 << 20));
        let error = io::copy(&mut QuoteWatch::new(text.as_bytes()), &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
