//! What a registry says when it says no.

use std::fmt;
use std::io::Read;

use serde::Deserialize;
use ureq::http::StatusCode;

use super::message::Answer;

/// So much of the body of an error is read.
const LARGEST: u64 = 64 << 10;

/// So many characters of a registry's sentence are told.
const LONGEST: usize = 500;

/// A registry's error, in its words (distribution-spec, "Error Codes").
#[derive(Debug)]
pub(crate) struct Refusal {
    /// As `MANIFEST_UNKNOWN`; empty where it gave none.
    code: String,
    message: String,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    errors: Vec<One>,
    /// What Docker Hub's token server says instead.
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct One {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Refusal {
    /// Reads an answer that is none to what was asked.
    pub(crate) fn read(answer: Answer) -> Refusal {
        let status = answer.status();
        let mut text = Vec::new();
        // Half of a text is as good as none.
        let _ = answer
            .body
            .into_reader()
            .take(LARGEST)
            .read_to_end(&mut text);
        let (code, message) = said(&text, status).unwrap_or_else(|| meant(status));
        Refusal { code, message }
    }

    /// What docker says above it after a pull, where it says something.
    pub(crate) fn of_pull(&self, repository: &str, reference: &str) -> Option<String> {
        match self.code.as_str() {
            "DENIED" => Some(format!(
                "pull access denied for {repository}, repository does not exist or may require 'docker login'"
            )),
            "MANIFEST_UNKNOWN" => {
                let separator = if reference.contains(':') { '@' } else { ':' };
                let name = format!("{repository}{separator}{reference}");
                Some(format!("manifest for {name} not found"))
            }
            "NAME_UNKNOWN" => Some(format!("repository {repository} not found")),
            _ => None,
        }
    }
}

/// The code and the sentence of a JSON body.
fn said(text: &[u8], status: StatusCode) -> Option<(String, String)> {
    let body: Body = serde_json::from_slice(text).ok()?;
    if let Some(first) = body.errors.into_iter().next() {
        return Some((printable(&first.code), printable(&first.message)));
    }
    let details = printable(&body.details);
    (!details.is_empty()).then(|| (meant(status).0, details))
}

/// What a status means where nothing else is said, as after HEAD.
fn meant(status: StatusCode) -> (String, String) {
    let (code, message) = match status {
        StatusCode::UNAUTHORIZED => ("UNAUTHORIZED", "authentication required"),
        StatusCode::FORBIDDEN => ("DENIED", "requested access to the resource is denied"),
        StatusCode::TOO_MANY_REQUESTS => ("TOOMANYREQUESTS", "too many requests"),
        other => {
            let message = format!("received unexpected HTTP status: {other}");
            return (String::new(), message);
        }
    };
    (code.to_owned(), message.to_owned())
}

/// A server's text as a terminal may be given it.
pub(crate) fn printable(text: &str) -> String {
    cli::printable(text, LONGEST)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.to_lowercase().replace('_', " ");
        match (code.is_empty(), self.message.is_empty()) {
            (true, _) => f.write_str(&self.message),
            (false, true) => f.write_str(&code),
            (false, false) => write!(f, "{code}: {}", self.message),
        }
    }
}

impl std::error::Error for Refusal {}
