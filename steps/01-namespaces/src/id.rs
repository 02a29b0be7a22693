//! A container's names: its id and its hostname.

use std::fmt;
use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, ensure};

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

/// Reads a hostname: hostname(7) allows letters, digits, hyphens and dots, and
/// the kernel 64 bytes (uname(2)). `/etc/hosts` holds it, where a space or a new
/// line would begin something else.
///
/// # Errors
/// Fails with a sentence for the person who typed it.
pub fn parse_hostname(text: &str) -> Result<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    ensure!(
        (1..=64).contains(&text.len()) && text.bytes().all(allowed),
        "a hostname has 1 to 64 letters, digits, hyphens and dots"
    );
    Ok(text.to_owned())
}
