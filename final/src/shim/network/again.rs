//! Who has ended and is needed again is begun again; but not for ever one who ends at once each time.

use std::time::{Duration, Instant};

/// Who lives for less than that may not do better at the next attempt.
const WORTH: Duration = Duration::from_secs(1);

/// So many of them one after the other are enough.
const MOST_SHORT: u8 = 10;

/// How it went so far with somebody who may be needed again.
#[derive(Debug)]
pub struct Again {
    since: Instant,
    /// How many before this one were not worth it.
    short: u8,
}

impl Default for Again {
    fn default() -> Again {
        Again {
            since: Instant::now(),
            short: 0,
        }
    }
}

impl Again {
    /// Begins the next one; `None`: that is worth nothing.
    pub fn begin<T>(&mut self, begin: impl FnOnce() -> T) -> Option<T> {
        self.short = match self.since.elapsed() >= WORTH {
            true => 0,
            false => self.short.saturating_add(1),
        };
        if self.short >= MOST_SHORT {
            return None;
        }
        let begun = begin();
        self.since = Instant::now();
        Some(begun)
    }
}
