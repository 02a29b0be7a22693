//! The kernel's virtual machine, as far as a device filter needs it: eight instructions, and five
//! commands of bpf(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// Where the result of a program is when it ends.
pub(super) const RESULT: Register = Register(0);
/// Points to what the program is to look at when it begins.
const CONTEXT: Register = Register(1);

/// One of the ten registers that a program may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Register(pub(super) u8);

/// An instruction. All work on 32 bits: those on 64 extend the sign of their constant, and a device
/// number of more than 31 bits would equal nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instruction {
    /// The number that is so many bytes behind [`CONTEXT`].
    Load {
        to: Register,
        at: i16,
    },
    Set {
        to: Register,
        value: u32,
    },
    Copy {
        to: Register,
        from: Register,
    },
    And {
        to: Register,
        mask: u32,
    },
    ShiftRight {
        to: Register,
        by: u32,
    },
    /// Leaves out so many of the instructions that follow.
    SkipIfEqual {
        left: Register,
        right: u32,
        skip: i16,
    },
    SkipUnlessEqual {
        left: Register,
        right: u32,
        skip: i16,
    },
    Exit,
}

impl Instruction {
    /// The eight bytes that the kernel takes: operation, two registers of four bits, a distance, a
    /// constant (RFC 9669, sections 3 to 5).
    fn encode(self) -> [u8; 8] {
        const NONE: Register = Register(0);
        let (operation, to, from, offset, constant) = match self {
            Self::Load { to, at } => (0x61, to, CONTEXT, at, 0),
            Self::Set { to, value } => (0xb4, to, NONE, 0, value),
            Self::Copy { to, from } => (0xbc, to, from, 0, 0),
            Self::And { to, mask } => (0x54, to, NONE, 0, mask),
            Self::ShiftRight { to, by } => (0x74, to, NONE, 0, by),
            Self::SkipIfEqual { left, right, skip } => (0x16, left, NONE, skip, right),
            Self::SkipUnlessEqual { left, right, skip } => (0x56, left, NONE, skip, right),
            Self::Exit => (0x95, NONE, NONE, 0, 0),
        };
        let registers = match cfg!(target_endian = "little") {
            true => from.0 << 4 | to.0,
            false => to.0 << 4 | from.0,
        };
        let [o0, o1] = offset.to_ne_bytes();
        let [c0, c1, c2, c3] = constant.to_ne_bytes();
        [operation, registers, o0, o1, c0, c1, c2, c3]
    }
}

/// `BPF_PROG_TYPE_CGROUP_DEVICE` and `BPF_CGROUP_DEVICE` of linux/bpf.h.
const DEVICE_PROGRAM: u32 = 15;
const DEVICE_HOOK: u32 = 6;

/// The kernel knows which member of its `union bpf_attr` is meant by the command, and takes what lies
/// beyond the given size for zeros.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
struct Attach {
    target: RawFd,
    program: RawFd,
    hook: u32,
    flags: u32,
}

#[repr(C)]
struct Query {
    target: RawFd,
    hook: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
}

#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    flags: u32,
}

/// Has the kernel check and compile a program that decides on devices.
///
/// Since Linux 5.11 its memory counts for the caller's cgroup: there is no RLIMIT_MEMLOCK to raise.
pub(super) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let code: Vec<[u8; 8]> = program.iter().map(|one| one.encode()).collect();
    let mut attributes = Load {
        kind: DEVICE_PROGRAM,
        count: u32::try_from(code.len()).map_err(io::Error::other)?,
        instructions: code.as_ptr() as u64,
        // Any will do that calls no function of the kernel's.
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    // SAFETY: BPF_PROG_LOAD reads `count` instructions of eight bytes and a C string, which both live
    // until the end of this function.
    let fd = unsafe { bpf(5, &mut attributes)? };
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Asks `program` too whenever a process in `cgroup` opens or makes a device.
pub(super) fn attach(program: BorrowedFd, cgroup: BorrowedFd) -> io::Result<()> {
    const ALLOW_MULTI: u32 = 1 << 1;
    let mut attributes = on(program, cgroup, ALLOW_MULTI);
    // SAFETY: BPF_PROG_ATTACH reads the attributes only.
    unsafe { bpf(8, &mut attributes) }.map(drop)
}

/// Ends that.
pub(super) fn detach(program: BorrowedFd, cgroup: BorrowedFd) -> io::Result<()> {
    let mut attributes = on(program, cgroup, 0);
    // SAFETY: BPF_PROG_DETACH reads the attributes only.
    unsafe { bpf(9, &mut attributes) }.map(drop)
}

fn on(program: BorrowedFd, cgroup: BorrowedFd, flags: u32) -> Attach {
    Attach {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        hook: DEVICE_HOOK,
        flags,
    }
}

/// The device programs that are attached to `cgroup` itself: the kernel holds at most 64.
pub(super) fn attached(cgroup: BorrowedFd) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; 64];
    let mut attributes = Query {
        target: cgroup.as_raw_fd(),
        hook: DEVICE_HOOK,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: 64,
    };
    // SAFETY: BPF_PROG_QUERY writes at most `count` numbers to `ids`, which holds so many.
    unsafe { bpf(16, &mut attributes)? };
    let count = usize::try_from(attributes.count).map_err(io::Error::other)?;
    ids.iter().take(count).map(|id| by_id(*id)).collect()
}

fn by_id(id: u32) -> io::Result<OwnedFd> {
    let (next_id, flags) = (0, 0);
    let mut attributes = ById { id, next_id, flags };
    // SAFETY: BPF_PROG_GET_FD_BY_ID reads the attributes only.
    let fd = unsafe { bpf(13, &mut attributes)? };
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attributes` is what `command` takes, and its pointers are valid for what the command does.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads and writes `size_of::<T>()` bytes there; the rest is as promised.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    RawFd::try_from(Errno::result(result)?).map_err(io::Error::other)
}
