//! Blobs on their way in.

use std::io::{self, Read};
use std::time::Duration;

use anyhow::{Error, Result, anyhow, ensure};
use images::Digest;
use ureq::BodyReader;
use ureq::http::header::{CONTENT_RANGE, RANGE};
use ureq::http::{Method, StatusCode};

use super::message::{Head, Request};
use super::pace::LEAST;
use super::patience::{Fault, Tries};
use super::refusal::printable;
use super::url::Url;
use super::{Blob, Registry, pull};

/// A blob's bytes, from where the caller has none yet to its end.
///
/// They come through broken connections and stalls, each time from where the last one ended. What
/// they are worth is for the caller to find out: nothing is hashed here.
pub struct Download<'a> {
    registry: &'a Registry,
    repository: String,
    blob: Blob,
    /// How many bytes of the blob the caller has.
    at: u64,
    body: Option<(Url, BodyReader<'static>)>,
    /// How many bytes will come first that the caller has already.
    skip: u64,
    /// How many came since the last failure.
    came: usize,
    tries: Tries<'a>,
}

impl Registry {
    /// Fetches a blob's bytes from number `from` on. `pausing` is told of each pause between two
    /// tries, before it is made.
    ///
    /// # Errors
    /// There is no such blob, or the registry cannot be reached or refuses.
    pub fn blob<'a>(
        &'a self,
        repository: &str,
        blob: Blob,
        from: u64,
        pausing: &'a (dyn Fn(Duration) + Sync),
    ) -> Result<Download<'a>> {
        let mut download = Download {
            registry: self,
            repository: repository.to_owned(),
            blob,
            at: from,
            body: None,
            skip: 0,
            came: 0,
            tries: self.tries(pausing),
        };
        if from < blob.size {
            download.connect()?;
        }
        Ok(download)
    }
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.at >= self.blob.size {
            return Ok(0);
        }
        loop {
            match self.read_on(buffer) {
                Ok(count) => return Ok(count),
                Err(fault) => self.tries.again(fault).map_err(io::Error::other)?,
            }
        }
    }
}

impl Download<'_> {
    /// Some bytes, from a new connection where the last one has broken.
    fn read_on(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        if self.body.is_none() {
            self.connect()?;
        }
        loop {
            let count = self.receive(buffer)?;
            if self.skip == 0 {
                self.arrived(count)?;
                return Ok(count);
            }
            self.skip -= count as u64;
        }
    }

    /// Asks for what is missing, always at the registry itself: the address of the blob storage that
    /// it redirects to is good for some minutes only.
    fn connect(&mut self) -> Result<()> {
        let (at, size) = (self.at, self.blob.size);
        let path = path(&self.repository, &self.blob.digest);
        let mut request = Request::new(Method::GET, path, "a blob").scope(&pull(&self.repository));
        if at > 0 {
            request.why = "the rest of a blob";
            request = request.header(RANGE, format!("bytes={at}-"));
        }
        let answer = self.registry.call(&request, &mut self.tries)?;
        let answer = answer.granted().map_err(|refusal| {
            Error::new(refusal).context(format!("fetch {}", self.blob.digest))
        })?;
        // A registry that knows no ranges sends all of it again.
        let partial = answer.status() == StatusCode::PARTIAL_CONTENT;
        let begins = if partial { at } else { 0 };
        if partial {
            check_range(&answer.head, at, size)?;
        }
        if let Some(length) = answer.body.content_length() {
            ensure!(
                length == size - begins,
                "{} announces {length} bytes where {} has {}",
                answer.head.url,
                self.blob.digest,
                size - begins
            );
        }
        self.skip = at - begins;
        self.came = 0;
        self.body = Some((answer.head.url, answer.body.into_reader()));
        Ok(())
    }

    /// What comes next, be it wanted or not. The connection is given up where it broke.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let wanted = self.blob.size - self.at;
        let left = if self.skip > 0 { self.skip } else { wanted };
        let room = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some((url, body)) = &mut self.body else {
            return Ok(0);
        };
        let broken = match body.read(buffer.get_mut(..room).unwrap_or_default()) {
            Ok(0) => self
                .registry
                .http
                .broken(io::ErrorKind::UnexpectedEof.into(), url),
            Err(error) => self.registry.http.broken(error, url),
            Ok(count) => return Ok(count),
        };
        self.body = None;
        Err(broken)
    }

    fn arrived(&mut self, count: usize) -> Result<()> {
        self.at += count as u64;
        self.came += count;
        // Who sends a byte at a time and hangs up makes no progress to speak of.
        if self.came >= LEAST {
            self.tries.progress();
        }
        if self.at < self.blob.size {
            return Ok(());
        }
        // The end has to be seen: a connection whose answer was read to it can be used again.
        let Some((url, mut body)) = self.body.take() else {
            return Ok(());
        };
        match body.read(&mut [0]) {
            Ok(1..) => Err(anyhow!(
                "{url} sends more than the {} bytes that {} has",
                self.blob.size,
                self.blob.digest
            )),
            _ => Ok(()),
        }
    }
}

pub(crate) fn path(repository: &str, digest: &Digest) -> String {
    format!("v2/{repository}/blobs/{digest}")
}

/// Holds `Content-Range: bytes 5-9/10` against what was asked for (RFC 9110, section 14.4).
fn check_range(head: &Head, at: u64, size: u64) -> Result<()> {
    let said = head.header(&CONTENT_RANGE).unwrap_or_default();
    let shown = printable(said);
    let range = said.trim().strip_prefix("bytes ");
    let (range, total) = range
        .and_then(|range| range.split_once('/'))
        .unwrap_or_default();
    let (first, last) = range.split_once('-').unwrap_or_default();
    let right = first.parse() == Ok(at)
        && last.parse() == Ok(size - 1)
        && (total == "*" || total.parse() == Ok(size));
    ensure!(
        right,
        "{} answers with the range {shown:?} where the bytes from {at} to the end at {size} were asked for",
        head.url
    );
    Ok(())
}
