//! Formats that are not read, by their first bytes, with what to do about them.

use zip::ZipArchive;

/// Returns what the input is and the command that makes a table of it, or `None` if it may be a
/// table.
pub(crate) fn advice(head: &[u8], name: &str) -> Option<String> {
    let file = shell_word(name);
    let starts = |magic: &[u8]| head.starts_with(magic);
    let unpack = |what: &str, command: &str| Some(format!("found {what}; unpack it first: {command} {file}"));
    let convert = |encoding: &str| Some(format!("found {encoding}; {}", iconv(encoding, name)));
    match head {
        _ if starts(b"BZh") => unpack("a bzip2 file", "bunzip2 -k"),
        _ if starts(b"\xfd7zXZ\0") => unpack("an xz file", "unxz -k"),
        _ if starts(b"\x28\xb5\x2f\xfd") => unpack("a zstd file", "unzstd"),
        _ if starts(b"7z\xbc\xaf\x27\x1c") => unpack("a 7z archive", "7z x"),
        _ if head.get(257..262) == Some(b"ustar") => unpack("a tar archive", "tar -xf"),
        _ if starts(b"PAR1") => Some(format!(
            "found a Parquet file; give a table of `trainer prepare` by --movies, and export any other as CSV: \
             python3 -c \"import pandas; pandas.read_parquet({name:?}).to_csv('movies.csv', index=False)\""
        )),
        _ if starts(b"\xff\xfe\0\0") => convert("UTF-32LE"),
        _ if starts(b"\0\0\xfe\xff") => convert("UTF-32BE"),
        _ if starts(b"\xff\xfe") => convert("UTF-16LE"),
        _ if starts(b"\xfe\xff") => convert("UTF-16BE"),
        [0, second, 0, fourth, ..] if *second != 0 && *fourth != 0 => convert("UTF-16BE"),
        [first, 0, third, 0, ..] if *first != 0 && *third != 0 => convert("UTF-16LE"),
        _ if starts(b"\xd0\xcf\x11\xe0") => {
            Some("found an Excel workbook; save it as CSV UTF-8 first".to_owned())
        }
        _ if starts(b"SQLite format 3\0") => Some(format!(
            "found an SQLite database; export the table first: sqlite3 -csv -header {file} 'SELECT …'"
        )),
        _ if is_markup(head) => Some("found HTML or XML, expected a CSV or JSON table".to_owned()),
        _ if head.contains(&0) => {
            Some("found bytes that are not text, expected a CSV or JSON table".to_owned())
        }
        _ => None,
    }
}

/// Returns what a zip archive without a table is, if it is known.
pub(crate) fn of_archive<R: std::io::Read + std::io::Seek>(archive: &ZipArchive<R>) -> Option<&'static str> {
    let has = |name: &str| archive.index_for_name(name).is_some();
    if has("xl/workbook.xml") {
        return Some("found an Excel workbook; save it as CSV UTF-8 first");
    }
    has("content.xml").then_some("found an OpenDocument file; save it as CSV with UTF-8 first")
}

/// Names the encoding of a field that is not UTF-8, and the command that converts the table.
pub(crate) fn encoding_advice(field: &[u8], name: &str) -> String {
    let position = field.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
    let byte = field.get(position).copied().unwrap_or_default();
    // Latin-1 has no letters below 0xA0; Windows-1252 adds quotes and dashes there.
    let windows = field.iter().any(|byte| (0x80..0xa0).contains(byte));
    let (spoken, encoding) =
        if windows { ("Windows-1252", "WINDOWS-1252") } else { ("latin-1", "ISO-8859-1") };
    format!("expected UTF-8, found byte 0x{byte:02X}; if the table is in {spoken}, {}", iconv(encoding, name))
}

fn iconv(encoding: &str, name: &str) -> String {
    let file = shell_word(name);
    format!("convert it first: iconv -f {encoding} -t UTF-8 {file} > utf8.csv")
}

fn is_markup(head: &[u8]) -> bool {
    let start = head.trim_ascii_start();
    let starts =
        |tag: &str| start.get(..tag.len()).is_some_and(|found| found.eq_ignore_ascii_case(tag.as_bytes()));
    starts("<!doctype") || starts("<html") || starts("<?xml")
}

/// Quotes a file name for a shell where that is necessary.
fn shell_word(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    if !name.is_empty() && name.chars().all(is_plain) {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_format_and_command() {
        let tar = [&[b'a'; 257][..], b"ustar\x0000"].concat();
        for (head, expected) in [
            (&b"BZh91AY"[..], "bunzip2 -k"),
            (&tar, "tar -xf"),
            (b"PAR1\x15", "Parquet"),
            (b"\xff\xfei\0d\0", "iconv -f UTF-16LE"),
            (b"i\0d\0,\0", "iconv -f UTF-16LE"),
            (b"\0i\0d", "iconv -f UTF-16BE"),
            (b" <!DOCTYPE html>", "HTML"),
            (b"\x7fELF\0\0", "not text"),
        ] {
            let message = advice(head, "my movies.csv").unwrap();
            assert!(message.contains(expected), "{message}");
        }
        assert!(advice(b"BZh9", "my movies").unwrap().ends_with("'my movies'"));
        for head in [&b""[..], b"id,title\n", b"Caf\xe9", b"{\"id\": 1}"] {
            assert_eq!(advice(head, "x"), None);
        }
        assert!(encoding_advice(b"Caf\xe9", "x").contains("found byte 0xE9; if the table is in latin-1"));
        assert!(encoding_advice(b"\x93quoted\x94", "x").contains("iconv -f WINDOWS-1252"));
    }
}
