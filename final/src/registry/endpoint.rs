//! Which URLs a registry's name stands for.

use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use super::url::{Url, is_loopback};

/// The registry that a name without one means, and where it is in truth.
const DOCKER: &str = "docker.io";
const DOCKER_HOST: &str = "registry-1.docker.io";

/// A registry's name, and the place that answers to it.
pub(crate) struct Endpoint {
    name: String,
    /// In the order in which they are tried.
    candidates: Vec<Url>,
    chosen: OnceLock<Url>,
    trusted_blindly: bool,
}

impl Endpoint {
    /// HTTPS. On this machine and where the user says `insecure`, plain HTTP will do as well. It is
    /// tried first on this machine, where it is what is found and one request in vain is half of a
    /// pull's.
    pub(crate) fn new(name: &str, insecure: bool) -> Result<Endpoint> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        ensure!(
            name.bytes().all(plain),
            "{name:?} is not a registry, such as docker.io or localhost:5000"
        );
        let host = match name {
            DOCKER | "index.docker.io" => DOCKER_HOST,
            other => other,
        };
        let schemes: &[&str] = match (is_loopback(without_port(host)), insecure) {
            (true, _) => &["http", "https"],
            (false, true) => &["https", "http"],
            (false, false) => &["https"],
        };
        let candidates: Result<Vec<Url>> = schemes
            .iter()
            .map(|scheme| Url::parse(&format!("{scheme}://{host}/")))
            .collect();
        Ok(Endpoint {
            name: name.to_owned(),
            candidates: candidates.with_context(|| format!("{name:?} is not a registry"))?,
            chosen: OnceLock::new(),
            trusted_blindly: insecure,
        })
    }

    pub(crate) fn candidates(&self) -> &[Url] {
        &self.candidates
    }

    /// The URL that has answered, once one has.
    pub(crate) fn chosen(&self) -> Option<&Url> {
        self.chosen.get()
    }

    pub(crate) fn choose(&self, url: &Url) {
        // Of several first requests at once, one decides.
        let _ = self.chosen.set(url.clone());
    }

    /// Whether `url` is this registry's own, which its user's credentials are for.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        match self.chosen() {
            Some(own) => own.same_origin(url),
            None => self.candidates.iter().any(|own| own.same_origin(url)),
        }
    }

    /// Whether secrets may travel to `url`: nobody can read them on the way, or the user does not
    /// mind. This machine is safe for the secrets of its own registries; another's has no business
    /// with what listens here.
    pub(crate) fn allows(&self, url: &Url) -> bool {
        let here = || self.candidates.iter().any(Url::is_loopback);
        url.is_https() || self.trusted_blindly || (url.is_loopback() && here())
    }

    /// Whether the user gave up on knowing whom this talks to.
    pub(crate) fn trusted_blindly(&self) -> bool {
        self.trusted_blindly
    }

    /// The registry's name, as `localhost:5000`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A repository as people write it: `debian` and `localhost:5000/debian`.
    pub(crate) fn familiar(&self, repository: &str) -> String {
        if self.name != DOCKER {
            return format!("{}/{repository}", self.name);
        }
        match repository.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => repository.to_owned(),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, _)) if !host.ends_with(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_and_for_who_asks_for_it() {
        for (name, insecure, expected) in [
            ("docker.io", false, "https://registry-1.docker.io/"),
            ("host.example", false, "https://host.example/"),
            (
                "host.example:1",
                true,
                "https://host.example:1/ http://host.example:1/",
            ),
            (
                "localhost:5000",
                false,
                "http://localhost:5000/ https://localhost:5000/",
            ),
            ("[::1]", false, "http://[::1]/ https://[::1]/"),
            (
                "127.1.2.3:5",
                true,
                "http://127.1.2.3:5/ https://127.1.2.3:5/",
            ),
            (
                "localhost.example:5000",
                false,
                "https://localhost.example:5000/",
            ),
        ] {
            let endpoint = Endpoint::new(name, insecure).unwrap();
            let tried: Vec<String> = endpoint.candidates().iter().map(Url::to_string).collect();
            assert_eq!(tried.join(" "), expected);
        }
        assert!(Endpoint::new("host/path?", false).is_err());
    }

    #[test]
    fn secrets_travel_where_nobody_can_read_them() {
        let url = |text| Url::parse(text).unwrap();
        for (name, insecure, allowed, refused) in [
            ("host.example", false, "https://x/", "http://host.example/"),
            ("host.example", false, "https://x/", "http://localhost/"),
            ("localhost", false, "http://127.0.0.1/", "http://x/"),
        ] {
            let endpoint = Endpoint::new(name, insecure).unwrap();
            assert!(endpoint.allows(&url(allowed)), "{name} {allowed}");
            assert!(!endpoint.allows(&url(refused)), "{name} {refused}");
        }
        let insecure = Endpoint::new("host.example", true).unwrap();
        assert!(insecure.allows(&url("http://x/")));
    }

    #[test]
    fn repositories_are_shown_as_people_write_them() {
        let docker = Endpoint::new("docker.io", false).unwrap();
        assert_eq!(docker.familiar("library/debian"), "debian");
        assert_eq!(docker.familiar("team/app"), "team/app");
        let local = Endpoint::new("localhost:5000", false).unwrap();
        assert_eq!(local.familiar("app"), "localhost:5000/app");
    }
}
