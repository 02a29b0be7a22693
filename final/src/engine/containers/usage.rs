//! How much of the disk containers use: what they wrote.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use namespaces::as_root;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};

use super::Containers;
use crate::engine::answer::Answer;
use crate::state::{Container, Places};

impl Containers {
    /// The bytes of the files that each of the containers wrote, by their ids. What cannot be read
    /// counts for nothing.
    ///
    /// # Errors
    /// Whoever may look into all of them cannot be started.
    pub fn sizes(&self, containers: &[Container]) -> Result<HashMap<String, u64>> {
        let trees = containers.iter().map(|container| {
            let places = Places::of(&self.dirs, &container.id);
            (container.id.clone(), places.data.join("upper"))
        });
        measure(&trees.collect::<Vec<_>>())
    }
}

/// The bytes in the files of trees, by the trees' names.
pub(in crate::engine) fn measure(trees: &[(String, PathBuf)]) -> Result<HashMap<String, u64>> {
    // Without privileges it is a child that may look, which has no other way to answer.
    let answer = Answer::new()?;
    as_root(|| {
        let sizes = trees
            .iter()
            .map(|(name, tree)| (name.as_str(), size(tree).unwrap_or(0)));
        let sizes: HashMap<&str, u64> = sizes.collect();
        answer.tell(&serde_json::to_vec(&sizes)?)
    })?;
    serde_json::from_slice(&answer.hear()?).context("read the sizes")
}

/// The bytes in the files of a tree that somebody else may be changing: no link in it is followed.
fn size(tree: &PathBuf) -> Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let root = openat2(CWD, tree, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)
        .with_context(|| format!("open {}", tree.display()))?;
    let mut bytes = 0;
    let mut linked = HashSet::new();
    let mut left = vec![PathBuf::from(".")];
    while let Some(path) = left.pop() {
        // What was removed meanwhile, or has a path that is too long, is not counted.
        let Ok(directory) = openat2(&root, &path, flags, Mode::empty(), within) else {
            continue;
        };
        let Ok(entries) = Dir::read_from(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if [&b"."[..], b".."].contains(&name.to_bytes()) {
                continue;
            }
            let Ok(found) = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => {
                    left.push(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
                }
                FileType::RegularFile
                    if found.st_nlink < 2 || linked.insert((found.st_dev, found.st_ino)) =>
                {
                    bytes += u64::try_from(found.st_size).unwrap_or(0);
                }
                _ => {}
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_the_size_of_its_files_each_once() {
        let tree = std::env::temp_dir().join(format!("usage-{}", std::process::id()));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("one"), [0; 1000]).unwrap();
        std::fs::write(tree.join("a/b/two"), [0; 234]).unwrap();
        std::fs::hard_link(tree.join("one"), tree.join("a/again")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.join("a/link")).unwrap();
        std::os::unix::fs::symlink("/etc", tree.join("a/etc")).unwrap();
        let found = size(&tree);
        std::fs::remove_dir_all(&tree).unwrap();
        assert_eq!(found.unwrap(), 1234);
    }
}
