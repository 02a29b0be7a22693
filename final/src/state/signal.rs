//! Signals by their names.

use anyhow::{Context, Result};
use nix::libc::{SIGRTMAX, SIGRTMIN};
use nix::sys::signal::Signal;

/// The number of a signal, from its number or its name in docker's spellings: `9`, `KILL`,
/// `sigkill`, `SIGRTMIN+3` (signal(7)).
///
/// # Errors
/// There is none that is called so.
pub fn signal(text: &str) -> Result<i32> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let known = || format!("SIG{name}").parse::<Signal>().ok();
    let number = match name.parse() {
        Ok(number) => Some(number),
        Err(_) => real_time(name).or_else(|| known().map(|signal| signal as i32)),
    };
    number
        .filter(|number| (1..=SIGRTMAX()).contains(number))
        .with_context(|| format!("invalid signal: {text}"))
}

/// Those for programs' own purposes are counted from either end: `RTMIN+3` is a request to systemd.
fn real_time(name: &str) -> Option<i32> {
    let offset = |text: &str, sign: char| match text.strip_prefix(sign) {
        Some(digits) => digits.parse::<u8>().ok().map(i32::from),
        None => text.is_empty().then_some(0),
    };
    let from_least = name.strip_prefix("RTMIN");
    let from_most = name.strip_prefix("RTMAX");
    let number = match (from_least, from_most) {
        (Some(text), _) => SIGRTMIN() + offset(text, '+')?,
        (None, Some(text)) => SIGRTMAX() - offset(text, '-')?,
        (None, None) => return None,
    };
    (SIGRTMIN()..=SIGRTMAX()).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::signal;

    #[test]
    fn a_signal_has_a_number_and_several_spellings() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("WINCH", 28),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("64", 64),
        ] {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn no_other_word_is_a_signal() {
        for text in ["", "0", "65", "-9", "SIG", "SIGNAL", "RTMIN-1", "RTMIN+31", "RTMAX+1"] {
            let error = signal(text).unwrap_err().to_string();
            assert_eq!(error, format!("invalid signal: {text}"));
        }
    }
}
