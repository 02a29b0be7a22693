//! The keys by which a person leaves a container without ending it.

use std::str::FromStr;

use anyhow::{Error, Result, bail};

/// A sequence of keys; Ctrl-P Ctrl-Q unless the user has others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    fn default() -> DetachKeys {
        DetachKeys(vec![0x10, 0x11])
    }
}

impl FromStr for DetachKeys {
    type Err = Error;

    /// Reads `ctrl-x,ctrl-y` or `a,b`, as docker does.
    fn from_str(text: &str) -> Result<DetachKeys> {
        if text.is_empty() {
            return Ok(DetachKeys::default());
        }
        let mut codes = Vec::new();
        for key in text.split(',') {
            match code(key) {
                Some(code) => codes.push(code),
                None => bail!("invalid detach keys ({text}): Unknown character: '{key}'"),
            }
        }
        Ok(DetachKeys(codes))
    }
}

/// What a terminal sends for a key (ascii(7)).
fn code(key: &str) -> Option<u8> {
    match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([byte], _) => Some(*byte),
        (b"DEL", _) => Some(0x7f),
        (_, Some([letter @ (b'@' | b'a'..=b'z' | b'['..=b'_')])) => Some(letter & 0x1f),
        _ => None,
    }
}

/// Looks for the sequence in what is typed.
#[derive(Debug)]
pub(super) struct Watch {
    keys: DetachKeys,
    /// How much of the sequence was typed last. It is held back until it is clear what it was.
    begun: usize,
}

impl Watch {
    pub(super) fn new(keys: DetachKeys) -> Watch {
        Watch { keys, begun: 0 }
    }

    /// Adds to `passed` what is for the container, and returns whether the sequence is complete.
    pub(super) fn pass(&mut self, typed: &[u8], passed: &mut Vec<u8>) -> bool {
        let DetachKeys(keys) = &self.keys;
        for byte in typed {
            if keys.get(self.begun) == Some(byte) {
                self.begun += 1;
                if self.begun == keys.len() {
                    self.begun = 0;
                    return true;
                }
                continue;
            }
            // As in docker, a key that did not go on with the sequence does not begin it anew.
            passed.extend(keys.iter().take(self.begun));
            passed.push(*byte);
            self.begun = 0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_written_as_docker_has_them() {
        let codes = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.0).ok();
        assert_eq!(codes(""), Some(vec![0x10, 0x11]));
        assert_eq!(codes("ctrl-p,ctrl-q"), Some(vec![0x10, 0x11]));
        assert_eq!(codes("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_"), {
            Some(vec![0, 27, 28, 29, 30, 31])
        });
        assert_eq!(codes("a,Z,DEL"), Some(vec![b'a', b'Z', 127]));
        for wrong in [
            "ctrl-",
            "ctrl-A",
            "ctrl-1",
            "ab",
            "a,",
            ",",
            "ctrl-a ctrl-b",
        ] {
            assert_eq!(codes(wrong), None, "{wrong}");
        }
        let error = "a,ctrl-1".parse::<DetachKeys>().expect_err("no such key");
        let sentence = "invalid detach keys (a,ctrl-1): Unknown character: 'ctrl-1'";
        assert_eq!(error.to_string(), sentence);
    }

    #[test]
    fn what_only_begins_the_sequence_is_sent_on() {
        let mut watch = Watch::new("a,b,c".parse().expect("keys"));
        let mut passed = Vec::new();
        for (typed, expected) in [
            ("x", "x"),
            ("a", ""),
            ("b", ""),
            ("x", "abx"),
            ("aab", "aab"),
            ("ab", ""),
        ] {
            passed.clear();
            assert!(!watch.pass(typed.as_bytes(), &mut passed));
            assert_eq!(String::from_utf8_lossy(&passed), expected, "{typed}");
        }
        passed.clear();
        assert!(watch.pass(b"cx", &mut passed));
        assert!(passed.is_empty());
    }
}
