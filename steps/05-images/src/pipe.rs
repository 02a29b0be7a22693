//! A pipe between two threads, as `|` makes one between two programs.
//!
//! Not pipe(2): a writer whose reader is gone would be killed (SIGPIPE), and a reader could not tell
//! a stream that ended from one whose writer failed.

use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::archive::BUFFER;

/// How many full buffers may wait for the reader: enough for both to work at once, and no more
/// than a few megabytes however large the stream is.
const WAITING: usize = 4;

/// Makes a pipe.
pub(crate) fn pipe() -> (Writer, Reader) {
    let (to, from) = sync_channel(WAITING);
    let writer = Writer {
        to,
        buffer: Vec::with_capacity(BUFFER),
    };
    let reader = Reader {
        from,
        buffer: Vec::new(),
        taken: 0,
        ended: false,
    };
    (writer, reader)
}

/// The end that is written to. Dropped before [`finish`](Writer::finish), it lets the reader fail.
pub(crate) struct Writer {
    to: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
}

/// The reader is gone; why, only it knows.
#[derive(Debug)]
pub(crate) struct Gone;

impl Writer {
    /// Hands bytes to the reader, and waits while it is behind.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let room = BUFFER - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == BUFFER {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Tells the reader that this was all.
    pub(crate) fn finish(mut self) -> Result<(), Gone> {
        if !self.buffer.is_empty() {
            self.send()?;
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), Gone> {
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER));
        self.to.send(full).map_err(|_| Gone)
    }
}

/// The end that is read from.
pub(crate) struct Reader {
    from: Receiver<Vec<u8>>,
    buffer: Vec<u8>,
    taken: usize,
    ended: bool,
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.buffer.len() && !self.ended {
            let next = self.from.recv();
            self.buffer = next.map_err(|_| io::Error::from(ErrorKind::UnexpectedEof))?;
            self.taken = 0;
            self.ended = self.buffer.is_empty();
        }
        Ok(self.buffer.get(self.taken..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.taken += count;
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(into.len());
        if let (Some(into), Some(bytes)) = (into.get_mut(..count), bytes.get(..count)) {
            into.copy_from_slice(bytes);
        }
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_then_the_end() {
        let (mut to, mut from) = pipe();
        let sent: Vec<u8> = (0..3 * BUFFER + 7).map(|n| n as u8).collect();
        let given = sent.clone();
        let writer = thread::spawn(move || {
            given.chunks(100_001).for_each(|it| to.write(it).unwrap());
            to.finish().unwrap();
        });
        let mut got = Vec::new();
        from.read_to_end(&mut got).unwrap();
        writer.join().unwrap();
        assert!(got == sent);
    }

    #[test]
    fn a_writer_that_fails_is_no_end() {
        let (mut to, mut from) = pipe();
        to.write(b"half").unwrap();
        drop(to);
        assert!(from.read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_writer_learns_that_nobody_reads() {
        let (mut to, from) = pipe();
        drop(from);
        assert!(to.write(&vec![0; BUFFER]).is_err());
    }
}
