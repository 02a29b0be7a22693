//! `--filter`: which things a command is about.

use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use regex_lite::Regex;

use crate::options::boolean;

/// One `--filter NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Filter> {
        let Some((name, value)) = text.split_once('=') else {
            bail!("bad format of filter (expected name=value)");
        };
        Ok(Filter {
            name: name.trim().to_ascii_lowercase(),
            value: value.trim().to_owned(),
        })
    }
}

impl Filter {
    /// # Errors
    /// It is called otherwise than what a command knows.
    pub(crate) fn is_one_of(&self, known: &[&str]) -> Result<()> {
        ensure!(
            known.contains(&self.name.as_str()),
            "invalid filter '{}'; there are: {}",
            self.name,
            known.join(", ")
        );
        Ok(())
    }

    /// # Errors
    /// The value is neither true nor false.
    pub(crate) fn is_true(&self) -> Result<bool> {
        boolean(&self.value).with_context(|| format!("invalid filter '{}'", self.name))
    }
}

/// A text, or a regular expression that is somewhere in one.
pub(crate) struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Pattern {
        Pattern {
            text: text.to_owned(),
            // What is none matches what is the same, as with docker.
            regex: Regex::new(text).ok(),
        }
    }

    pub(crate) fn is_in(&self, text: &str) -> bool {
        let matches = |regex: &Regex| regex.is_match(text);
        self.text == text || self.regex.as_ref().is_some_and(matches)
    }
}

/// Whether filters let a thing through: of those of one name one has to hold, of labels all.
///
/// # Errors
/// What `is_so` fails with.
pub(crate) fn admit(filters: &[Filter], is_so: impl Fn(&Filter) -> Result<bool>) -> Result<bool> {
    for filter in filters {
        let alike = filters.iter().filter(|other| match filter.name.as_str() {
            "label" => *other == filter,
            name => other.name == name,
        });
        let mut holds = false;
        for one in alike {
            holds = holds || is_so(one)?;
        }
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `name` is as the pattern says: `*` is any characters but a slash, `?` one of them,
/// `[a-z]` and `[^a-z]` one of these or none of these, and a backslash takes the next character's
/// meaning away (Go's path.Match).
///
/// # Errors
/// The pattern is none.
pub(crate) fn matches(pattern: &str, name: &str) -> Result<bool> {
    let pattern: Vec<Piece> = pieces(pattern).context("syntax error in pattern")?;
    let name: Vec<char> = name.chars().collect();
    // Which beginnings of the pattern match what was read of the name: each takes a step with each
    // character, so that no pattern takes longer than its length times the name's.
    let mut reached = vec![false; pattern.len() + 1];
    reached[0] = true;
    skip_stars(&pattern, &mut reached);
    for char in name {
        let mut next = vec![false; pattern.len() + 1];
        for (n, piece) in pattern.iter().enumerate() {
            if reached[n] && piece.takes(char) {
                let stays = matches!(piece, Piece::Star);
                next[if stays { n } else { n + 1 }] = true;
            }
        }
        skip_stars(&pattern, &mut next);
        reached = next;
    }
    Ok(reached.last() == Some(&true))
}

enum Piece {
    Star,
    Any,
    One(char),
    Class {
        not: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Piece {
    fn takes(&self, char: char) -> bool {
        match self {
            Piece::Star | Piece::Any => char != '/',
            Piece::One(only) => *only == char,
            Piece::Class { not, ranges } => {
                let within = |(from, to): &(char, char)| (*from..=*to).contains(&char);
                ranges.iter().any(within) != *not
            }
        }
    }
}

/// A star may as well stand for nothing.
fn skip_stars(pattern: &[Piece], reached: &mut [bool]) {
    for (n, piece) in pattern.iter().enumerate() {
        if reached[n] && matches!(piece, Piece::Star) {
            reached[n + 1] = true;
        }
    }
}

/// `None` where it is no pattern.
fn pieces(pattern: &str) -> Option<Vec<Piece>> {
    let mut chars = pattern.chars();
    let mut pieces = Vec::new();
    while let Some(char) = chars.next() {
        pieces.push(match char {
            '*' => Piece::Star,
            '?' => Piece::Any,
            '\\' => Piece::One(chars.next()?),
            '[' => {
                let mut rest = chars.as_str();
                let not = rest.starts_with('^');
                rest = rest.strip_prefix('^').unwrap_or(rest);
                let mut ranges = Vec::new();
                while ranges.is_empty() || !rest.starts_with(']') {
                    let (from, behind) = of_class(rest)?;
                    let (to, behind) = match behind.strip_prefix('-') {
                        Some(behind) => of_class(behind)?,
                        None => (from, behind),
                    };
                    ranges.push((from, to));
                    rest = behind;
                }
                chars = rest.get(1..)?.chars();
                Piece::Class { not, ranges }
            }
            other => Piece::One(other),
        });
    }
    Some(pieces)
}

/// One character of a class, and what is behind it.
fn of_class(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    let char = match chars.next()? {
        '\\' => chars.next()?,
        '-' | ']' => return None,
        other => other,
    };
    Some((char, chars.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_name_and_a_value() {
        let filter: Filter = " Label = a=b ".parse().unwrap();
        assert_eq!(
            (filter.name.as_str(), filter.value.as_str()),
            ("label", "a=b")
        );
        assert!(filter.is_one_of(&["dangling"]).is_err());
        assert!(filter.is_one_of(&["dangling", "label"]).is_ok());
        assert!(filter.is_true().is_err());
        assert!("dangling".parse::<Filter>().is_err());
        assert!(!"dangling=0".parse::<Filter>().unwrap().is_true().unwrap());
    }

    #[test]
    fn a_pattern_is_somewhere_in_a_text() {
        for (pattern, text, expected) in [
            ("web", "my-web-1", true),
            ("^web", "my-web-1", false),
            ("^/web$", "/web", true),
            ("w.b", "web", true),
            ("(", "(", true),
            ("(", "a(", false),
        ] {
            assert_eq!(Pattern::new(pattern).is_in(text), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_matches_as_in_go() {
        for (pattern, name, expected) in [
            ("", "", true),
            ("alpine", "alpine", true),
            ("alpine", "alpine:3", false),
            ("alp*", "alpine:3.20", true),
            ("*", "team/app", false),
            ("*/*", "team/app", true),
            ("*:v?", "app:v1", true),
            ("*:v?", "app:v12", false),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXcb", false),
            ("[a-cx]?[^0-9]", "b1c", true),
            ("[a-cx]?[^0-9]", "d1c", false),
            ("[^a]", "a", false),
            ("[^a]", "/", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"[\]]", "]", true),
            ("é*", "éa", true),
        ] {
            assert_eq!(
                matches(pattern, name).unwrap(),
                expected,
                "{pattern} {name}"
            );
        }
        for pattern in ["[", "[]", "[a", "[a-", "[-a]", "[^]", "\\", "[a-]"] {
            assert!(matches(pattern, "a").is_err(), "{pattern}");
        }
        // With a backtracking matcher this would take longer than a test may.
        assert!(!matches(&("a*".repeat(50) + "c"), &"a".repeat(200)).unwrap());
    }
}
