//! A container's id.

use std::fmt;
use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};

/// Twelve hexadecimal digits, as docker shows them: the container's default
/// hostname, and the name of everything that is made for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// A new id from the kernel's random numbers.
    ///
    /// # Errors
    /// Fails where `/dev/urandom` cannot be read.
    pub fn random() -> Result<ContainerId> {
        let mut bytes = [0; 6];
        File::open("/dev/urandom")
            .and_then(|mut random| random.read_exact(&mut bytes))
            .context("read a container id from /dev/urandom")?;
        let digits = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(ContainerId(digits))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}
