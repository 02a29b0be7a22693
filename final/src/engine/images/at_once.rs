//! Several layers at once, each by a thread, until one fails.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, bail, ensure};

/// Those who work on the other layers.
#[derive(Default)]
pub(super) struct Others {
    failed: AtomicBool,
}

impl Others {
    /// Asks, in the midst of long work, whether its outcome is still of use.
    ///
    /// # Errors
    /// [`GivenUp`], where another's failure has decided that it isn't.
    pub(super) fn go_on(&self) -> Result<()> {
        ensure!(!self.failed.load(Ordering::Relaxed), GivenUp);
        Ok(())
    }
}

/// The failure of who stopped because of another's.
#[derive(Debug)]
struct GivenUp;

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another layer of the image failed")
    }
}

impl std::error::Error for GivenUp {}

/// Does `work` for each item in their order, for as many at once as there are `threads`.
///
/// # Errors
/// The first failure that has a reason of its own.
pub(super) fn each<T: Sync>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T, &Others) -> Result<()> + Sync,
) -> Result<()> {
    let (next, others) = (AtomicUsize::new(0), Others::default());
    let one_after_the_other = || -> Result<()> {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            others.go_on()?;
            let done = work(item, &others);
            if done.is_err() {
                others.failed.store(true, Ordering::Relaxed);
            }
            done?;
        }
        Ok(())
    };
    let mut ended: Vec<Result<()>> = thread::scope(|scope| {
        let workers = (0..threads.min(items.len())).map(|_| scope.spawn(one_after_the_other));
        let workers: Vec<_> = workers.collect();
        let panicked = |_| bail!("a thread at work on a layer panicked");
        let ends = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(panicked));
        ends.collect()
    });
    ended.sort_by_key(|end| matches!(end, Err(error) if error.is::<GivenUp>()));
    ended.into_iter().collect()
}
