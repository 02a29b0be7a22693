//! This program, run once more where nobody can write to it.
//!
//! Until execve(2) the container's first process runs our program, and where
//! an image's entry point is `/proc/self/exe` it runs it once more, inside.
//! Then a process of the container finds the host's file in `/proc/PID/exe`,
//! and as root could write to it: the next container is started by what the
//! last one wrote (CVE-2019-5736).
//!
//! What it finds now is on a read-only mount, which is in no mount namespace,
//! so that nobody can make it writable again. Without root a child makes that
//! mount, in a user namespace of its own, and hands it over. Where none can be
//! had, it is a copy in memory, sealed against writing (memfd_create(2), fcntl(2)
//! "File Sealing"): that costs a millisecond for each few megabytes, and the
//! memory, as long as anybody runs it.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{AtFlags, FcntlArg, SealFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, execveat, fork};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// Runs this program once more where nobody can write to it, with the same
/// arguments. Returns there only.
///
/// # Errors
/// Fails where neither a mount nor a copy can be made or run.
pub fn run_where_sealed() -> Result<()> {
    let mut program = File::open("/proc/self/exe").context("open /proc/self/exe")?;
    if is_sealed(&program) {
        return Ok(());
    }
    if let Ok(mounted) = mount_read_only(&program).or_else(|_| let_child_mount(&program)) {
        // It returns where a security module wants to know a program by its path.
        run(mounted.as_fd())?.ok();
    }
    let copy = copy(&mut program)?;
    run(copy.as_fd())?.context("run the copy of this program")?;
    Ok(())
}

fn is_sealed(program: &File) -> bool {
    let seals = fcntl(program, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    seals.is_ok_and(|seals| seals.contains(SEALS)) || is_mounted_apart(program)
}

/// Whether it is all of a read-only mount that is nowhere: only such a file has
/// this name.
fn is_mounted_apart(program: &File) -> bool {
    fstatvfs(program).is_ok_and(|mount| mount.flags().contains(FsFlags::ST_RDONLY))
        && fs::read_link("/proc/self/exe").is_ok_and(|name| name == Path::new("/"))
}

/// Where the descriptor is closed, as execve(2) does, the mount is of no
/// namespace for good, and lives as long as the program is run or held open.
fn mount_read_only(program: &File) -> Result<OwnedFd> {
    let mount = rootfs::copy_tree(program.as_fd(), false)?;
    let read_only = rootfs::Attributes {
        set: libc::MOUNT_ATTR_RDONLY,
        ..rootfs::Attributes::default()
    };
    read_only.apply(&mount)?;
    Ok(mount)
}

/// Capabilities over a mount namespace are had by whoever makes it together with
/// a user namespace; a file that was opened there is the same file here.
fn let_child_mount(program: &File) -> Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair().context("make a pair of sockets")?;
    // SAFETY: this process has one thread yet, so that all of its memory is the child's as well.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            let sent = mount_and_send(program, &theirs);
            // SAFETY: _exit(2) only ends this process, which shares the parent's streams.
            unsafe { libc::_exit(i32::from(sent.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            let got = receive(&ours);
            waitpid(child, None).context("wait for the child that mounts this program")?;
            got
        }
    }
}

fn mount_and_send(program: &File, to: &UnixStream) -> Result<()> {
    let path = fs::read_link("/proc/self/exe")?;
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    // What was opened before belongs to the old mount namespace.
    let again = File::open(path)?;
    let (one, two) = (program.metadata()?, again.metadata()?);
    ensure!(
        (one.dev(), one.ino()) == (two.dev(), two.ino()),
        "another file has its name now"
    );
    let mount = mount_read_only(&again)?;
    let rights = [mount.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&rights)];
    let word = [IoSlice::new(b"!")];
    sendmsg::<()>(to.as_raw_fd(), &word, &rights, MsgFlags::empty(), None)?;
    Ok(())
}

fn receive(from: &UnixStream) -> Result<OwnedFd> {
    let mut word = [0];
    let mut slices = [IoSliceMut::new(&mut word)];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    for message in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(rights) = message
            && let [mount] = rights[..]
        {
            // SAFETY: the kernel has just made this descriptor for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(mount) });
        }
    }
    bail!("the child could not mount this program")
}

fn copy(program: &mut File) -> Result<File> {
    let mut copy = new_file().context("make a file in memory for a copy of this program")?;
    io::copy(program, &mut copy).context("copy this program to memory")?;
    copy.rewind().context("copy this program to memory")?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(SEALS)).context("seal the copy of this program")?;
    Ok(copy)
}

/// Returns why the program could not be run.
fn run(program: BorrowedFd) -> Result<nix::Result<Infallible>> {
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
    Ok(execveat(program, c"", &args, &env, AtFlags::AT_EMPTY_PATH))
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
