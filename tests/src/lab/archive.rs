//! A cpio archive in the "newc" format, which the kernel unpacks into its first
//! root file system (kernel documentation, initramfs buffer format).

use std::collections::BTreeSet;
use std::io::{Result, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive as it is written; everything in it belongs to root.
pub struct Archive<W: Write> {
    out: W,
    inode: u32,
    present: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub fn new(out: W) -> Archive<W> {
        Archive {
            out,
            inode: 0,
            present: BTreeSet::new(),
        }
    }

    /// Whether something was added at `path`, which begins with a slash.
    pub fn has(&self, path: &Path) -> bool {
        self.present.contains(path)
    }

    pub fn directory(&mut self, path: &Path, permissions: u32) -> Result<()> {
        self.entry(path, DIRECTORY | permissions, 0, b"")
    }

    pub fn file(&mut self, path: &Path, permissions: u32, content: &[u8]) -> Result<()> {
        self.entry(path, FILE | permissions, 0, content)
    }

    pub fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        self.entry(path, LINK | 0o777, 0, target.as_os_str().as_bytes())
    }

    pub fn character_device(&mut self, path: &Path, major: u32, minor: u32) -> Result<()> {
        self.entry(path, CHARACTER_DEVICE | 0o600, (major << 8) | minor, b"")
    }

    /// Ends the archive and gives back what it was written to.
    pub fn finish(mut self) -> Result<W> {
        self.record(b"TRAILER!!!", 0, 0, b"")?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Adds an entry unless its path is taken, after the directories above it.
    fn entry(&mut self, path: &Path, mode: u32, device: u32, content: &[u8]) -> Result<()> {
        if self.has(path) || path == Path::new("/") {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent, 0o755)?;
        }
        self.present.insert(path.to_owned());
        let name = path.strip_prefix("/").unwrap_or(path);
        self.record(name.as_os_str().as_bytes(), mode, device, content)
    }

    fn record(&mut self, name: &[u8], mode: u32, device: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).map_err(std::io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(std::io::Error::other)?;
        let (major, minor) = (device >> 8, device & 0xff);
        // ino mode uid gid nlink mtime filesize dev(2) rdev(2) namesize check
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0,
        ];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name)?;
        self.out.write_all(b"\0")?;
        self.pad(110 + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    /// Headers and contents begin at multiples of four.
    fn pad(&mut self, length: usize) -> Result<()> {
        self.out.write_all(&[0; 3][..length.wrapping_neg() % 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_cpio_expects() {
        let mut archive = Archive::new(Vec::new());
        archive.file(Path::new("/a/b"), 0o644, b"hello").unwrap();
        archive
            .file(Path::new("/a/b"), 0o644, b"a second one is left out")
            .unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 3, "a, a/b and the trailer");
        assert!(text.starts_with("07070100000001000041ed"));
        assert!(
            text.contains("a/b\0hello")
                || text.contains("a/b\0\0hello")
                || text.contains("a/b\0\0\0hello")
        );
    }
}
