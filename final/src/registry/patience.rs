//! How often and how soon a request is sent again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// So many failures in a row are borne.
const MOST_FAILURES: u32 = 5;

/// No single pause is longer. Who asks for more has to be asked again by the user.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The variable that sets [`Patience::limit`], in seconds.
const VARIABLE: &str = "MINIDOCKER_REGISTRY_TIMEOUT";

/// How long is waited for a registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a connection, for the beginning of an answer, and for each KiB.
    pub(crate) limit: Duration,
    /// The first pause before another try; each further one is twice as long.
    pub(crate) pause: Duration,
}

impl Patience {
    pub(crate) fn from_environment() -> Result<Patience> {
        let mut patience = Patience {
            limit: Duration::from_secs(30),
            pause: Duration::from_secs(1),
        };
        if let Some(seconds) = std::env::var_os(VARIABLE) {
            let seconds = seconds.to_str().and_then(|text| text.parse().ok());
            let seconds = seconds.filter(|seconds| (1..=86400).contains(seconds));
            patience.limit = seconds.map(Duration::from_secs).with_context(|| {
                format!("{VARIABLE} is not a number of seconds from 1 to 86400; change or unset it")
            })?;
        }
        Ok(patience)
    }
}

/// Why there is no answer.
pub(crate) enum Fault {
    /// Another try may do better, after the pause that the registry asks for.
    Passing(Error, Option<Duration>),
    /// Another try would end the same.
    Lasting(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Lasting(error)
    }
}

/// The tries of one thing that is wanted.
pub(crate) struct Tries<'a> {
    patience: Patience,
    failures: u32,
    /// Told of each pause, before it is made.
    pausing: &'a (dyn Fn(Duration) + Sync),
}

impl<'a> Tries<'a> {
    pub(crate) fn new(patience: Patience, pausing: &'a (dyn Fn(Duration) + Sync)) -> Tries<'a> {
        Tries {
            patience,
            failures: 0,
            pausing,
        }
    }

    /// Comes back when it is time for another try.
    ///
    /// # Errors
    /// The fault's own, where there is no use in one.
    pub(crate) fn again(&mut self, fault: Fault) -> Result<()> {
        let (error, asked) = match fault {
            Fault::Passing(error, asked) => (error, asked),
            Fault::Lasting(error) => return Err(error),
        };
        self.failures += 1;
        if self.failures >= MOST_FAILURES {
            return Err(error);
        }
        let pause = match asked {
            Some(asked) if asked > LONGEST_PAUSE => {
                return Err(error.context(format!(
                    "the registry asks to be left alone for {} seconds",
                    asked.as_secs()
                )));
            }
            Some(asked) => asked,
            None => self.own_pause(),
        };
        tracing::debug!("a pause of {pause:.1?}, and then another try: {error:#}");
        (self.pausing)(pause);
        std::thread::sleep(pause);
        Ok(())
    }

    /// Something came of the last try: the next failure is the first again.
    pub(crate) fn progress(&mut self) {
        self.failures = 0;
    }

    /// Twice as long with each failure, give or take a quarter: those whom one outage has stopped
    /// must not all come back at once.
    fn own_pause(&self) -> Duration {
        let doubled = self.patience.pause * (1 << (self.failures - 1).min(5));
        // Each RandomState has keys of its own.
        let random = u32::from(RandomState::new().hash_one(0u8).to_le_bytes()[0]);
        (doubled * (192 + random / 2) / 256).min(LONGEST_PAUSE)
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    let seconds = date.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

/// The sentence for a peer that was too slow.
pub(crate) fn too_slow(patience: Patience) -> Error {
    anyhow!(
        "nothing, or next to nothing, came for {} seconds; {VARIABLE} sets another limit",
        patience.limit.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn retry_after_is_a_number_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().unwrap();
        for (value, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("99999999999999999999999", None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(value, now), expected, "{value}");
        }
    }

    #[test]
    fn pauses_grow_until_patience_ends_and_progress_renews_it() {
        let patience = Patience {
            limit: Duration::from_secs(1),
            pause: Duration::from_millis(4),
        };
        let pauses = Mutex::new(Vec::new());
        let note = |pause| pauses.lock().unwrap().push(pause);
        let mut tries = Tries::new(patience, &note);
        let fail = |tries: &mut Tries| tries.again(Fault::Passing(anyhow!("broken"), None));
        while fail(&mut tries).is_ok() {}
        assert_eq!(pauses.lock().unwrap().len(), 4);
        for (pause, base) in pauses.lock().unwrap().iter().zip([4, 8, 16, 32]) {
            let base = Duration::from_millis(base);
            assert!(
                *pause >= base * 3 / 4 && *pause <= base * 5 / 4,
                "{pause:?}"
            );
        }
        tries.progress();
        assert!(fail(&mut tries).is_ok());
        let hour = Some(Duration::from_secs(3600));
        let error = tries.again(Fault::Passing(anyhow!("busy"), hour));
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("3600 seconds: busy"), "{error}");
    }
}
