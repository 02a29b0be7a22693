//! The compiled programs, run by an interpreter of the kernel's instructions
//! and held against the profiles themselves.

use libc::sock_filter;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompOperator as Operator,
};

use super::names::{Machine, Name, X32_BIT};
use super::program::Rule;
use super::{Filter, program};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_THREAD;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// `struct seccomp_data`, as far as a filter sees it.
#[derive(Debug, Clone, Copy)]
struct Call {
    arch: u32,
    number: u32,
    arguments: [u64; 6],
}

impl Call {
    fn of(machine: Machine, name: &str, arguments: &[u64]) -> Call {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        Call {
            arch: machine.audit(),
            number: machine.number(&Name::new(name)).unwrap(),
            arguments: all,
        }
    }

    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.arch,
            16.. if offset.is_multiple_of(4) => {
                let index = (offset - 16) / 4;
                let argument = self.arguments[index as usize / 2];
                (argument >> (32 * (index % 2))) as u32
            }
            _ => panic!("nothing to load at {offset}"),
        }
    }
}

/// Runs a program as the kernel does; gives its answer.
fn run(program: &[sock_filter], call: &Call) -> u32 {
    let (mut at, mut a) = (0, 0);
    loop {
        let step = program[at];
        at += 1;
        let class = u32::from(step.code);
        let jump = |yes: bool| usize::from(if yes { step.jt } else { step.jf });
        match class {
            0x20 => a = call.word(step.k),
            0x54 => a &= step.k,
            0x05 => at += step.k as usize,
            0x15 => at += jump(a == step.k),
            0x25 => at += jump(a > step.k),
            0x35 => at += jump(a >= step.k),
            0x06 => return step.k,
            _ => panic!("an instruction that is not ours: {class:#x}"),
        }
    }
}

fn profile(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn compile(json: &str) -> Vec<sock_filter> {
    Filter::compile(&profile(json)).unwrap().program
}

fn refusal(json: &str) -> String {
    format!("{:#}", Filter::compile(&profile(json)).unwrap_err())
}

#[test]
fn a_named_call_gets_its_action_and_others_the_default() {
    let program = compile(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
            {"names":["read","no_such_call","write"],"action":"SCMP_ACT_ALLOW"},
            {"names":["mount"],"action":"SCMP_ACT_KILL_PROCESS"},
            {"names":["reboot"],"action":"SCMP_ACT_ERRNO","errnoRet":5},
            {"names":["statx"],"action":"SCMP_ACT_LOG"}]}"#,
    );
    for machine in [Machine::X86_64, Machine::X86] {
        let answer = |name| run(&program, &Call::of(machine, name, &[]));
        assert_eq!(answer("read"), ALLOW);
        assert_eq!(answer("write"), ALLOW);
        assert_eq!(answer("open"), EPERM);
        assert_eq!(answer("mount"), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(answer("reboot"), libc::SECCOMP_RET_ERRNO | 5);
        assert_eq!(answer("statx"), libc::SECCOMP_RET_LOG);
    }
}

#[test]
fn a_call_newer_than_the_profile_is_missing_rather_than_forbidden() {
    let deny = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X32"],
        "syscalls":[{"names":["read","statx"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let program = compile(deny);
    let newer = |machine| {
        let mut call = Call::of(machine, "statx", &[]);
        call.number += 1;
        call
    };
    assert_eq!(run(&program, &newer(Machine::X86_64)), ENOSYS);
    assert_eq!(run(&program, &newer(Machine::X32)), ENOSYS);
    let older = Call::of(Machine::X86_64, "memfd_create", &[]);
    assert_eq!(run(&program, &older), EPERM);

    let allow = deny.replace("SCMP_ACT_ALLOW", "SCMP_ACT_KILL");
    let allow = allow.replace("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW");
    assert_eq!(run(&compile(&allow), &newer(Machine::X86_64)), ALLOW);
}

#[test]
fn a_foreign_architecture_is_killed_and_x32_is_one_unless_listed() {
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#;
    let program = compile(json);
    let mut call = Call::of(Machine::X86_64, "read", &[]);
    assert_eq!(run(&program, &call), ALLOW);
    call.number |= X32_BIT;
    assert_eq!(run(&program, &call), KILL);
    call.number = u32::MAX;
    assert_eq!(run(&program, &call), ALLOW, "a tracer's skipped call");
    assert_eq!(run(&program, &Call::of(Machine::X86, "read", &[])), KILL);

    let listed = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X32"],
        "syscalls":[{"names":["execve"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let program = compile(listed);
    assert_eq!(run(&program, &Call::of(Machine::X32, "execve", &[])), EPERM);
    assert_eq!(run(&program, &Call::of(Machine::X32, "read", &[])), ALLOW);
}

#[test]
fn conditions_of_one_entry_hold_together_unless_they_share_an_argument() {
    let program = compile(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
            {"names":["dup3"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]},
            {"names":["dup2"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":0,"value":2,"op":"SCMP_CMP_EQ"}]}
        ]}"#,
    );
    let answer = |name, arguments| run(&program, &Call::of(Machine::X86_64, name, arguments));
    assert_eq!(answer("dup3", &[1, 2]), ALLOW);
    assert_eq!(answer("dup3", &[1, 1]), EPERM);
    assert_eq!(answer("dup2", &[1, 9]), ALLOW);
    assert_eq!(answer("dup2", &[2, 9]), ALLOW);
    assert_eq!(answer("dup2", &[3, 9]), EPERM);
}

#[test]
fn the_narrower_of_two_rules_prevails_and_one_without_conditions_over_all() {
    let rule = |name, action, argument, op, value| {
        format!(
            r#"{{"names":["{name}"],"action":"SCMP_ACT_{action}","args":[
            {{"index":{argument},"value":{value},"op":"SCMP_CMP_{op}"}}]}}"#
        )
    };
    let rules = [
        rule("dup2", "KILL", 0, "LT", 9),
        rule("dup2", "ALLOW", 0, "EQ", 5),
        rule("dup3", "KILL", 0, "GE", 1),
        rule("dup3", "ALLOW", 1, "GE", 1),
        rule("read", "KILL", 0, "GE", 1),
        r#"{"names":["read"],"action":"SCMP_ACT_ALLOW"}"#.to_owned(),
    ];
    let rules = rules.join(",");
    let program = compile(&format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rules}]}}"#
    ));
    let answer = |name, arguments| run(&program, &Call::of(Machine::X86_64, name, arguments));
    assert_eq!(answer("dup2", &[5]), ALLOW);
    assert_eq!(answer("dup2", &[4]), KILL);
    assert_eq!(answer("dup3", &[1, 1]), ALLOW, "the later argument");
    assert_eq!(answer("dup3", &[1, 0]), KILL);
    assert_eq!(answer("read", &[1]), ALLOW);
}

#[test]
fn upper_halves_count_on_64_bits_and_are_ignored_on_32() {
    let program = compile(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"syscalls":[
            {"names":["personality"],"action":"SCMP_ACT_ERRNO","args":[
                {"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}"#,
    );
    let high = 8 | 1 << 32;
    assert_eq!(
        run(&program, &Call::of(Machine::X86_64, "personality", &[high])),
        ALLOW
    );
    assert_eq!(
        run(&program, &Call::of(Machine::X86, "personality", &[high])),
        EPERM
    );
}

#[test]
fn a_rule_for_sockets_holds_for_the_multiplexed_call_of_32_bits_too() {
    let program = compile(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[
            {"names":["connect","semop"],"action":"SCMP_ACT_ALLOW"},
            {"names":["bind"],"action":"SCMP_ACT_KILL","args":[
                {"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
            {"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
                {"index":0,"value":2,"op":"SCMP_CMP_EQ"}]},
            {"names":["statx"],"action":"SCMP_ACT_ALLOW"}]}"#,
    );
    let socketcall = |number| run(&program, &Call::of(Machine::X86, "socketcall", &[number]));
    assert_eq!(socketcall(3), ALLOW, "connect");
    assert_eq!(socketcall(2), KILL, "bind, with what cannot be seen");
    assert_eq!(
        socketcall(1),
        EPERM,
        "socket, of what family cannot be seen"
    );
    assert_eq!(
        run(&program, &Call::of(Machine::X86, "ipc", &[1 | 1 << 16])),
        ALLOW
    );
}

#[test]
fn what_cannot_be_is_refused_by_its_field() {
    let entry = |entry: &str| {
        refusal(&format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{entry}]}}"#
        ))
    };
    let error = refusal(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#);
    assert!(
        error.starts_with("linux.seccomp.defaultAction: "),
        "{error}"
    );
    let error = refusal(r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#);
    assert!(
        error.starts_with("linux.seccomp.defaultErrnoRet: "),
        "{error}"
    );
    let error = entry(r#"{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5000}"#);
    assert_eq!(
        error,
        "linux.seccomp.syscalls[0].errnoRet: 5000 is above 4095"
    );
    let error = entry(
        r#"{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[
            {"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#,
    );
    assert!(
        error.starts_with("linux.seccomp.syscalls[0].args[0].index: 6 "),
        "{error}"
    );
    let error = entry(r#"{"names":[],"action":"SCMP_ACT_ALLOW"}"#);
    assert!(
        error.starts_with("linux.seccomp.syscalls[0].names: "),
        "{error}"
    );
    let error = entry(r#"{"names":["read"],"action":"SCMP_ACT_NOTIFY"}"#);
    assert!(error.starts_with("linux.seccomp.listenerPath: "), "{error}");
    let error = refusal(
        r#"{"defaultAction":"SCMP_ACT_ERRNO","listenerPath":"/l","syscalls":[
            {"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}"#,
    );
    assert!(error.contains("sendmsg must be allowed"), "{error}");
    let error = refusal(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
    );
    assert!(error.starts_with("linux.seccomp.flags[0]: "), "{error}");
}

#[test]
fn the_kernel_does_what_an_installed_filter_says() {
    use std::os::unix::process::CommandExt as _;

    let filter = Filter::compile(&profile(
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
            {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#,
    ));
    let filter = filter.unwrap();
    let mut command = std::process::Command::new("mkdir");
    command.arg("/never");
    // SAFETY: between fork and exec there are two system calls and no allocation.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_no_new_privs()?;
            filter.install().map(drop).map_err(std::io::Error::other)
        });
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("No space left on device"), "{said}");
}

/// A small generator of random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Values around which comparisons change.
    fn value(&mut self) -> u64 {
        let base = [
            0,
            1,
            7,
            0x7e02_0000,
            u32::MAX.into(),
            1 << 32,
            7 << 32,
            u64::MAX,
        ];
        let value = self.pick(&base);
        value.wrapping_add(self.below(3)).wrapping_sub(1)
    }
}

/// The profile as it is meant, without regard to how it is compiled.
fn meant(profile: &LinuxSeccomp, machine: Machine, call: &Call) -> u32 {
    let answer = |action: Action| match action {
        Action::ScmpActAllow => ALLOW,
        Action::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        Action::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        _ => EPERM,
    };
    let default = answer(profile.default_action());
    let syscalls = profile.syscalls().as_ref().unwrap();
    let numbers = |names: &[String]| -> Vec<u32> {
        let numbers = names
            .iter()
            .filter_map(|name| machine.number(&Name::new(name)));
        numbers.collect()
    };
    let newest = syscalls
        .iter()
        .flat_map(|entry| numbers(entry.names()))
        .max();
    if newest.is_some_and(|newest| call.number > newest) && default != ALLOW {
        return ENOSYS;
    }
    let mut held = Vec::new();
    for entry in syscalls {
        let this = answer(entry.action());
        if this == default || !numbers(entry.names()).contains(&call.number) {
            continue;
        }
        let arguments = entry.args().as_deref().unwrap_or_default();
        if arguments.is_empty() {
            return this;
        }
        let holds = |argument: &LinuxSeccompArg| {
            let mask = if machine.wide() {
                u64::MAX
            } else {
                u32::MAX.into()
            };
            let is = call.arguments[argument.index()] & mask;
            let value = argument.value() & mask;
            let two = argument.value_two().unwrap_or_default() & mask;
            match argument.op() {
                Operator::ScmpCmpNe => is != value,
                Operator::ScmpCmpLt => is < value,
                Operator::ScmpCmpLe => is <= value,
                Operator::ScmpCmpEq => is == value,
                Operator::ScmpCmpGe => is >= value,
                Operator::ScmpCmpGt => is > value,
                Operator::ScmpCmpMaskedEq => is & value == two & value,
            }
        };
        let mut indices: Vec<usize> = arguments.iter().map(LinuxSeccompArg::index).collect();
        indices.sort_unstable();
        indices.dedup();
        let rule = |arguments: &[LinuxSeccompArg]| Rule {
            answer: this,
            all: arguments.iter().map(super::condition).collect(),
        };
        if indices.len() < arguments.len() {
            let holding = arguments.iter().filter(|argument| holds(argument));
            held.extend(holding.map(|argument| rule(&[*argument])));
        } else if arguments.iter().all(holds) {
            held.push(rule(arguments));
        }
    }
    let first = held.iter().min_by_key(|rule| rule.precedence());
    first.map_or(default, |rule| rule.answer)
}

fn random_profile(random: &mut Random) -> LinuxSeccomp {
    let actions = ["ALLOW", "ERRNO", "TRAP", "KILL_PROCESS"];
    let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let mut entries = Vec::new();
    for _ in 0..random.below(60) {
        let mut names = Vec::new();
        for _ in 0..=random.below(4) {
            let number = random.below(300) as usize;
            names.extend(syscalls::x86_64::Sysno::new(number).map(|call| call.name()));
        }
        // The multiplexed ones of 32 bits have a test of their own.
        names.retain(|name| super::names::multiplexed(name).is_none());
        if names.is_empty() {
            continue;
        }
        let mut arguments = Vec::new();
        for _ in 0..random.below(4) {
            arguments.push(serde_json::json!({
                "index": random.below(3),
                "value": random.value(),
                "valueTwo": random.value(),
                "op": format!("SCMP_CMP_{}", random.pick(&operators)),
            }));
        }
        entries.push(serde_json::json!({
            "names": names,
            "action": format!("SCMP_ACT_{}", random.pick(&actions)),
            "args": arguments,
        }));
    }
    let mut profile: LinuxSeccomp = serde_json::from_value(serde_json::json!({
        "defaultAction": format!("SCMP_ACT_{}", random.pick(&actions[..2])),
        "syscalls": entries,
    }))
    .unwrap();
    let all = Machine::HOST
        .iter()
        .map(|machine| machine.arch())
        .collect::<Vec<Arch>>();
    profile.set_architectures(Some(all));
    profile
}

#[test]
fn a_program_answers_every_call_as_its_profile_means() {
    let mut random = Random(0x5eed);
    for _ in 0..50 {
        let profile = random_profile(&mut random);
        let filter = Filter::compile(&profile).unwrap();
        assert!(filter.program.len() <= program::LONGEST);
        for _ in 0..200 {
            let machine = random.pick(Machine::HOST);
            let call = Call {
                arch: machine.audit(),
                number: machine.first() + random.below(330) as u32,
                arguments: [(); 6].map(|()| random.value()),
            };
            assert_eq!(
                run(&filter.program, &call),
                meant(&profile, machine, &call),
                "{machine:?} {call:?} in {profile:?}"
            );
        }
    }
}
