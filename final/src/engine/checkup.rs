//! `system check`: how what is wrong is told, and what became of it.

use std::cell::Cell;

use anyhow::Result;
use images::Finding;

/// One look at things of a kind.
pub(super) struct Checkup<'c> {
    mend: bool,
    tell: &'c dyn Fn(&Finding),
    remains: Cell<bool>,
}

impl<'c> Checkup<'c> {
    /// `mend`: whether what is wrong is to be made good; `tell` hears of each thing.
    pub(super) fn new(mend: bool, tell: &'c dyn Fn(&Finding)) -> Checkup<'c> {
        Checkup {
            mend,
            tell,
            remains: Cell::new(false),
        }
    }

    /// Tells of something, and of what became of it.
    pub(super) fn found(&self, what: &str, mending: impl FnOnce() -> Result<String>) {
        let (what, mended) = match self.mend.then(mending) {
            None => (what.to_owned(), false),
            Some(Ok(done)) => (format!("{what}; {done}"), true),
            Some(Err(error)) => (format!("{what}; it stays so: {error:#}"), false),
        };
        self.remains.set(self.remains.get() || !mended);
        (self.tell)(&Finding { what, mended });
    }

    /// Tells of something that only a person can decide about.
    pub(super) fn told(&self, what: &str) {
        self.remains.set(true);
        let (what, mended) = (what.to_owned(), false);
        (self.tell)(&Finding { what, mended });
    }

    /// Docker's status: 1 if something remains.
    pub(super) fn status(&self) -> u8 {
        u8::from(self.remains.get())
    }
}
