//! Text for a terminal: colours where somebody sees them, and lines that fit.

use std::env;
use std::io::{self, IsTerminal, Write};

/// The columns of a terminal.
pub const WIDTH: usize = 80;

/// Writes a line to standard output. Who has read enough, as in `| head`, closes
/// the pipe: no reason to complain, or to leave work undone.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Whether what is written there is seen in colours (no-color.org).
pub fn has_colours(out: &impl IsTerminal) -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    out.is_terminal() && !refused
}

/// The text in a colour, by the numbers that make it (console_codes(4), ECMA-48 SGR).
pub fn painted(text: &str, colour: &str) -> String {
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// A line cut to lines of at most `width` columns, at spaces where there are some.
pub fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last = String::new();
    for word in line.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if !last.is_empty() && last.chars().count() + 1 + word.len() > width {
            lines.push(std::mem::take(&mut last));
        }
        while word.len() > width {
            let rest = word.split_off(width);
            lines.push(word.into_iter().collect());
            word = rest;
        }
        if !last.is_empty() {
            last.push(' ');
        }
        last.extend(word);
    }
    lines.push(last);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_at_words_and_long_words_are_cut() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(wrap("a quitelong b", 5), ["a", "quite", "long", "b"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
