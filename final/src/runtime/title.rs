//! What a process that comes of a command and outlives it is called in lists of processes.

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use nix::sys::prctl::set_name;

use super::procfs;

/// Calls this process so in `/proc/PID/comm`, as far as there is room, and in `/proc/PID/cmdline`.
/// The words of the command line that it comes of are gone from there: variables and paths, which
/// everybody on the machine could read for as long as it lives, and everybody in the container where
/// it is pid 1.
///
/// # Errors
/// There is no procfs.
pub(crate) fn take(title: &str) -> Result<()> {
    take_in(procfs::open()?.as_fd(), title)
}

/// The same, where the host's procfs has been opened.
///
/// # Errors
/// It does not know this process.
pub(super) fn take_in(proc: BorrowedFd, title: &str) -> Result<()> {
    // Of that fifteen bytes are kept (prctl(2), PR_SET_NAME).
    set_name(&CString::new(title)?).context("name a process")?;
    let stat = procfs::read(proc, "self/stat")?;
    let (start, end) = words(&stat).context("/proc/self/stat says nothing of the command line")?;
    // SAFETY: there the kernel has put the words of this process's command line, for it to read and
    // write (proc_pid_stat(5), arg_start and arg_end). Whoever looks at them through
    // `std::env::args` has done so before a process is made that needs a title.
    let memory: &mut [u8] = unsafe {
        std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(start), end - start)
    };
    memory.fill(0);
    // The last one stays 0: otherwise the kernel takes the environment for what follows.
    let room = memory.iter_mut().rev().skip(1).rev();
    room.zip(title.bytes()).for_each(|(to, from)| *to = from);
    Ok(())
}

/// From where to where the command line is in memory: the 48th and 49th field. The second is a name
/// in parentheses, with any characters.
fn words(stat: &str) -> Option<(usize, usize)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(45);
    let start: usize = fields.next()?.parse().ok()?;
    let end = fields.next()?.parse().ok()?;
    (0 < start && start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_name_may_look_like_fields() {
        let numbers: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let stat = format!("7 (a) b (c)) S {}", numbers.join(" "));
        assert_eq!(words(&stat), Some((48, 49)));
        assert_eq!(words("7 (a) S 1"), None);
    }
}
