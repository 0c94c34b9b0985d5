//! Ids of movies: whole numbers, in the forms that spreadsheets and data frames write them.

/// The field that is not a whole number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a whole number as the id, found {found}")]
pub struct InvalidId {
    found: String,
}

/// Reads `862`, ` 862 `, `862.0`, `8,844` and `8.62e2`. The largest id is `i64::MAX`, the range of
/// a column in a Parquet file.
pub fn movie_id(field: &str) -> Result<u64, InvalidId> {
    let text = field.trim();
    let digits = text.strip_prefix('+').unwrap_or(text);
    let id = whole_number(digits).or_else(|| grouped(digits)).or_else(|| exponential(digits));
    id.filter(|id| i64::try_from(*id).is_ok()).ok_or_else(|| InvalidId {
        found: if text.is_empty() { "none".to_owned() } else { crate::error::shown(field) },
    })
}

/// Digits, and after a point only zeros.
fn whole_number(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!whole.is_empty() && is_digits(whole) && fraction.bytes().all(|byte| byte == b'0'))
        .then(|| whole.parse().ok())?
}

/// Digits in groups of three, such as `1,234,567`.
fn grouped(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut groups = whole.split(',');
    let first = groups.next()?;
    if !(1..=3).contains(&first.len()) || !groups.all(|group| group.len() == 3) {
        return None;
    }
    whole_number(&format!("{}.{fraction}", whole.replace(',', "")))
}

fn exponential(text: &str) -> Option<u64> {
    // Above this, floats skip whole numbers.
    const EXACT: f64 = (1_u64 << 53) as f64;
    let is_one = text.contains(['e', 'E']) && text.starts_with(|first: char| first.is_ascii_digit());
    let value: f64 = text.parse().ok().filter(|_| is_one)?;
    (value.fract() == 0.0 && (0.0..EXACT).contains(&value)).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_whole_number() {
        for (field, id) in [
            ("862", 862),
            (" 862\t", 862),
            ("862.0", 862),
            ("862.", 862),
            ("8,844", 8844),
            ("1,234,567.00", 1_234_567),
            ("8.62e2", 862),
            ("1E+06", 1_000_000),
            ("+7", 7),
            ("007", 7),
            ("0", 0),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(movie_id(field), Ok(id), "{field}");
        }
    }

    #[test]
    fn names_a_value_that_is_no_whole_number() {
        for field in [
            "-1",
            "1.5",
            "8,84",
            ",844",
            "8844,",
            "1,2,3",
            "1e-3",
            "1e300",
            "inf",
            "nan",
            "tt0114709",
            "0x10",
            "١",
            "1997-08-20",
            "9223372036854775808",
            "18446744073709551616",
            "1 2",
            ".5",
            ".",
            "e3",
        ] {
            let message = movie_id(field).unwrap_err().to_string();
            assert!(message.ends_with(&format!("found {field:?}")), "{message}");
        }
        assert!(movie_id("  ").unwrap_err().to_string().ends_with("found none"));
    }
}
