//! `linux.resources.devices`: which devices the container's processes may open and make.
//!
//! Version 2 of cgroups has no file for this. Whenever a process in the cgroup opens or makes a
//! device, the kernel asks a program instead, which is made here of the rules:
//!
//! ```text
//! { allow: false, access: "rwm" }                           for each access asked for, the last
//! { allow: true, type: "c", major: 1, minor: 3, … }   ─▶    rule that speaks of it decides; what
//!                                                           none speaks of is forbidden
//! ```

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::geteuid;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::bpf::{self, Instruction, Register};

/// The rules, compiled.
#[derive(Debug)]
pub(crate) struct DeviceFilter(Vec<Instruction>);

/// A rule as `struct bpf_cgroup_dev_ctx` of linux/bpf.h has its parts; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<u32>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

/// The kernel would take more, and check them for a second.
const MOST: usize = 4096;

const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const ALL: u32 = MAKE | READ | WRITE;

const WANTED: Register = Register(3);
const KIND: Register = Register(2);
const MAJOR: Register = Register(4);
const MINOR: Register = Register(5);

/// What is allowed in every container, whatever the rules say: its own runtime must be able to make
/// device nodes in it, as it is in the cgroup by then; and nobody expects a container without the
/// devices that runtime-spec (config-linux, "Default Devices") puts in it. The same as with runc.
fn defaults() -> impl Iterator<Item = Rule> {
    let always = |kind, major, minor, access| Rule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access,
    };
    let numbers = [
        (1, Some(3)), // null
        (1, Some(5)), // zero
        (1, Some(7)), // full
        (1, Some(8)), // random
        (1, Some(9)), // urandom
        (5, Some(0)), // tty
        (5, Some(2)), // ptmx
        (136, None),  // pts/*, and console, which is one of them
    ];
    let usual =
        numbers.map(|(major, minor)| always(CHARACTER, Some(major), minor, READ | WRITE | MAKE));
    let make = [BLOCK, CHARACTER].map(|kind| always(kind, None, None, MAKE));
    make.into_iter().chain(usual)
}

impl DeviceFilter {
    /// Compiles `linux.resources.devices`. `None`: the rules allow everything, and nobody need ask.
    pub(crate) fn plan(rules: &[LinuxDeviceCgroup]) -> Result<Option<Self>> {
        ensure!(
            rules.len() <= MOST,
            "linux.resources.devices: there are more than {MOST} rules"
        );
        let rules = rules.iter().enumerate().map(|(at, rule)| {
            Rule::read(rule).with_context(|| format!("linux.resources.devices[{at}]"))
        });
        let rules = rules.collect::<Result<Vec<_>>>()?;
        let last = rules.iter().rfind(|rule| !rule.allow || rule.is_total());
        if rules.is_empty() || last.is_some_and(|rule| rule.allow) {
            return Ok(None);
        }
        let rules: Vec<_> = rules.into_iter().chain(defaults()).collect();
        Ok(Some(Self(compile(&without_shadowed(&rules)))))
    }

    /// Has the kernel ask it, and no other that was put on `cgroup` before.
    pub(crate) fn attach(&self, cgroup: BorrowedFd) -> Result<()> {
        let program = match bpf::load(&self.0) {
            Err(error) if is_refused(&error) && is_needless()? => return Ok(()),
            loaded => loaded.context(
                "linux.resources.devices: load the device filter (this needs CAP_BPF, or \
                 CAP_SYS_ADMIN, and a kernel with CONFIG_CGROUP_BPF)",
            )?,
        };
        let attach = || -> io::Result<()> {
            let others = bpf::attached(cgroup)?;
            // For a moment both are asked: rather too strict than too lax.
            bpf::attach(program.as_fd(), cgroup)?;
            detach(&others, cgroup)
        };
        attach().context("linux.resources.devices: attach the device filter to the cgroup")
    }

    /// Has the kernel ask no filter any more.
    pub(crate) fn clear(cgroup: BorrowedFd) -> Result<()> {
        match bpf::attached(cgroup).and_then(|filters| detach(&filters, cgroup)) {
            Err(error) if is_refused(&error) && is_needless()? => Ok(()),
            cleared => cleared.context("linux.resources.devices: detach the device filter"),
        }
    }

    /// Refuses, where the container has no cgroup to attach a filter to.
    pub(crate) fn do_without() -> Result<()> {
        ensure!(
            is_needless()?,
            "linux.resources.devices: there is no cgroup of version 2 to attach the device filter to"
        );
        Ok(())
    }
}

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Whether the container is in a user namespace for certain, since we could not make one without.
/// There, the kernel lets nobody make a device, and those of the host that it is given are as open to
/// it as to the user who gives them: a filter would forbid little more.
fn is_needless() -> Result<bool> {
    let map = fs::read_to_string("/proc/self/uid_map").context("read /proc/self/uid_map")?;
    let has_everybody = map.split_whitespace().eq(["0", "0", "4294967295"]);
    Ok(!geteuid().is_root() || !has_everybody)
}

fn detach(filters: &[impl AsFd], cgroup: BorrowedFd) -> io::Result<()> {
    filters
        .iter()
        .try_for_each(|filter| bpf::detach(filter.as_fd(), cgroup))
}

impl Rule {
    fn read(rule: &LinuxDeviceCgroup) -> Result<Self> {
        let kind = match rule.typ() {
            None | Some(LinuxDeviceType::A) => None,
            Some(LinuxDeviceType::B) => Some(BLOCK),
            Some(LinuxDeviceType::C) => Some(CHARACTER),
            Some(other) => bail!("type: {other:?} is none of a, b and c"),
        };
        let text = rule.access().as_deref().unwrap_or_default();
        let access = text.chars().try_fold(0, |access, letter| match letter {
            'm' => Ok(access | MAKE),
            'r' => Ok(access | READ),
            'w' => Ok(access | WRITE),
            _ => bail!("access: {text:?} has other letters than r, w and m"),
        })?;
        ensure!(
            access != 0,
            "access: it is missing; write some of r, w and m"
        );
        Ok(Self {
            allow: rule.allow(),
            kind,
            major: number("major", rule.major())?,
            minor: number("minor", rule.minor())?,
            access,
        })
    }

    /// Whether nothing said before it counts.
    fn is_total(&self) -> bool {
        let any = (self.kind, self.major, self.minor) == (None, None, None);
        any && self.access == ALL
    }

    /// Whether `earlier` never decides anything, once this is said.
    fn shadows(&self, earlier: &Self) -> bool {
        let fits = |part: Option<u32>, earlier| part.is_none() || part == earlier;
        fits(self.kind, earlier.kind)
            && fits(self.major, earlier.major)
            && fits(self.minor, earlier.minor)
            && self.access & earlier.access == earlier.access
    }

    /// The instructions that end the program if this rule decides, and go on behind them if not.
    fn compile(&self) -> Vec<Instruction> {
        let answer = [
            Instruction::Set {
                to: bpf::RESULT,
                value: u32::from(self.allow),
            },
            Instruction::Exit,
        ];
        let skip = 2;
        let mut body = match self {
            Self { access: ALL, .. } => Vec::new(),
            // What is allowed is settled: only the rest is still to be asked for.
            Self { allow: true, .. } => vec![
                Instruction::And {
                    to: WANTED,
                    mask: !self.access,
                },
                Instruction::SkipUnlessEqual {
                    left: WANTED,
                    right: 0,
                    skip,
                },
            ],
            Self { allow: false, .. } => vec![
                Instruction::Copy {
                    to: bpf::RESULT,
                    from: WANTED,
                },
                Instruction::And {
                    to: bpf::RESULT,
                    mask: self.access,
                },
                Instruction::SkipIfEqual {
                    left: bpf::RESULT,
                    right: 0,
                    skip,
                },
            ],
        };
        body.extend(answer);
        let parts = [(MINOR, self.minor), (MAJOR, self.major), (KIND, self.kind)];
        for (left, part) in parts {
            // A rule has ten instructions at most.
            let skip = i16::try_from(body.len()).unwrap_or(i16::MAX);
            if let Some(right) = part {
                body.insert(0, Instruction::SkipUnlessEqual { left, right, skip });
            }
        }
        body
    }
}

fn number(what: &str, number: Option<i64>) -> Result<Option<u32>> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => {
            let number = u32::try_from(number)
                .with_context(|| format!("{what}: {number} is no device number"))?;
            Ok(Some(number))
        }
    }
}

/// The engines write rules for the default devices too. Each costs the kernel some microseconds, to
/// check and compile it.
fn without_shadowed(rules: &[Rule]) -> Vec<Rule> {
    let mut kept: Vec<Rule> = Vec::new();
    for rule in rules.iter().rev() {
        if !kept.iter().any(|later| later.shadows(rule)) {
            kept.push(*rule);
        }
    }
    kept.reverse();
    kept
}

/// The last rule is looked at first.
fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        // The access is in the upper half of the first number, and the type in the lower.
        Instruction::Load { to: KIND, at: 0 },
        Instruction::Copy {
            to: WANTED,
            from: KIND,
        },
        Instruction::ShiftRight { to: WANTED, by: 16 },
        Instruction::And {
            to: KIND,
            mask: 0xffff,
        },
        Instruction::Load { to: MAJOR, at: 4 },
        Instruction::Load { to: MINOR, at: 8 },
    ];
    for rule in rules.iter().rev() {
        program.extend(rule.compile());
        if rule.is_total() {
            // The kernel refuses a program with instructions that nothing leads to.
            return program;
        }
    }
    program.extend([
        Instruction::Set {
            to: bpf::RESULT,
            value: 0,
        },
        Instruction::Exit,
    ]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a process asks for.
    #[derive(Debug, Clone, Copy)]
    struct Request {
        kind: u32,
        major: u32,
        minor: u32,
        access: u32,
    }

    /// The rules' meaning, said once more and without a program.
    fn model(rules: &[Rule], request: Request) -> bool {
        let mut allowed = 0;
        for rule in rules {
            let fits = |part: Option<u32>, is| part.is_none_or(|part| part == is);
            if fits(rule.kind, request.kind)
                && fits(rule.major, request.major)
                && fits(rule.minor, request.minor)
            {
                allowed = match rule.allow {
                    true => allowed | rule.access,
                    false => allowed & !rule.access,
                };
            }
        }
        request.access & !allowed == 0
    }

    /// What the kernel would make of the program.
    fn run(program: &[Instruction], request: Request) -> bool {
        let context = [
            request.access << 16 | request.kind,
            request.major,
            request.minor,
        ];
        let mut registers = [None; 11];
        let mut at = 0;
        loop {
            let value = |register: Register| registers[usize::from(register.0)].expect("was set");
            let (to, number, skip) = match program[at] {
                Instruction::Load { to, at } => (to, context[usize::try_from(at).unwrap() / 4], 0),
                Instruction::Set { to, value } => (to, value, 0),
                Instruction::Copy { to, from } => (to, value(from), 0),
                Instruction::And { to, mask } => (to, value(to) & mask, 0),
                Instruction::ShiftRight { to, by } => (to, value(to) >> by, 0),
                Instruction::SkipIfEqual { left, right, skip } => {
                    let skip = if value(left) == right { skip } else { 0 };
                    (left, value(left), skip)
                }
                Instruction::SkipUnlessEqual { left, right, skip } => {
                    let skip = if value(left) == right { 0 } else { skip };
                    (left, value(left), skip)
                }
                Instruction::Exit => return value(bpf::RESULT) == 1,
            };
            registers[usize::from(to.0)] = Some(number);
            at += 1 + usize::try_from(skip).unwrap();
        }
    }

    /// xorshift: the same numbers each time.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u32) -> u32 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            u32::try_from(self.0 >> 33).unwrap() % end
        }

        fn rule(&mut self) -> Rule {
            let some = |random: &mut Self| {
                let numbers = [0, 1, 2, u32::MAX, 1 << 31];
                let number = numbers[random.below(5) as usize];
                (random.below(2) == 0).then_some(number)
            };
            Rule {
                allow: self.below(2) == 0,
                kind: [None, Some(BLOCK), Some(CHARACTER)][self.below(3) as usize],
                major: some(self),
                minor: some(self),
                access: 1 + self.below(7),
            }
        }
    }

    fn requests() -> impl Iterator<Item = Request> {
        let numbers = [0, 1, 2, 3, u32::MAX, 1 << 31];
        (1..=ALL).flat_map(move |access| {
            [BLOCK, CHARACTER].into_iter().flat_map(move |kind| {
                numbers.into_iter().flat_map(move |major| {
                    numbers.into_iter().map(move |minor| Request {
                        kind,
                        major,
                        minor,
                        access,
                    })
                })
            })
        })
    }

    #[test]
    fn a_program_decides_as_its_rules_do() {
        let mut random = Random(42);
        for _ in 0..300 {
            let count = random.below(8);
            let rules: Vec<_> = (0..count).map(|_| random.rule()).collect();
            let program = compile(&without_shadowed(&rules));
            for request in requests() {
                let (is, should) = (run(&program, request), model(&rules, request));
                assert_eq!(is, should, "{rules:?} {request:?}");
            }
        }
    }

    #[test]
    #[ignore = "asks the kernel, which needs root"]
    fn the_kernel_takes_every_program() {
        let mut random = Random(7);
        for count in (0..200).chain([1000, 5000]) {
            let rules: Vec<_> = (0..count).map(|_| random.rule()).collect();
            let filter = compile(&rules);
            bpf::load(&filter).unwrap_or_else(|error| panic!("{error}: {rules:?}"));
        }
    }

    fn read(json: &str) -> Result<Option<DeviceFilter>> {
        DeviceFilter::plan(&serde_json::from_str::<Vec<_>>(json).unwrap())
    }

    #[test]
    fn rules_that_allow_everything_need_no_program() {
        for rules in [
            "[]",
            r#"[{"allow": true, "access": "rwm"}]"#,
            r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "a", "major": -1, "minor": -1, "access": "mrw"}]"#,
            r#"[{"allow": true, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "access": "r"}]"#,
        ] {
            assert!(read(rules).unwrap().is_none(), "{rules}");
        }
        for rules in [
            r#"[{"allow": false, "access": "rwm"}]"#,
            r#"[{"allow": true, "access": "rw"}]"#,
            r#"[{"allow": true, "access": "rwm"}, {"allow": false, "type": "b", "access": "w"}]"#,
        ] {
            assert!(read(rules).unwrap().is_some(), "{rules}");
        }
    }

    #[test]
    fn the_default_devices_stay_allowed() {
        let filter = read(r#"[{"allow": false, "access": "rwm"}]"#)
            .unwrap()
            .unwrap();
        let may = |kind, major, minor, access| {
            let request = Request {
                kind,
                major,
                minor,
                access,
            };
            run(&filter.0, request)
        };
        for (major, minor) in [
            (1, 3),
            (1, 5),
            (1, 7),
            (1, 8),
            (1, 9),
            (5, 0),
            (5, 2),
            (136, 7),
        ] {
            assert!(may(CHARACTER, major, minor, ALL));
            assert!(!may(BLOCK, major, minor, READ));
        }
        assert!(may(BLOCK, 8, 0, MAKE) && !may(BLOCK, 8, 0, MAKE | READ));
        assert!(!may(CHARACTER, 1, 1, READ) && !may(CHARACTER, 10, 200, READ));
    }

    #[test]
    fn what_the_defaults_say_already_costs_nothing() {
        let alone = read(r#"[{"allow": false, "access": "rwm"}]"#)
            .unwrap()
            .unwrap();
        let docker = read(
            r#"[{"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "access": "m"},
                {"allow": true, "type": "b", "access": "m"},
                {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                {"allow": true, "type": "c", "major": 136, "access": "rwm"}]"#,
        );
        assert_eq!(docker.unwrap().unwrap().0, alone.0);
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_named() {
        let cases = [
            (r#"{"allow": true}"#, "access: it is missing"),
            (r#"{"allow": true, "access": "rx"}"#, "access: \"rx\""),
            (r#"{"allow": true, "type": "p", "access": "r"}"#, "type: "),
            (
                r#"{"allow": true, "major": -2, "access": "r"}"#,
                "major: -2",
            ),
            (
                r#"{"allow": true, "minor": 4294967296, "access": "r"}"#,
                "minor: ",
            ),
        ];
        for (rule, message) in cases {
            let total = r#"{"allow": false, "access": "rwm"}"#;
            let error = read(&format!("[{total}, {rule}]")).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.starts_with("linux.resources.devices[1]: "), "{error}");
            assert!(error.contains(message), "{error}");
        }
    }
}
