//! System calls by name: one name has another number on each machine.

use oci_spec::runtime::Arch;
use syscalls::x86_64::Sysno;
use syscalls::{aarch64, arm, x86};

/// An instruction set whose programs this kernel may run. A filter tells them
/// apart by `seccomp_data.arch`, and x32 by bit 30 of the number besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// What marks a system call of the x32 ABI (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 1 << 30;

/// Where ARM's private system calls begin (`__ARM_NR_BASE`), far above the table.
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

impl Machine {
    /// Those whose programs a kernel of this host's kind may run, its own first.
    pub(super) const HOST: &[Machine] = if cfg!(target_arch = "aarch64") {
        &[Machine::Aarch64, Machine::Arm]
    } else {
        &[Machine::X86_64, Machine::X86, Machine::X32]
    };

    /// The runtime-spec's name of it.
    pub(super) fn arch(self) -> Arch {
        match self {
            Machine::X86_64 => Arch::ScmpArchX86_64,
            Machine::X86 => Arch::ScmpArchX86,
            Machine::X32 => Arch::ScmpArchX32,
            Machine::Aarch64 => Arch::ScmpArchAarch64,
            Machine::Arm => Arch::ScmpArchArm,
        }
    }

    /// What `seccomp_data.arch` holds for it (`AUDIT_ARCH_*`, linux/audit.h).
    pub(super) fn audit(self) -> u32 {
        match self {
            Machine::X86_64 | Machine::X32 => 0xc000_003e,
            Machine::X86 => 0x4000_0003,
            Machine::Aarch64 => 0xc000_00b7,
            Machine::Arm => 0x4000_0028,
        }
    }

    /// Whether a system call takes its arguments from 64-bit registers. Where
    /// it does not, the kernel never looks at the upper halves, which a 64-bit
    /// program that calls the 32-bit entry may have filled with anything.
    pub(super) fn wide(self) -> bool {
        !matches!(self, Machine::X86 | Machine::Arm)
    }

    /// The least number that its system calls have.
    pub(super) fn first(self) -> u32 {
        if self == Machine::X32 { X32_BIT } else { 0 }
    }

    /// The number of a system call; none where the machine has no such call.
    pub(super) fn number(self, name: &Name) -> Option<u32> {
        match self {
            Machine::X86_64 => X86_64.find(name),
            Machine::X86 => X86.find(name),
            Machine::X32 => x32(name),
            Machine::Aarch64 => AARCH64.find(name),
            Machine::Arm => ARM.find(name).or_else(|| arm_private(name)),
        }
    }
}

/// A name that is looked up on several machines.
pub(super) struct Name<'a> {
    pub(super) text: &'a str,
    hash: u32,
}

impl<'a> Name<'a> {
    pub(super) fn new(text: &'a str) -> Name<'a> {
        Name {
            text,
            hash: hash(text.as_bytes()),
        }
    }
}

/// Numbers by the hashes of their names, made when this program is compiled. A
/// profile names some 440 calls and each start of a container looks them all
/// up: comparing names one after the other took longer than all the rest.
struct Table {
    /// A number plus one, or 0 for an empty slot; collisions go to the next slot.
    slots: [u16; SLOTS],
    name: fn(u32) -> &'static str,
}

const SLOTS: usize = 1024;

impl Table {
    fn find(&self, wanted: &Name) -> Option<u32> {
        let mut slot = wanted.hash as usize % SLOTS;
        loop {
            let number = u32::from(self.slots[slot]).checked_sub(1)?;
            if (self.name)(number) == wanted.text {
                return Some(number);
            }
            slot = (slot + 1) % SLOTS;
        }
    }
}

/// FNV-1a.
const fn hash(text: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut i = 0;
    while i < text.len() {
        hash = (hash ^ text[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    hash ^ (hash >> 15)
}

/// The `Sysno` types have the same functions but no trait in common, and a
/// trait's functions could not be called in a constant.
macro_rules! table {
    ($sysno:ty) => {
        Table {
            slots: {
                let mut slots = [0; SLOTS];
                let mut number = 0;
                while number < <$sysno>::table_size() {
                    if let Some(call) = <$sysno>::new(number) {
                        let mut slot = hash(call.name().as_bytes()) as usize % SLOTS;
                        while slots[slot] != 0 {
                            slot = (slot + 1) % SLOTS;
                        }
                        slots[slot] = number as u16 + 1;
                    }
                    number += 1;
                }
                slots
            },
            name: |number| <$sysno>::new(number as usize).map_or("", |call| call.name()),
        }
    };
}

static X86_64: Table = table!(Sysno);
static X86: Table = table!(x86::Sysno);
static AARCH64: Table = table!(aarch64::Sysno);
static ARM: Table = table!(arm::Sysno);

/// x32 has the numbers of x86_64, but for the calls whose structures differ:
/// those follow each other from 512 on (arch/x86/entry/syscalls/syscall_64.tbl).
#[rustfmt::skip]
const X32_OWN: [Sysno; 36] = [
    Sysno::rt_sigaction, Sysno::rt_sigreturn, Sysno::ioctl, Sysno::readv, Sysno::writev,
    Sysno::recvfrom, Sysno::sendmsg, Sysno::recvmsg, Sysno::execve, Sysno::ptrace,
    Sysno::rt_sigpending, Sysno::rt_sigtimedwait, Sysno::rt_sigqueueinfo, Sysno::sigaltstack,
    Sysno::timer_create, Sysno::mq_notify, Sysno::kexec_load, Sysno::waitid,
    Sysno::set_robust_list, Sysno::get_robust_list, Sysno::vmsplice, Sysno::move_pages,
    Sysno::preadv, Sysno::pwritev, Sysno::rt_tgsigqueueinfo, Sysno::recvmmsg, Sysno::sendmmsg,
    Sysno::process_vm_readv, Sysno::process_vm_writev, Sysno::setsockopt, Sysno::getsockopt,
    Sysno::io_setup, Sysno::io_submit, Sysno::execveat, Sysno::preadv2, Sysno::pwritev2,
];

fn x32(name: &Name) -> Option<u32> {
    let common = X86_64.find(name)?;
    let own = X32_OWN.iter().position(|call| *call as u32 == common);
    Some(X32_BIT | own.map_or(common, |position| 512 + position as u32))
}

fn arm_private(name: &Name) -> Option<u32> {
    let offset = match name.text {
        "breakpoint" => 1,
        "cacheflush" => 2,
        "usr26" => 3,
        "usr32" => 4,
        "set_tls" => 5,
        "get_tls" => 6,
        _ => return None,
    };
    Some(ARM_PRIVATE + offset)
}

/// A call that 32-bit x86 also makes through another one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Multiplexed {
    /// The number of the other one.
    pub(super) number: u32,
    /// What its first argument holds then, in these of its bits.
    pub(super) call: u64,
    pub(super) mask: u64,
}

/// The calls of `socketcall` (linux/net.h), which counts them from 1.
#[rustfmt::skip]
const SOCKETCALL: [&str; 20] = [
    "socket", "bind", "connect", "listen", "accept", "getsockname", "getpeername", "socketpair",
    "send", "recv", "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg",
    "recvmsg", "accept4", "recvmmsg", "sendmmsg",
];

/// The calls of `ipc` (linux/ipc.h), each kind from its own number on.
const IPC: [(u64, [&str; 4]); 3] = [
    (1, ["semop", "semget", "semctl", "semtimedop"]),
    (11, ["msgsnd", "msgrcv", "msgget", "msgctl"]),
    (21, ["shmat", "shmdt", "shmget", "shmctl"]),
];

pub(super) fn multiplexed(name: &str) -> Option<Multiplexed> {
    let at = |(first, names): (u64, &[&str])| {
        let index = names.iter().position(|known| *known == name)?;
        Some(first + index as u64)
    };
    if let Some(call) = at((1, &SOCKETCALL)) {
        return Some(Multiplexed {
            number: x86::Sysno::socketcall as u32,
            call,
            mask: u32::MAX.into(),
        });
    }
    let call = IPC.iter().find_map(|(first, names)| at((*first, names)))?;
    Some(Multiplexed {
        number: x86::Sysno::ipc as u32,
        call,
        // The upper half is the version of the call's interface (ipc(2)).
        mask: 0xffff,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(machine: Machine, name: &str) -> Option<u32> {
        machine.number(&Name::new(name))
    }

    #[test]
    fn a_name_has_its_own_number_on_each_machine() {
        assert_eq!(number(Machine::X86_64, "read"), Some(0));
        assert_eq!(number(Machine::X86, "read"), Some(3));
        assert_eq!(number(Machine::Aarch64, "read"), Some(63));
        assert_eq!(number(Machine::Arm, "set_tls"), Some(0xf0005));
        assert_eq!(number(Machine::X32, "read"), Some(X32_BIT));
        assert_eq!(number(Machine::X32, "rt_sigaction"), Some(X32_BIT | 512));
        assert_eq!(number(Machine::X32, "pwritev2"), Some(X32_BIT | 547));
        assert_eq!(number(Machine::X86_64, "socketcall"), None);
        assert_eq!(number(Machine::X86_64, "no_such_call"), None);
    }

    #[test]
    fn every_call_of_the_table_is_found() {
        let all = (0..500).filter_map(Sysno::new);
        let mut count = 0;
        for call in all {
            let found = number(Machine::X86_64, call.name());
            assert_eq!(found, Some(call.id() as u32), "{}", call.name());
            count += 1;
        }
        assert!(count > 350);
    }
}
