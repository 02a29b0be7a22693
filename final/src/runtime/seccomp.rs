//! System calls that a container may not make (`linux.seccomp`).
//!
//! The profile is compiled to the program that the kernel runs at each system
//! call (seccomp(2)), with no library in between:
//!
//! ```text
//!   arch? ─▶ x86_64 ─▶ number? ─▶ ALLOW
//!      │                  ├─────▶ ERRNO
//!      │                  └─────▶ arguments? ─▶ …
//!      ├──▶ x86 ─▶ number? ─▶ …
//!      └──▶ KILL
//! ```
//!
//! Numbers are found by binary search among ranges of equal answers. What is to
//! be answered follows libseccomp and runc, by which profiles were written.

mod listener;
mod names;
mod program;

use std::borrow::Cow;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};
use libc::sock_filter;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompFilterFlag as Flag, LinuxSeccompOperator as Operator, LinuxSyscall, Spec,
};

pub(crate) use listener::Listener;
use names::{ARM_PRIVATE, Machine, Name, X32_BIT};
use program::{Condition, Leaf, Program, Rule};

/// A profile made ready for the kernel.
#[derive(Debug)]
pub(crate) struct Filter {
    program: Vec<sock_filter>,
    flags: libc::c_ulong,
}

impl Filter {
    /// Compiles the profile that a configuration has, if it has one.
    ///
    /// # Errors
    /// As [`Filter::compile`].
    pub(crate) fn of(spec: &Spec) -> Result<Option<Filter>> {
        let linux = spec.linux().as_ref();
        let profile = linux.and_then(|linux| linux.seccomp().as_ref());
        profile.map(Filter::compile).transpose()
    }

    /// Compiles a profile.
    ///
    /// # Errors
    /// What the kernel would refuse or could not do, by the field's name.
    pub(crate) fn compile(profile: &LinuxSeccomp) -> Result<Filter> {
        let profile = Profile::read(profile)?;
        let program = profile.program();
        ensure!(
            program.len() <= program::LONGEST,
            "linux.seccomp.syscalls: they make {} instructions, and the kernel takes {}",
            program.len(),
            program::LONGEST
        );
        Ok(Filter {
            program,
            flags: profile.flags,
        })
    }

    /// Subjects this process, and all that it will execute, to the filter. It
    /// needs `no_new_privs` or `CAP_SYS_ADMIN`.
    ///
    /// Gives back the descriptor for whoever answers `SCMP_ACT_NOTIFY`.
    ///
    /// # Errors
    /// The kernel's, from seccomp(2).
    pub(crate) fn install(&self) -> Result<Option<OwnedFd>> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.program.len())?,
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: the program lives until the call returns; the kernel copies it
        // and writes nothing to it.
        let done = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                self.flags,
                &raw const program,
            )
        };
        if done < 0 {
            return Err(std::io::Error::last_os_error()).context(
                "linux.seccomp: the kernel did not take the filter \
                 (it needs CONFIG_SECCOMP_FILTER, and process.noNewPrivileges or CAP_SYS_ADMIN)",
            );
        }
        if self.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
            return Ok(None);
        }
        let fd = i32::try_from(done)?;
        // SAFETY: with this flag the call returns a new descriptor of ours.
        Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

/// A profile with its fields checked.
struct Profile<'a> {
    /// What is answered to a call that no entry names.
    default: u32,
    /// What is answered to a call newer than the profile.
    newer: u32,
    machines: Vec<Machine>,
    flags: libc::c_ulong,
    entries: Vec<Entry<'a>>,
}

/// One entry of `linux.seccomp.syscalls`: any of its rules gives its answer.
struct Entry<'a> {
    names: Vec<Name<'a>>,
    rules: Vec<Rule>,
}

impl<'a> Profile<'a> {
    fn read(source: &'a LinuxSeccomp) -> Result<Profile<'a>> {
        let action = source.default_action();
        ensure!(
            action != Action::ScmpActNotify,
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is not possible here: \
             the call that hands the listener over would wait for it"
        );
        let default =
            answer(action, source.default_errno_ret()).context("linux.seccomp.defaultErrnoRet")?;
        // A program that finds a new call missing (ENOSYS) takes the old one
        // instead; one that finds it forbidden (EPERM) gives up. So a profile
        // must not forbid what did not exist when it was written.
        let newer = match action {
            Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace => default,
            _ => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        };
        let syscalls = source.syscalls().as_deref().unwrap_or_default();
        let entries = syscalls.iter().enumerate();
        let entries = entries.map(|(i, entry)| Entry::read(i, entry, default));
        let profile = Profile {
            default,
            newer,
            machines: machines(source),
            flags: flags(source)?,
            entries: entries.collect::<Result<_>>()?,
        };
        if listener::wanted(source) {
            profile.check_listener(source)?;
        }
        Ok(profile)
    }

    /// The listener is handed over by the process that is filtered already.
    fn check_listener(&self, source: &LinuxSeccomp) -> Result<()> {
        ensure!(
            source.listener_path().is_some(),
            "linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs it, and it is missing"
        );
        let named = |entry: &&Entry| entry.names.iter().any(|name| name.text == "sendmsg");
        let rules = self.entries.iter().filter(named).flat_map(|e| &e.rules);
        let always = rules.clone().find(|rule| rule.all.is_empty());
        let answer = match (always, rules.count()) {
            (Some(rule), _) => Some(rule.answer),
            (None, 0) => Some(self.default),
            (None, _) => None,
        };
        ensure!(
            matches!(
                answer,
                Some(libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG)
            ),
            "linux.seccomp.syscalls: with SCMP_ACT_NOTIFY, sendmsg must be allowed: \
             the listener is handed over with it"
        );
        Ok(())
    }

    fn program(&self) -> Vec<sock_filter> {
        let mut program = Program::default();
        let mut other = program.answer(libc::SECCOMP_RET_KILL_THREAD);
        for machine in self.machines.iter().rev() {
            if *machine == Machine::X32 {
                continue;
            }
            let mut ranges = self.ranges(&mut program, *machine);
            if *machine == Machine::X86_64 {
                self.add_x32(&mut program, &mut ranges);
            }
            let found = program.search(&ranges);
            let section = program.load(program::NUMBER, found);
            other = program.equal(machine.audit(), section, other);
        }
        program.load(program::ARCH, other);
        program.finish()
    }

    /// x32 shares the architecture of x86_64, and only the number tells them
    /// apart. To a profile it is an architecture of its own.
    fn add_x32(&self, program: &mut Program, ranges: &mut Vec<(u32, Leaf)>) {
        if self.machines.contains(&Machine::X32) {
            ranges.append(&mut self.ranges(program, Machine::X32));
        } else {
            ranges.push((X32_BIT, Leaf::Answer(libc::SECCOMP_RET_KILL_THREAD)));
            // A tracer has a call skipped by setting its number to -1
            // (ptrace(2)), which must not kill.
            ranges.push((u32::MAX, Leaf::Answer(self.newer)));
        }
    }

    /// The ranges of numbers with one answer each, upwards from the machine's first.
    fn ranges(&self, program: &mut Program, machine: Machine) -> Vec<(u32, Leaf)> {
        let first = machine.first();
        let calls = self.calls(machine);
        let newest = calls.iter().map(|(number, _)| *number);
        let newest = newest.filter(|number| number - first < ARM_PRIVATE).max();
        let mut ranges = vec![(first, Leaf::Answer(self.default))];
        for same in calls.chunk_by(|(a, _), (b, _)| a == b) {
            let number = same[0].0;
            let rules = same.iter().filter_map(|(_, rule)| rule.as_deref());
            let leaf = self.leaf(program, machine, rules.collect());
            put(&mut ranges, number, leaf);
            let after = if newest.is_some_and(|newest| number >= newest) {
                self.newer
            } else {
                self.default
            };
            put(&mut ranges, number + 1, Leaf::Answer(after));
        }
        ranges
    }

    /// The profile's rules by the number of the call on a machine, in order. A
    /// name without a rule stands there too: the profile knows this call.
    fn calls(&self, machine: Machine) -> Vec<(u32, Option<Cow<'_, Rule>>)> {
        let mut calls = Vec::new();
        for entry in &self.entries {
            for name in &entry.names {
                if machine == Machine::X86 {
                    calls.extend(entry.multiplexed(name.text));
                }
                let Some(number) = machine.number(name) else {
                    continue;
                };
                if entry.rules.is_empty() {
                    calls.push((number, None));
                }
                let rules = entry.rules.iter().map(Cow::Borrowed);
                calls.extend(rules.map(|rule| (number, Some(rule))));
            }
        }
        calls.sort_by_key(|(number, _)| *number);
        calls
    }

    /// A rule without conditions prevails over those with some, whatever their
    /// order; otherwise the first that holds gives the answer.
    fn leaf(&self, program: &mut Program, machine: Machine, mut rules: Vec<&Rule>) -> Leaf {
        if let Some(always) = rules.iter().find(|rule| rule.all.is_empty()) {
            return Leaf::Answer(always.answer);
        }
        if rules.is_empty() {
            return Leaf::Answer(self.default);
        }
        rules.sort_by_cached_key(|rule| rule.precedence());
        let default = program.answer(self.default);
        Leaf::Label(program.rules(&rules, machine.wide(), default))
    }
}

/// Lets a range begin.
fn put(ranges: &mut Vec<(u32, Leaf)>, start: u32, leaf: Leaf) {
    ranges.pop_if(|(last, _)| *last == start);
    if ranges.last().is_none_or(|(_, last)| *last != leaf) {
        ranges.push((start, leaf));
    }
}

impl<'a> Entry<'a> {
    fn read(i: usize, source: &'a LinuxSyscall, default: u32) -> Result<Entry<'a>> {
        ensure!(
            !source.names().is_empty() && source.names().iter().all(|name| !name.is_empty()),
            "linux.seccomp.syscalls[{i}].names: a system call without a name"
        );
        let answer = answer(source.action(), source.errno_ret())
            .with_context(|| format!("linux.seccomp.syscalls[{i}].errnoRet"))?;
        let arguments = source.args().as_deref().unwrap_or_default();
        let mut all = Vec::with_capacity(arguments.len());
        for (k, argument) in arguments.iter().enumerate() {
            ensure!(
                argument.index() < 6,
                "linux.seccomp.syscalls[{i}].args[{k}].index: {} is not one of 0 to 5: \
                 a system call has six arguments",
                argument.index()
            );
            all.push(condition(argument));
        }
        let once = |c: &Condition| all.iter().filter(|o| o.argument == c.argument).count() == 1;
        // As in runc: an entry that says what the default says is skipped, so
        // that another one for the same call stands; and where one argument is
        // compared twice, each comparison counts by itself.
        let rules = if answer == default {
            Vec::new()
        } else if all.iter().all(once) {
            vec![Rule { answer, all }]
        } else {
            let alone = |condition| Rule {
                answer,
                all: vec![condition],
            };
            all.into_iter().map(alone).collect()
        };
        Ok(Entry {
            names: source.names().iter().map(|name| Name::new(name)).collect(),
            rules,
        })
    }

    /// 32-bit x86 has one more way to most calls of sockets and System V IPC:
    /// `socketcall` and `ipc`, whose first argument says which is meant. The
    /// arguments proper are behind a pointer there, where a filter cannot
    /// look: a rule that asks for them forbids if it forbids, but does not allow.
    fn multiplexed(&self, name: &str) -> impl Iterator<Item = (u32, Option<Cow<'_, Rule>>)> {
        let way = names::multiplexed(name);
        let rules = self.rules.iter().filter(|rule| {
            let allows = matches!(rule.answer, libc::SECCOMP_RET_ALLOW | libc::SECCOMP_RET_LOG);
            rule.all.is_empty() || !allows
        });
        let answers = rules.map(|rule| rule.answer);
        way.into_iter().flat_map(move |way| {
            answers.clone().map(move |answer| {
                let all = vec![Condition {
                    argument: 0,
                    operator: Operator::ScmpCmpMaskedEq,
                    value: way.mask,
                    masked: way.call,
                }];
                (way.number, Some(Cow::Owned(Rule { answer, all })))
            })
        })
    }
}

fn condition(source: &LinuxSeccompArg) -> Condition {
    Condition {
        argument: source.index() as u32,
        operator: source.op(),
        value: source.value(),
        masked: source.value_two().unwrap_or_default(),
    }
}

/// The kernel's word for an action (seccomp(2), "Filter return values").
fn answer(action: Action, errno: Option<u32>) -> Result<u32> {
    let largest = match action {
        // The kernel would cut a greater one to this.
        Action::ScmpActErrno => 4095,
        Action::ScmpActTrace => u16::MAX.into(),
        _ if errno.is_some() => bail!("{action} returns no error number"),
        _ => u32::MAX,
    };
    let errno = errno.unwrap_or(libc::EPERM as u32);
    ensure!(
        errno <= largest || largest == u32::MAX,
        "{errno} is above {largest}"
    );
    Ok(match action {
        Action::ScmpActKill | Action::ScmpActKillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        Action::ScmpActErrno => libc::SECCOMP_RET_ERRNO | errno,
        Action::ScmpActNotify => libc::SECCOMP_RET_USER_NOTIF,
        Action::ScmpActTrace => libc::SECCOMP_RET_TRACE | errno,
        Action::ScmpActLog => libc::SECCOMP_RET_LOG,
        Action::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
    })
}

/// This host's machines that the profile is for: its own in any case, as with
/// libseccomp. Programs for the others cannot run here.
fn machines(source: &LinuxSeccomp) -> Vec<Machine> {
    let listed = source.architectures().as_deref().unwrap_or_default();
    let (own, others) = Machine::HOST.split_at(1);
    let others = others
        .iter()
        .filter(|machine| listed.contains(&machine.arch()));
    own.iter().chain(others).copied().collect()
}

/// The architectures that programs on this host may have.
pub(super) fn architectures() -> Vec<Arch> {
    Machine::HOST.iter().map(|machine| machine.arch()).collect()
}

fn flags(source: &LinuxSeccomp) -> Result<libc::c_ulong> {
    let notify = listener::wanted(source);
    let mut all = if notify {
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
    } else {
        0
    };
    for (i, flag) in source.flags().iter().flatten().enumerate() {
        ensure!(
            supported(*flag),
            "linux.seccomp.flags[{i}]: this kernel does not know {flag}"
        );
        ensure!(
            *flag != Flag::SeccompFilterFlagWaitKillableRecv || notify,
            "linux.seccomp.flags[{i}]: {flag} has no meaning without SCMP_ACT_NOTIFY"
        );
        all |= word(*flag);
    }
    Ok(all)
}

/// The kernel's word for a flag (linux/seccomp.h).
fn word(flag: Flag) -> libc::c_ulong {
    match flag {
        Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        // There is one thread, and the kernel takes this flag and a listener
        // together only with a further one.
        Flag::SeccompFilterFlagTsync => 0,
        Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        Flag::SeccompFilterFlagWaitKillableRecv => libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
    }
}

/// Whether this kernel knows a flag: if it does, it goes on to miss the program.
pub(super) fn supported(flag: Flag) -> bool {
    let mut flags = word(flag);
    if flag == Flag::SeccompFilterFlagWaitKillableRecv {
        flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    }
    // SAFETY: without a program the call does nothing but fail.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::null::<libc::sock_fprog>(),
        )
    };
    done < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

#[cfg(test)]
mod tests;
