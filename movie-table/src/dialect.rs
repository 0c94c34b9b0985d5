//! Detects what the options leave open: delimiter and quoting of a delimited table.

use crate::options::{Format, Quoting, TableOptions};
use crate::quotes::Grammar;

/// Delimiters that are detected. The first wins a tie.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// How a delimited table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub(crate) grammar: Grammar,
    /// Bytes of the line `sep=;` before the header.
    pub(crate) preamble: usize,
}

/// Reads the dialect off the start of a table.
pub(crate) fn detect(head: &[u8], format: Format, options: &TableOptions) -> Dialect {
    let separator = separator_line(head);
    let preamble = separator.map_or(0, |(_, length)| length);
    let head = &head[preamble..];
    let given = options.delimiter.map(|delimiter| delimiter.0).or(separator.map(|(delimiter, _)| delimiter));
    let tab = || (format == Format::Tsv).then_some(b'\t');
    let delimiter = given.or_else(tab).unwrap_or_else(|| delimiter_of(head, options));
    let backslash = match options.quoting {
        Some(quoting) => quoting == Quoting::Backslash,
        None => is_backslash(head, delimiter),
    };
    let rejects_backslash = options.quoting.is_none() && !backslash;
    Dialect { grammar: Grammar { delimiter, backslash, rejects_backslash }, preamble }
}

/// Returns the delimiter of a first line `sep=;`, which Excel reads and writes, and the length of
/// the line.
fn separator_line(head: &[u8]) -> Option<(u8, usize)> {
    let end = head.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
    let length = end + if head[end..].starts_with(b"\r\n") { 2 } else { 1 };
    let line = head[..end].to_ascii_lowercase();
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(&line);
    match line.strip_prefix(b"sep=") {
        Some([delimiter]) if delimiter.is_ascii() => Some((*delimiter, length)),
        _ => None,
    }
}

/// Returns the delimiter that splits the header into the most columns that are read, then into the
/// most fields.
fn delimiter_of(head: &[u8], options: &TableOptions) -> u8 {
    let score = |delimiter: &u8| {
        let header = header(head, *delimiter);
        (options.columns.found_in(&header), header.len())
    };
    // `max_by_key` prefers the last of equals.
    DELIMITERS.into_iter().rev().max_by_key(score).unwrap_or(b',')
}

fn header(head: &[u8], delimiter: u8) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(head);
    let fields =
        reader.byte_headers().map(|header| header.iter().map(String::from_utf8_lossy).collect::<Vec<_>>());
    fields.unwrap_or_default().into_iter().map(std::borrow::Cow::into_owned).collect()
}

/// Whether the first quote inside a quoted field is written after a backslash. A backslash at the
/// end of a field, such as in `"C:\"`, says nothing.
fn is_backslash(head: &[u8], delimiter: u8) -> bool {
    let (mut is_quoted, mut at, mut before) = (false, 0, b'\n');
    while let Some(&byte) = head.get(at) {
        let is_start = before == delimiter || matches!(before, b'\n' | b'\r');
        if byte == b'"' && (is_quoted || is_start) {
            let next = head.get(at + 1).copied();
            let is_field_end = next.is_none_or(|next| next == delimiter || matches!(next, b'\n' | b'\r'));
            match next {
                _ if !is_quoted => is_quoted = true,
                _ if before == b'\\' && !is_field_end && next != Some(b'"') => return true,
                Some(b'"') if before != b'\\' => return false,
                Some(b'"') => at += 1,
                _ => is_quoted = false,
            }
            before = b'"';
        } else {
            before = byte;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialect(head: &str) -> (char, bool, usize) {
        let found = detect(head.as_bytes(), Format::Csv, &TableOptions::default());
        (char::from(found.grammar.delimiter), found.grammar.backslash, found.preamble)
    }

    #[test]
    fn detects_the_delimiter_at_the_header() {
        for (head, expected) in [
            ("id,title,overview\n", (',', false, 0)),
            ("id;title;overview, long;x\n", (';', false, 0)),
            ("ID\tTitle, original\tOverview\n", ('\t', false, 0)),
            ("\"id\"|\"overview\"\n", ('|', false, 0)),
            ("overview\n", (',', false, 0)),
            ("sep=;\r\nid;title\r\n", (';', false, 7)),
            ("\"sep=|\"\nid\n", ('|', false, 8)),
            ("sep=\t\nid\n", ('\t', false, 6)),
            ("", (',', false, 0)),
        ] {
            assert_eq!(dialect(head), expected, "{head:?}");
        }
    }

    #[test]
    fn detects_quoting_at_the_first_quote_inside_a_field() {
        for (row, expected) in [
            (r#"1,"The \"Reef\"",x"#, true),
            (r#"1,"\"Reef\" is",x"#, true),
            (r#"1,"Reef is \"",x"#, false),
            (r#"1,"The ""Reef\""",x"#, false),
            (r#"1,"C:\",x"#, false),
            (r#"1,say \"no\",x"#, false),
            (r#"1,"","x \"y\" z""#, true),
        ] {
            assert_eq!(dialect(&format!("id,title,overview\n{row}\n")).1, expected, "{row}");
        }
    }
}
