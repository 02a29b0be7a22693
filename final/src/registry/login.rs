//! Whether a registry takes the user's credentials.

use anyhow::{Context, Result};
use ureq::http::Method;

use super::Registry;
use super::message::Request;

impl Registry {
    /// Checks the credentials. A token server may give an identity token, which is to be kept in the
    /// password's place: it opens the same doors, and can be taken back.
    ///
    /// # Errors
    /// The registry does not take them, or cannot be reached.
    pub fn login(&self) -> Result<Option<String>> {
        let request = Request::new(
            Method::GET,
            "v2/".to_owned(),
            "whether the registry knows the user",
        );
        let answer = self.call(&request, &mut self.tries(&|_| {}))?;
        let (url, status) = (answer.head.url.clone(), answer.status());
        answer
            .granted()
            .with_context(|| format!("login attempt to {url} failed with status: {status}"))?;
        Ok(self.auth.identity())
    }
}
