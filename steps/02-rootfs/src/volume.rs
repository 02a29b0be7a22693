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
        // task 02.5 {
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
        // } todo!("task 02.5: read SRC:DST[:ro] (book: 2.5)")
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
    if path.starts_with("/proc") {
        return Err("/proc is the kernel's, and nothing can be put there".to_owned());
    }
    // The kernel takes `/app/` for a directory, whatever is to be mounted there.
    Ok(path.components().collect())
}

/// A writable one: the host's path, and the container's.
impl From<(PathBuf, &str)> for Volume {
    fn from((source, target): (PathBuf, &str)) -> Volume {
        Volume {
            source,
            target: PathBuf::from(target),
            read_only: false,
        }
    }
}

/// The mounts of `volumes`: those further up first, or the one on `/a` would
/// cover the one on `/a/b`. Of two with one place the later is seen.
#[must_use]
pub fn mounts(volumes: &[Volume]) -> Vec<Mount> {
    let mut sorted: Vec<&Volume> = volumes.iter().collect();
    sorted.sort_by_key(|volume| volume.target.components().count());
    let bind = |volume: &Volume| {
        Mount::bind(
            volume.source.clone(),
            volume.target.clone(),
            volume.read_only,
        )
    };
    sorted.into_iter().map(bind).collect()
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
    fn a_volume_in_another_is_mounted_after_it() {
        let volumes = [parse("/x:/a/b").unwrap(), parse("/y:/a").unwrap()];
        let targets: Vec<PathBuf> = mounts(&volumes).into_iter().map(|m| m.target).collect();
        assert_eq!(targets, [Path::new("/a"), Path::new("/a/b")]);
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
            "/a:/proc/sys",
        ] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }
}
