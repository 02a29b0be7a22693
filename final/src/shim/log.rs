//! What a container writes, kept as docker's `json-file` driver keeps it: one JSON object a line.
//!
//! ```text
//! pipe or pty ──▶ lines, at most 16 KiB each ──▶ {"log":"hello\n","stream":"stdout","time":"…Z"}
//!                   │ a line's beginning waits         │ a batch for each piece of output read
//!                   ▼ here for its end                 ▼
//!                 pending                            ID-json.log, ID-json.log.1, …
//! ```
//!
//! A container is never held up or ended by its log. What a full disk has no room for is dropped,
//! whole lines of it, and the log says how much once it can.

mod escape;
mod file;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;
use memchr::memchr;

use super::protocol::Stream;
use crate::state::LogConfig;
use escape::{escape, whole_characters};
use file::LogFile;

/// A longer line is written in pieces of so many bytes, as docker does; only the last has a `\n`.
const PIECE: usize = 16 << 10;

/// So much is gathered, in bytes, before it is written.
const BATCH: usize = 32 << 10;

/// The log of one container.
#[derive(Debug)]
pub struct Log {
    /// Where it goes, unless nobody wants it.
    file: Option<LogFile>,
    out: Half,
    err: Half,
    batch: Vec<u8>,
}

/// One of the two streams.
#[derive(Debug, Default)]
struct Half {
    /// The beginning of a line whose end has not come, less than [`PIECE`].
    pending: Vec<u8>,
    /// How the first piece of a long line closed: all its pieces are of that time.
    begun: Option<String>,
}

impl Log {
    /// Opens the log at `path` to go on with it.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub fn open(path: &Path, config: &LogConfig) -> Result<Log> {
        let kept = config.r#type != "none";
        Ok(Log {
            file: kept.then(|| LogFile::open(path, config)).transpose()?,
            out: Half::default(),
            err: Half::default(),
            batch: Vec::new(),
        })
    }

    /// Keeps what was read just now. What cannot be kept is counted, and is no error.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let half = match stream {
            Stream::Err => &mut self.err,
            Stream::Out | Stream::In => &mut self.out,
        };
        let now = closing(stream, Timestamp::now());
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = PIECE - half.pending.len();
            let near = rest.get(..room).unwrap_or(rest);
            let end = memchr(b'\n', near);
            if end.is_none() && near.len() < room {
                half.pending.extend_from_slice(near);
                break;
            }
            let (piece, after) = rest.split_at(end.unwrap_or(near.len()));
            half.record(piece, end.is_some(), &now, &mut self.batch);
            rest = after.get(usize::from(end.is_some())..).unwrap_or_default();
            if self.batch.len() >= BATCH || file.is_full(self.batch.len()) {
                file.append(&mut self.batch);
            }
        }
        file.append(&mut self.batch);
    }

    /// The streams have ended, and with them their last lines, be they whole or not.
    pub fn end(&mut self) {
        let Some(file) = &mut self.file else { return };
        for (stream, half) in [(Stream::Out, &mut self.out), (Stream::Err, &mut self.err)] {
            let now = closing(stream, Timestamp::now());
            half.rest(&now, &mut self.batch);
            *half = Half::default();
        }
        file.append(&mut self.batch);
    }
}

impl Half {
    /// Adds one record to the batch: what is pending and the `piece`, which the line's end follows
    /// or not. Of a character that is not whole yet the beginning is left for the next piece.
    fn record(&mut self, piece: &[u8], ended: bool, now: &str, batch: &mut Vec<u8>) {
        let mut joined = std::mem::take(&mut self.pending);
        let bytes = if joined.is_empty() {
            piece
        } else {
            joined.extend_from_slice(piece);
            &joined
        };
        let length = if ended {
            bytes.len()
        } else {
            whole_characters(bytes)
        };
        let (bytes, begun) = bytes.split_at(length);
        batch.extend_from_slice(b"{\"log\":\"");
        escape(bytes, batch);
        if ended {
            batch.extend_from_slice(b"\\n");
        }
        batch.extend_from_slice(self.begun.as_deref().unwrap_or(now).as_bytes());
        if ended {
            self.begun = None;
        } else if self.begun.is_none() {
            self.begun = Some(now.to_owned());
        }
        let begun = begun.to_vec();
        joined.clear();
        joined.extend_from_slice(&begun);
        self.pending = joined;
    }

    /// Adds what is pending to the batch: there will be no end to it.
    fn rest(&mut self, now: &str, batch: &mut Vec<u8>) {
        if self.pending.is_empty() {
            return;
        }
        batch.extend_from_slice(b"{\"log\":\"");
        escape(&self.pending, batch);
        batch.extend_from_slice(self.begun.as_deref().unwrap_or(now).as_bytes());
    }
}

/// How each record of a time ends. Zeros at a second's end are left out, as in Go's RFC3339Nano.
fn closing(stream: Stream, time: Timestamp) -> String {
    format!(
        "\",\"stream\":\"{}\",\"time\":\"{time}\"}}\n",
        stream.name()
    )
}
