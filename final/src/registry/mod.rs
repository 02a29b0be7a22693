//! The client's side of the OCI distribution-spec: what pull, push and login say to a registry.
//!
//! ```text
//!               Registry: one registry, as one user
//!   manifest.rs    HEAD, GET, PUT  /v2/NAME/manifests/TAG-or-DIGEST
//!   download.rs    GET             /v2/NAME/blobs/DIGEST, resumed where it breaks
//!   upload.rs      POST, PATCH, PUT  /v2/NAME/blobs/uploads/…, in chunks
//!       │
//!      call     attempt ── 401 ──▶ auth.rs: a token, or user and password
//!       │          │
//!       │          ▼
//!       │       http.rs: redirects, one request ──▶ tls.rs, pace.rs: its connection
//!       ▼
//!   patience.rs: once more, after a pause
//! ```
//!
//! Everything that a server sends is taken for an enemy's: sizes have bounds, documents are held
//! against their digests, URLs are read before they are followed, and texts are freed of what a
//! terminal would obey. Each request is an event that `--explain` shows.

mod auth;
mod challenge;
mod download;
mod endpoint;
mod http;
mod keychain;
mod login;
mod manifest;
mod message;
mod pace;
mod patience;
mod refusal;
mod tags;
#[cfg(test)]
mod tests;
mod tls;
mod upload;
mod url;

use std::time::Duration;

use anyhow::Result;
use images::Digest;
use ureq::http::StatusCode;

pub use auth::{Credentials, Secret};
pub use download::Download;
pub use keychain::{Keychain, host_of};
pub use manifest::Fetched;
pub use upload::{Outcome, Upload};

use auth::Auth;
use endpoint::Endpoint;
use http::Http;
use message::{Answer, Head, Request, Target};
use patience::{Fault, Patience, Tries};

/// A registry, as one user. Several threads may use it at once; they share connections and tokens.
pub struct Registry {
    http: Http,
    auth: Auth,
}

/// How a registry is spoken to.
#[derive(Default)]
pub struct Access {
    /// Whether nobody has to prove to be the registry, by HTTPS and its certificates.
    pub insecure: bool,
    /// Who the user is there, if he is anybody.
    pub credentials: Option<Credentials>,
}

/// What is known of a blob before it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// What it is called.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
}

impl Registry {
    /// The registry with that name, as `docker.io` and `localhost:5000`. Nothing is sent yet.
    ///
    /// # Errors
    /// The name is none, or `MINIDOCKER_REGISTRY_TIMEOUT` is no number of seconds.
    pub fn open(name: &str, access: Access) -> Result<Registry> {
        Registry::with_patience(name, access, Patience::from_environment()?)
    }

    fn with_patience(name: &str, access: Access, patience: Patience) -> Result<Registry> {
        Ok(Registry {
            http: Http::new(Endpoint::new(name, access.insecure)?, patience),
            auth: Auth::new(access.credentials),
        })
    }

    fn tries<'a>(&self, pausing: &'a (dyn Fn(Duration) + Sync)) -> Tries<'a> {
        Tries::new(self.http.patience(), pausing)
    }

    /// Asks until there is an answer, if only a refusal.
    fn call(&self, request: &Request, tries: &mut Tries) -> Result<Answer> {
        loop {
            match self.attempt(request) {
                Ok(answer) => return Ok(answer),
                Err(fault) => tries.again(fault)?,
            }
        }
    }

    /// Asks until there is a whole document for an answer, of at most `limit` bytes.
    fn document(&self, request: &Request, limit: u64) -> Result<(Head, Vec<u8>)> {
        let mut tries = self.tries(&|_| {});
        loop {
            let answer = self.call(request, &mut tries)?.granted()?;
            match self.http.document(answer, limit) {
                Ok(document) => return Ok(document),
                Err(fault) => tries.again(fault)?,
            }
        }
    }

    /// Asks, and once more where the registry wants to know who is asking.
    fn attempt(&self, request: &Request) -> Result<Answer, Fault> {
        let ready = self.auth.ready(&request.scope);
        let mut answer = self.ask(request, ready.as_deref())?;
        let asked = answer.status() == StatusCode::UNAUTHORIZED;
        if asked && self.http.endpoint().owns(&answer.head.url) {
            let (scope, sent) = (&request.scope, ready.as_deref());
            if let Some(better) = self.auth.answer(&self.http, &answer, scope, sent)? {
                answer.drain();
                answer = self.ask(request, Some(&better))?;
            }
        }
        answer.settled()
    }

    /// Shows what opens the registry's doors to the registry alone.
    fn ask(&self, request: &Request, authorization: Option<&str>) -> Result<Answer, Fault> {
        let ours = match &request.target {
            Target::Path(_) => true,
            Target::Url(url) => self.http.endpoint().owns(url),
        };
        self.http.send(request, authorization.filter(|_| ours))
    }
}

/// The scope of who reads a repository.
fn pull(repository: &str) -> String {
    format!("repository:{repository}:pull")
}

/// The scope of who writes to it.
fn push(repository: &str) -> String {
    format!("repository:{repository}:pull,push")
}
