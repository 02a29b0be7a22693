//! A layer that is unpacked while it still arrives.
//!
//! ```text
//! bytes ──▶ decompress ──▶ tar, into diff/
//!           + digest
//! ```
//!
//! Each stage is a thread, and they are joined by pipes, so that a layer takes as long as its
//! slowest stage and not as long as all of them.

use std::convert::Infallible;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::archive::{BUFFER, Compression, decompress};
use crate::digest::{Digest, Hashed};
use crate::layer;
use crate::overlay::Attributes;
use crate::pipe::{self, Writer};
use crate::scratch::{open_directory, private_directory};

/// How often somebody may want to know how far it is.
const NOW_AND_THEN: Duration = Duration::from_millis(100);

/// A layer, laid out as `layers/HEX` is, but not there yet.
pub(crate) struct Unpacked {
    pub(crate) dir: PathBuf,
    /// The digest of the tar stream; none where the blob itself is that stream.
    pub(crate) diff_id: Option<Digest>,
    pub(crate) outcome: layer::Outcome,
}

impl Unpacked {
    /// The layer, if the blob that it came from is what an image says it has.
    pub(crate) fn check(self, blob: &Digest, diff_id: &Digest) -> Result<Self> {
        let its = self.diff_id.unwrap_or(*blob);
        ensure!(
            its == *diff_id,
            "the layer should have the diff id {diff_id}, and has {its}"
        );
        Ok(self)
    }
}

/// The two threads at work on a layer, and the pipe that feeds them.
pub(crate) struct Unpacking {
    feed: Option<Writer>,
    decompressor: Option<JoinHandle<Result<Option<Digest>>>>,
    unpacker: Option<JoinHandle<Result<layer::Outcome>>>,
    /// Hangs up when the last thread ends.
    ended: Receiver<Infallible>,
    dir: PathBuf,
    read: Arc<AtomicU64>,
}

impl Unpacking {
    /// Begins to unpack into the new directory `dir`.
    pub(crate) fn begin(dir: PathBuf, attributes: Attributes) -> Result<Self> {
        let diff = dir.join("diff");
        private_directory(&dir)
            .and_then(|()| open_directory(&diff))
            .with_context(|| format!("make {}", dir.display()))?;
        let read = Arc::new(AtomicU64::new(0));

        let (feed, compressed) = pipe::pipe();
        let (to, tar) = pipe::pipe();
        let (ending, ended) = channel();
        let counted = Counted(compressed, Arc::clone(&read));
        Ok(Self {
            feed: Some(feed),
            decompressor: Some(spawn("decompress", move || expand(counted, to))?),
            unpacker: Some(spawn("unpack", move || {
                let _ending = ending;
                layer::unpack(tar, &diff, attributes)
            })?),
            ended,
            dir,
            read,
        })
    }

    /// Hands over the next bytes of the blob. False where a thread has failed and no more are of
    /// use; [`finish`](Self::finish) says why.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        self.feed.take_if(|feed| feed.write(bytes).is_err());
        self.feed.is_some()
    }

    /// Waits until all of it is unpacked, and tells now and then how many of the blob's bytes have
    /// been worked on.
    ///
    /// # Errors
    /// Those of [`layer::unpack`], and a compressed stream that is damaged.
    pub(crate) fn finish(mut self, progress: &dyn Fn(u64)) -> Result<Unpacked> {
        if let Some(feed) = self.feed.take() {
            // Whoever is gone tells why below.
            let _ = feed.finish();
        }
        while self.ended.recv_timeout(NOW_AND_THEN) == Err(RecvTimeoutError::Timeout) {
            progress(self.read.load(Ordering::Relaxed));
        }
        let dir = std::mem::take(&mut self.dir);
        let expanded = join(self.decompressor.take());
        let unpacked = join(self.unpacker.take());
        // A damaged stream is cut, which is all that the unpacker sees of it.
        let diff_id = expanded?;
        let outcome = unpacked?;
        let size = dir.join("size");
        std::fs::write(&size, outcome.size.to_string())
            .with_context(|| format!("write {}", size.display()))?;
        Ok(Unpacked {
            dir,
            diff_id,
            outcome,
        })
    }
}

impl Drop for Unpacking {
    /// Lets nobody write any more to a directory that is about to be removed.
    fn drop(&mut self) {
        self.feed = None;
        let _ = join(self.decompressor.take());
        let _ = join(self.unpacker.take());
    }
}

/// Decompresses into a pipe, and hashes what comes out where that is not what went in.
fn expand(compressed: impl Read, mut to: Writer) -> Result<Option<Digest>> {
    let (compression, stream) = decompress(compressed)?;
    let mut stream = Hashed::new(stream);
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match compression {
            Compression::None => stream.unhashed().read(&mut buffer),
            Compression::Gzip | Compression::Zstd => stream.read(&mut buffer),
        };
        let count = count.context("decompress the layer")?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        if to.write(bytes).is_err() {
            return Ok(None);
        }
    }
    let _ = to.finish();
    Ok((compression != Compression::None).then(|| stream.finish()))
}

/// Reads a file to its end.
pub(crate) fn for_each_piece(path: &Path, mut to: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let what = || format!("read {}", path.display());
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).with_context(what)?);
    loop {
        let bytes = file.fill_buf().with_context(what)?;
        if bytes.is_empty() {
            return Ok(());
        }
        to(bytes)?;
        let count = bytes.len();
        file.consume(count);
    }
}

struct Counted<R>(R, Arc<AtomicU64>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(into)?;
        self.1.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(work).context("start a thread")
}

fn join<T>(thread: Option<JoinHandle<Result<T>>>) -> Result<T> {
    let ended = thread.context("the layer was given up")?.join();
    ended.unwrap_or_else(|_| bail!("a thread that unpacked a layer panicked"))
}
