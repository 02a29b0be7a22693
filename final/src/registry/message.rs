//! What goes over the wire: requests, that can be sent again, and answers.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Error, Result, anyhow, ensure};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use ureq::Body;
use ureq::http::header::{LOCATION, RETRY_AFTER};
use ureq::http::response::Parts;
use ureq::http::{HeaderName, Method, Response, StatusCode};

use super::patience::{Fault, retry_after};
use super::refusal::{Refusal, printable};
use super::url::Url;

/// A body that is shorter is sooner read than a connection is made.
const SMALL: u64 = 64 << 10;

/// What is asked for, to be sent as often as it takes.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) payload: Payload<'a>,
    /// What a token must allow, as `repository:debian:pull`.
    pub(crate) scope: String,
    /// Half a sentence for the reader of the events.
    pub(crate) why: &'static str,
}

/// Where a request goes.
pub(crate) enum Target {
    /// A path at the registry, as `v2/`.
    Path(String),
    /// Where a server sent us.
    Url(Url),
}

/// What goes along with a request.
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// `length` bytes of a file. `sent` is told how far into the file we are.
    Part {
        file: &'a File,
        from: u64,
        length: u64,
        sent: &'a dyn Fn(u64),
    },
}

/// What came back, its body still on the way.
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Body,
}

/// What came back but for the body.
pub(crate) struct Head {
    /// Whose answer this is, after all redirects.
    pub(crate) url: Url,
    parts: Parts,
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, path: String, why: &'static str) -> Request<'a> {
        Request {
            method,
            target: Target::Path(path),
            headers: Vec::new(),
            payload: Payload::None,
            scope: String::new(),
            why,
        }
    }

    pub(crate) fn to(method: Method, url: Url, why: &'static str) -> Request<'a> {
        Request {
            target: Target::Url(url),
            ..Request::new(method, String::new(), why)
        }
    }

    pub(crate) fn scope(mut self, scope: &str) -> Self {
        scope.clone_into(&mut self.scope);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }

    /// Whether it asks for nothing but an answer.
    pub(crate) fn only_asks(&self) -> bool {
        [Method::GET, Method::HEAD].contains(&self.method)
    }

    /// How long the body is. `None`: there is none, nor the header that says so.
    pub(crate) fn length(&self) -> Option<u64> {
        match self.payload {
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::Part { length, .. } => Some(length),
            Payload::None if self.only_asks() => None,
            Payload::None => Some(0),
        }
    }

    /// The body, from its beginning.
    pub(crate) fn body(&self) -> Box<dyn Read + '_> {
        match self.payload {
            Payload::None => Box::new(io::empty()),
            Payload::Bytes(bytes) => Box::new(bytes),
            Payload::Part {
                file,
                from: at,
                length,
                sent,
            } => Box::new(Part { file, at, sent }.take(length)),
        }
    }
}

struct Part<'a> {
    file: &'a File,
    at: u64,
    sent: &'a dyn Fn(u64),
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // What was read before has gone out by now.
        (self.sent)(self.at);
        let count = self.file.read_at(buffer, self.at)?;
        if count == 0 && !buffer.is_empty() {
            let error = "the file of the blob is shorter than the blob";
            return Err(io::Error::new(ErrorKind::InvalidInput, error));
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Answer {
    pub(crate) fn new(url: Url, answer: Response<Body>) -> Answer {
        let (parts, body) = answer.into_parts();
        let head = Head { url, parts };
        Answer { head, body }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.head.parts.status
    }

    /// The answer, where it is one to what was asked.
    ///
    /// # Errors
    /// A [`Refusal`], in the registry's words.
    pub(crate) fn granted(self) -> Result<Answer, Refusal> {
        match self.status().is_success() {
            true => Ok(self),
            false => Err(Refusal::read(self)),
        }
    }

    /// The answer, unless another try may bring a better one.
    pub(crate) fn settled(self) -> Result<Answer, Fault> {
        let status = self.status();
        if !status.is_server_error() && ![408, 429].contains(&status.as_u16()) {
            return Ok(self);
        }
        let pause = self.head.header(&RETRY_AFTER);
        let pause = pause.and_then(|pause| retry_after(pause, Timestamp::now()));
        let url = self.head.url.to_string();
        let refusal = Error::new(Refusal::read(self));
        Err(Fault::Passing(refusal.context(url), pause))
    }

    /// Reads to its end what nobody wants to know, for the connection to be of further use.
    pub(crate) fn drain(self) {
        let mut body = self.body.into_reader().take(SMALL);
        // A connection that breaks now is of no use in any case.
        let _ = io::copy(&mut body, &mut io::sink());
    }
}

impl Head {
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers(name).next()
    }

    /// All headers of that name; what is not ASCII in them is none of ours.
    pub(crate) fn headers(&self, name: &HeaderName) -> impl Iterator<Item = &str> {
        let all = self.parts.headers.get_all(name).into_iter();
        all.filter_map(|value| value.to_str().ok())
    }

    /// Where a redirect leads, or an upload goes on.
    pub(crate) fn location(&self) -> Result<Url> {
        let url = &self.url;
        let location = self
            .header(&LOCATION)
            .with_context(|| format!("{url} answers that it is elsewhere, and not where"))?;
        let next = url.join(location)?;
        ensure!(
            next.is_https() || !url.is_https(),
            "{url} sends us from https on to {next}, which anybody could read and change; ask its administrator to mend this"
        );
        Ok(next)
    }
}

/// Reads a document. What the reader complains of may be the sender's text, of any length.
pub(crate) fn parse<T: DeserializeOwned>(document: &[u8]) -> Result<T> {
    let read = serde_json::from_slice(document);
    read.map_err(|error| anyhow!(printable(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_from_https_to_http() {
        let location = |from: &str, to: &str| {
            let answer = Response::builder().header(LOCATION, to);
            let answer = answer.body(Body::builder().data("")).unwrap();
            Answer::new(Url::parse(from).unwrap(), answer)
                .head
                .location()
        };
        assert!(location("http://one.example/", "http://two.example/").is_ok());
        assert!(location("http://one.example/", "https://two.example/").is_ok());
        assert!(location("https://one.example/", "/there").is_ok());
        let error = location("https://one.example/", "http://one.example/");
        assert!(format!("{:#}", error.err().unwrap()).contains("anybody could read"));
        assert!(location("https://one.example/", "file:///etc/passwd").is_err());
    }
}
