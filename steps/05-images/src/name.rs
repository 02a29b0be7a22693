//! What images are called: docker's reference syntax.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

use crate::digest::Digest;

/// The registry that a name without one means.
const REGISTRY: &str = "docker.io";

/// A name such as `debian`, `debian:12`, `registry.example:5000/team/app:v1` or `debian@sha256:…`.
///
/// Held in full (registry, repository, tag or digest) and shown as people write it:
/// `docker.io/library/` is left out, the tag never is. The syntax is that of the distribution
/// project's reference package. A name with both tag and digest means the digest, as for docker.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ImageName {
    registry: String,
    repository: String,
    version: Version,
}

/// Which of a repository's images is meant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Version {
    /// The one that has the tag today.
    Tag(String),
    /// The one that is this for ever.
    Digest(Digest),
}

impl ImageName {
    /// The name with nothing left out, `docker.io/library/debian:latest`.
    pub fn full(&self) -> String {
        format!("{}/{}{}", self.registry, self.repository, self.version)
    }

    /// The registry, with its port where it has one: `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository as its registry knows it: `library/debian`.
    pub fn path(&self) -> &str {
        &self.repository
    }

    /// The name without its tag, as shown: `debian`.
    pub fn repository(&self) -> String {
        let Self {
            registry,
            repository,
            ..
        } = self;
        if registry != REGISTRY {
            return format!("{registry}/{repository}");
        }
        match repository.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => repository.clone(),
        }
    }

    /// The tag, `latest` where nothing was written; none in a name by digest.
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(tag) => Some(tag),
            Version::Digest(_) => None,
        }
    }

    /// The digest, in a name by digest.
    pub fn digest(&self) -> Option<&Digest> {
        match &self.version {
            Version::Tag(_) => None,
            Version::Digest(digest) => Some(digest),
        }
    }

    /// What a registry is asked for in the repository: the tag or the digest
    /// (distribution-spec, "Pulling manifests": `<reference>`).
    pub fn reference(&self) -> String {
        match &self.version {
            Version::Tag(tag) => tag.clone(),
            Version::Digest(digest) => digest.to_string(),
        }
    }

    /// Another tag in the same repository.
    ///
    /// # Errors
    /// It is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self> {
        check_tag(tag)?;
        Ok(self.with(Version::Tag(tag.to_owned())))
    }

    /// A digest in the same repository.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        self.with(Version::Digest(digest))
    }

    fn with(&self, version: Version) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            version,
        }
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).with_context(|| format!("{text:?} is not an image name"))
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.repository(), self.version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, ":{tag}"),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

fn parse(text: &str) -> Result<ImageName> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => (text, Some(digest.parse()?)),
        None => (text, None),
    };
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    ensure!(
        text.len() != 64 || !text.bytes().all(hex),
        "64 hex digits are an image's id"
    );
    let (path, tag) = match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (text, "latest"),
    };
    check_tag(tag)?;
    let (registry, repository) = match path.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest.to_owned()),
        Some(_) => (REGISTRY, path.to_owned()),
        None => (REGISTRY, format!("library/{path}")),
    };
    let registry = match registry {
        "index.docker.io" => REGISTRY,
        other => other,
    };
    let repository = match repository.split_once('/') {
        None if registry == REGISTRY => format!("library/{repository}"),
        _ => repository,
    };
    check_registry(registry)?;
    repository.split('/').try_for_each(check_component)?;
    ensure!(
        registry.len() + 1 + repository.len() <= 255,
        "it is longer than 255 bytes"
    );
    Ok(ImageName {
        registry: registry.to_owned(),
        repository,
        version: match digest {
            Some(digest) => Version::Digest(digest),
            None => Version::Tag(tag.to_owned()),
        },
    })
}

/// Docker's rule to tell `localhost/app` and `host:5000/app` from `user/app`.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first
}

fn check_registry(registry: &str) -> Result<()> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(port.is_none_or(digits), "its registry's port is no number");
    if let Some(address) = host.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
        address
            .parse::<std::net::Ipv6Addr>()
            .context("its registry is no IPv6 address")?;
        return Ok(());
    }
    let label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(inside)
    };
    ensure!(
        host.split('.').all(label),
        "its registry {registry:?} is no host name"
    );
    Ok(())
}

/// Runs of `a-z0-9`, between them one `.`, one or two `_`, or any number of `-`.
fn check_component(component: &str) -> Result<()> {
    ensure!(!component.is_empty(), "a part of it is empty");
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separators = component.split(|c: char| c.is_ascii() && word(c as u8));
    let edges = component.bytes().next().is_some_and(word)
        && component.bytes().next_back().is_some_and(word);
    let known = |run: &str| {
        matches!(run, "" | "." | "_" | "__") || run.bytes().all(|separator| separator == b'-')
    };
    if !edges || !separators.all(known) {
        bail!("{component:?}: lower-case letters, digits, and single . _ __ - between them");
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<()> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    ensure!(
        (1..=128).contains(&tag.len())
            && tag.bytes().next().is_some_and(word)
            && tag
                .bytes()
                .all(|byte| word(byte) || matches!(byte, b'.' | b'-')),
        "its tag {tag:?}: up to 128 letters, digits, _ . and -, the first no . or -"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_shown_short() {
        for (text, full, shown) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            (
                "docker.io/debian",
                "docker.io/library/debian:latest",
                "debian:latest",
            ),
            (
                "index.docker.io/library/debian:a",
                "docker.io/library/debian:a",
                "debian:a",
            ),
            (
                "team/app:v1.0-rc_1",
                "docker.io/team/app:v1.0-rc_1",
                "team/app:v1.0-rc_1",
            ),
            (
                "localhost/app",
                "localhost/app:latest",
                "localhost/app:latest",
            ),
            (
                "host:5000/a/b__c/d-----e.f",
                "host:5000/a/b__c/d-----e.f:latest",
                "host:5000/a/b__c/d-----e.f:latest",
            ),
            ("Host/app:t", "Host/app:t", "Host/app:t"),
            ("[::1]:80/app", "[::1]:80/app:latest", "[::1]:80/app:latest"),
            (
                "docker.io/library/a/b",
                "docker.io/library/a/b:latest",
                "library/a/b:latest",
            ),
        ] {
            let name: ImageName = text.parse().unwrap();
            assert_eq!(name.full(), full);
            assert_eq!(name.to_string(), shown);
            assert_eq!(shown.parse::<ImageName>().unwrap(), name);
        }
    }

    #[test]
    fn a_digest_says_more_than_a_tag() {
        let digest = Digest::of(b"");
        let name: ImageName = format!("debian:12@{digest}").parse().unwrap();
        assert_eq!(name.to_string(), format!("debian@{digest}"));
        assert_eq!(name.full(), format!("docker.io/library/debian@{digest}"));
        assert_eq!((name.tag(), name.digest()), (None, Some(&digest)));
        assert_eq!(name.reference(), digest.to_string());
        assert_eq!(name, name.to_string().parse().unwrap());
        assert_eq!(name.with_tag("12").unwrap(), "debian:12".parse().unwrap());
        assert_eq!(name.with_tag("12").unwrap().with_digest(digest), name);
        assert!(name.with_tag("-").is_err());
        for text in [format!("debian@{digest}@{digest}"), format!("@{digest}")] {
            assert!(text.parse::<ImageName>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_docker_refuses_is_refused() {
        let long = "a/".repeat(130) + "b";
        let id = "0".repeat(64);
        for text in [
            "",
            ":tag",
            "debian:",
            "Debian",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a/../b",
            "a b",
            "a:b:c",
            "a:-t",
            "host:port/a",
            "host:/a",
            "a..b/c",
            "é",
            "a@sha256:00",
            "a@sha512:00",
            "a@",
            "\u{7f}",
            "a:\n",
            &long,
            &id,
        ] {
            assert!(text.parse::<ImageName>().is_err(), "{text:?}");
        }
    }
}
