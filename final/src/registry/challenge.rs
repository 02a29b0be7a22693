//! `WWW-Authenticate`: how a registry says what it wants to see (RFC 9110, section 11.6.1).
//!
//! ```text
//! Bearer realm="https://auth.example/token",service="registry.example", Basic realm="x, y"
//! ```

use std::iter::Peekable;
use std::str::Chars;

/// One way to be let in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case, as `bearer`.
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter's value, its name given in lower case.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads the value of one header. A comma separates parameters and challenges alike; what comes
/// after it is a parameter where an equals sign follows the first word. Reading ends where the text
/// makes no sense, with what was understood.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header.chars().peekable();
    loop {
        while rest
            .next_if(|&char| char == ',' || is_blank(char))
            .is_some()
        {}
        let word = token(&mut rest);
        if word.is_empty() {
            return challenges;
        }
        skip_blanks(&mut rest);
        if rest.next_if_eq(&'=').is_none() {
            challenges.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                parameters: Vec::new(),
            });
            continue;
        }
        skip_blanks(&mut rest);
        let value = match rest.next_if_eq(&'"') {
            Some(_) => quoted(&mut rest),
            None => token(&mut rest),
        };
        let Some(challenge) = challenges.last_mut() else {
            return challenges;
        };
        let name = word.to_ascii_lowercase();
        challenge.parameters.push((name, value));
    }
}

/// A word (RFC 9110, section 5.6.2), and what is found without quotes in spite of the rule: `/` and
/// `:` of a URL.
fn token(rest: &mut Peekable<Chars>) -> String {
    let is_part =
        |&char: &char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:?@".contains(char);
    std::iter::from_fn(|| rest.next_if(is_part)).collect()
}

/// The rest of a text in quotes; a backslash takes what follows it literally.
fn quoted(rest: &mut Peekable<Chars>) -> String {
    let mut value = String::new();
    while let Some(char) = rest.next() {
        match char {
            '"' => break,
            '\\' => value.extend(rest.next()),
            char => value.push(char),
        }
    }
    value
}

fn skip_blanks(rest: &mut Peekable<Chars>) {
    while rest.next_if(|&char| is_blank(char)).is_some() {}
}

fn is_blank(char: char) -> bool {
    char == ' ' || char == '\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> Challenge {
        let own = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        Challenge {
            scheme: scheme.to_owned(),
            parameters: parameters.iter().map(own).collect(),
        }
    }

    #[test]
    fn challenges_and_their_parameters_are_told_apart() {
        let realm = ("realm", "https://auth.example/token");
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="a b",scope="r:x:pull,push""#,
                vec![challenge(
                    "bearer",
                    &[realm, ("service", "a b"), ("scope", "r:x:pull,push")],
                )],
            ),
            (
                r#"BASIC Realm = "a \"b\", c" , bearer realm=https://auth.example/token"#,
                vec![
                    challenge("basic", &[("realm", r#"a "b", c"#)]),
                    challenge("bearer", &[realm]),
                ],
            ),
            (
                r#"Negotiate, Basic realm="x""#,
                vec![
                    challenge("negotiate", &[]),
                    challenge("basic", &[("realm", "x")]),
                ],
            ),
            (
                r#"Basic realm="not closed"#,
                vec![challenge("basic", &[("realm", "not closed")])],
            ),
            (r#"Basic "#, vec![challenge("basic", &[])]),
            (r#"realm="nobody's""#, vec![]),
            (", ,", vec![]),
            ("\u{0}", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    #[test]
    fn what_follows_nonsense_is_not_read() {
        let read = parse(r#"Basic realm="x" ] Bearer realm="y""#);
        assert_eq!(read, [challenge("basic", &[("realm", "x")])]);
    }
}
