//! Content addresses: a blob is called by the SHA-256 of its bytes.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of some bytes, written `sha256:` and 64 lower-case hex digits (OCI image-spec,
/// descriptor.md, "Digests").
///
/// A digest becomes a file name and, for a registry, a part of a URL. What is not exactly of this
/// form is therefore refused where it is read, before anything is made of it (CVE-2024-3727).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of bytes at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits: a blob's file name.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads the 64 hex digits alone.
    ///
    /// # Errors
    /// Anything but 64 lower-case hex digits.
    pub fn from_hex(hex: &str) -> Result<Self> {
        let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        ensure!(
            hex.len() == 64 && hex.bytes().all(digits),
            "a SHA-256 has 64 lower-case hex digits, not {hex:?}"
        );
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16)?;
        }
        Ok(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let hex = text
            .strip_prefix("sha256:")
            .with_context(|| format!("{text:?} is not a sha256: digest"))?;
        Self::from_hex(hex)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Counts and hashes what flows by.
#[derive(Clone, Default)]
pub(crate) struct Hasher {
    sha: Sha256,
    size: u64,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// How many bytes it has seen.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The digest of everything seen, and how many bytes that was.
    pub(crate) fn finish(self) -> (Digest, u64) {
        (Digest(self.sha.finalize().into()), self.size)
    }
}

/// A reader that hashes what is read through it.
pub(crate) struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Hasher::default(),
        }
    }

    /// The reader itself, for what needs no hash.
    pub(crate) fn unhashed(&mut self) -> &mut R {
        &mut self.inner
    }

    pub(crate) fn finish(self) -> Digest {
        self.hasher.finish().0
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// A stream that has to be a certain blob. Where it turns out to be another, reading fails: at the
/// latest where the end would be.
pub struct Verified<R> {
    inner: R,
    hasher: Hasher,
    digest: Digest,
    size: u64,
}

impl<R: Read> Verified<R> {
    /// Expects a blob of `size` bytes.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        Self {
            inner,
            hasher: Hasher::default(),
            digest,
            size,
        }
    }

    fn check(&self) -> io::Result<()> {
        let (digest, size) = self.hasher.clone().finish();
        if (digest, size) == (self.digest, self.size) {
            return Ok(());
        }
        let expected = self.size;
        Err(io::Error::other(format!(
            "it is damaged: {size} of {expected} bytes, with the digest {digest}"
        )))
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        let ended = count == 0 && !buffer.is_empty();
        if ended || self.hasher.size() > self.size {
            self.check()?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_reads_back_as_it_is_written() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn a_stream_that_is_another_than_expected_does_not_end_well() {
        let read = |bytes: &[u8], digest, size| {
            let mut read = Vec::new();
            let mut stream = Verified::new(bytes, digest, size);
            stream.read_to_end(&mut read).map(|_| read)
        };
        let digest = Digest::of(b"abc");
        assert_eq!(read(b"abc", digest, 3).unwrap(), b"abc");
        assert_eq!(read(b"", Digest::of(b""), 0).unwrap(), b"");
        assert!(read(b"abd", digest, 3).is_err());
        assert!(read(b"ab", digest, 3).is_err());
        assert!(read(b"abcd", digest, 3).is_err());
        assert!(read(b"abc", digest, 4).is_err());
    }

    #[test]
    fn anything_but_64_lower_case_hex_digits_is_refused() {
        let hex = Digest::of(b"").hex();
        for bad in [
            hex.clone(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{hex}0"),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:+{}", &hex[1..]),
            format!("sha256:{}../", &hex[3..]),
            format!("sha512:{hex}"),
            format!("SHA256:{hex}"),
            "sha256:".into(),
            "sha256:é3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".into(),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
