//! What all kinds of `prune` have in common: what they are restricted to, and what they come to.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Which images or volumes go, of those that no container has.
#[derive(Clone, Debug, Default)]
pub struct Pruning {
    /// Those with names, too.
    pub all: bool,
    /// Of these only some.
    pub only: Restriction,
}

/// What went.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The containers' ids, or the volumes' names.
    pub names: Vec<String>,
    /// The bytes of the files that were in them.
    pub freed: u64,
}

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

impl Label {
    /// As it is written for `--filter label=`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        let key = key.to_owned();
        Self { key, value }
    }

    /// Whether it is one of an object's labels.
    #[must_use]
    pub fn is_among(&self, labels: &BTreeMap<String, String>) -> bool {
        let its = labels.get(&self.key);
        its.is_some_and(|its| self.value.as_ref().is_none_or(|value| value == its))
    }
}
