//! The client against a server that misbehaves.

mod auth;
mod pull;
mod push;
mod server;
mod tls;

use std::time::Duration;

use super::patience::Patience;
use super::{Access, Credentials, Registry, Secret};

/// The registry at `name` for a user whose patience is short.
fn open(name: &str, credentials: Option<Credentials>) -> Registry {
    let access = Access {
        insecure: false,
        credentials,
    };
    let patience = Patience {
        limit: Duration::from_millis(400),
        pause: Duration::from_millis(1),
    };
    Registry::with_patience(name, access, patience).expect("a registry")
}

fn me() -> Option<Credentials> {
    Some(Credentials {
        user: "me".to_owned(),
        secret: Secret::Password("pass:word".to_owned()),
    })
}

/// `me:pass:word` in base64.
const ME: &str = "Basic bWU6cGFzczp3b3Jk";

#[track_caller]
fn error_of<T>(result: anyhow::Result<T>) -> String {
    match result {
        Ok(_) => panic!("it should fail"),
        Err(error) => format!("{error:#}"),
    }
}
