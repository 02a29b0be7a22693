//! What a `prune` is restricted to: `--filter until=`, `label=` and `label!=`.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Error, Result};
use jiff::Timestamp;

/// Which objects are meant, by what can be said of each of them, whatever kind they are.
#[derive(Clone, Debug, Default)]
pub struct Restriction {
    /// Only those that were made until then.
    pub until: Option<Timestamp>,
    /// Only those that have all these labels.
    pub labels: Vec<Label>,
    /// None that has all of these.
    pub but: Vec<Label>,
}

impl Restriction {
    /// Whether an object is meant. One that does not say when it was made is older than all others.
    #[must_use]
    pub fn admits(&self, made: Option<Timestamp>, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &[Label]| wanted.iter().all(|label| label.is_among(labels));
        self.until.is_none_or(|until| made <= Some(until))
            && has(&self.labels)
            && (self.but.is_empty() || !has(&self.but))
    }
}

/// A label that an object may have, `KEY` or `KEY=VALUE`.
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
