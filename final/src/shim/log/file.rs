//! The files of a log: appended to, put aside when they are large, and never left with half a line.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use memchr::{memchr_iter, memrchr};

use super::escape::escape;
use super::{BATCH, closing};
use crate::shim::protocol::Stream;
use crate::state::LogConfig;

/// The file that is written to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Bytes in it, unless somebody else has cut it off.
    length: u64,
    max_size: u64,
    max_file: u32,
    lost: Lost,
}

/// Lines that are in no file.
#[derive(Debug, Default)]
struct Lost {
    lines: u64,
    /// Why.
    reason: String,
}

impl LogFile {
    pub(super) fn open(path: &Path, config: &LogConfig) -> Result<LogFile> {
        let opened = || -> std::io::Result<(File, u64)> {
            let file = open(path)?;
            let length = cut_off_torn_line(&file)?;
            Ok((file, length))
        };
        let (file, length) = opened().with_context(|| format!("open {}", path.display()))?;
        Ok(LogFile {
            path: path.to_owned(),
            file,
            length,
            max_size: config.max_size,
            max_file: config.max_file,
            lost: Lost::default(),
        })
    }

    /// Whether it is as large as it may be, with so many bytes more.
    pub(super) fn is_full(&self, more: usize) -> bool {
        self.max_size != 0 && self.length.saturating_add(more as u64) >= self.max_size
    }

    /// Writes whole lines, and empties the batch.
    pub(super) fn append(&mut self, batch: &mut Vec<u8>) {
        if batch.is_empty() {
            return;
        }
        // Not earlier: a log of one file would be empty until there is more.
        if self.is_full(0) {
            self.rotate();
        }
        if self.lost.lines != 0 {
            batch.splice(..0, self.lost.line());
        }
        let (kept, error) = self.write(batch);
        if kept != 0 {
            // The line that says so was the first.
            self.lost = Lost::default();
        }
        if let Some(error) = error {
            let missing = batch.get(kept..).unwrap_or_default();
            let ours = u64::from(self.lost.lines != 0);
            self.lost.lines += memchr_iter(b'\n', missing).count() as u64 - ours;
            self.lost.reason = error.to_string();
        }
        batch.clear();
        // Bytes that are no text can become six times as many.
        batch.shrink_to(2 * BATCH);
    }

    /// Returns how much of the batch is in the file, in bytes of whole lines.
    fn write(&mut self, batch: &[u8]) -> (usize, Option<std::io::Error>) {
        let mut rest = batch;
        let error = loop {
            match self.file.write(rest) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
                Ok(length) => rest = rest.get(length..).unwrap_or_default(),
            }
            if rest.is_empty() {
                break None;
            }
        };
        let written = batch.len() - rest.len();
        let lines = batch.get(..written).unwrap_or_default();
        let kept = memrchr(b'\n', lines).map_or(0, |at| at + 1);
        if kept != written {
            self.cut_off((written - kept) as u64);
        }
        self.length += kept as u64;
        (kept, error)
    }

    /// Takes the last bytes out again. Where the file ends only the kernel knows: people empty
    /// logs with `: > LOG`, and a length of our own would then fill it with zeros.
    fn cut_off(&mut self, bytes: u64) {
        let there = self.file.metadata().map(|file| file.len());
        // Failing that there is a damaged line, which a reader passes over.
        let _ = there.and_then(|there| self.file.set_len(there.saturating_sub(bytes)));
    }

    /// Puts the file aside as `.1`, that one as `.2`, and so on, and begins a new one. If that
    /// fails, the old one goes on.
    fn rotate(&mut self) {
        if self.max_file < 2 {
            if self.file.set_len(0).is_ok() {
                self.length = 0;
            }
            return;
        }
        // Somebody may want as many as a number can say.
        let free = (1..self.max_file - 1).find(|&number| !self.aside(number).exists());
        for number in (1..free.unwrap_or(self.max_file - 1)).rev() {
            let _ = fs::rename(self.aside(number), self.aside(number + 1));
        }
        if fs::rename(&self.path, self.aside(1)).is_err() {
            return;
        }
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                self.length = 0;
            }
            Err(_) => {
                let _ = fs::rename(self.aside(1), &self.path);
            }
        }
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

impl Lost {
    fn line(&self) -> Vec<u8> {
        let Lost { lines, reason } = self;
        let what = if *lines == 1 { "line is" } else { "lines are" };
        let mut line = b"{\"log\":\"".to_vec();
        let text = format!("minidocker: {lines} {what} missing here: {reason}\n");
        escape(text.as_bytes(), &mut line);
        line.extend_from_slice(closing(Stream::Err, Timestamp::now()).as_bytes());
        line
    }
}

/// Others may not read what a container wrote.
fn open(path: &Path) -> std::io::Result<File> {
    File::options()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// What was written by somebody who was killed meanwhile goes, so that what follows begins a line.
/// Returns the length.
fn cut_off_torn_line(file: &File) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    let mut block = [0; 4096];
    let mut end = length;
    while end != 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let bytes = usize::try_from(end - begin).map_or(&mut [][..], |length| &mut block[..length]);
        file.read_exact_at(bytes, begin)?;
        if let Some(at) = memrchr(b'\n', bytes) {
            end = begin + at as u64 + 1;
            break;
        }
        end = begin;
    }
    if end != length {
        file.set_len(end)?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_counted_and_told_once_there_is_room() {
        let path = std::env::temp_dir().join(format!("log-full-{}", std::process::id()));
        let mut log = LogFile::open(&path, &LogConfig::default()).expect("open a log");
        log.append(&mut b"before\n".to_vec());
        let full = File::options().append(true).open("/dev/full");
        let real = std::mem::replace(&mut log.file, full.expect("open /dev/full"));
        log.append(&mut b"one\ntwo\n".to_vec());
        log.append(&mut b"three\n".to_vec());
        log.file = real;
        log.append(&mut b"after\n".to_vec());
        log.append(&mut b"and on\n".to_vec());
        let text = fs::read_to_string(&path).expect("read a log");
        let lines: Vec<&str> = text.lines().collect();
        let [before, told, after, on] = lines[..] else {
            panic!("four lines: {text}");
        };
        assert_eq!((before, after, on), ("before", "after", "and on"));
        let begin = r#"{"log":"minidocker: 3 lines are missing here: No space left on device"#;
        assert!(told.starts_with(begin), "{told}");
        assert!(told.contains(r#"\n","stream":"stderr","time":""#), "{told}");
        let _ = fs::remove_file(&path);
    }

    #[test]
    fn a_log_that_somebody_emptied_goes_on_without_a_hole() {
        let path = std::env::temp_dir().join(format!("log-emptied-{}", std::process::id()));
        let mut log = LogFile::open(&path, &LogConfig::default()).expect("open a log");
        log.append(&mut b"before\n".to_vec());
        fs::write(&path, "").expect("empty the log");
        log.append(&mut b"half\nafter".to_vec());
        assert_eq!(fs::read(&path).expect("read a log"), b"half\n");
        let _ = fs::remove_file(&path);
    }
}
