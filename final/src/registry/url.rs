//! Where a request goes. Most of these are chosen by a server, in `Location`, `Link` or `realm`.

use std::fmt;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use ureq::http::Uri;

use super::refusal::printable;

/// An absolute `http` or `https` URL without user information.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url(Uri);

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Url> {
        let read = || -> Result<Url> {
            // A fragment is never sent (RFC 9110, section 4.2.5).
            let text = text.split('#').next().unwrap_or_default();
            let uri: Uri = text.parse()?;
            let scheme = uri.scheme_str().unwrap_or_default();
            ensure!(
                ["http", "https"].contains(&scheme),
                "it is neither http nor https"
            );
            let authority = uri.authority().context("it names no host")?.as_str();
            ensure!(
                !authority.contains('@'),
                "it holds a user's name, which is never taken from a URL"
            );
            ensure!(
                uri.host().is_some_and(|host| !host.is_empty()),
                "it names no host"
            );
            Ok(Url(uri))
        };
        read().with_context(|| format!("\"{}\" is not a URL to go to", printable(text)))
    }

    /// What a server's `location` means, found at this URL (RFC 3986, section 5.2).
    pub(crate) fn join(&self, location: &str) -> Result<Url> {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let host = self.0.authority().map_or("", |host| host.as_str());
        let path = self.0.path();
        let directory = path.rfind('/').map_or("", |end| &path[..end]);
        if location.starts_with("//") {
            return Url::parse(&format!("{scheme}:{location}"));
        }
        if location.starts_with('/') {
            return Url::parse(&format!("{scheme}://{host}{location}"));
        }
        if location.starts_with('?') {
            return Url::parse(&format!("{scheme}://{host}{path}{location}"));
        }
        // A colon after the first slash is a part of the path.
        if location.split('/').next().unwrap_or_default().contains(':') {
            return Url::parse(location);
        }
        Url::parse(&format!("{scheme}://{host}{directory}/{location}"))
    }

    /// The URL with more in its query, after what is there: a server's `Location` may keep the
    /// state of an upload in it.
    pub(crate) fn with_query(&self, pairs: &[(&str, &str)]) -> Result<Url> {
        let mut text = self.0.to_string();
        for (name, value) in pairs {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(&format!("{name}={}", percent_encoded(value)));
        }
        Url::parse(&text)
    }

    pub(crate) fn as_uri(&self) -> &Uri {
        &self.0
    }

    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Whether the other side is this machine, whatever its name resolves to.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        is_loopback(host)
    }

    /// Whether what is meant for one of the two may be told to the other: the same scheme, host
    /// and port (RFC 6454).
    pub(crate) fn same_origin(&self, other: &Url) -> bool {
        self.origin() == other.origin()
    }

    fn origin(&self) -> (bool, String, u16) {
        let https = self.is_https();
        let host = self.0.host().unwrap_or_default().to_ascii_lowercase();
        let port = self.0.port_u16().unwrap_or(if https { 443 } else { 80 });
        (https, host, port)
    }
}

/// Without its query, which may hold what opens a door.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let host = self.0.authority().map_or("", |host| host.as_str());
        write!(f, "{scheme}://{host}{}", printable(self.0.path()))
    }
}

/// Whether `host`, a name or an address, is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

/// A value as a query may hold it (RFC 3986, sections 2.3 and 3.4).
pub(crate) fn percent_encoded(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(byte.into()),
            b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b',' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_read_where_it_was_found() {
        let at = Url::parse("https://one.example:8443/v2/a/blobs/uploads/1?state=x").unwrap();
        for (location, expected) in [
            ("http://two.example/b?c=d", "http://two.example/b?c=d"),
            ("//two.example/b", "https://two.example/b"),
            ("/v2/b?c=d", "https://one.example:8443/v2/b?c=d"),
            ("2?c=d", "https://one.example:8443/v2/a/blobs/uploads/2?c=d"),
            ("?c=d", "https://one.example:8443/v2/a/blobs/uploads/1?c=d"),
            ("/at:noon#part", "https://one.example:8443/at:noon"),
        ] {
            assert_eq!(at.join(location).unwrap().0.to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_place_to_go_is_refused() {
        for bad in [
            "",
            "/v2/",
            "ftp://host/",
            "file:///etc/passwd",
            "http:///etc/passwd",
            "http://me:word@host/",
            "http://host/a b",
            "http://host/\r\nX: y",
            "javascript:alert(1)",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
        let at = Url::parse("http://host/").unwrap();
        assert!(at.join("gopher://host/").is_err());
        assert!(at.join("//me@host/").is_err());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let url = |text| Url::parse(text).unwrap();
        assert!(url("https://Host/a").same_origin(&url("https://host:443/b")));
        for other in ["http://host/", "https://host:444/", "https://host.evil/"] {
            assert!(!url("https://host/").same_origin(&url(other)), "{other}");
        }
    }

    #[test]
    fn loopback_is_a_name_or_an_address() {
        for (host, expected) in [
            ("localhost", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("localhost.example", false),
            ("127.0.0.1.example", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }

    #[test]
    fn a_query_is_added_to_the_one_there_and_never_shown() {
        let url = Url::parse("http://host/a?state=x%3D").unwrap();
        let url = url.with_query(&[("digest", "sha256:0"), ("b", "c&d e")]);
        let url = url.unwrap();
        assert_eq!(
            url.0.to_string(),
            "http://host/a?state=x%3D&digest=sha256:0&b=c%26d%20e"
        );
        assert_eq!(url.to_string(), "http://host/a");
    }
}
