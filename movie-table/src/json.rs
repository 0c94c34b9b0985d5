//! The rows of JSON Lines and of a JSON array of objects.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read};

use memchr::memchr2;
use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::columns::{Column, ColumnNames};
use crate::error::{ProblemKind, RowProblem, TableError, invalid_data, shown};
use crate::genres::GenresField;
use crate::quotes::MAX_ROW_BYTES;
use crate::row::Row;
use crate::source::foreign;

pub(crate) struct Json {
    name: String,
    names: ColumnNames,
    input: Input,
    is_array: bool,
    /// Whether the array has ended, or its first element is still to come.
    place: Place,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Start,
    Inside,
    End,
}

/// The bytes, and where they are.
struct Input {
    bytes: BufReader<Box<dyn Read + Send>>,
    line: u64,
    is_after_return: bool,
}

impl Json {
    pub(crate) fn new(name: &str, bytes: Box<dyn Read + Send>, is_array: bool, names: &ColumnNames) -> Self {
        let bytes = BufReader::with_capacity(64 << 10, bytes);
        let input = Input { bytes, line: 1, is_after_return: false };
        let (name, names) = (name.to_owned(), names.clone());
        Self { name, names, input, is_array, place: Place::Start, buffer: Vec::new() }
    }

    pub(crate) fn next_row(&mut self) -> Result<Option<Result<Row, RowProblem>>, TableError> {
        let found = if self.is_array { self.element() } else { self.input.text_line(&mut self.buffer) };
        let Some(line) = found.map_err(|error| TableError::reading(&self.name, error))? else {
            return Ok(None);
        };
        Ok(Some(self.row(line)))
    }

    fn row(&self, line: u64) -> Result<Row, RowProblem> {
        let problem = |kind, reason| RowProblem { line, kind, reason };
        let text = std::str::from_utf8(&self.buffer)
            .map_err(|_| problem(ProblemKind::NotUtf8, foreign::encoding_advice(&self.buffer, &self.name)))?;
        let mut parser = serde_json::Deserializer::from_str(text);
        let row = parser.deserialize_any(RowVisitor(&self.names)).and_then(|row| parser.end().map(|()| row));
        let row = row.map_err(|error| {
            let message = error.to_string();
            let what = message.split(" at line ").next().unwrap_or_default();
            problem(
                ProblemKind::Malformed,
                format!("expected one JSON object, found at column {}: {}", error.column(), shown(what)),
            )
        })?;
        Row { line, ..row }.checked()
    }

    /// Copies the next element of the array to the buffer and returns its line.
    fn element(&mut self) -> io::Result<Option<u64>> {
        let Self { input, place, buffer, .. } = self;
        buffer.clear();
        let unexpected = |input: &Input, expected: &str, found: Option<u8>| {
            let found =
                found.map_or("the end of the input".to_owned(), |byte| format!("{:?}", char::from(byte)));
            invalid_data(format!("line {}: expected {expected} of the JSON array, found {found}", input.line))
        };
        let mut byte = input.after_blanks()?;
        let is_after_comma = (*place, byte) == (Place::Inside, Some(b','));
        match (*place, byte) {
            (Place::End, None) => return Ok(None),
            (Place::End, Some(_)) => {
                return Err(invalid_data(format!(
                    "line {}: expected nothing after the JSON array",
                    input.line
                )));
            }
            (Place::Start, Some(b'[')) | (Place::Inside, Some(b',')) => byte = input.after_blanks()?,
            (Place::Inside, Some(b']')) => {}
            (Place::Start, found) => return Err(unexpected(input, "the start", found)),
            (Place::Inside, found) => return Err(unexpected(input, "a comma or the end", found)),
        }
        let line = input.line;
        if byte == Some(b']') && is_after_comma {
            return Err(unexpected(input, "a row", byte));
        }
        if byte == Some(b']') {
            *place = Place::End;
            return if input.after_blanks()?.is_none() {
                Ok(None)
            } else {
                Err(invalid_data(format!("line {}: expected nothing after the JSON array", input.line)))
            };
        }
        *place = Place::Inside;
        let (mut depth, mut is_text) = (0_usize, false);
        let mut next = byte;
        loop {
            let Some(byte) = next else { return Err(unexpected(input, "the end", None)) };
            buffer.push(byte);
            if buffer.len() > MAX_ROW_BYTES {
                return Err(invalid_data(format!(
                    "line {line}: expected the end of the row within 8 MiB, found none"
                )));
            }
            match byte {
                b'\\' if is_text => {
                    if let Some(escaped) = input.next()? {
                        buffer.push(escaped);
                    }
                }
                b'"' => is_text = !is_text,
                b'[' | b'{' if !is_text => depth += 1,
                b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0
                && !is_text
                && matches!(input.peek()?, None | Some(b',' | b']' | b' ' | b'\n' | b'\r' | b'\t'))
            {
                return Ok(Some(line));
            }
            next = input.next()?;
        }
    }
}

impl Input {
    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.bytes.fill_buf()?.first().copied())
    }

    fn next(&mut self) -> io::Result<Option<u8>> {
        let byte = self.peek()?;
        if let Some(byte) = byte {
            self.bytes.consume(1);
            self.count(byte);
        }
        Ok(byte)
    }

    /// Counts a line feed, a carriage return, or both together as the end of one line.
    fn count(&mut self, byte: u8) {
        self.line += u64::from(byte == b'\r' || byte == b'\n' && !self.is_after_return);
        self.is_after_return = byte == b'\r';
    }

    fn after_blanks(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.next()? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                byte => return Ok(byte),
            }
        }
    }

    /// Copies the next line that is not blank to `buffer`, and returns its number.
    fn text_line(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<u64>> {
        loop {
            buffer.clear();
            let end = self.read_line(buffer)?;
            let line = self.line;
            if let Some(end) = end {
                self.count(end);
            }
            if !buffer.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
            if end.is_none() {
                return Ok(None);
            }
        }
    }

    /// Appends the bytes up to a line feed or a carriage return, and returns that.
    fn read_line(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<u8>> {
        loop {
            let bytes = self.bytes.fill_buf()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let end = memchr2(b'\n', b'\r', bytes);
            let length = end.unwrap_or(bytes.len());
            buffer.extend_from_slice(&bytes[..length]);
            let found = end.map(|end| bytes[end]);
            self.bytes.consume(length + usize::from(end.is_some()));
            if length > 0 {
                self.is_after_return = false;
            }
            if buffer.len() > MAX_ROW_BYTES {
                let line = self.line;
                return Err(invalid_data(format!(
                    "line {line}: expected the end of the line within 8 MiB, found none"
                )));
            }
            if found.is_some() {
                return Ok(found);
            }
        }
    }
}

/// Collects the keys that are read and skips the others.
struct RowVisitor<'a>(&'a ColumnNames);

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Row, A::Error> {
        // Of each column whether it was found, and whether by its exact name.
        let (mut row, mut seen) = (Row::default(), [None; Column::ALL.len()]);
        while let Some(key) = fields.next_key::<std::borrow::Cow<'_, str>>()? {
            let Some(column) = self.0.of_key(&key) else {
                fields.next_value::<IgnoredAny>()?;
                continue;
            };
            let is_exact = key.trim() == self.0.name(column).trim();
            match seen[column as usize] {
                // As in a header, an exact name goes before one in another case.
                Some(true) if !is_exact => {
                    fields.next_value::<IgnoredAny>()?;
                    continue;
                }
                Some(before) if before == is_exact => {
                    return Err(A::Error::custom(format!("expected the key {key:?} once, found it twice")));
                }
                _ => seen[column as usize] = Some(is_exact),
            }
            let value: Value = fields.next_value()?;
            let text = |value| match value {
                Value::Null => Ok(None),
                Value::String(text) => Ok(Some(text)),
                Value::Number(_) | Value::Bool(_) => Ok(Some(value.to_string())),
                Value::Array(_) | Value::Object(_) => {
                    Err(A::Error::custom(format!("expected a text or a number as {key:?}, found {value}")))
                }
            };
            match column {
                Column::Id => row.id = text(value)?,
                Column::Title => row.title = text(value)?,
                Column::Overview => row.overview = text(value)?,
                Column::Language => row.language = text(value)?,
                Column::Genres => row.genres = (!value.is_null()).then_some(GenresField::Json(value)),
            }
        }
        Ok(row)
    }
}
