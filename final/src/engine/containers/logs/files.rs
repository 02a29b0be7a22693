//! The files of a log, the one that is written to and those put aside, read as one.
//!
//! ```text
//! ID-json.log.2   ID-json.log.1   ID-json.log
//!  oldest ─────────────────────────▶ newest ──▶ what is still to come
//! ```
//!
//! They change their names while they are read: a file is known by its inode.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use memchr::{memchr, memrchr_iter};

/// No record is as long, in bytes: 16 KiB, each of them escaped, and a frame.
const LONGEST: usize = 256 << 10;

/// How much is read at once from behind, in bytes.
const BLOCK: u64 = 64 << 10;

/// How often the files are looked at anew that change their names under us. A log that is always
/// quicker loses lines anyway: it has no more files than it may.
const TRIES: u32 = 100;

/// The lines of a log, from where reading was begun.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// To be read after the current one.
    next: VecDeque<File>,
    current: Option<File>,
    buffer: Vec<u8>,
    /// What was read of the file and is not handed over yet.
    unread: Range<usize>,
    /// How much of that has no end of a line.
    searched: usize,
    /// Whether the line is too long to be one.
    overlong: bool,
    /// Whether a file ended within a line.
    torn: bool,
}

/// How a file is opened.
type Open<'a> = &'a mut dyn FnMut(&Path) -> std::io::Result<File>;

/// What is next.
#[derive(Debug)]
pub(super) enum Next<'a> {
    Line(&'a [u8]),
    /// Something that is no line: longer than any, or without an end.
    Damaged,
    /// Nothing yet; so many bytes of a line that has no end.
    End(usize),
}

impl Files {
    /// Opens the log at `path` where its last `tail` lines begin, or at its beginning.
    pub(super) fn open(path: &Path, tail: Option<u64>) -> Result<Files> {
        let mut files = present(path)?;
        if let Some(lines) = tail {
            skip_to_last(&mut files, lines)
                .with_context(|| format!("read the end of {}", path.display()))?;
        }
        let current = files.pop_front();
        Ok(Files {
            path: path.to_owned(),
            next: files,
            current,
            buffer: vec![0; LONGEST],
            unread: 0..0,
            searched: 0,
            overlong: false,
            torn: false,
        })
    }

    pub(super) fn next(&mut self) -> Result<Next<'_>> {
        loop {
            if std::mem::take(&mut self.torn) {
                return Ok(Next::Damaged);
            }
            let unread = self.buffer.get(self.unread.clone()).unwrap_or_default();
            let fresh = unread.get(self.searched..).unwrap_or_default();
            if let Some(at) = memchr(b'\n', fresh) {
                let begin = self.unread.start;
                let end = begin + self.searched + at;
                self.unread.start = end + 1;
                self.searched = 0;
                if std::mem::take(&mut self.overlong) {
                    return Ok(Next::Damaged);
                }
                return Ok(Next::Line(self.buffer.get(begin..end).unwrap_or_default()));
            }
            self.searched = self.unread.len();
            if !self.fill()? && !self.turn_over()? {
                return Ok(Next::End(self.unread.len()));
            }
        }
    }

    /// Reads more of the current file; `false`: there is no more.
    fn fill(&mut self) -> Result<bool> {
        let Some(file) = &mut self.current else {
            return Ok(false);
        };
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == self.buffer.len() {
            self.overlong = true;
            self.unread = 0..0;
            self.searched = 0;
        }
        let room = self.buffer.get_mut(self.unread.end..).unwrap_or_default();
        let length = loop {
            match file.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                length => break length.with_context(|| format!("read {}", self.path.display()))?,
            }
        };
        self.unread.end += length;
        Ok(length != 0)
    }

    /// At the end of a file: is there another one, or was this one cut off? `false`: this is the
    /// newest.
    fn turn_over(&mut self) -> Result<bool> {
        if self.next.is_empty() {
            self.next = match &self.current {
                None => present(&self.path)?,
                Some(file) => newer_than(file, &self.path)?,
            };
        }
        let Some(next) = self.next.pop_front() else {
            return self.rewind_if_cut();
        };
        // It may have grown between our look at its end and its being put aside.
        if self.fill()? {
            self.next.push_front(next);
            return Ok(true);
        }
        self.current = Some(next);
        // A line does not go on in another file.
        self.torn = self.overlong || !self.unread.is_empty();
        self.overlong = false;
        self.unread = 0..0;
        self.searched = 0;
        Ok(true)
    }

    /// A log of a single file begins anew when it is full, and people empty logs by hand.
    fn rewind_if_cut(&mut self) -> Result<bool> {
        let Some(file) = &mut self.current else {
            return Ok(false);
        };
        let mut cut = || -> std::io::Result<bool> {
            let cut = file.metadata()?.len() < file.stream_position()?;
            if cut {
                file.rewind()?;
            }
            Ok(cut)
        };
        let cut = cut().with_context(|| format!("look at {}", self.path.display()))?;
        if cut {
            self.unread = 0..0;
            self.searched = 0;
        }
        Ok(cut)
    }
}

/// All files of the log that are there, the oldest first.
fn present(path: &Path) -> Result<VecDeque<File>> {
    opened(path, &mut |path| File::open(path))
}

/// Those files, by such an `open`.
pub(super) fn opened(path: &Path, open: Open<'_>) -> Result<VecDeque<File>> {
    // Whoever puts files aside goes down the numbers, we go up: they pass us once. If they do it
    // twice we miss files, but then another one is the newest.
    let mut newest = newest(path)?;
    let mut files = look(path, open)?;
    for _ in 0..TRIES {
        let before = std::mem::replace(&mut newest, self::newest(path)?);
        if newest == before {
            break;
        }
        files = look(path, open)?;
    }
    Ok(files)
}

/// The file that is written to, or that was until a moment ago.
fn newest(path: &Path) -> Result<Option<(u64, u64)>> {
    for number in 0..2 {
        let path = numbered(path, number);
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            there => {
                let there = there.with_context(|| format!("look at {}", path.display()))?;
                return Ok(Some((there.dev(), there.ino())));
            }
        }
    }
    Ok(None)
}

/// Opens each file once.
fn look(path: &Path, open: Open<'_>) -> Result<VecDeque<File>> {
    let mut files: VecDeque<File> = VecDeque::new();
    let mut ids = Vec::new();
    // While the log is put aside, one number is free for a moment: the one that the file moves to
    // which had the number before. Two free ones are the end.
    let mut is_free = false;
    for number in 0.. {
        let path = numbered(path, number);
        let file = match open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && is_free => break,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                is_free = true;
                continue;
            }
            file => file.with_context(|| format!("open {}", path.display()))?,
        };
        is_free = false;
        // While we looked, one that we have already may have been put aside.
        let id = id(&file)?;
        if !ids.contains(&id) {
            ids.push(id);
            files.push_front(file);
        }
    }
    Ok(files)
}

/// The files that were begun after this one, the oldest first. If this one is gone, all are newer.
fn newer_than(file: &File, path: &Path) -> Result<VecDeque<File>> {
    let there = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(VecDeque::new()),
        there => there.with_context(|| format!("look at {}", path.display()))?,
    };
    let ours = id(file)?;
    if (there.dev(), there.ino()) == ours {
        return Ok(VecDeque::new());
    }
    let mut files = present(path)?;
    let mut place = None;
    for (n, file) in files.iter().enumerate() {
        if id(file)? == ours {
            place = Some(n);
        }
    }
    if let Some(n) = place {
        files.drain(..=n);
    }
    Ok(files)
}

fn id(file: &File) -> Result<(u64, u64)> {
    let file = file.metadata().context("look at a log")?;
    Ok((file.dev(), file.ino()))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    if number != 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

/// Leaves of the files what holds the last lines, and puts the first of them where these begin.
fn skip_to_last(files: &mut VecDeque<File>, lines: u64) -> std::io::Result<()> {
    let mut wanted = lines;
    for n in (0..files.len()).rev() {
        let Some(file) = files.get_mut(n) else { break };
        if let Some(at) = last_lines(file, &mut wanted)? {
            file.seek(SeekFrom::Start(at))?;
            files.drain(..n);
            break;
        }
    }
    Ok(())
}

/// Where the last `wanted` lines of a file begin; `None`: it has fewer, and the rest of them are
/// wanted of older ones.
fn last_lines(file: &File, wanted: &mut u64) -> std::io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    // What follows the last end of a line is no line yet, and does not count.
    let mut ends = 0;
    let mut end = length;
    let mut block = vec![0; BLOCK as usize];
    while end != 0 {
        let begin = end.saturating_sub(BLOCK);
        let bytes = block.get_mut(..(end - begin) as usize).unwrap_or_default();
        file.read_exact_at(bytes, begin)?;
        for at in memrchr_iter(b'\n', bytes) {
            if ends == *wanted {
                return Ok(Some(begin + at as u64 + 1));
            }
            ends += 1;
        }
        end = begin;
    }
    *wanted -= ends;
    Ok((*wanted == 0).then_some(0))
}
