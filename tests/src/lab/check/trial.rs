//! What a check has at hand: a fresh machine, the submission on it, and chance.

use std::cell::{OnceCell, RefCell};
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Host, Setup, Snapshot, User};

use super::Need;
use super::program::{Output, Running, patience, proc, until, words};
use super::random::Random;
use super::submission::Submission;
use crate::shell::typed;

/// What a check finds; `?` ends it at the first thing that does not hold.
pub type Found<T = ()> = Result<T, Problem>;

/// Why a check did not pass.
#[derive(Clone, Debug)]
pub enum Problem {
    /// Something that must hold does not.
    Failed { expected: String, saw: String },
    /// The submission says itself that this task is yet to be done.
    Undone(String),
    /// Not the submission's fault: the check cannot be run on this machine.
    Impossible { why: String, fix: String },
}

impl Problem {
    /// What was handed in is no program.
    pub fn unusable(why: &str) -> Problem {
        Problem::Failed {
            expected: "a program that can be run".to_owned(),
            saw: why.to_owned(),
        }
    }

    /// An earlier step's check that would have to boot a machine.
    pub fn not_repeated() -> Problem {
        Problem::Impossible {
            why: "it belongs to an earlier step, and needs a virtual machine here".to_owned(),
            fix: "to repeat it there, which takes a minute or two: cargo lab check --vm".to_owned(),
        }
    }
}

/// It does not hold.
pub fn failed<T>(expected: impl Into<String>, saw: impl Into<String>) -> Found<T> {
    Err(Problem::Failed {
        expected: expected.into(),
        saw: saw.into(),
    })
}

/// It must hold; `expected` says what, and `saw` what there is instead.
pub fn ensure(holds: bool, expected: impl Into<String>, saw: impl Into<String>) -> Found {
    if holds { Ok(()) } else { failed(expected, saw) }
}

/// Two texts must be equal.
pub fn same(what: &str, expected: &str, saw: &str) -> Found {
    ensure(expected == saw, format!("{what}: {expected}"), saw)
}

/// One check's machine. Dropped, it is gone with every process on it.
pub struct Trial {
    pub(super) host: Host,
    step: u8,
    random: Random,
    /// The submission's command lines, as a person would type them.
    ran: RefCell<Vec<String>>,
    /// Whether root has loaded the image, and whether student has: each has
    /// images of their own.
    images: [OnceCell<()>; 2],
}

impl Trial {
    pub fn new(submission: &Submission, seed: u64, needs: &[Need]) -> Found<Trial> {
        let setup = Setup {
            apart: true,
            outside: needs.contains(&Need::Outside),
            shown: vec![(submission.path.clone(), submission.name())],
            ..Setup::default()
        };
        let host = Host::make(setup).map_err(|error| Problem::Impossible {
            why: format!("{error:#}"),
            fix: "`cargo lab doctor` names what this machine lacks".to_owned(),
        })?;
        let trial = Trial {
            host,
            step: submission.step,
            random: Random::new(seed),
            ran: RefCell::default(),
            images: Default::default(),
        };
        if needs.contains(&Need::Controllers) {
            trial.has_controllers()?;
        }
        Ok(trial)
    }

    /// Whether limits can be set on this machine.
    pub fn has_controllers(&self) -> Found {
        let file = self.path("/sys/fs/cgroup/cgroup.controllers");
        let there = std::fs::read_to_string(file).unwrap_or_default();
        let missing: Vec<&str> = ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|one| !there.split_whitespace().any(|have| have == *one))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Problem::Impossible {
            why: format!(
                "no cgroup v2 controllers for a test: {}",
                missing.join(", ")
            ),
            fix: "cargo lab check --vm runs it in a virtual machine (Debian: apt-get install \
                  qemu-system-x86 busybox-static)"
                .to_owned(),
        })
    }

    // ---- chance

    /// A word of lower-case letters, another one each time.
    pub fn word(&self) -> String {
        self.random.word()
    }

    /// A number of the range.
    pub fn number(&self, range: Range<u64>) -> u64 {
        self.random.number(range)
    }

    /// One of several.
    pub fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.random.number(0..choices.len() as u64) as usize]
    }

    // ---- the submission

    /// `BIN run OPTIONS COMMAND`, as root, to its end.
    pub fn run(&self, options: &[&str], command: &[&str]) -> Found<Output> {
        self.container(options).run(command)
    }

    /// `BIN run OPTIONS sh -c SCRIPT`, as root, to its end.
    pub fn shell(&self, options: &[&str], script: &str) -> Found<Output> {
        self.run(options, &["sh", "-c", script])
    }

    /// `BIN WORDS`, as root, to its end: for anything that is not `run`.
    #[allow(dead_code)]
    pub fn call(&self, words: &[&str]) -> Found<Output> {
        self.call_as(User::Root, words)
    }

    /// The same as anybody.
    pub fn call_as(&self, user: User, words: &[&str]) -> Found<Output> {
        let words = words.iter().map(OsString::from).collect();
        self.spawn(user, &[], words, None)?.wait()
    }

    /// A container to be, with these options of `run`.
    pub fn container<'a>(&'a self, options: &[&'a str]) -> Container<'a> {
        Container {
            trial: self,
            user: User::Root,
            options: options.to_vec(),
            input: None,
            held: None,
            image: None,
        }
    }

    /// Starts the submission, by a command `around` it where there is one.
    fn spawn(
        &self,
        user: User,
        around: &[OsString],
        words: Vec<OsString>,
        input: Option<Vec<u8>>,
    ) -> Found<Running> {
        let name = format!("step{:02}", self.step);
        let mut line = OsString::from(&name);
        for word in &words {
            line.push(" ");
            line.push(typed(word));
        }
        let line = line.to_string_lossy().into_owned();
        self.ran.borrow_mut().push(match user {
            User::Root => line,
            User::Student => format!("{line}   (as an ordinary user)"),
        });
        let program = OsString::from(format!("/run/workspace/{name}"));
        let argv = around.iter().cloned().chain([program]).chain(words);
        Running::start(self.host.prepare(user, false, argv), input)
    }

    /// The command lines of the submission so far.
    pub fn ran(&self) -> Vec<String> {
        self.ran.borrow().clone()
    }

    // ---- the machine

    /// What a shell script prints on the machine, as root; it must succeed.
    pub fn machine(&self, script: &str) -> Found<String> {
        self.script(
            self.host.prepare(User::Root, true, ["sh", "-euc", script]),
            script,
        )
    }

    fn script(&self, command: Command, script: &str) -> Found<String> {
        let output = Running::start(command, None)?.wait()?;
        if output.code() == 0 {
            return Ok(output.text());
        }
        Err(Problem::Impossible {
            why: format!("on the machine, `{script}` failed: {}", output.told()),
            fix: "`cargo lab doctor` names what this machine lacks".to_owned(),
        })
    }

    /// A file of the machine, as this process opens it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.host.path(path)
    }

    /// The machine's first process, as this process sees it.
    pub fn first(&self) -> i32 {
        self.host.pid()
    }

    /// What the machine holds now.
    pub fn snapshot(&self) -> Snapshot {
        self.host.snapshot()
    }

    /// The machine must be as it was, but for the files that are kept between
    /// containers, and the switch between its networks.
    pub fn unchanged(&self, before: &Snapshot) -> Found {
        // A machine without cgroups of its own sees those of others come and go.
        let own = self.path("/sys/fs/cgroup/session").exists();
        let look = || {
            let mut changes = before.changes(&self.snapshot());
            changes.retain(|line| !is_state(line) && (own || !line.starts_with("cgroups: ")));
            changes
        };
        let mut changes = look();
        let end = Instant::now() + LINGER;
        while !changes.is_empty() && changes.iter().all(|line| may_linger(line)) {
            if Instant::now() > end {
                break;
            }
            changes = look();
        }
        ensure(
            changes.is_empty(),
            "the machine as it was before: mounts, links, rules, cgroups, processes, files",
            changes.join("\n"),
        )
    }

    /// A small root file system at `dir` on the machine, for root and for
    /// everybody: a shell and a few tools, the machine's own.
    pub fn root_file_system(&self, dir: &str) -> Found {
        self.machine(&format!("dir={dir}\n{ROOT}")).map(drop)
    }

    /// Loads the image that all of step 5's containers are made of.
    fn image(&self, user: User) -> Found<&'static str> {
        let loaded = &self.images[usize::from(user == User::Student)];
        if loaded.get().is_none() {
            self.root_file_system("/tmp/image/root")?;
            self.machine(ARCHIVE)?;
            self.call_as(user, &["load", "/tmp/image.tar"])?
                .succeeds()?;
            self.machine("rm -r /tmp/image /tmp/image.tar")?;
            loaded.get_or_init(|| ());
        }
        Ok("lab:latest")
    }
}

/// How long something may linger, on a busy machine.
const LINGER: Duration = Duration::from_secs(10);

/// Whether it is something that the kernel ends, or frees, when it finds the time.
fn may_linger(line: &str) -> bool {
    let parts = ["links", "addresses", "routes", "processes", "cgroups"];
    parts
        .iter()
        .any(|part| line.starts_with(&format!("{part}: ")))
}

/// What step 5 keeps on purpose, and what a first container leaves for the next.
fn is_state(line: &str) -> bool {
    line.starts_with("files: ") && line.contains("/minidocker")
        || line.starts_with("settings: left: ip_forward")
        || line.starts_with("settings: gone: ip_forward")
}

/// Makes a root file system in `$dir` of programs that this machine has, with
/// their libraries.
const ROOT: &str = r#"
mkdir -p $dir/bin $dir/etc $dir/tmp $dir/root $dir/run $dir/mnt
printf 'root:x:0:0:root:/root:/bin/sh\n' >$dir/etc/passwd
printf 'root:x:0:\n' >$dir/etc/group
take() {
    [ -e $dir$2 ] || { mkdir -p $dir${2%/*}; cp -L $1 $dir$2; }
    for library in $(ldd $1 2>/dev/null | grep -o '/[^ ]*'); do
        [ -e $dir$library ] || { mkdir -p $dir${library%/*}; cp -L $library $dir$library; }
    done
}
tools='sh cat chroot cp cut dd echo env false find grep head hostname id ip ln ls mkdir mount mv nc ping
       printf ps pwd readlink rm rmdir sed sleep sort stat tail test touch tr true tty umount uname wc wget'
if busybox=$(command -v busybox); then
    take $busybox /bin/busybox
    for tool in $tools; do ln -s busybox $dir/bin/$tool; done
else
    # Not by `command -v`, which knows the shell's own as well.
    for tool in $tools; do
        for path in /usr/bin/$tool /bin/$tool /usr/sbin/$tool /sbin/$tool; do
            if [ -x $path ]; then take $path /bin/$tool; break; fi
        done
    done
fi
chmod 755 $dir; chmod 1777 $dir/tmp
"#;

/// Makes /tmp/image.tar, as `docker save` does, of /tmp/image/root.
const ARCHIVE: &str = r#"
cd /tmp/image
tar -C root --numeric-owner -cf layer.tar .
id=$(sha256sum layer.tar | cut -d' ' -f1)
printf '{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' $id >config.json
printf '[{"Config":"config.json","RepoTags":["lab:latest"],"Layers":["layer.tar"]}]' >manifest.json
tar -cf /tmp/image.tar config.json manifest.json layer.tar
chmod 644 /tmp/image.tar
"#;

/// A container to be.
pub struct Container<'a> {
    trial: &'a Trial,
    user: User,
    options: Vec<&'a str>,
    input: Option<Vec<u8>>,
    held: Option<String>,
    image: Option<&'a str>,
}

impl<'a> Container<'a> {
    /// As uid 1000, without any capability.
    #[expect(clippy::wrong_self_convention, reason = "a builder's word")]
    pub fn as_student(mut self) -> Self {
        self.user = User::Student;
        self
    }

    /// Of this image, not of the one that is as good as any.
    pub fn of(mut self, image: &'a str) -> Self {
        self.image = Some(image);
        self
    }

    /// With this on standard input.
    pub fn fed(mut self, input: &[u8]) -> Self {
        self.input = Some(input.to_vec());
        self
    }

    /// With a file of the machine open for reading at descriptor 9.
    pub fn holding(mut self, path: &str) -> Self {
        self.held = Some(path.to_owned());
        self
    }

    /// Runs a command in it, to its end.
    pub fn run(self, command: &[&str]) -> Found<Output> {
        self.launch(command.iter().map(OsString::from).collect())?
            .wait()
    }

    /// Runs a command of words that need not be UTF-8, after `--`.
    pub fn arguments(mut self, command: &[&[u8]]) -> Found<Output> {
        self.options.push("--");
        let words = command.iter().map(|word| OsStr::from_bytes(word));
        self.launch(words.map(OsStr::to_owned).collect())?.wait()
    }

    /// Starts a command in it.
    pub fn start(self, command: &[&str]) -> Found<Running> {
        self.launch(command.iter().map(OsString::from).collect())
    }

    /// Starts a command in it that does nothing for an hour, and finds it from
    /// outside: the submission, and the pid of the command.
    pub fn asleep(self) -> Found<(Running, i32)> {
        let trial = self.trial;
        // No other process has this argument.
        let seconds = trial.number(3_000_000..9_000_000).to_string();
        let mut running = self.launch(vec!["sleep".into(), seconds.clone().into()])?;
        let is_it = |pid: &i32| {
            let words = words(*pid);
            let program = words
                .first()
                .map(|word| Path::new(OsStr::from_bytes(word)).file_name());
            program == Some(Some(OsStr::new("sleep")))
                && words.get(1) == Some(&seconds.clone().into())
        };
        let mut over = false;
        let found = until(patience(), || {
            let pids = running.processes(trial.first());
            // One look more after the end, for a look takes time.
            let was_over = std::mem::replace(&mut over, !running.is_running());
            let found = pids.into_iter().find(is_it);
            found.map(Some).or_else(|| was_over.then_some(None))
        });
        if let Some(pid) = found.flatten() {
            return Ok((running, pid));
        }
        let output = running.wait()?;
        failed("a command that runs on, `sleep`", output.told())
    }

    fn launch(mut self, command: Vec<OsString>) -> Found<Running> {
        let mut words: Vec<OsString> = vec!["run".into()];
        words.extend(self.options.iter().map(OsString::from));
        if self.trial.step >= 5 {
            let image = self.image.map_or_else(|| self.trial.image(self.user), Ok)?;
            words.push(image.into());
        }
        words.extend(command);
        let around = self.held.map_or(Vec::new(), |path| {
            vec![
                "sh".into(),
                "-c".into(),
                r#"exec 9<"$0"; exec "$@""#.into(),
                path.into(),
            ]
        });
        self.trial
            .spawn(self.user, &around, words, self.input.take())
    }
}

/// A file below /proc/PID, read from outside.
fn read(pid: i32, name: &str) -> Found<String> {
    let path = proc(pid, name);
    std::fs::read_to_string(&path).or_else(|error| {
        failed(
            "a process that lives",
            format!("{}: {error}", path.display()),
        )
    })
}

/// The namespace of a kind (`uts`) that a process is in.
pub fn namespace(pid: i32, kind: &str) -> Found<String> {
    let path = proc(pid, &format!("ns/{kind}"));
    match std::fs::read_link(&path) {
        Ok(link) => Ok(link.to_string_lossy().into_owned()),
        Err(error) => failed(
            "a process that lives",
            format!("{}: {error}", path.display()),
        ),
    }
}

/// The effective uid of a process, as this process sees it.
pub fn owner(pid: i32) -> Found<String> {
    field(pid, "Uid:", |uids| uids.nth(1).map(str::to_owned))
}

/// The numbers of a process in each pid namespace that it is in: this
/// process's, the machine's, and, of a container's, the container's.
pub fn ids_inside(pid: i32) -> Found<Vec<u32>> {
    field(pid, "NSpid:", |ids| ids.map(|id| id.parse().ok()).collect())
}

/// One line of /proc/PID/status.
fn field<T>(
    pid: i32,
    name: &str,
    look: impl Fn(&mut dyn Iterator<Item = &str>) -> Option<T>,
) -> Found<T> {
    let status = read(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let found = line.and_then(|rest| look(&mut rest.split_whitespace()));
    found.map_or_else(
        || failed(format!("{name} in /proc/{pid}/status"), status),
        Ok,
    )
}

/// A line of mountinfo.
pub struct Mount {
    pub place: String,
    pub kind: String,
    pub line: String,
}

/// The mounts that a process sees.
pub fn mounts(pid: i32) -> Found<Vec<Mount>> {
    let table = read(pid, "mountinfo")?;
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        Some(Mount {
            place: before.split(' ').nth(4)?.to_owned(),
            kind: after.split(' ').next()?.to_owned(),
            line: line.to_owned(),
        })
    };
    Ok(table.lines().filter_map(mount).collect())
}

/// A moment for what takes its time.
pub fn moment(milliseconds: u64) {
    let factor = if harness::in_the_vm() { 6 } else { 1 };
    std::thread::sleep(Duration::from_millis(milliseconds * factor));
}
