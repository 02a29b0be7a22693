//! Somebody else's text, on the user's terminal.

/// The text in one line of at most `most` characters, without anything that a
/// terminal would obey: with ESC one can rewrite what stands there already.
#[must_use]
pub fn printable(text: &str, most: usize) -> String {
    let shown = text.chars().take(most).flat_map(|char| match char {
        '\n' | '\t' => vec![' '],
        char if char.is_control() => char.escape_unicode().collect(),
        char => vec![char],
    });
    let cut = text.chars().nth(most).map(|_| '…');
    shown.chain(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_terminal_has_nothing_to_obey() {
        assert_eq!(
            printable("a\tb\x1b[2J\r\u{9b}é", 99),
            "a b\\u{1b}[2J\\u{d}\\u{9b}é"
        );
        assert_eq!(printable("four", 4), "four");
        assert_eq!(printable("five!", 4), "five…");
    }
}
