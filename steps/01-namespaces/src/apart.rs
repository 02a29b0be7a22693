//! Work of this program's own that belongs in other namespaces, or in a process
//! that Ctrl-C may end.

use anyhow::{Result, ensure};

use crate::{Isolation, Signals, spawn};

/// Runs `work` in a child in the namespaces, and returns the status that it
/// ends with; 128 + the signal where one ended it.
///
/// # Errors
/// As [`spawn`], and what `work` fails with.
pub fn apart(isolation: &Isolation, work: impl Fn() -> Result<u8>) -> Result<u8> {
    let signals = Signals::hold()?;
    let child = spawn(isolation, |_| work())?;
    child.release(&signals)?.wait(&signals)
}

/// Works on files that belong to a container's users, as their root. Without
/// privileges that takes a user namespace, and so a process of its own.
///
/// # Errors
/// As [`apart`], and where a signal ended the work.
pub fn as_root(work: impl Fn() -> Result<()>) -> Result<()> {
    let isolation = Isolation::users_only()?;
    if isolation.ids.is_none() {
        return work();
    }
    let status = apart(&isolation, || work().map(|()| 0))?;
    ensure!(status == 0, "interrupted");
    Ok(())
}
