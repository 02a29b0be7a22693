//! Registries, each as the user is known there.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::registry::{Access, Credentials, Keychain, Registry, Secret};

/// The registry of that name, as whoever the user has logged in there, or as nobody. Nothing is
/// sent yet.
///
/// # Errors
/// The name is none, docker's file of credentials is damaged, or a credential helper fails.
pub fn open(name: &str, insecure: bool) -> Result<Registry> {
    let keychain = Keychain::open().ok();
    let credentials = keychain.map_or(Ok(None), |keychain| keychain.find(name))?;
    let access = Access {
        insecure,
        credentials,
    };
    Registry::open(name, access)
}

/// Sees whether the registry takes the user's name and password, and keeps them; where it gives an
/// identity token for them, it is that which is kept. The path is that of the file where anybody
/// who can read it finds the secret; none where a credential helper has it.
///
/// # Errors
/// The registry does not take them, or they cannot be kept.
pub fn login(name: &str, user: &str, password: String, insecure: bool) -> Result<Option<PathBuf>> {
    let keychain = Keychain::open()?;
    let mut credentials = Credentials {
        user: user.to_owned(),
        secret: Secret::Password(password),
    };
    let access = Access {
        insecure,
        credentials: Some(credentials.clone()),
    };
    if let Some(token) = Registry::open(name, access)?.login()? {
        credentials.secret = Secret::IdentityToken(token);
    }
    let file = keychain.store(name, &credentials)?;
    Ok(file.map(Path::to_owned))
}
