//! `image prune`: away with what nobody asked for.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Error, Result};
use images::{Image, Removed};
use jiff::Timestamp;

use crate::shim;
use crate::state::journal::{self, Event, Kind};

use super::{HOST, Images};

/// Which images go, of those that no container uses.
#[derive(Clone, Debug, Default)]
pub struct Pruning {
    /// Those with names, too.
    pub all: bool,
    /// Only those that were made until then.
    pub until: Option<Timestamp>,
    /// Only those that have all these labels.
    pub labels: Vec<Label>,
    /// None that has all of these.
    pub but: Vec<Label>,
}

/// A label that an image may have, `KEY` or `KEY=VALUE`.
#[derive(Clone, Debug)]
pub struct Label {
    key: String,
    /// None stands for any.
    value: Option<String>,
}

impl FromStr for Label {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        Ok(Self {
            key: key.to_owned(),
            value,
        })
    }
}

impl Label {
    /// Whether it is one of an object's labels.
    #[must_use]
    pub fn is_among(&self, labels: &BTreeMap<String, String>) -> bool {
        let its = labels.get(&self.key);
        its.is_some_and(|its| self.value.as_ref().is_none_or(|value| value == its))
    }
}

impl Pruning {
    fn concerns(&self, image: &Image) -> bool {
        let labels = &image.config().labels;
        let has = |wanted: &[Label]| wanted.iter().all(|label| label.is_among(labels));
        let names = image.names();
        let tagged = names.iter().any(|name| name.tag().is_some());
        // That one would be made again at once.
        let host = HOST.parse().ok();
        !names.iter().any(|name| Some(name) == host.as_ref())
            && (self.all || !tagged)
            && self
                .until
                .is_none_or(|until| image.created() <= Some(until))
            && has(&self.labels)
            && (self.but.is_empty() || !has(&self.but))
    }
}

impl Images {
    /// Removes images, and whatever else of the store nothing needs: half downloads as well.
    ///
    /// # Errors
    /// The store cannot be read, or what the file system refuses.
    pub fn prune(&self, which: &Pruning) -> Result<Removed> {
        let pruned = self.store.prune(|image| which.concerns(image))?;
        shim::sweep_init_layers(&self.dirs)?;
        let event = Event::new(Kind::Image, "prune", "").with("reclaimed", pruned.freed);
        journal::tell(&self.dirs, &event);
        Ok(pruned)
    }
}
