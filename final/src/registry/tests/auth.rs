//! Who is told what.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::server::{Server, reply};
use super::{ME, error_of, me, open};
use crate::registry::{Credentials, Secret};

const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;

/// A registry that wants a token from `auth`, and of those the last one given.
fn registry_with(auth: &Server, good: &'static AtomicUsize) -> Server {
    let realm = auth.url("/token");
    Server::start(move |heard| {
        let token = format!("Bearer token-{}", good.load(Ordering::SeqCst));
        if heard.header("authorization") == Some(&token) {
            return reply(200, MANIFEST);
        }
        let challenge = format!(r#"Bearer realm="{realm}",service="a registry",scope="ignored""#);
        let answer = reply(401, "").header("WWW-Authenticate", r#"Negotiate, Basic realm="x""#);
        answer.header("WWW-Authenticate", challenge)
    })
}

/// A token server whose tokens are numbered.
fn numbered(counter: &'static AtomicUsize) -> Server {
    Server::start(move |_| {
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        reply(
            200,
            format!(r#"{{"token":"token-{number}","expires_in":300}}"#),
        )
    })
}

#[test]
fn a_password_is_shown_to_who_asks_and_once() {
    let server = Server::start(|heard| match heard.header("authorization") {
        Some(ME) => reply(200, MANIFEST),
        _ => reply(401, "").header("WWW-Authenticate", r#"Basic realm="x""#),
    });
    let registry = open(&server.name(), me());
    assert!(registry.manifest("a/b", "1").is_ok());
    assert!(registry.manifest("a/b", "2").is_ok());
    assert_eq!(server.heard().len(), 3);
}

#[test]
fn a_wrong_password_is_refused_and_none_is_missed() {
    let server = Server::start(|_| reply(401, "").header("WWW-Authenticate", r#"Basic realm="x""#));
    let error = error_of(open(&server.name(), me()).manifest("a/b", "1"));
    assert!(
        error.ends_with("unauthorized: authentication required"),
        "{error}"
    );
    assert_eq!(server.heard().len(), 2);
    let error = error_of(open(&server.name(), None).manifest("a/b", "1"));
    assert!(error.contains("no basic auth credentials"), "{error}");
    let error = error_of(open(&server.name(), me()).login());
    let expected = format!(
        "login attempt to {} failed with status: 401 Unauthorized: \
         unauthorized: authentication required",
        server.url("/v2/")
    );
    assert_eq!(error, expected);
}

#[test]
fn a_token_is_fetched_for_its_scope_and_kept() {
    static TOKENS: AtomicUsize = AtomicUsize::new(0);
    let auth = numbered(&TOKENS);
    let server = registry_with(&auth, &TOKENS);
    let registry = open(&server.name(), me());
    assert!(registry.manifest("a/b", "1").is_ok());
    assert!(registry.manifest("a/b", "2").is_ok());
    assert_eq!(server.heard().len(), 3);
    let asked = &auth.heard()[0];
    assert_eq!(
        asked.line(),
        "GET /token?service=a%20registry&client_id=minidocker&scope=repository:a/b:pull&account=me"
    );
    assert_eq!(asked.header("authorization"), Some(ME));
    assert!(registry.put_manifest("a/b", "1", "x", b"{}").is_ok());
    let line = auth.lines().pop().unwrap();
    assert!(line.contains("scope=repository:a/b:pull,push&"), "{line}");
}

#[test]
fn nobody_gets_a_token_too() {
    static TOKENS: AtomicUsize = AtomicUsize::new(0);
    let auth = numbered(&TOKENS);
    let server = registry_with(&auth, &TOKENS);
    assert!(open(&server.name(), None).manifest("a/b", "1").is_ok());
    let asked = &auth.heard()[0];
    assert_eq!(asked.header("authorization"), None);
    assert!(!asked.path.contains("account"));
}

#[test]
fn a_token_that_is_refused_half_way_is_renewed_once() {
    static TOKENS: AtomicUsize = AtomicUsize::new(0);
    let auth = numbered(&TOKENS);
    let server = registry_with(&auth, &TOKENS);
    let registry = open(&server.name(), me());
    assert!(registry.manifest("a/b", "1").is_ok());
    TOKENS.store(7, Ordering::SeqCst);
    assert!(registry.manifest("a/b", "1").is_ok());
    assert_eq!(auth.heard().len(), 2);
    assert_eq!(server.heard().len(), 4);
}

#[test]
fn a_token_that_never_opens_anything_ends_in_a_refusal() {
    static TOKENS: AtomicUsize = AtomicUsize::new(0);
    static OTHER: AtomicUsize = AtomicUsize::new(99);
    let auth = numbered(&TOKENS);
    let server = registry_with(&auth, &OTHER);
    let error = error_of(open(&server.name(), me()).manifest("a/b", "1"));
    assert!(
        error.ends_with("unauthorized: authentication required"),
        "{error}"
    );
    assert_eq!(server.heard().len(), 2);
    assert_eq!(auth.heard().len(), 1);
}

#[test]
fn several_layers_at_once_share_one_token() {
    static TOKENS: AtomicUsize = AtomicUsize::new(0);
    let auth = numbered(&TOKENS);
    let server = registry_with(&auth, &TOKENS);
    let registry = open(&server.name(), me());
    // One that has answered before: which URL is the registry's is known.
    registry
        .http
        .endpoint()
        .choose(&registry.http.endpoint().candidates()[0]);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| registry.manifest("a/b", "1").expect("a manifest"));
        }
    });
    assert_eq!(auth.heard().len(), 1);
}

#[test]
fn an_identity_token_is_exchanged_for_a_token() {
    let auth = Server::start(|_| reply(200, r#"{"access_token":"token-1"}"#));
    static GOOD: AtomicUsize = AtomicUsize::new(1);
    let server = registry_with(&auth, &GOOD);
    let identity = Credentials {
        user: String::new(),
        secret: Secret::IdentityToken("who am & I".to_owned()),
    };
    let registry = open(&server.name(), Some(identity));
    assert!(registry.manifest("a/b", "1").is_ok());
    let asked = &auth.heard()[0];
    assert_eq!(asked.line(), "POST /token");
    assert_eq!(
        String::from_utf8_lossy(&asked.body),
        "grant_type=refresh_token&service=a%20registry&client_id=minidocker\
         &scope=repository:a/b:pull&refresh_token=who%20am%20%26%20I"
    );
}

#[test]
fn a_login_asks_for_an_identity_token() {
    let auth = Server::start(|_| reply(200, r#"{"token":"token-1","refresh_token":"mine"}"#));
    static GOOD: AtomicUsize = AtomicUsize::new(1);
    let server = registry_with(&auth, &GOOD);
    let identity = open(&server.name(), me()).login().unwrap();
    assert_eq!(identity.as_deref(), Some("mine"));
    assert!(auth.lines()[0].ends_with("&account=me&offline_token=true"));
}

#[test]
fn what_a_token_server_says_is_told() {
    static GOOD: AtomicUsize = AtomicUsize::new(1);
    for (status, body, expected) in [
        (
            401,
            r#"{"details":"incorrect username or password"}"#,
            "unauthorized: incorrect username or password",
        ),
        (200, "<html>", "something else than a token"),
        (200, "{}", "gives no token"),
        (200, r#"{"token":"a\nb: c"}"#, "no header can hold"),
    ] {
        let auth = Server::start(move |_| reply(status, body));
        let server = registry_with(&auth, &GOOD);
        let error = error_of(open(&server.name(), me()).manifest("a/b", "1"));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_token_server_that_anybody_could_be_is_not_asked() {
    let server = Server::start(|_| {
        reply(401, "").header(
            "WWW-Authenticate",
            r#"Bearer realm="http://host.example/token""#,
        )
    });
    let error = error_of(open(&server.name(), me()).manifest("a/b", "1"));
    assert!(error.contains("it has to be https"), "{error}");
    let server = Server::start(|_| reply(401, "").header("WWW-Authenticate", "Bearer"));
    let error = error_of(open(&server.name(), me()).manifest("a/b", "1"));
    assert!(error.contains("does not say who"), "{error}");
}

#[test]
fn an_identity_token_goes_nowhere_else() {
    let thief = Server::start(|_| reply(200, r#"{"token":"t"}"#));
    let place = thief.url("/token");
    let auth = Server::start(move |_| reply(307, "").header("Location", &place));
    static GOOD: AtomicUsize = AtomicUsize::new(1);
    let server = registry_with(&auth, &GOOD);
    let identity = Credentials {
        user: String::new(),
        secret: Secret::IdentityToken("mine".to_owned()),
    };
    let error = error_of(open(&server.name(), Some(identity)).manifest("a/b", "1"));
    assert!(error.contains("what is meant for itself"), "{error}");
    assert!(thief.heard().is_empty());
    let error = error_of(open(&server.name(), me()).manifest("a/b", "1"));
    assert!(error.contains("unauthorized"), "{error}");
    assert_eq!(thief.heard()[0].header("authorization"), None);
}
