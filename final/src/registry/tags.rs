//! Which tags a repository has.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use ureq::http::Method;
use ureq::http::header::LINK;

use super::message::{Head, Request, parse};
use super::url::Url;
use super::{Registry, pull};

/// No page is larger.
const LARGEST: u64 = 4 << 20;

/// Who has more has no end of them.
const MOST: usize = 100_000;

#[derive(Deserialize)]
struct Page {
    /// Go writes an empty list as `null`.
    tags: Option<Vec<String>>,
}

impl Registry {
    /// All tags of a repository, as the registry writes them.
    ///
    /// # Errors
    /// There is no such repository, or the registry refuses to list it.
    pub fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let name = self.http.endpoint().familiar(repository);
        let why = "the repository's tags";
        let scope = pull(repository);
        let path = format!("v2/{repository}/tags/list");
        let mut request = Request::new(Method::GET, path, why).scope(&scope);
        let mut tags = Vec::new();
        loop {
            let page = self.document(&request, LARGEST);
            let (head, bytes) = page.with_context(|| format!("list the tags of {name}"))?;
            let page: Page =
                parse(&bytes).with_context(|| format!("{} is not a list of tags", head.url))?;
            let page = page.tags.unwrap_or_default();
            let empty = page.is_empty();
            tags.extend(page);
            match next(&head)? {
                Some(_) if tags.len() > MOST => bail!("{name} has more than {MOST} tags"),
                // A page that adds nothing, and yet is not the last, would lead on for ever.
                Some(url) if !empty => {
                    request = Request::to(Method::GET, url, why).scope(&scope);
                }
                _ => return Ok(tags),
            }
        }
    }
}

/// Where the next page is: `Link: </v2/NAME/tags/list?last=b&n=2>; rel="next"` (RFC 8288).
fn next(head: &Head) -> Result<Option<Url>> {
    let Some(link) = head.header(&LINK) else {
        return Ok(None);
    };
    let target = link.trim().strip_prefix('<');
    let target = target.and_then(|rest| rest.split_once('>'));
    match target {
        Some((target, parameters)) if parameters.contains("next") => {
            head.url.join(target).map(Some)
        }
        _ => Ok(None),
    }
}
