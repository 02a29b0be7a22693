//! A copy of this program that nobody can change.
//!
//! Until execve(2) the container's first process runs our program, and where
//! an image's entry point is `/proc/self/exe` it runs it once more, inside.
//! Then a process of the container finds the host's file in `/proc/PID/exe`,
//! and as root could write to it: the next container is started by what the
//! last one wrote (CVE-2019-5736). What it finds now is a file in memory, sealed
//! against writing (memfd_create(2), fcntl(2) "File Sealing").

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result};
use nix::fcntl::{AtFlags, FcntlArg, SealFlag, fcntl};
use nix::unistd::execveat;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// Runs this program once more from a sealed copy in memory, with the same
/// arguments. Returns in the copy only.
///
/// # Errors
/// Fails where the copy cannot be made or run.
pub fn become_sealed_copy() -> Result<()> {
    let mut original = File::open("/proc/self/exe").context("open /proc/self/exe")?;
    if is_sealed(&original) {
        return Ok(());
    }
    let mut copy = new_file().context("make a file in memory for a copy of this program")?;
    io::copy(&mut original, &mut copy).context("copy this program to memory")?;
    copy.rewind().context("copy this program to memory")?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(SEALS)).context("seal the copy of this program")?;
    let strings = |all: &mut dyn Iterator<Item = OsString>| -> Result<Vec<CString>> {
        all.map(|one| Ok(CString::new(one.into_vec())?)).collect()
    };
    let args = strings(&mut std::env::args_os())?;
    let env = strings(&mut std::env::vars_os().map(|(name, value)| {
        let mut variable = name;
        variable.push("=");
        variable.push(value);
        variable
    }))?;
    let Err(errno) =
        execveat(&copy, c"", &args, &env, AtFlags::AT_EMPTY_PATH) as nix::Result<Infallible>;
    Err(errno).context("run the copy of this program")
}

fn is_sealed(program: &File) -> bool {
    fcntl(program, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(SEALS))
}

/// `MFD_EXEC` says that it will be run, which kernels since 6.3 like to know
/// and older ones do not.
fn new_file() -> Result<File, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let made = memfd_create("minirunc", flags | MemfdFlags::EXEC).or_else(|errno| match errno {
        Errno::INVAL => memfd_create("minirunc", flags),
        errno => Err(errno),
    });
    made.map(File::from)
}
