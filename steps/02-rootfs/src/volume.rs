//! `-v SRC:DST[:ro]`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::Mount;

/// A file or directory of the host that the container shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The host's path.
    pub source: PathBuf,
    /// The container's path.
    pub target: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
}

impl Volume {
    /// Reads docker's notation, byte for byte.
    ///
    /// # Errors
    /// Fails with a sentence for the person who typed it.
    pub fn parse(text: &OsStr) -> Result<Volume, String> {
        let fields: Vec<&OsStr> = text
            .as_bytes()
            .split(|byte| *byte == b':')
            .map(OsStr::from_bytes)
            .collect();
        let (source, target, mode) = match fields.as_slice() {
            [source, target] => (source, target, OsStr::new("rw")),
            [source, target, mode] => (source, target, *mode),
            _ => return Err("write it as SRC:DST or SRC:DST:ro".to_owned()),
        };
        let read_only = match mode.as_bytes() {
            b"ro" => true,
            b"rw" => false,
            _ => return Err(format!("{:?} is neither ro nor rw", mode.display())),
        };
        Ok(Volume {
            source: source_path(source)?,
            target: target_path(target)?,
            read_only,
        })
    }
}

fn source_path(source: &OsStr) -> Result<PathBuf, String> {
    if source.is_empty() {
        return Err("the host's path is missing".to_owned());
    }
    if !source.as_bytes().contains(&b'/') && source != "." && source != ".." {
        let name = source.display();
        return Err(format!(
            "{name} would be a named volume, and there are none here; for a directory write ./{name}"
        ));
    }
    Ok(PathBuf::from(source))
}

fn target_path(target: &OsStr) -> Result<PathBuf, String> {
    let path = Path::new(target);
    if !path.is_absolute() {
        return Err(format!(
            "the container's path {:?} must be absolute",
            target.display()
        ));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!(
            "the container's path {:?} has .. in it",
            target.display()
        ));
    }
    if path == Path::new("/") {
        return Err("the container's path cannot be /, which is its root".to_owned());
    }
    // The kernel takes `/app/` for a directory, whatever is to be mounted there.
    Ok(path.components().collect())
}

impl From<&Volume> for Mount {
    fn from(volume: &Volume) -> Mount {
        Mount::bind(
            volume.source.clone(),
            volume.target.clone(),
            volume.read_only,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Volume, String> {
        Volume::parse(OsStr::new(text))
    }

    #[test]
    fn a_volume_is_writable_unless_it_says_ro() {
        assert!(!parse("/a:/b").unwrap().read_only);
        assert!(!parse("./a:/b:rw").unwrap().read_only);
        assert!(parse("../a:/b:ro").unwrap().read_only);
    }

    #[test]
    fn a_slash_at_the_end_means_nothing() {
        let volume = parse("./a://b//c/./").unwrap();
        assert_eq!(volume.target.as_os_str(), "/b/c");
    }

    #[test]
    fn nonsense_is_refused_with_a_sentence() {
        for text in [
            "",
            "/a",
            ":/b",
            "/a:",
            "/a:b",
            "/a:/b:rx",
            "/a:/b:ro:z",
            "name:/b",
            "/a:/",
            "/a:/b/../..",
        ] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }
}
