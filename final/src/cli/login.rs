//! `login` and `logout`

use std::io::{self, Read};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use minidocker::engine::registries;
use minidocker::registry::{Keychain, host_of};

use crate::{PROGRAM, prompt, tell};

/// Where docker logs in if nobody says where.
const DOCKER_HUB: &str = "docker.io";

/// The most that is read for a password.
const LONGEST: u64 = 1 << 20;

/// Log in to a registry
///
/// The password is kept as docker keeps it: in config.json, or by the credential helper that is
/// named there.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: minidocker login -u ann --password-stdin localhost:5000 <password"
)]
pub(crate) struct Login {
    /// The registry, Docker Hub where none is given
    #[arg(value_name = "SERVER")]
    server: Option<String>,
    /// The user's name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The user's password, which others can see in the list of processes
    #[arg(short, long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Without HTTPS, or with certificates that nobody vouches for
    #[arg(long)]
    insecure: bool,
}

/// Log out of a registry
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker logout localhost:5000")]
pub(crate) struct Logout {
    /// The registry, Docker Hub where none is given
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Login {
    pub(crate) fn run(self) -> Result<u8> {
        let server = server(self.server.as_deref());
        let (user, password) = match self.given()? {
            Some(given) => given,
            None if self.username.is_none() && self.again(server)? => return Ok(0),
            None => self.asked(server)?,
        };
        if let Some(readable) = registries::login(server, &user, password, self.insecure)? {
            tell(&format!(
                "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
                 Configure a credential helper to remove this warning.\n",
                readable.display()
            ));
        }
        cli::say("Login Succeeded")?;
        Ok(0)
    }

    /// What stands on the command line and on standard input.
    fn given(&self) -> Result<Option<(String, String)>> {
        let password = match (&self.password, self.password_stdin) {
            (Some(_), true) => {
                bail!("conflicting options: cannot specify both --password and --password-stdin")
            }
            (Some(password), false) => {
                tell("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
                password.clone()
            }
            (None, true) => {
                let named = self.username.is_some();
                ensure!(
                    named,
                    "the --password-stdin option requires --username to be set"
                );
                from_stdin()?
            }
            (None, false) => return Ok(None),
        };
        let user = match &self.username {
            Some(user) => user.clone(),
            None => ask_for("Username")?,
        };
        ensure!(!password.is_empty(), "password is empty");
        Ok(Some((user, password)))
    }

    /// Whether the registry still takes what is known from an earlier login.
    fn again(&self, server: &str) -> Result<bool> {
        if Keychain::open()?.find(server)?.is_none() {
            return Ok(false);
        }
        cli::say("Authenticating with existing credentials...")?;
        match registries::open(server, self.insecure)?.login() {
            Ok(_) => cli::say("Login Succeeded").map(|()| true),
            Err(error) if prompt::somebody_is_there() => {
                cli::complain(PROGRAM, &error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn asked(&self, server: &str) -> Result<(String, String)> {
        ensure!(
            prompt::somebody_is_there(),
            "Cannot perform an interactive login from a non TTY device"
        );
        let user = match &self.username {
            Some(user) => user.clone(),
            None => {
                cli::say(&format!(
                    "Log in to {server} with your name and password there."
                ))?;
                ask_for("Username")?
            }
        };
        let password = prompt::ask_secretly("Password: ")?;
        ensure!(!password.is_empty(), "password required");
        Ok((user, password))
    }
}

impl Logout {
    pub(crate) fn run(self) -> Result<u8> {
        let server = server(self.server.as_deref());
        // Docker says so whether or not there are any.
        cli::say(&format!("Removing login credentials for {server}"))?;
        Keychain::open()?.erase(server)?;
        Ok(0)
    }
}

/// The registry's name, of what docker's users write for one.
fn server(written: Option<&str>) -> &str {
    match host_of(written.unwrap_or(DOCKER_HUB)) {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    }
}

fn ask_for(what: &str) -> Result<String> {
    ensure!(
        prompt::somebody_is_there(),
        "Cannot perform an interactive login from a non TTY device"
    );
    let answer = prompt::ask(&format!("{what}: "))?;
    let answer = answer.trim();
    ensure!(!answer.is_empty(), "{} required", what.to_lowercase());
    Ok(answer.to_owned())
}

fn from_stdin() -> Result<String> {
    let mut password = String::new();
    io::stdin()
        .lock()
        .take(LONGEST)
        .read_to_string(&mut password)
        .context("read the password from standard input")?;
    Ok(password.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::server;

    #[test]
    fn a_registry_may_be_written_as_an_address() {
        for (written, expected) in [
            (None, "docker.io"),
            (Some("docker.io"), "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("http://localhost:5000/"), "localhost:5000"),
            (Some("registry.example"), "registry.example"),
        ] {
            assert_eq!(server(written), expected);
        }
    }
}
