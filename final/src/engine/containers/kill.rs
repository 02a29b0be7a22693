//! `docker kill`: a signal for a container.

use anyhow::{Context, Result, ensure};
use libc::{SIGRTMAX, SIGRTMIN};
use nix::sys::signal::Signal;

use super::Containers;
use super::stop::note_by_hand;
use crate::shim::protocol::Request;
use crate::state::{Container, Status};

impl Containers {
    /// Sends a signal to a container's first process; SIGKILL goes to all of its processes.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self, what: &str, signal: i32) -> Result<Container> {
        let mut locked = self.lock(what)?;
        let (id, name) = (&locked.container.id, &locked.container.name);
        let status = locked.container.life.status;
        ensure!(
            status.needs_shim(),
            "cannot kill container: {name}: container {id} is not running"
        );
        // Who wants it to end does not want it started again.
        let ends = signal == libc::SIGKILL || signal == stop_signal(&locked.container)?;
        if ends {
            note_by_hand(&mut locked);
        }
        let container = locked.container.clone();
        drop(locked);
        // One that waits to be started again has nothing to end but the wait. Where that is over by
        // now, the shim says so.
        let waits = || !ends || self.ask(&container, &Request::Cancel).is_err();
        if status == Status::Restarting && waits() {
            return Ok(container);
        }
        if signal != libc::SIGKILL {
            self.ask(&container, &Request::Signal { signal, all: false })?;
        } else if let Some(shim) = self.watch(&container)? {
            self.kill_all(&container, &shim)?;
        }
        Ok(container)
    }
}

/// The signal that asks a container to end.
pub(super) fn stop_signal(container: &Container) -> Result<i32> {
    match container.config.stop_signal.as_str() {
        "" => Ok(libc::SIGTERM),
        signal => parse_signal(signal),
    }
}

/// The number of a signal, from its number or its name in docker's spellings: `9`, `KILL`,
/// `sigkill`, `SIGRTMIN+3` (signal(7)).
///
/// # Errors
/// There is none that is called so.
pub fn parse_signal(text: &str) -> Result<i32> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let known = || format!("SIG{name}").parse::<Signal>().ok();
    let digits = Some(name).filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let number = match digits {
        Some(digits) => digits.parse().ok(),
        None => real_time(name).or_else(|| known().map(|signal| signal as i32)),
    };
    number
        .filter(|number| (1..=SIGRTMAX()).contains(number))
        .with_context(|| format!("invalid signal: {text}"))
}

/// The same text, if it names a signal.
///
/// # Errors
/// As [`parse_signal`].
pub fn known_signal(text: &str) -> Result<String> {
    parse_signal(text).map(|_| text.to_owned())
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
    (SIGRTMIN()..=SIGRTMAX())
        .contains(&number)
        .then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse_signal;

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
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
    }

    #[test]
    fn no_other_word_is_a_signal() {
        for text in [
            "", "0", "65", "-9", "SIG", "SIGNAL", "RTMIN-1", "RTMIN+31", "RTMAX+1", "+9",
        ] {
            let error = parse_signal(text).unwrap_err().to_string();
            assert_eq!(error, format!("invalid signal: {text}"));
        }
    }
}
