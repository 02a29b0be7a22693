//! Manifests: the documents that a tag or a digest names.

use anyhow::{Context, Error, Result, bail, ensure};
use images::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;
use ureq::http::header::{ACCEPT, CONTENT_TYPE};
use ureq::http::{HeaderName, Method};

use super::message::{Head, Payload, Request, parse};
use super::refusal::{Refusal, printable};
use super::{Registry, pull};

/// Registries take no larger ones (distribution-spec, "Pushing Manifests").
const LARGEST: u64 = 4 << 20;

const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+";

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A manifest or an index, byte for byte as the registry has it.
#[derive(Debug)]
pub struct Fetched {
    /// One of the four types of manifests and indexes that OCI and docker have.
    pub media_type: String,
    /// That of [`bytes`](Fetched::bytes).
    pub digest: Digest,
    /// The document.
    pub bytes: Vec<u8>,
}

impl Registry {
    /// Asks with one HEAD what `reference`, a tag or a digest, stands for now. `None`: for nothing,
    /// or the registry doesn't say; [`manifest`](Registry::manifest) tells which.
    ///
    /// # Errors
    /// The registry cannot be reached, or refuses.
    pub fn head(&self, repository: &str, reference: &str) -> Result<Option<Digest>> {
        let request = about(
            Method::HEAD,
            repository,
            reference,
            "what the name stands for now",
        );
        let answer = self.call(&request, &mut self.tries(&|_| {}))?;
        if [404, 405].contains(&answer.status().as_u16()) {
            return Ok(None);
        }
        let granted = answer.granted().map_err(Error::new);
        let answer = granted.map_err(|error| self.explain(error, repository, reference))?;
        Ok(announced(&answer.head))
    }

    /// Fetches the manifest or index that `reference`, a tag or a digest, names.
    ///
    /// # Errors
    /// There is none, or it is not what it claims to be.
    pub fn manifest(&self, repository: &str, reference: &str) -> Result<Fetched> {
        let request = about(Method::GET, repository, reference, "the manifest");
        let fetched = self.document(&request, LARGEST);
        let (head, bytes) = fetched.map_err(|error| self.explain(error, repository, reference))?;
        let name = self.named(repository, reference);
        check(reference, &head, bytes).with_context(|| format!("the manifest of {name}"))
    }

    /// Puts a manifest or index under `reference`, a tag or its digest.
    ///
    /// # Errors
    /// The registry refuses it, or takes it for another one.
    pub fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest> {
        let request = Request::new(
            Method::PUT,
            path(repository, reference),
            "the manifest, which makes an image of the blobs",
        )
        .scope(&super::push(repository))
        .header(CONTENT_TYPE, media_type)
        .payload(Payload::Bytes(bytes));
        let answer = self.call(&request, &mut self.tries(&|_| {}))?.granted()?;
        let digest = Digest::of(bytes);
        let theirs = announced(&answer.head);
        ensure!(
            theirs.is_none_or(|theirs| theirs == digest),
            "the registry took the manifest {digest} for another one; push again"
        );
        Ok(digest)
    }

    /// What went wrong, a refusal in the words that docker has for it.
    fn explain(&self, error: Error, repository: &str, reference: &str) -> Error {
        let familiar = self.http.endpoint().familiar(repository);
        let refusal = error.downcast_ref::<Refusal>();
        match refusal.and_then(|refusal| refusal.of_pull(&familiar, reference)) {
            Some(what) => error.context(what),
            None => error,
        }
    }

    fn named(&self, repository: &str, reference: &str) -> String {
        let separator = if reference.contains(':') { '@' } else { ':' };
        let repository = self.http.endpoint().familiar(repository);
        format!("{repository}{separator}{reference}")
    }
}

fn path(repository: &str, reference: &str) -> String {
    format!("v2/{repository}/manifests/{reference}")
}

fn about<'a>(method: Method, repository: &str, reference: &str, why: &'static str) -> Request<'a> {
    let types = [MANIFESTS, INDEXES].concat().join(", ");
    Request::new(method, path(repository, reference), why)
        .scope(&pull(repository))
        .header(ACCEPT, types)
}

/// The digest in an answer's header. Others than SHA-256 are of no use to us, and no fault.
fn announced(head: &Head) -> Option<Digest> {
    head.header(&CONTENT_DIGEST)?.parse().ok()
}

/// What a manifest says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
}

/// Holds a document against its name, its headers and itself.
fn check(reference: &str, head: &Head, bytes: Vec<u8>) -> Result<Fetched> {
    let digest = Digest::of(&bytes);
    let asked = match reference.contains(':') {
        true => Some(reference.parse()?),
        false => None,
    };
    for expected in [asked, announced(head)].into_iter().flatten() {
        ensure!(
            digest == expected,
            "it should be {expected}, but what came is {digest}; the registry or something on the way has damaged it"
        );
    }
    let outline: Outline = parse(&bytes).context("this is not a manifest, as JSON goes")?;
    let header = head.header(&CONTENT_TYPE).map(without_parameters);
    Ok(Fetched {
        media_type: outline.media_type(header)?,
        digest,
        bytes,
    })
}

impl Outline {
    /// One type that header, document and contents agree on: what is a manifest to one reader must
    /// not be an index to another (CVE-2021-41190).
    fn media_type(self, header: Option<&str>) -> Result<String> {
        let own = self.media_type.as_deref();
        let says = own.or(header).unwrap_or_default();
        ensure!(
            self.schema_version != 1 && !says.starts_with(SCHEMA1),
            "it is of docker's schema 1, which is out of use since 2016; ask the publisher to push the \
             image with a newer docker"
        );
        let known = |kind: &&str| MANIFESTS.contains(kind) || INDEXES.contains(kind);
        let kinds: Vec<&str> = [own, header.filter(known)].into_iter().flatten().collect();
        let index = self.manifests.is_some();
        let manifest = self.layers.is_some() || self.config.is_some();
        let kind = match kinds[..] {
            [one, other] if one != other => bail!(
                "it says that it is {}, and the registry that it is {}",
                printable(one),
                printable(other)
            ),
            [kind, ..] => kind,
            // The specification wants neither; the contents then have to say it.
            [] if index => INDEXES[0],
            [] => MANIFESTS[0],
        };
        ensure!(
            known(&kind),
            "it is {}, which is neither an image nor an index of images",
            printable(kind)
        );
        ensure!(
            index != manifest && index == INDEXES.contains(&kind),
            "it says that it is {kind}, and what is in it is something else"
        );
        Ok(kind.to_owned())
    }
}

fn without_parameters(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}
