//! A template's characters, taken together to words.

use anyhow::{Result, anyhow, bail};
use serde_json::Value;

/// One word, and where it stands.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Its first byte, and the one after its last, in the template.
    pub(super) at: usize,
    pub(super) end: usize,
    /// Whether a blank precedes it: `.A .B` are two values, and `.A.B` is one.
    pub(super) spaced: bool,
}

#[derive(Debug, PartialEq)]
pub(super) enum Kind {
    /// What stands outside of `{{ }}`.
    Text(String),
    Open,
    Close,
    /// A keyword or a function.
    Word(String),
    /// `.Name`
    Field(String),
    /// `$name`, and `$` with no name.
    Variable(String),
    Constant(Value),
    Dot,
    Pipe,
    LeftParen,
    RightParen,
    Declare,
    Assign,
    Comma,
}

/// Reads a whole template.
pub(super) fn lex(source: &str) -> Result<Vec<Token>> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Vec::new(),
    };
    lexer.template().map_err(|error| {
        let line = line(source, lexer.at);
        anyhow!("template: :{line}: {error}")
    })?;
    Ok(lexer.tokens)
}

/// The number of the line in which the byte `at` stands.
pub(super) fn line(source: &str, at: usize) -> usize {
    let before = source.bytes().take(at);
    1 + before.filter(|byte| *byte == b'\n').count()
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    tokens: Vec<Token>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.at..).unwrap_or_default()
    }

    /// Goes on behind `length` bytes, which were `kind`.
    fn take(&mut self, length: usize, kind: Kind, spaced: bool) {
        let at = self.at;
        self.at += length;
        self.tokens.push(Token {
            kind,
            at,
            end: self.at,
            spaced,
        });
    }

    fn template(&mut self) -> Result<()> {
        let mut trims = false;
        while !self.rest().is_empty() {
            let text = self.rest().split("{{").next().unwrap_or_default();
            let opens = text.len() < self.rest().len();
            let inside = self.rest().get(text.len() + 2..).unwrap_or_default();
            let trimmed = opens && starts_trimming(inside);
            let mut kept = text;
            if trims {
                kept = kept.trim_start();
            }
            if trimmed {
                kept = kept.trim_end();
            }
            self.take(text.len(), Kind::Text(kept.to_owned()), false);
            if opens {
                self.at += if trimmed { 3 } else { 2 };
                trims = self.action()?;
            }
        }
        Ok(())
    }

    /// What is inside of `{{ }}`; answers whether the text behind it is to be trimmed.
    fn action(&mut self) -> Result<bool> {
        let comment = self.rest().trim_start();
        if comment.starts_with("/*") {
            self.at += self.rest().len() - comment.len();
            return self.comment();
        }
        self.take(0, Kind::Open, false);
        loop {
            let blanks = self.rest().len() - self.rest().trim_start().len();
            self.at += blanks;
            let spaced = blanks > 0;
            if self.rest().starts_with("}}") {
                self.take(2, Kind::Close, spaced);
                return Ok(false);
            }
            if spaced && self.rest().starts_with("-}}") {
                self.take(3, Kind::Close, spaced);
                return Ok(true);
            }
            self.word(spaced)?;
        }
    }

    fn comment(&mut self) -> Result<bool> {
        let Some(length) = self.rest().find("*/") else {
            bail!("unclosed comment");
        };
        self.at += length + 2;
        let after = self.rest().trim_start();
        let trims = after.len() < self.rest().len() && after.starts_with("-}}");
        let closes = if trims { after } else { self.rest() };
        let closing = if trims { "-}}" } else { "}}" };
        let Some(behind) = closes.strip_prefix(closing) else {
            bail!("comment ends before closing delimiter");
        };
        self.at = self.source.len() - behind.len();
        Ok(trims)
    }

    fn word(&mut self, spaced: bool) -> Result<()> {
        let rest = self.rest();
        let mut chars = rest.chars();
        let Some(first) = chars.next() else {
            bail!("unclosed action");
        };
        let second = chars.next().unwrap_or(' ');
        let number = first.is_ascii_digit() || "+-".contains(first) && second.is_ascii_digit();
        let (length, kind) = match first {
            '|' => (1, Kind::Pipe),
            '(' => (1, Kind::LeftParen),
            ')' => (1, Kind::RightParen),
            ',' => (1, Kind::Comma),
            '=' => (1, Kind::Assign),
            ':' if second == '=' => (2, Kind::Declare),
            '"' | '\'' => self.quoted(first)?,
            '`' => match rest.get(1..).and_then(|raw| raw.split_once('`')) {
                Some((raw, _)) => (raw.len() + 2, Kind::Constant(raw.into())),
                None => bail!("unterminated raw quoted string"),
            },
            '.' | '$' => {
                let name = name(rest.get(1..).unwrap_or_default());
                let kind = match first {
                    '$' => Kind::Variable(name.to_owned()),
                    _ if name.is_empty() => Kind::Dot,
                    _ => Kind::Field(name.to_owned()),
                };
                (1 + name.len(), kind)
            }
            _ if number => number_in(rest)?,
            _ if !name(rest).is_empty() => (name(rest).len(), Kind::Word(name(rest).to_owned())),
            _ => bail!("bad character U+{:04X} '{first}'", u32::from(first)),
        };
        self.take(length, kind, spaced);
        Ok(())
    }

    /// A string, or a character, which is a number.
    fn quoted(&self, quote: char) -> Result<(usize, Kind)> {
        let rest = self.rest();
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, char)) = chars.next() {
            match char {
                '\n' => break,
                '\\' => text.push(escaped(&mut chars)?),
                _ if char == quote => {
                    let mut of_it = text.chars();
                    let constant = match (quote, of_it.next(), of_it.next()) {
                        ('"', ..) => Value::from(text),
                        (_, Some(only), None) => u32::from(only).into(),
                        _ => bail!("malformed character constant: '{text}'"),
                    };
                    return Ok((at + 1, Kind::Constant(constant)));
                }
                _ => text.push(char),
            }
        }
        match quote {
            '"' => bail!("unterminated quoted string"),
            _ => bail!("unterminated character constant"),
        }
    }
}

/// Whether `{{` is followed by a `-` that takes the blanks before it away.
fn starts_trimming(inside: &str) -> bool {
    let behind = inside.strip_prefix('-');
    behind.is_some_and(|behind| behind.starts_with(char::is_whitespace))
}

/// The letters, digits and underscores at the beginning.
fn name(text: &str) -> &str {
    let end = text.find(|char: char| !char.is_alphanumeric() && char != '_');
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

fn number_in(text: &str) -> Result<(usize, Kind)> {
    let signs = usize::from(text.starts_with(['+', '-']));
    let of_number = |char: char| char.is_ascii_alphanumeric() || char == '.' || char == '_';
    let unsigned = text.get(signs..).unwrap_or_default();
    let length = signs
        + unsigned
            .find(|char| !of_number(char))
            .unwrap_or(unsigned.len());
    let written = text.get(..length).unwrap_or_default();
    let digits = written.replace('_', "");
    let radices = [("0x", 16), ("0o", 8), ("0b", 2)];
    let other = radices
        .iter()
        .find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, *radix)));
    let (integer, radix) = other.unwrap_or((digits.as_str(), 10));
    let number = i64::from_str_radix(integer, radix).ok().map(Value::from);
    let float = || digits.parse::<f64>().ok().map(Value::from);
    match number.or_else(float) {
        Some(number) => Ok((length, Kind::Constant(number))),
        None => bail!("bad number syntax: {written:?}"),
    }
}

/// What a backslash and the next characters stand for in Go's strings.
fn escaped(chars: &mut impl Iterator<Item = (usize, char)>) -> Result<char> {
    let Some((_, char)) = chars.next() else {
        bail!("unterminated quoted string");
    };
    let digits = match char {
        'n' => return Ok('\n'),
        't' => return Ok('\t'),
        'r' => return Ok('\r'),
        '\\' | '"' | '\'' => return Ok(char),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => bail!("\\{char} stands for nothing in a string"),
    };
    let hex: String = chars.take(digits).map(|(_, char)| char).collect();
    let code = u32::from_str_radix(&hex, 16).ok();
    match code.and_then(char::from_u32) {
        Some(char) => Ok(char),
        None => bail!("\\{char}{hex} is no character"),
    }
}
