//! One request, its redirects, and who may be told what on the way.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, ensure};
use jiff::Timestamp;
use ureq::config::Config;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, RETRY_AFTER};
use ureq::http::response::Parts;
use ureq::http::{HeaderName, Method, StatusCode};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Body, Proxy, SendBody};

use super::endpoint::Endpoint;
use super::pace::Pacing;
use super::patience::{Fault, Patience, retry_after, too_slow};
use super::refusal::Refusal;
use super::tls::{CERTIFICATES, Tls};
use super::url::Url;

/// As many as docker follows.
const MOST_REDIRECTS: usize = 10;

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
#[derive(Clone, Copy)]
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
}

impl Answer {
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

    /// The pause that a busy server asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        retry_after(self.header(&RETRY_AFTER)?, Timestamp::now())
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

/// The connections to a registry, and to the servers that it names.
pub(crate) struct Http {
    endpoint: Endpoint,
    patience: Patience,
    /// One for each [`Trust`], made when it is needed.
    agents: [OnceLock<Agent>; 3],
    /// Whether anybody has answered yet.
    answered: AtomicBool,
}

/// What has to be known of the other side before anything is said.
#[derive(Clone, Copy)]
enum Trust {
    /// Nothing, and no proxy is needed to get there.
    Here,
    /// Nothing, for the user said so.
    Blind,
    /// For HTTPS a certificate for its name, from an authority that this host trusts.
    Certified,
}

impl Http {
    pub(crate) fn new(endpoint: Endpoint, patience: Patience) -> Http {
        Http {
            endpoint,
            patience,
            agents: Default::default(),
            answered: AtomicBool::new(false),
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn patience(&self) -> Patience {
        self.patience
    }

    /// Sends a request, wherever that leads. What `authorization` says is for the first URL's host
    /// and for nobody that it sends us to: the registry's redirects lead to others' blob storage.
    pub(crate) fn send(
        &self,
        request: &Request,
        authorization: Option<&str>,
    ) -> Result<Answer, Fault> {
        let path = match &request.target {
            Target::Url(url) => return self.follow(request, url.clone(), authorization),
            Target::Path(path) => path,
        };
        if let Some(base) = self.endpoint.chosen() {
            return self.follow(request, base.join(path)?, authorization);
        }
        // The first request: which of the registry's URLs is the one?
        let mut best: Option<Result<Answer, Fault>> = None;
        for base in self.endpoint.candidates() {
            let outcome = self.follow(request, base.join(path)?, authorization);
            // What a server for HTTPS answers to plain HTTP.
            let foreign = |answer: &Answer| answer.status() == StatusCode::BAD_REQUEST;
            match &outcome {
                Ok(answer) if base.is_https() || !foreign(answer) => {
                    self.endpoint.choose(base);
                    return outcome;
                }
                Ok(_) => best = Some(outcome),
                Err(_) => best = best.or(Some(outcome)),
            }
        }
        best.unwrap_or_else(|| Err(anyhow!("a registry without a URL").into()))
    }

    fn follow(
        &self,
        request: &Request,
        mut url: Url,
        authorization: Option<&str>,
    ) -> Result<Answer, Fault> {
        let mut authorization = authorization.filter(|_| self.endpoint.allows(&url));
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.exchange(request, &url, authorization)?;
            if !is_redirect(&request.method, answer.status()) {
                return Ok(answer);
            }
            let next = answer.head.location()?;
            if !next.same_origin(&url) {
                authorization = None;
            }
            answer.drain();
            url = next;
        }
        Err(
            anyhow!("stopped after {MOST_REDIRECTS} redirects, of which the last is to {url}")
                .into(),
        )
    }

    /// One request on the wire.
    fn exchange(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Answer, Fault> {
        let method = &request.method;
        tracing::info!(call = %format_args!("{method} {url}"), "{}", request.why);
        let mut message = ureq::http::Request::builder()
            .method(method)
            .uri(url.as_uri());
        for (name, value) in &request.headers {
            message = message.header(name, value);
        }
        if let Some(authorization) = authorization {
            message = message.header(AUTHORIZATION, authorization);
        }
        let what = format!("{method} {url}");
        let agent = self.agent(url)?;
        let answer = match length(request) {
            None => agent.run(message.body(()).context(what.clone())?),
            Some(length) => {
                let mut body = reader(request.payload);
                let message = message.header(CONTENT_LENGTH, length);
                let message = message.body(SendBody::from_reader(&mut body));
                agent.run(message.context(what.clone())?)
            }
        };
        let answered = self.answered.load(Ordering::Relaxed);
        let answer = answer.map_err(|error| self.fault(error, answered, &what))?;
        self.answered.store(true, Ordering::Relaxed);
        let (parts, body) = answer.into_parts();
        let url = url.clone();
        Ok(Answer {
            head: Head { url, parts },
            body,
        })
    }

    /// A body that has to be at hand as a whole, of at most `limit` bytes.
    pub(crate) fn document(&self, answer: Answer, limit: u64) -> Result<(Head, Vec<u8>), Fault> {
        let url = &answer.head.url;
        let too_much = || anyhow!("{url} answers with more than {limit} bytes; it should be small");
        if answer
            .body
            .content_length()
            .is_some_and(|size| size > limit)
        {
            return Err(too_much().into());
        }
        let mut bytes = Vec::new();
        let read = answer
            .body
            .into_reader()
            .take(limit + 1)
            .read_to_end(&mut bytes);
        read.map_err(|error| self.broken(error, url))?;
        if bytes.len() as u64 > limit {
            return Err(too_much().into());
        }
        Ok((answer.head, bytes))
    }

    /// A body that came to an end too early.
    pub(crate) fn broken(&self, error: io::Error, url: &Url) -> Fault {
        self.fault(error.into(), true, &format!("the answer of {url}"))
    }

    /// Whoever has answered once is waited for when he is gone. Who never did may not be there at
    /// all, and the user had better hear of that at once.
    fn fault(&self, error: ureq::Error, answered: bool, what: &str) -> Fault {
        let cut = |kind| {
            matches!(
                kind,
                ErrorKind::UnexpectedEof
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
            )
        };
        let (passing, error) = match error {
            ureq::Error::Timeout(_) => (answered, too_slow(self.patience)),
            ureq::Error::Io(error) => match advice(&error, self.endpoint.name()) {
                Some(advice) => (false, anyhow!("{error}; {advice}")),
                None => (answered || cut(error.kind()), Error::new(error)),
            },
            ureq::Error::HostNotFound => (answered, anyhow!("no such host")),
            error @ (ureq::Error::Protocol(_) | ureq::Error::ConnectProxyFailed(_)) => {
                (answered, Error::new(error))
            }
            error => (false, Error::new(error)),
        };
        let error = error.context(what.to_owned());
        match passing {
            true => Fault::Passing(error, None),
            false => Fault::Lasting(error),
        }
    }

    fn agent(&self, url: &Url) -> Result<&Agent> {
        let trust = match (url.is_loopback(), self.endpoint.trusted_blindly()) {
            (true, _) => Trust::Here,
            (false, true) => Trust::Blind,
            (false, false) => Trust::Certified,
        };
        let agent = &self.agents[trust as usize];
        match agent.get() {
            Some(agent) => Ok(agent),
            None => {
                let made = self.make_agent(trust)?;
                Ok(agent.get_or_init(|| made))
            }
        }
    }

    fn make_agent(&self, trust: Trust) -> Result<Agent> {
        let (tls, proxy) = match trust {
            Trust::Here => (Tls::blind()?, None),
            Trust::Blind => (Tls::blind()?, Proxy::try_from_env()),
            Trust::Certified => (
                Tls::for_registry(self.endpoint.name())?,
                Proxy::try_from_env(),
            ),
        };
        let config = Config::builder()
            .proxy(proxy)
            .user_agent(concat!("minidocker/", env!("CARGO_PKG_VERSION")))
            // Compressed on the way, a blob would have another length and no ranges.
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(self.patience.limit))
            .timeout_recv_response(Some(self.patience.limit))
            .build();
        let connector = ConnectProxyConnector::default()
            .chain(TcpConnector::default())
            .chain(tls)
            .chain(Pacing(self.patience.limit));
        let resolver = DefaultResolver::default();
        Ok(Agent::with_parts(config, connector, resolver))
    }
}

/// Whether an answer sends us on. Only what asks for nothing but an answer is asked elsewhere after
/// 301 to 303, which may turn another method into GET (RFC 9110, section 15.4).
fn is_redirect(method: &Method, status: StatusCode) -> bool {
    match status.as_u16() {
        301..=303 => [Method::GET, Method::HEAD].contains(method),
        307 | 308 => true,
        _ => false,
    }
}

/// What the user can do about a TLS connection that did not come about.
fn advice(error: &io::Error, registry: &str) -> Option<String> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(_) => Some(format!(
            "put the certificate of its authority into {CERTIFICATES}/{registry}/ca.crt, or give --insecure"
        )),
        rustls::Error::InvalidMessage(_) => Some(
            "this may be a server for plain HTTP; where that is meant, give --insecure".to_owned(),
        ),
        _ => None,
    }
}

/// `None`: there is no body, nor the header that says how long it is.
fn length(request: &Request) -> Option<u64> {
    match request.payload {
        Payload::Bytes(bytes) => Some(bytes.len() as u64),
        Payload::Part { length, .. } => Some(length),
        Payload::None if [Method::GET, Method::HEAD].contains(&request.method) => None,
        Payload::None => Some(0),
    }
}

fn reader<'a>(payload: Payload<'a>) -> Box<dyn Read + 'a> {
    match payload {
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
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_from_https_to_http() {
        let location = |from: &str, to: &str| {
            let answer = ureq::http::Response::builder().header(LOCATION, to);
            let (parts, ()) = answer.body(()).unwrap().into_parts();
            let url = Url::parse(from).unwrap();
            Head { url, parts }.location()
        };
        assert!(location("http://one.example/", "http://two.example/").is_ok());
        assert!(location("http://one.example/", "https://two.example/").is_ok());
        assert!(location("https://one.example/", "/there").is_ok());
        let error = location("https://one.example/", "http://one.example/");
        assert!(format!("{:#}", error.err().unwrap()).contains("anybody could read"));
        assert!(location("https://one.example/", "file:///etc/passwd").is_err());
    }

    #[test]
    fn only_what_asks_for_an_answer_is_asked_elsewhere() {
        let redirect = |method, status| is_redirect(&method, StatusCode::from_u16(status).unwrap());
        assert!(redirect(Method::GET, 301) && redirect(Method::HEAD, 303));
        assert!(redirect(Method::PUT, 307) && redirect(Method::GET, 308));
        assert!(!redirect(Method::POST, 302) && !redirect(Method::GET, 304));
    }
}
