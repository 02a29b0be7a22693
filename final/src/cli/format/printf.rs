//! Go's templates: `printf`, with the verbs that a template has use for.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::Value;

use super::functions::{kind, shown};

/// What stands between `%` and the letter, as in `%-10.3s`.
struct Verb {
    left: bool,
    plus: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
}

/// Fills in a format. A verb that does not suit its argument shows so in what
/// comes out, as in Go.
pub(super) fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        let verb = Verb::read(&mut chars);
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => match arguments.next() {
                None => out.push_str(&format!("%!{letter}(MISSING)")),
                Some(value) => out.push_str(&verb.format(letter, value)),
            },
        }
    }
    let extra: Vec<String> = arguments
        .map(|value| format!("{}={}", kind(value), shown(value)))
        .collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

impl Verb {
    fn read(chars: &mut Peekable<Chars<'_>>) -> Verb {
        let mut flags = String::new();
        while let Some(flag) = chars.next_if(|char| "-+0 #".contains(*char)) {
            flags.push(flag);
        }
        let width = number(chars);
        let precision = chars.next_if_eq(&'.').map(|_| number(chars));
        Verb {
            left: flags.contains('-'),
            plus: flags.contains('+'),
            zeros: flags.contains('0'),
            width,
            precision,
        }
    }

    fn format(&self, letter: char, value: &Value) -> String {
        let text = match (letter, value.as_i64(), value.as_f64(), value) {
            ('v' | 's', ..) => shown(value),
            ('q', _, _, Value::String(text)) => format!("{text:?}"),
            ('t', _, _, Value::Bool(value)) => value.to_string(),
            ('T', ..) => kind(value).to_owned(),
            ('d', Some(number), ..) if self.plus => format!("{number:+}"),
            ('d', Some(number), ..) => number.to_string(),
            ('x', Some(number), ..) => format!("{number:x}"),
            ('X', Some(number), ..) => format!("{number:X}"),
            ('o', Some(number), ..) => format!("{number:o}"),
            ('b', Some(number), ..) => format!("{number:b}"),
            ('x', _, _, Value::String(text)) => {
                text.bytes().map(|byte| format!("{byte:02x}")).collect()
            }
            ('f', _, Some(number), _) => format!("{number:.*}", self.precision.unwrap_or(6)),
            ('g', _, Some(number), _) => number.to_string(),
            _ => format!("%!{letter}({}={})", kind(value), shown(value)),
        };
        let cut = match (letter, self.precision) {
            ('v' | 's' | 'q', Some(most)) if value.is_string() => text.chars().take(most).collect(),
            _ => text,
        };
        let width = self.width;
        match (self.left, self.zeros && value.is_number()) {
            (true, _) => format!("{cut:<width$}"),
            (false, false) => format!("{cut:>width$}"),
            (false, true) => {
                let digits = cut.trim_start_matches(['-', '+']);
                let sign = cut.strip_suffix(digits).unwrap_or_default();
                format!(
                    "{sign}{digits:0>width$}",
                    width = width.saturating_sub(sign.len())
                )
            }
        }
    }
}

/// A width, which is bounded: nobody's columns are wider.
fn number(chars: &mut Peekable<Chars<'_>>) -> usize {
    let mut digits = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    digits.parse::<usize>().unwrap_or(0).min(1000)
}
