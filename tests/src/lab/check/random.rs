//! Chance that can be repeated: each check draws from a source of its own, so
//! that it sees the same whatever runs beside it.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// A seed that is short enough to be typed again.
pub fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id()) % 1_000_000_000
}

/// One check's own seed.
pub fn mixed(seed: u64, name: &str) -> u64 {
    // FNV-1a, because the standard library's hash may change with its version.
    name.bytes()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
}

/// The generator SplitMix64: one addition and a mixing of its bits per number.
pub struct Random(Cell<u64>);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(Cell::new(seed))
    }

    fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut bits = self.0.get();
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub fn number(&self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// A word of lower-case letters, fit for a hostname or a file.
    pub fn word(&self) -> String {
        (0..10)
            .map(|_| char::from(b'a' + (self.next() % 26) as u8))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_another_check_sees_other_chance() {
        let word = |seed, name| Random::new(mixed(seed, name)).word();
        assert_eq!(word(7, "hostname"), word(7, "hostname"));
        assert_ne!(word(7, "hostname"), word(8, "hostname"));
        assert_ne!(word(7, "hostname"), word(7, "exit-status"));
    }
}
