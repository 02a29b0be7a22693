//! The images that containers were made of, by the names that they have now.

use anyhow::Result;
use images::{Image, ImageName, Store};

use super::Containers;
use crate::state::Container;

/// All images, read once.
#[derive(Debug)]
pub struct Catalogue(Vec<Image>);

impl Containers {
    /// The images that there are.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn images(&self) -> Result<Catalogue> {
        Ok(Catalogue(Store::open(&self.dirs.data)?.images()?))
    }

    /// The same for those who only want to know what images are called: a store that cannot be read
    /// is no reason to say nothing of containers. A note tells of it.
    #[must_use]
    pub fn images_if_readable(&self) -> Option<Catalogue> {
        match self.images() {
            Ok(images) => Some(images),
            Err(error) => {
                tracing::warn!(
                    "the images cannot be read: {error:#}; try `minidocker system check`"
                );
                None
            }
        }
    }
}

impl Catalogue {
    /// All of them, in no order.
    #[must_use]
    pub fn all(&self) -> &[Image] {
        &self.0
    }

    /// The one of a name, an id, or the beginning of an id.
    #[must_use]
    pub fn find(&self, what: &str) -> Option<&Image> {
        let named = what.parse::<ImageName>().ok().and_then(|name| {
            let is = |image: &&Image| {
                image.names().contains(&name) || image.repo_digests().contains(&name)
            };
            self.0.iter().find(is)
        });
        named.or_else(|| {
            let id = what.strip_prefix("sha256:").unwrap_or(what);
            let begins = |image: &&Image| !id.is_empty() && image.id().hex().starts_with(id);
            self.0.iter().find(begins)
        })
    }

    /// The image that a container was made of, if it is still there.
    #[must_use]
    pub fn of(&self, container: &Container) -> Option<&Image> {
        let is = |image: &&Image| image.id().to_string() == container.image;
        self.0.iter().find(is)
    }

    /// What a container's image is called: as its user did, unless that is another one by now.
    #[must_use]
    pub fn name_for(&self, container: &Container) -> String {
        let called = &container.config.image;
        let found = self.find(called).map(|image| image.id().to_string());
        match found {
            Some(id) if id == container.image => called.clone(),
            _ => container.image.clone(),
        }
    }
}
