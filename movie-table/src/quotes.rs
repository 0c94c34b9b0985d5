//! Detects a quote that is never closed, a row that never ends, and quotes written in another way.
//!
//! A CSV reader then takes the rest of the file, or several rows, for one field: movies are lost
//! silently, or memory runs out. The csv crate neither limits a field nor reports an open quote, so
//! this wrapper follows the same grammar (RFC 4180, as lenient as the csv crate) beside it. It also
//! finds the line of each row, since the csv crate counts line feeds only.

use std::collections::VecDeque;
use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memchr2, memchr3};

use crate::error::invalid_data;

/// The longest quoted field. Overviews and company lists have a few kilobytes.
const MAX_QUOTED_BYTES: usize = 1 << 20;
/// The longest row. A small compressed file can hold a row of gigabytes.
pub(crate) const MAX_ROW_BYTES: usize = 8 << 20;

/// How fields and quotes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grammar {
    pub(crate) delimiter: u8,
    /// A backslash in a quoted field makes the next byte a part of the text.
    pub(crate) backslash: bool,
    /// Whether a quote after a backslash is an error if it does not end its field.
    pub(crate) rejects_backslash: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a backslash in a quoted field.
    Escaped,
    /// After a quote in a quoted field: the end of the field, or the first half of an escaped
    /// quote.
    QuoteInQuoted,
}

pub(crate) struct QuoteWatch<R> {
    inner: R,
    grammar: Grammar,
    state: State,
    line: u64,
    offset: u64,
    previous: u8,
    /// The byte before the quote of `QuoteInQuoted`.
    before_quote: u8,
    opened_at: u64,
    quoted_bytes: usize,
    row_bytes: usize,
    is_row_start: bool,
    /// Offset and line of the rows that were read here and not taken yet.
    rows: VecDeque<(u64, u64)>,
    ended: bool,
}

impl<R> QuoteWatch<R> {
    pub(crate) fn new(inner: R, grammar: Grammar, line: u64) -> Self {
        Self {
            inner,
            grammar,
            state: State::FieldStart,
            line,
            offset: 0,
            previous: 0,
            before_quote: 0,
            opened_at: 0,
            quoted_bytes: 0,
            row_bytes: 0,
            is_row_start: true,
            rows: VecDeque::new(),
            ended: false,
        }
    }

    /// Returns the line of the quote that is still open at the end of the input.
    pub(crate) fn open_quote(&self) -> Option<u64> {
        (self.ended && matches!(self.state, State::Quoted | State::Escaped)).then_some(self.opened_at)
    }

    /// Returns the line of the first row at or after `offset`, and forgets the rows before it.
    pub(crate) fn line_at(&mut self, offset: u64) -> u64 {
        while self.rows.front().is_some_and(|(start, _)| *start < offset) {
            self.rows.pop_front();
        }
        self.rows.front().map_or(self.line, |(_, line)| *line)
    }

    fn follow(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let skipped = match self.state {
                State::Quoted if self.grammar.backslash => memchr2(b'"', b'\\', rest),
                State::Quoted => memchr(b'"', rest),
                State::Unquoted => memchr3(self.grammar.delimiter, b'\n', b'\r', rest),
                State::FieldStart | State::Escaped | State::QuoteInQuoted => Some(0),
            };
            let skipped = skipped.unwrap_or(rest.len());
            if skipped > 0 {
                self.skip(&rest[..skipped]);
            } else {
                self.step(rest[0])?;
            }
            at += skipped.max(1);
        }
        if self.state == State::Quoted && self.quoted_bytes > MAX_QUOTED_BYTES {
            let line = self.opened_at;
            return Err(invalid_data(format!(
                "line {line}: expected the closing quote within 1 MiB, found none"
            )));
        }
        if self.row_bytes > MAX_ROW_BYTES {
            let line = self.line;
            return Err(invalid_data(format!(
                "line {line}: expected the end of the row within 8 MiB, found none"
            )));
        }
        Ok(())
    }

    /// Takes bytes that do not change the state.
    fn skip(&mut self, bytes: &[u8]) {
        if self.state == State::Quoted {
            self.quoted_bytes += bytes.len();
            self.count_lines(bytes);
        }
        self.row_bytes += bytes.len();
        self.offset += bytes.len() as u64;
        self.previous = bytes[bytes.len() - 1];
    }

    /// Counts a line feed, a carriage return, or both together as the end of one line.
    fn count_lines(&mut self, bytes: &[u8]) {
        let mut ends = memchr_iter(b'\n', bytes).count();
        if self.previous == b'\r' && bytes[0] == b'\n' {
            ends -= 1;
        }
        let is_lone = |at: &usize| bytes.get(at + 1) != Some(&b'\n');
        ends += memchr_iter(b'\r', bytes).filter(is_lone).count();
        self.line += ends as u64;
    }

    fn step(&mut self, byte: u8) -> io::Result<()> {
        let is_end = matches!(byte, b'\n' | b'\r');
        if self.is_row_start && !is_end {
            self.rows.push_back((self.offset, self.line));
            self.is_row_start = false;
        }
        self.row_bytes += 1;
        self.state = match (self.state, byte) {
            (State::FieldStart, b'"') => {
                self.opened_at = self.line;
                self.quoted_bytes = 0;
                State::Quoted
            }
            (State::Quoted, b'"') => {
                self.before_quote = self.previous;
                State::QuoteInQuoted
            }
            (State::Quoted, _) => State::Escaped,
            (State::Escaped, _) => {
                self.quoted_bytes += 1;
                State::Quoted
            }
            (State::QuoteInQuoted, b'"') => State::Quoted,
            (_, b'\n' | b'\r') => {
                self.row_bytes = 0;
                self.is_row_start = true;
                State::FieldStart
            }
            (_, byte) if byte == self.grammar.delimiter => State::FieldStart,
            (State::QuoteInQuoted, _) => {
                self.check_text_after_quote()?;
                State::Unquoted
            }
            (State::FieldStart | State::Unquoted, _) => State::Unquoted,
        };
        if is_end {
            self.count_lines(&[byte]);
        }
        self.offset += 1;
        self.previous = byte;
        Ok(())
    }

    /// Text after a closing quote is kept, as in the csv crate, unless it shows that quotes mean
    /// something else.
    fn check_text_after_quote(&self) -> io::Result<()> {
        let Self { line, opened_at, .. } = self;
        if self.grammar.rejects_backslash && self.before_quote == b'\\' {
            return Err(invalid_data(format!(
                "line {line}: found \\\" inside a quoted field, expected \"\"; --quoting backslash reads it, \
                 --quoting double takes it for the end of the field"
            )));
        }
        if line != opened_at {
            return Err(invalid_data(format!(
                "line {opened_at}: expected a closing quote at the end of a field, found one in line {line} with \
                 text after it; a quote in between is probably not closed"
            )));
        }
        Ok(())
    }
}

impl<R: Read> Read for QuoteWatch<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.ended = length == 0 && !buffer.is_empty();
        self.follow(&buffer[..length])?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAMMAR: Grammar = Grammar { delimiter: b',', backslash: false, rejects_backslash: true };

    fn watch(text: &str, grammar: Grammar) -> io::Result<QuoteWatch<&[u8]>> {
        let mut watch = QuoteWatch::new(text.as_bytes(), grammar, 1);
        io::copy(&mut watch, &mut io::sink()).map(|_| watch)
    }

    fn open_quote(text: &str) -> Option<u64> {
        watch(text, GRAMMAR).unwrap().open_quote()
    }

    fn error(text: &str) -> String {
        watch(text, GRAMMAR).err().unwrap().to_string()
    }

    #[test]
    fn closed_escaped_and_unquoted_quotes_are_not_open() {
        for text in [
            "a,b\n",
            "\"a\nb\",c",
            "\"say \"\"no\"\"\"\n",
            "5\" tape,b\n",
            "\"\",\"\"",
            "\"a\"b,c",
            "\"C:\\\",x",
        ] {
            assert_eq!(open_quote(text), None, "{text}");
        }
        let backslash = Grammar { backslash: true, ..GRAMMAR };
        assert_eq!(watch("\"say \\\"no\\\"\",x\n", backslash).unwrap().open_quote(), None);
        assert_eq!(watch("\"C:\\\",x\n", backslash).unwrap().open_quote(), Some(1));
    }

    #[test]
    fn reports_the_line_of_an_open_quote() {
        for end in ["\n", "\r\n", "\r"] {
            let text = "id\n1,\"closed\"\n2,\"open\n3,x\n".replace('\n', end);
            assert_eq!(open_quote(&text), Some(3), "{text:?}");
        }
    }

    #[test]
    fn finds_the_lines_of_rows_for_every_line_end() {
        for end in ["\n", "\r\n", "\r"] {
            let text = "id,a\n\n1,\"x\ny\"\n2,z".replace('\n', end);
            let mut watch = watch(&text, GRAMMAR).unwrap();
            let starts = ["id", "1,", "2,"].map(|row| text.find(row).unwrap() as u64);
            assert_eq!(starts.map(|start| watch.line_at(start)), [1, 3, 5], "{text:?}");
        }
    }

    #[test]
    fn a_quote_that_closes_in_a_later_row_is_an_error() {
        let message = error("id,a\n1,\"open\n2,x\n3,\"Storm\"\n");
        assert!(
            message.starts_with("line 2: expected a closing quote") && message.contains("in line 4"),
            "{message}"
        );
        let message = error("id,a\n1,\"The \\\"Reef\\\"\"\n");
        assert!(message.contains("line 2: found \\\" inside a quoted field"), "{message}");
    }

    #[test]
    fn rejects_an_endless_row_and_an_endless_field_before_the_end_of_the_file() {
        let message = error(&format!("id,title\n1,{}", "x,".repeat(5 << 20)));
        assert!(message.contains("line 2: expected the end of the row"), "{message}");
        let message = error(&format!("id\n\"{}", "x".repeat(3 << 20)));
        assert!(message.contains("line 2"), "{message}");
    }
}
