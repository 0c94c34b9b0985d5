//! Translation of RE2's regular expressions to the syntax of the `regex` crate.
//!
//! Both find the leftmost-first match in linear time, but their syntax differs. In RE2, `\s`, `\d`,
//! `\w` and `\b` are ASCII, `\s` excludes the vertical tab, classes have no set operations, and a
//! brace that is not a repetition is a literal. The translation reads RE2's grammar
//! (<https://github.com/google/re2/wiki/Syntax>) and writes each part so that `regex` can read it
//! in one way only. Bindings to the original would add a C++ library to the build.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use regex::{Captures, Regex};

const DIGITS: &str = "0-9";
const BLANKS: &str = r"\t\n\f\r\x20";
const WORDS: &str = "0-9A-Za-z_";

/// Why a pattern or its rewrite is rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum Re2Error {
    /// The pattern uses syntax that this translation, or RE2 itself, does not support.
    #[error("pattern {pattern:?}: expected supported RE2 syntax, found {found:?}")]
    Unknown { pattern: String, found: String },
    /// The `regex` crate rejects the translated pattern.
    #[error("pattern {pattern:?}: {source}")]
    Pattern { pattern: String, source: Box<regex::Error> },
    /// The rewrite names a group that the pattern does not have.
    #[error(
        "rewrite {rewrite:?}: expected \\0 to \\{groups} or \\\\ after a backslash, as pattern {pattern:?} has \
         {groups} groups"
    )]
    Rewrite { pattern: String, rewrite: String, groups: usize },
}

/// A pattern and the rewrite of its matches.
#[derive(Debug, Clone)]
pub(super) struct Replacement {
    regex: Regex,
    parts: Vec<Part>,
    all: bool,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Group(usize),
}

impl Replacement {
    /// Creates a replacement of all matches or only the first. `rewrite` has RE2's form, with `\1`
    /// for a group.
    pub(super) fn new(pattern: &str, rewrite: &str, all: bool) -> Result<Self, Re2Error> {
        let regex = Regex::new(&translate(pattern)?)
            .map_err(|source| Re2Error::Pattern { pattern: pattern.to_owned(), source: Box::new(source) })?;
        let groups = regex.captures_len() - 1;
        let parts = parse_rewrite(rewrite, groups).ok_or_else(|| Re2Error::Rewrite {
            pattern: pattern.to_owned(),
            rewrite: rewrite.to_owned(),
            groups,
        })?;
        Ok(Self { regex, parts, all })
    }

    /// Returns `text` with its matches replaced.
    pub(super) fn apply(&self, text: &str) -> String {
        let limit = usize::from(!self.all);
        let replaced = self.regex.replacen(text, limit, |groups: &Captures<'_>| {
            self.parts.iter().fold(String::new(), |whole, part| match part {
                Part::Text(text) => whole + text,
                Part::Group(number) => whole + groups.get(*number).map_or("", |found| found.as_str()),
            })
        });
        replaced.into_owned()
    }
}

fn parse_rewrite(rewrite: &str, groups: usize) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut characters = rewrite.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next()? {
            '\\' => text.push('\\'),
            digit => {
                let group =
                    digit.to_digit(10).map(|group| group as usize).filter(|&group| group <= groups)?;
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Group(group));
            }
        }
    }
    parts.push(Part::Text(text));
    parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
    Some(parts)
}

/// Translates a pattern to the syntax of `regex`.
fn translate(pattern: &str) -> Result<String, Re2Error> {
    let mut translator = Translator { rest: pattern.chars().peekable(), out: String::new() };
    translator
        .run()
        .map(|()| translator.out)
        .map_err(|found| Re2Error::Unknown { pattern: pattern.to_owned(), found })
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
}

/// The meaning of an escape sequence.
enum Escape {
    Character(char),
    /// The inside of a class, and whether the class is negated.
    Class(&'static str, bool),
    /// A Unicode property, which has the same syntax in both.
    Property(String),
    /// An assertion.
    Assertion(&'static str),
    /// Literal characters, from `\Q` to `\E`.
    Quoted(String),
}

/// Whether a character has the same meaning in both, as syntax or as a literal.
fn is_syntax(character: char) -> bool {
    match character {
        '(' | ')' | '|' | '*' | '+' | '?' | '.' | '^' | '$' | '{'
        // These belong to a repetition after an opening brace.
        | '}' | ','
        // These are names and flags at the start of a group, and literals elsewhere.
        | '_' | ':' | '<' | '>' | '-' | '=' | '!' | '#' | ' ' => true,
        other => other.is_ascii_alphanumeric(),
    }
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(character) = self.rest.next() {
            match character {
                '\\' => match self.escape()? {
                    Escape::Character(character) => self.literal(character),
                    Escape::Class(inside, false) => self.write(format_args!("[{inside}]")),
                    Escape::Class(inside, true) => self.write(format_args!("[^{inside}]")),
                    Escape::Property(property) => self.out.push_str(&property),
                    Escape::Assertion(assertion) => self.out.push_str(assertion),
                    Escape::Quoted(text) => text.chars().for_each(|character| self.literal(character)),
                },
                '[' => self.class()?,
                '{' if !self.is_repetition() => self.literal('{'),
                other if is_syntax(other) => self.out.push(other),
                other => self.literal(other),
            }
        }
        Ok(())
    }

    fn write(&mut self, pattern: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(pattern);
    }

    fn literal(&mut self, character: char) {
        self.write(format_args!("\\x{{{:x}}}", u32::from(character)));
    }

    /// Whether the `{` that was just read begins `{2}`, `{2,}` or `{2,3}`.
    fn is_repetition(&self) -> bool {
        let inside: String = self.rest.clone().take_while(|&character| character != '}').collect();
        let closed = self.rest.clone().any(|character| character == '}');
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        closed
            && match inside.split_once(',') {
                None => number(&inside),
                Some((least, most)) => number(least) && (most.is_empty() || number(most)),
            }
    }

    /// After a backslash.
    fn escape(&mut self) -> Result<Escape, String> {
        let character = self.rest.next().ok_or("\\")?;
        Ok(match character {
            'd' => Escape::Class(DIGITS, false),
            'D' => Escape::Class(DIGITS, true),
            's' => Escape::Class(BLANKS, false),
            'S' => Escape::Class(BLANKS, true),
            'w' => Escape::Class(WORDS, false),
            'W' => Escape::Class(WORDS, true),
            'a' => Escape::Character('\x07'),
            'f' => Escape::Character('\x0c'),
            'n' => Escape::Character('\n'),
            'r' => Escape::Character('\r'),
            't' => Escape::Character('\t'),
            'v' => Escape::Character('\x0b'),
            'b' => Escape::Assertion(r"(?-u:\b)"),
            'A' => Escape::Assertion(r"\A"),
            'z' => Escape::Assertion(r"\z"),
            'p' | 'P' => Escape::Property(self.property(character)?),
            'x' => Escape::Character(self.hexadecimal()?),
            'Q' => Escape::Quoted(self.quoted()),
            _ if character.is_ascii() && !character.is_ascii_alphanumeric() => Escape::Character(character),
            // These include `\C` (a byte) and `\B`, which can match inside a character.
            _ => return Err(format!("\\{character}")),
        })
    }

    fn property(&mut self, letter: char) -> Result<String, String> {
        let name = self.rest.next().ok_or(format!("\\{letter}"))?;
        let mut property = format!("\\{letter}{name}");
        if name == '{' {
            loop {
                let character = self.rest.next().ok_or_else(|| property.clone())?;
                property.push(character);
                if character == '}' {
                    break;
                }
            }
        }
        Ok(property)
    }

    fn hexadecimal(&mut self) -> Result<char, String> {
        let digits: String = if self.rest.next_if_eq(&'{').is_some() {
            self.rest.by_ref().take_while(|&character| character != '}').collect()
        } else {
            self.rest.by_ref().take(2).collect()
        };
        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
        code.ok_or_else(|| format!("\\x{digits}"))
    }

    fn quoted(&mut self) -> String {
        let mut text = String::new();
        while let Some(character) = self.rest.next() {
            if character == '\\' && self.rest.next_if_eq(&'E').is_some() {
                break;
            }
            text.push(character);
        }
        text
    }

    /// Translates a class, after its `[`.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let character = self.rest.next().ok_or("[ without ]")?;
            match character {
                ']' if !first => break,
                '[' if self.rest.peek() == Some(&':') => self.named_class()?,
                '\\' => match self.escape()? {
                    Escape::Character(character) => self.range(character)?,
                    Escape::Class(inside, false) => self.out.push_str(inside),
                    Escape::Class(inside, true) => self.write(format_args!("[^{inside}]")),
                    Escape::Property(property) => self.out.push_str(&property),
                    Escape::Assertion(assertion) => return Err(format!("{assertion} in a class")),
                    Escape::Quoted(_) => return Err("\\Q in a class".to_owned()),
                },
                character => self.range(character)?,
            }
            first = false;
        }
        self.out.push(']');
        Ok(())
    }

    /// Translates a named class such as `:punct:]`, which is ASCII in both.
    fn named_class(&mut self) -> Result<(), String> {
        let name: String = self.rest.by_ref().take_while(|&character| character != ']').collect();
        if name.len() < 3 || !name.ends_with(':') {
            return Err(format!("[{name}]"));
        }
        self.write(format_args!("[{name}]"));
        Ok(())
    }

    /// Translates a character of a class, or a range that begins with it.
    fn range(&mut self, first: char) -> Result<(), String> {
        self.literal(first);
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || matches!(ahead.next(), None | Some(']')) {
            return Ok(());
        }
        self.rest.next();
        let last = match self.rest.next().ok_or("[ without ]")? {
            '\\' => match self.escape()? {
                Escape::Character(character) => character,
                _ => return Err(format!("a range from {first:?} to a class")),
            },
            character => character,
        };
        self.out.push('-');
        self.literal(last);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(pattern: &str, rewrite: &str, text: &str) -> String {
        Replacement::new(pattern, rewrite, true).unwrap().apply(text)
    }

    #[test]
    fn blanks_digits_and_word_characters_are_ascii() {
        assert_eq!(replaced(r"\s", "_", "a b\u{a0}c\x0bd\te"), "a_b\u{a0}c\x0bd_e");
        assert_eq!(replaced(r"\S+", "x", " é\u{a0}\t"), " x\t");
        assert_eq!(replaced(r"\d", "_", "1٣"), "_٣");
        assert_eq!(replaced(r"\w+", "_", "héllo"), "_é_");
        assert_eq!(replaced(r"\bl", "_", "él l"), "é_ _");
        assert_eq!(replaced("[[:punct:]]", "_", "a!«$"), "a_«_");
    }

    #[test]
    fn classes_have_no_set_operations() {
        assert_eq!(replaced("[a&&b]", "_", "a&bc"), "___c");
        assert_eq!(replaced("[+--]", "_", "+,-."), "___.");
        assert_eq!(replaced("[a~~[]", "_", "a~[b"), "___b");
        assert_eq!(replaced(r"[^\S\n]", "_", "a \n\tb"), "a_\n_b");
        assert_eq!(replaced("[]a-]", "_", "]a-b"), "___b");
        assert_eq!(replaced(r"[\]\-\\]", "_", r"]-\"), "___");
    }

    #[test]
    fn a_brace_without_a_repetition_is_a_literal() {
        assert_eq!(replaced("a{2}", "_", "aaa"), "_a");
        assert_eq!(replaced("a{,2}", "_", "a{,2}"), "_");
        assert_eq!(replaced("{", "_", "{}"), "_}");
    }

    #[test]
    fn rewrites_refer_to_groups_by_number() {
        assert_eq!(replaced("(a)(x)?", r"<\1\2\0\\$1>", "ab"), r"<aa\$1>b");
        assert_eq!(replaced("x*", "-", "axb"), "-a-b-");
        assert_eq!(Replacement::new("a", "b", false).unwrap().apply("aa"), "ba");
    }

    #[test]
    fn names_unsupported_syntax() {
        for (pattern, found) in [(r"\C", r"\C"), (r"a\B", r"\B"), (r"\1", r"\1"), ("[a", "[ without ]")] {
            let message = Replacement::new(pattern, "", true).unwrap_err().to_string();
            assert!(message.contains(&format!("found {found:?}")), "{message}");
        }
        let message = Replacement::new("(a)", r"\2", true).unwrap_err().to_string();
        assert!(message.contains("has 1 groups"), "{message}");
        assert!(Replacement::new("(a", "", true).is_err());
    }
}
