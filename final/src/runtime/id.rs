//! A container's id, as its user gave it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, ensure};

/// The name of a container: a directory of the runtime's root is called by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = Error;

    /// Takes what runc takes: letters, digits and `_+-.`, as long as a file
    /// name may be, and neither `.` nor `..`.
    fn from_str(text: &str) -> Result<Id> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
        ensure!(
            (1..=255).contains(&text.len())
                && text.bytes().all(allowed)
                && text != "."
                && text != "..",
            "invalid container ID {text:?}: it has 1 to 255 letters, digits and _ + - ."
        );
        Ok(Id(text.to_owned()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}
