//! Who we are, for a registry that asks.
//!
//! ```text
//!   GET /v2/debian/manifests/12  ─▶ registry
//!                      401, WWW-Authenticate: Bearer realm="https://auth…",service="…"
//!   GET https://auth…?service=…&scope=repository:debian:pull   (user and password)
//!                                ─▶ token server: {"token": "…", "expires_in": 300}
//!   GET /v2/debian/manifests/12, Authorization: Bearer …  ─▶ registry: 200
//! ```
//!
//! A token is good for some minutes and for what its scope names; a registry that knows no tokens
//! asks for user and password themselves (`Basic`). Whom they are told is decided here and in
//! [`Http::send`]: the registry, and the realm that it names over a safe connection.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use ureq::http::{HeaderValue, Method};

use super::challenge::{Challenge, parse};
use super::http::Http;
use super::message::{self, Answer, Payload, Request};
use super::patience::Fault;
use super::url::{Url, percent_encoded};

/// What a token server calls us by.
const CLIENT: &str = "minidocker";

/// A token server's answer is no longer.
const LARGEST: u64 = 1 << 20;

/// What a token without a date is good for, and one with a shorter one is taken to be.
const SHORTEST_LIFE: u64 = 60;

/// Who the user is at a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name; a token server may need none beside an identity token.
    pub user: String,
    /// What proves it.
    pub secret: Secret,
}

/// What proves that somebody is who he says he is. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// What the user types.
    Password(String),
    /// What a token server gave for it at login, to be kept in its place.
    IdentityToken(String),
}

impl Credentials {
    /// The value of `Authorization`, where there is a password.
    fn basic(&self) -> Option<String> {
        match &self.secret {
            Secret::IdentityToken(_) => None,
            Secret::Password(password) => {
                let both = format!("{}:{password}", self.user);
                Some(format!("Basic {}", STANDARD.encode(both)))
            }
        }
    }
}

/// The credentials, and what came of them so far.
pub(crate) struct Auth {
    credentials: Option<Credentials>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// For everything, where the registry wants user and password.
    basic: Option<String>,
    /// By scope.
    tokens: HashMap<String, Token>,
    identity: Option<String>,
}

struct Token {
    /// The value of `Authorization`.
    value: String,
    until: Instant,
}

/// A token server's answer (distribution's "Token Authentication Specification").
#[derive(Deserialize)]
struct Granted {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

impl Auth {
    pub(crate) fn new(credentials: Option<Credentials>) -> Auth {
        Auth {
            credentials,
            known: Mutex::default(),
        }
    }

    /// What is known to open `scope`, as the value of `Authorization`.
    pub(crate) fn ready(&self, scope: &str) -> Option<String> {
        self.known().ready(scope)
    }

    /// What opens `scope` now that the registry has answered 401 to `sent`. `None`: there is
    /// nothing else to show.
    pub(crate) fn answer(
        &self,
        http: &Http,
        refused: &Answer,
        scope: &str,
        sent: Option<&str>,
    ) -> Result<Option<String>, Fault> {
        // Held while the token is fetched: of several layers at once, one asks for all.
        let mut known = self.known();
        let ready = known.ready(scope);
        if ready.is_some() && ready.as_deref() != sent {
            return Ok(ready);
        }
        known.tokens.remove(scope);
        let challenges = challenges(refused);
        if let Some(bearer) = find(&challenges, "bearer") {
            let granted = self.fetch(http, bearer, scope)?;
            known.identity.clone_from(&granted.refresh_token);
            let token = granted.into_token()?;
            let value = token.value.clone();
            known.tokens.insert(scope.to_owned(), token);
            return Ok(Some(value));
        }
        if find(&challenges, "basic").is_none() {
            return Ok(None);
        }
        let basic = self.credentials.as_ref().and_then(Credentials::basic);
        let basic = basic.context("no basic auth credentials")?;
        if sent == Some(basic.as_str()) {
            return Ok(None);
        }
        known.basic = Some(basic.clone());
        Ok(Some(basic))
    }

    /// The identity token, where the last token came with one.
    pub(crate) fn identity(&self) -> Option<String> {
        self.known().identity.clone()
    }

    /// Asks the server that `challenge` names for a token.
    fn fetch(&self, http: &Http, challenge: &Challenge, scope: &str) -> Result<Granted, Fault> {
        let realm = challenge
            .parameter("realm")
            .context("the registry wants a token, and does not say who gives one")?;
        let realm = Url::parse(realm).context("the registry names a token server")?;
        if !http.endpoint().allows(&realm) {
            return Err(anyhow!("the registry wants a token from {realm}, which anybody on the way could read; it has to be https").into());
        }
        let service = challenge.parameter("service").unwrap_or_default();
        let body;
        let (request, authorization) = match &self.credentials {
            Some(Credentials {
                secret: Secret::IdentityToken(identity),
                ..
            }) => {
                body = form(&[
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("client_id", CLIENT),
                    ("scope", scope),
                    ("refresh_token", identity),
                ]);
                let request = Request::to(Method::POST, realm, "a token for an identity token")
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .payload(Payload::Bytes(body.as_bytes()));
                (request, None)
            }
            credentials => {
                let url = query(&realm, service, scope, credentials.as_ref())?;
                let basic = credentials.as_ref().and_then(Credentials::basic);
                (Request::to(Method::GET, url, "a token"), basic)
            }
        };
        let answer = http.send(&request, authorization.as_deref())?;
        let answer = answer.settled()?.granted().map_err(anyhow::Error::new)?;
        let (head, text) = http.document(answer, LARGEST)?;
        let granted = message::parse(&text);
        Ok(granted
            .with_context(|| format!("{} answers with something else than a token", head.url))?)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // What is known is whole at any moment, whoever panicked meanwhile.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn ready(&self, scope: &str) -> Option<String> {
        let token = self.tokens.get(scope);
        let fresh = token.filter(|token| token.until > Instant::now());
        fresh
            .map(|token| &token.value)
            .or(self.basic.as_ref())
            .cloned()
    }
}

impl Granted {
    fn into_token(self) -> Result<Token> {
        let token = self
            .token
            .or(self.access_token)
            .filter(|token| !token.is_empty());
        let token = token.context("the token server gives no token")?;
        let value = format!("Bearer {token}");
        if HeaderValue::from_str(&value).is_err() {
            bail!("the token server gives a token that no header can hold");
        }
        let life = self.expires_in.unwrap_or(0).clamp(SHORTEST_LIFE, 86400);
        // Some seconds less: it has to be good when it arrives.
        let until = Instant::now() + Duration::from_secs(life - 5);
        Ok(Token { value, until })
    }
}

/// All the challenges of an answer, which may come in several headers.
fn challenges(answer: &Answer) -> Vec<Challenge> {
    answer
        .head
        .headers(&WWW_AUTHENTICATE)
        .flat_map(parse)
        .collect()
}

fn find<'a>(challenges: &'a [Challenge], scheme: &str) -> Option<&'a Challenge> {
    challenges.iter().find(|one| one.scheme == scheme)
}

fn query(
    realm: &Url,
    service: &str,
    scope: &str,
    credentials: Option<&Credentials>,
) -> Result<Url> {
    let mut pairs = vec![("service", service), ("client_id", CLIENT)];
    pairs.extend(scope.split_whitespace().map(|one| ("scope", one)));
    if let Some(credentials) = credentials {
        pairs.push(("account", &credentials.user));
    }
    // Only a login opens nothing; an identity token is what it is for.
    if scope.is_empty() {
        pairs.push(("offline_token", "true"));
    }
    pairs.retain(|(_, value)| !value.is_empty());
    realm.with_query(&pairs)
}

fn form(pairs: &[(&str, &str)]) -> String {
    let encoded = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", percent_encoded(value)));
    encoded.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        let granted: Granted = serde_json::from_str(text).unwrap();
        granted.into_token().unwrap()
    }

    #[test]
    fn a_token_is_good_until_it_ends_and_for_a_minute_at_least() {
        for (text, seconds) in [
            (r#"{"token":"t","expires_in":300}"#, 295),
            (r#"{"access_token":"t"}"#, 55),
            (r#"{"token":"t","expires_in":1}"#, 55),
        ] {
            let token = token(text);
            assert_eq!(token.value, "Bearer t");
            let left = token.until - Instant::now();
            assert!(
                left <= Duration::from_secs(seconds) && left > Duration::from_secs(seconds - 5)
            );
        }
    }

    #[test]
    fn a_token_that_has_ended_is_not_shown() {
        let mut known = Known::default();
        let ended = Token {
            until: Instant::now(),
            ..token(r#"{"token":"old"}"#)
        };
        known.tokens.insert("a".to_owned(), ended);
        known
            .tokens
            .insert("b".to_owned(), token(r#"{"token":"new"}"#));
        assert_eq!(known.ready("a"), None);
        assert_eq!(known.ready("b").as_deref(), Some("Bearer new"));
    }
}
