//! One request, its redirects, and who may be told what on the way.

use std::io::{self, ErrorKind, Read};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Error, Result, anyhow};
use ureq::config::Config;
use ureq::http::StatusCode;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Proxy, SendBody};

use super::endpoint::Endpoint;
use super::message::{Answer, Head, Request, Target};
use super::pace::Pacing;
use super::patience::{Fault, Patience, too_slow};
use super::tls::{CERTIFICATES, Tls};
use super::url::Url;

/// As many as docker follows.
const MOST_REDIRECTS: usize = 10;

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
            if !is_redirect(request, answer.status()) {
                return Ok(answer);
            }
            let next = answer.head.location()?;
            if !next.same_origin(&url) {
                authorization = None;
                if !request.only_asks() {
                    return Err(
                        anyhow!("{url} wants us to tell {next} what is meant for itself").into(),
                    );
                }
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
        let answer = match request.length() {
            None => agent.run(message.body(()).context(what.clone())?),
            Some(length) => {
                let mut body = request.body();
                let message = message.header(CONTENT_LENGTH, length);
                let message = message.body(SendBody::from_reader(&mut body));
                agent.run(message.context(what.clone())?)
            }
        };
        let answered = self.answered.load(Ordering::Relaxed);
        let answer = answer.map_err(|error| self.fault(error, answered, &what))?;
        self.answered.store(true, Ordering::Relaxed);
        Ok(Answer::new(url.clone(), answer))
    }

    /// A body that has to be at hand as a whole, of at most `limit` bytes.
    pub(crate) fn document(&self, answer: Answer, limit: u64) -> Result<(Head, Vec<u8>), Fault> {
        let Answer { head, body } = answer;
        let mut bytes = Vec::new();
        let read = body.into_reader().take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| self.broken(error, &head.url))?;
        if bytes.len() as u64 > limit {
            let url = &head.url;
            return Err(
                anyhow!("{url} answers with more than {limit} bytes; it should be small").into(),
            );
        }
        Ok((head, bytes))
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
                // What is to be sent is no good.
                None if error.kind() == ErrorKind::InvalidInput => (false, Error::new(error)),
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

/// Whether an answer sends us on. After 301 to 303 another method might have to become GET, so they
/// are for that alone (RFC 9110, section 15.4).
fn is_redirect(request: &Request, status: StatusCode) -> bool {
    match status.as_u16() {
        301..=303 => request.only_asks(),
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
