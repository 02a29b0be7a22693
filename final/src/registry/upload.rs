//! Blobs on their way out (distribution-spec, "Pushing blobs").
//!
//! ```text
//!   HEAD  /v2/NAME/blobs/DIGEST                    it is there: nothing to do
//!   POST  /v2/NAME/blobs/uploads/?mount=…&from=…   201: taken from another repository
//!                                                  202: a session, at Location
//!   PATCH Location, Content-Range: 0-8388607       202: the session goes on at a new Location
//!   GET   Location                                 after a failure: how much has arrived?
//!   PUT   Location?digest=…                        201: it is a blob
//! ```

use std::fs::File;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, RANGE};
use ureq::http::{HeaderName, Method, StatusCode};

use super::download::path;
use super::message::{Head, Payload, Request};
use super::patience::{Fault, Tries};
use super::url::{Url, percent_encoded};
use super::{Blob, Registry, pull, push};

/// What goes out in one request: so much at most is sent again after a failure.
const CHUNK: u64 = 8 << 20;

/// How much a registry wants in each chunk but the last.
const LEAST: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// A blob that a registry should have.
pub struct Upload<'a> {
    /// What it is.
    pub blob: Blob,
    /// Where its bytes are, from the beginning of the file on.
    pub file: &'a File,
    /// A repository of the same registry that may have it already.
    pub mount_from: Option<&'a str>,
    /// Told how many bytes the registry has been sent, which after a failure may become fewer.
    pub sent: &'a (dyn Fn(u64) + Sync),
    /// Told of each pause between two tries, before it is made.
    pub pausing: &'a (dyn Fn(Duration) + Sync),
}

/// How a blob came to be at a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there.
    Present,
    /// The registry took it from the other repository.
    Mounted,
    /// It was sent.
    Sent,
}

impl Registry {
    /// Brings a blob to a repository, in the cheapest way that works.
    ///
    /// # Errors
    /// The registry refuses it or cannot be reached, or the file cannot be read.
    pub fn push_blob(&self, repository: &str, upload: &Upload) -> Result<Outcome> {
        if self.has_blob(repository, upload)? {
            return Ok(Outcome::Present);
        }
        let mut tries = self.tries(upload.pausing);
        loop {
            let Some(mut session) = self.begin(repository, upload, &mut tries)? else {
                return Ok(Outcome::Mounted);
            };
            match session.run() {
                Ok(()) => return Ok(Outcome::Sent),
                Err(fault) => tries.again(fault)?,
            }
        }
    }

    fn has_blob(&self, repository: &str, upload: &Upload) -> Result<bool> {
        let path = path(repository, &upload.blob.digest);
        let request = Request::new(Method::HEAD, path, "whether the registry has the blob")
            .scope(&push(repository));
        let answer = self.call(&request, &mut self.tries(upload.pausing))?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            _ => Ok(answer.granted().map(|_| true)?),
        }
    }

    /// Opens an upload session. `None`: it is not needed, for the blob was mounted.
    fn begin<'a>(
        &'a self,
        repository: &str,
        upload: &'a Upload<'a>,
        tries: &mut Tries,
    ) -> Result<Option<Session<'a>>> {
        let mut path = format!("v2/{repository}/blobs/uploads/");
        let mut scope = push(repository);
        if let Some(from) = upload.mount_from {
            let (digest, encoded) = (upload.blob.digest, percent_encoded(from));
            path.push_str(&format!("?mount={digest}&from={encoded}"));
            scope.push_str(&format!(" {}", pull(from)));
        }
        let request = Request::new(Method::POST, path, "a place to send the blob to");
        let answer = self.call(&request.scope(&scope), tries)?.granted()?;
        if answer.status() == StatusCode::CREATED {
            return Ok(None);
        }
        let least = answer.head.header(&LEAST);
        let least = least.and_then(|least| least.parse().ok()).unwrap_or(0);
        Ok(Some(Session {
            registry: self,
            repository: repository.to_owned(),
            upload,
            location: answer.head.location()?,
            chunk: CHUNK.max(least),
            at: 0,
            furthest: 0,
            resumed: false,
            tries: self.tries(upload.pausing),
        }))
    }
}

/// An upload session, which a registry keeps for a while.
struct Session<'a> {
    registry: &'a Registry,
    repository: String,
    upload: &'a Upload<'a>,
    /// Where it goes on, which each answer says anew.
    location: Url,
    chunk: u64,
    /// How many bytes the registry has.
    at: u64,
    /// The most that it ever had.
    furthest: u64,
    /// Whether a request has been broken off.
    resumed: bool,
    tries: Tries<'a>,
}

impl Session<'_> {
    /// Sends what is missing, and closes the session. Where that fails in passing, a new session
    /// may do better.
    fn run(&mut self) -> Result<(), Fault> {
        while self.at < self.upload.blob.size {
            match self.send_chunk() {
                Ok(()) => self.note_progress(),
                Err(fault) => {
                    self.tries.again(fault)?;
                    self.look()?;
                }
            }
        }
        (self.upload.sent)(self.at);
        self.close()
    }

    /// What was here before is none: a registry that loses again and again what it had would be
    /// sent it for ever.
    fn note_progress(&mut self) {
        if self.at > self.furthest {
            self.furthest = self.at;
            self.tries.progress();
        }
    }

    fn send_chunk(&mut self) -> Result<(), Fault> {
        let from = self.at;
        let length = self.chunk.min(self.upload.blob.size - from);
        let payload = Payload::Part {
            file: self.upload.file,
            from,
            length,
            sent: self.upload.sent,
        };
        let range = format!("{from}-{}", from + length - 1);
        let request = self
            .request(Method::PATCH, &self.location, "a part of the blob")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, range)
            .payload(payload);
        let answer = self.registry.attempt(&request)?;
        let out_of_step = answer.status() == StatusCode::RANGE_NOT_SATISFIABLE;
        let head = match answer.granted().map_err(Error::new) {
            Ok(answer) => answer.head,
            Err(refusal) if out_of_step => return Err(Fault::Passing(refusal, None)),
            Err(refusal) => return Err(refusal.into()),
        };
        self.at = arrived(&head).unwrap_or(from + length);
        self.location = head.location()?;
        if self.at <= from || self.at > from + length {
            let error = anyhow!("the registry has {} bytes of {}", self.at, from + length);
            return Err(Fault::Passing(error, None));
        }
        Ok(())
    }

    /// Asks where a session stands after a failure.
    fn look(&mut self) -> Result<(), Fault> {
        self.resumed = true;
        let request = self.request(Method::GET, &self.location, "how much of it has arrived");
        let answer = self.registry.call(&request, &mut self.tries)?;
        if answer.status() == StatusCode::NOT_FOUND {
            let error = anyhow!("the registry has forgotten the upload");
            return Err(Fault::Passing(error, None));
        }
        let answer = answer.granted().map_err(Error::new)?;
        // More than there is would be another blob, which the registry then tells from ours.
        self.at = arrived(&answer.head).unwrap_or(0);
        if let Ok(location) = answer.head.location() {
            self.location = location;
        }
        Ok(())
    }

    /// Makes a blob of what has arrived.
    fn close(&mut self) -> Result<(), Fault> {
        let digest = self.upload.blob.digest;
        let url = self
            .location
            .with_query(&[("digest", &digest.to_string())])?;
        let request = self.request(Method::PUT, &url, "the blob is complete");
        let answer = loop {
            match self.registry.attempt(&request) {
                Ok(answer) => break answer,
                Err(fault) => self.tries.again(fault)?,
            }
            // Perhaps nothing is lost but the answer; a registry may take long for a large blob.
            self.resumed = true;
            if self.registry.has_blob(&self.repository, self.upload)? {
                return Ok(());
            }
        };
        match answer.granted().map_err(Error::new) {
            Ok(_) => Ok(()),
            // What was broken off may have gone on, and arrived, after we asked.
            Err(refusal) if self.resumed => Err(Fault::Passing(refusal, None)),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn request<'r>(&self, method: Method, url: &Url, why: &'static str) -> Request<'r> {
        Request::to(method, url.clone(), why).scope(&push(&self.repository))
    }
}

/// How many bytes `Range: 0-9` says have arrived. The last byte's number is told, so that one byte
/// looks like none; it is taken for none, and sent again.
fn arrived(head: &Head) -> Option<u64> {
    let range = head.header(&RANGE)?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}
