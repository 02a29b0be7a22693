//! The private machine that one test runs on, as a process.
//!
//! `machine keep` makes it: the first process (pid 1) of new pid, mount, net,
//! uts, ipc and cgroup namespaces, with file systems of its own wherever
//! minidocker writes. `machine enter PID -- COMMAND` runs a command in it.
//! The harness's [`Host`](harness::Host) drives both. They are programs and not
//! functions of the harness because a test runs in a process with threads, and
//! such a process must neither fork into a namespace nor unshare.
//!
//! What the kernel holds while a machine lives:
//!
//! ```text
//! test ── keep ── pid 1 ┬ net: lo, [wan 192.0.2.1] ── veth ── [eth0 192.0.2.2] :net of "the outside"
//!                       ├ mnt: tmpfs /run /tmp /dev/shm /var/lib/minidocker /home/student, overlay /etc
//!                       └ cgroup: /minidocker-test-PID  = the machine's root
//!                                   ├ session            = where its commands are
//!                                   └ user, user/session = where student's are, when delegated
//! ```
//!
//! `machine keep --apart` puts all of it into a user namespace, for programs
//! that nobody vouches for: root in there is nobody outside, and no root is
//! needed to make it. Everything that this changes is in machine/apart.rs.

#[path = "machine/apart.rs"]
mod apart;
#[path = "machine/talk.rs"]
mod talk;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, raise, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, chown, fork, setgid, setgroups, setuid};

/// The user and group id of `student`.
const STUDENT: u32 = 1000;
/// The cgroup that a machine's commands run in, below the machine's root.
const SESSION: &str = "session";
/// The cgroup that student's commands run in, where cgroups are delegated.
const DELEGATED: &str = "user/session";

#[derive(Parser)]
enum Task {
    /// Make a machine; it lives until standard input ends
    Keep(Keep),
    /// Run a command in a machine
    Enter(Enter),
    /// Be one end of a conversation
    Talk(talk::Talk),
}

#[derive(Args)]
struct Keep {
    /// Leave /sys as it is here, with whatever cgroups are mounted
    #[arg(long)]
    machine_cgroups: bool,
    /// Join a second network, "the outside", by a veth pair
    #[arg(long)]
    outside: bool,
    /// Give student no subordinate ids
    #[arg(long)]
    no_subids: bool,
    /// Give student a cgroup of their own, as a systemd user session does
    #[arg(long)]
    delegated: bool,
    /// In a user namespace, whose root is nobody outside
    #[arg(long)]
    apart: bool,
    /// SOURCE=NAME: show the file or directory SOURCE at /run/workspace/NAME
    #[arg(long = "show")]
    shown: Vec<OsString>,
}

#[derive(Args)]
struct Enter {
    /// The machine's first process
    pid: i32,
    /// As student, not as root
    #[arg(long)]
    student: bool,
    /// In student's delegated cgroup
    #[arg(long)]
    delegated: bool,
    /// In the user namespace of a machine that was made apart
    #[arg(long)]
    apart: bool,
    /// With a bound on its processes and on their memory
    #[arg(long)]
    limited: bool,
    /// In the network namespace behind this descriptor of the first process
    #[arg(long)]
    net_fd: Option<i32>,
    /// In a session of its own, with standard input as its terminal
    #[arg(long)]
    terminal: bool,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Keep(keep) => keep.run(),
        Task::Enter(enter) => enter.run(),
        Task::Talk(talk) => talk.run(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("machine: {error:#}");
            ExitCode::from(125)
        }
    }
}

impl Keep {
    /// Forks the machine's first process, and stays outside to end it.
    fn run(&self) -> Result<ExitCode> {
        let cgroup = format!("minidocker-test-{}", std::process::id());
        let shown = self
            .shown
            .iter()
            .map(|entry| Shown::hold(entry, self.apart));
        let shown = shown.collect::<Result<Vec<_>>>()?;
        let (gate, opener) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        // Only children enter the new pid namespace: this process stays where it is.
        let mut namespaces = CloneFlags::CLONE_NEWPID;
        if self.apart {
            namespaces |= CloneFlags::CLONE_NEWUSER | OWN;
        }
        let Some(child) = apart::fork_into(namespaces)? else {
            drop(opener);
            return self.first_process(&gate, &cgroup, shown);
        };
        println!("pid {child}");
        let mut given = None;
        if self.apart {
            let map = apart::Map::write(child)?;
            given = apart::give_cgroup(&cgroup, child, &map);
        }
        nix::unistd::write(&opener, b"x").context("let the machine's first process go on")?;
        drop(shown);
        wait_for_either_end(child)?;
        // The end of pid 1 is the end of its namespace; once it is
        // reaped, every process of the machine is gone.
        kill(child, Signal::SIGKILL).ok();
        waitpid(child, None).context("wait for the machine's end")?;
        match given {
            Some(dir) => remove_tree(&dir),
            None if self.apart => {}
            None => remove_cgroup(&cgroup),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn first_process(&self, gate: &OwnedFd, cgroup: &str, shown: Vec<Shown>) -> Result<ExitCode> {
        if nix::unistd::read(gate, &mut [0])? == 0 {
            bail!("the machine's ids could not be mapped");
        }
        if self.apart {
            apart::become_root()?;
            apart::protect()?;
        }
        // After the change of user, which would clear it: prctl(2).
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        let outside = self.own_namespaces()?;
        if self.apart {
            attach(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None)?;
        }
        match (self.machine_cgroups, self.apart) {
            (true, _) => {}
            (false, false) => own_cgroups(cgroup, self.delegated)?,
            (false, true) => apart::enter_cgroups(cgroup, self.delegated)?,
        }
        self.own_files(shown)?;
        run("ip", &["link", "set", "lo", "up"])?;
        if let Some(outside) = &outside {
            join_networks(&format!("/proc/1/fd/{}", outside.as_raw_fd()))?;
        }
        println!("ready {}", outside.as_ref().map_or(-1, AsRawFd::as_raw_fd));
        let null = fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(&null)?;
        nix::unistd::dup2_stderr(&null)?;
        reap()
    }

    /// Leaves every namespace but the user's; returns the outside network's.
    fn own_namespaces(&self) -> Result<Option<OwnedFd>> {
        if !self.apart {
            unshare(OWN).context("unshare mount, uts, ipc and net namespaces")?;
        }
        attach(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)?;
        umount2("/proc", MntFlags::MNT_DETACH).ok();
        attach(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None)?;
        nix::unistd::sethostname("laptop")?;
        settle_addresses()?;
        if !self.outside {
            return Ok(None);
        }
        let outside = fs::File::open("/proc/self/ns/net")?;
        unshare(CloneFlags::CLONE_NEWNET).context("unshare the second net namespace")?;
        settle_addresses()?;
        Ok(Some(outside.into()))
    }

    /// File systems of its own wherever minidocker or a test writes.
    fn own_files(&self, shown: Vec<Shown>) -> Result<()> {
        if !self.machine_cgroups && !self.apart {
            // /sys/class/net shows the network namespace of whoever mounted it.
            let cgroups = Path::new("/sys/fs/cgroup");
            let held = hold(cgroups)?;
            umount2("/sys", MntFlags::MNT_DETACH)?;
            attach(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None)?;
            place(&held, cgroups)?;
        }
        for (dir, options) in [
            ("/run", "mode=755"),
            ("/tmp", "mode=1777"),
            ("/var/tmp", "mode=1777"),
            ("/home", "mode=755"),
        ] {
            let bound = if self.apart { apart::BOUND } else { "" };
            memory_on(dir, &format!("{options}{bound}"))?;
        }
        if self.apart {
            apart::own_directories()?;
        } else {
            memory_on("/var/lib/minidocker", "mode=755")?;
            memory_on("/dev/shm", "mode=1777")?;
        }
        own_etc(&self.subordinate_ids(), self.apart)?;
        for dir in ["/home/student", "/run/user/1000"] {
            fs::create_dir_all(dir)?;
            if apart::has_student()? {
                let (uid, gid) = (Uid::from_raw(STUDENT), Gid::from_raw(STUDENT));
                chown(dir, Some(uid), Some(gid))?;
            }
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        }
        for one in shown {
            one.place()?;
        }
        if self.apart {
            apart::own_helpers()
        } else {
            open_tun()
        }
    }

    /// The machine's subuid(5).
    fn subordinate_ids(&self) -> String {
        match (self.no_subids, self.apart) {
            (true, _) => String::new(),
            (false, false) => "student:100000:65536\n".to_owned(),
            (false, true) => apart::subordinate_ids(),
        }
    }
}

/// The namespaces that a machine has of its own, but for those of its pids and
/// cgroups, which are made at moments of their own.
const OWN: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWNET);

/// Mounts an empty file system that is kept in memory.
fn memory_on(dir: &str, options: &str) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {dir}"))?;
    attach(
        Some("tmpfs"),
        dir,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
}

/// Lets this network namespace's IPv6 addresses be valid at once, not seconds
/// later, when a test compares what was with what is.
fn settle_addresses() -> Result<()> {
    let switch = "/proc/sys/net/ipv6/conf/default/accept_dad";
    if Path::new(switch).exists() {
        fs::write(switch, "0").with_context(|| format!("write {switch}"))?;
    }
    Ok(())
}

/// Waits until standard input ends, since nobody needs the machine any more, or
/// until its first process does, because it could not be made.
fn wait_for_either_end(first: Pid) -> Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let pid = rustix::process::Pid::from_raw(first.as_raw()).context("the pid is 0")?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let stdin = std::io::stdin();
    let mut ends = [
        PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
    ];
    poll(&mut ends, PollTimeout::NONE).context("poll")?;
    Ok(())
}

/// Something of the workspace that the machine's commands need to see.
struct Shown {
    what: What,
    at: PathBuf,
}

enum What {
    /// The thing itself, to be mounted.
    Tree { tree: OwnedFd, is_file: bool },
    /// A file to be copied: apart, what belongs to somebody outside is out of reach.
    Copy(fs::File),
}

impl Shown {
    fn hold(entry: &OsStr, copied: bool) -> Result<Shown> {
        use std::os::unix::ffi::OsStrExt;
        let bytes = entry.as_bytes();
        let at = bytes.iter().rposition(|byte| *byte == b'=');
        let (source, name) = bytes.split_at(at.context("--show wants SOURCE=NAME")?);
        let source = Path::new(OsStr::from_bytes(source));
        let what = if copied {
            let file = fs::File::open(source);
            What::Copy(file.with_context(|| format!("open {}", source.display()))?)
        } else {
            What::Tree {
                tree: hold(source)?,
                is_file: source.is_file(),
            }
        };
        Ok(Shown {
            what,
            at: Path::new("/run/workspace").join(OsStr::from_bytes(&name[1..])),
        })
    }

    fn place(&self) -> Result<()> {
        self.at.parent().map(fs::create_dir_all).transpose()?;
        match &self.what {
            What::Tree { tree, is_file } => {
                if *is_file {
                    let mut file = fs::File::options();
                    file.create(true).append(true).open(&self.at)?;
                } else {
                    fs::create_dir_all(&self.at)?;
                }
                place(tree, &self.at)
            }
            What::Copy(file) => apart::copy(file, &self.at),
        }
    }
}

/// Takes a detached copy of the mount at `path`, so that it can be shown again
/// after something else was mounted above it.
fn hold(path: &Path) -> Result<OwnedFd> {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(rustix::fs::CWD, path, flags).with_context(|| format!("open {}", path.display()))
}

fn place(held: &OwnedFd, at: &Path) -> Result<()> {
    use rustix::mount::{MoveMountFlags, move_mount};
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(held, "", rustix::fs::CWD, at, flags)
        .with_context(|| format!("mount on {}", at.display()))
}

fn attach(
    source: Option<&str>,
    target: &str,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<()> {
    mount(source, target, kind, flags, data).with_context(|| format!("mount on {target}"))
}

/// A cgroup that is the root of this machine's tree.
///
/// Its commands live one level below, in `session`: a cgroup with processes of
/// its own cannot hand controllers to its children (cgroups(7), "no internal
/// processes").
fn own_cgroups(name: &str, delegated: bool) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    // Everything mounted there goes, down to sysfs's own empty directory.
    while umount2(root, MntFlags::MNT_DETACH).is_ok() {}
    let root_name = "/sys/fs/cgroup";
    attach(
        Some("cgroup2"),
        root_name,
        Some("cgroup2"),
        MsFlags::empty(),
        None,
    )?;
    if std::env::var_os("MINIDOCKER_VM").is_some() {
        hand_down_controllers(root)?;
    }
    let own = root.join(name);
    fs::create_dir(&own).with_context(|| format!("create {}", own.display()))?;
    fs::write(own.join("cgroup.procs"), "0")?;
    unshare(CloneFlags::CLONE_NEWCGROUP).context("unshare the cgroup namespace")?;
    umount2(root, MntFlags::MNT_DETACH)?;
    settle_cgroups(delegated)
}

/// Mounts the cgroup namespace's tree, and goes one level down in it.
fn settle_cgroups(delegated: bool) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    attach(
        Some("cgroup2"),
        "/sys/fs/cgroup",
        Some("cgroup2"),
        MsFlags::empty(),
        None,
    )?;
    let session = root.join(SESSION);
    fs::create_dir(&session)?;
    fs::write(session.join("cgroup.procs"), "0")?;
    if delegated {
        delegate(root)?;
    }
    Ok(())
}

/// What systemd does for `user@1000.service` (Delegate=yes): the directory and
/// the three files in it that make cgroups and move processes.
fn delegate(root: &Path) -> Result<()> {
    hand_down_controllers(root)?;
    let user = root.join("user");
    fs::create_dir(&user)?;
    hand_down_controllers(&user)?;
    let session = root.join(DELEGATED);
    fs::create_dir(&session)?;
    for dir in [&user, &session] {
        for file in [
            "",
            "cgroup.procs",
            "cgroup.subtree_control",
            "cgroup.threads",
        ] {
            let id = Some(Uid::from_raw(STUDENT));
            chown(&dir.join(file), id, Some(Gid::from_raw(STUDENT)))?;
        }
    }
    Ok(())
}

fn hand_down_controllers(dir: &Path) -> Result<()> {
    for controller in fs::read_to_string(dir.join("cgroup.controllers"))?.split_whitespace() {
        fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"))
            .with_context(|| format!("enable {controller} below {}", dir.display()))?;
    }
    Ok(())
}

/// Removes the machine's cgroups, deepest first. Its processes are gone.
fn remove_cgroup(name: &str) {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else {
        return;
    };
    let mounted = table.lines().find(|line| line.contains(" - cgroup2 "));
    if let Some(root) = mounted.and_then(|line| line.split(' ').nth(4)) {
        remove_tree(&Path::new(root).join(name));
    }
}

fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // A cgroup stays busy for a moment after its last process was reaped.
    for _ in 0..100 {
        if fs::remove_dir(dir).is_ok() || !dir.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// /etc as it is here, but writable in private, and with the user `student`.
///
/// What is different is laid out before it is mounted: the files below belong
/// to somebody whom a user namespace may not know, and cannot be changed then.
fn own_etc(ids: &str, apart: bool) -> Result<()> {
    let upper = Path::new("/run/etc/upper");
    for dir in [upper, Path::new("/run/etc/work")] {
        fs::create_dir_all(dir)?;
    }
    let student = "student:x:1000:1000::/home/student:/bin/sh\n";
    for (name, text) in [
        ("passwd", with_line("/etc/passwd", student)),
        ("group", with_line("/etc/group", "student:x:1000:\n")),
        ("subuid", ids.to_owned()),
        ("subgid", ids.to_owned()),
        (
            "hosts",
            "127.0.0.1 localhost\n127.0.1.1 laptop\n".to_owned(),
        ),
        // Often a link into /run, which is another directory here.
        ("resolv.conf", "nameserver 192.0.2.2\n".to_owned()),
    ] {
        let path = upper.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    if apart {
        return apart::cover_etc(upper);
    }
    let options = "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work";
    attach(
        Some("overlay"),
        "/etc",
        Some("overlay"),
        MsFlags::empty(),
        Some(options),
    )
}

/// /dev/net/tun for everybody, as udev has it everywhere: the device checks
/// for itself who may do what.
fn open_tun() -> Result<()> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    if !Path::new("/dev/net/tun").exists() {
        return Ok(());
    }
    let own = "/run/workspace/tun";
    fs::create_dir_all("/run/workspace")?;
    mknod(own, SFlag::S_IFCHR, Mode::empty(), makedev(10, 200)).context("mknod tun")?;
    fs::set_permissions(own, fs::Permissions::from_mode(0o666))?;
    attach(Some(own), "/dev/net/tun", None, MsFlags::MS_BIND, None)
}

/// A file of accounts with one line more, in the place of others of that name
/// or number.
fn with_line(path: &str, line: &str) -> String {
    let before = fs::read_to_string(path).unwrap_or_default();
    let mut after: String = before
        .lines()
        .filter(|old| !old.starts_with("student:") && old.split(':').nth(2) != Some("1000"))
        .map(|old| format!("{old}\n"))
        .collect();
    after.push_str(line);
    after
}

fn join_networks(outside: &str) -> Result<()> {
    let peer = format!("netns {outside}");
    let words: Vec<&str> = ["link", "add", "wan", "type", "veth", "peer", "name", "eth0"]
        .into_iter()
        .chain(peer.split(' '))
        .collect();
    run("ip", &words)?;
    run("ip", &["address", "add", "192.0.2.1/24", "dev", "wan"])?;
    run("ip", &["link", "set", "wan", "up"])?;
    run("ip", &["route", "add", "default", "via", "192.0.2.2"])?;
    let net = format!("--net={outside}");
    for there in [
        "link set lo up",
        "address add 192.0.2.2/24 dev eth0",
        "link set eth0 up",
        "route add default via 192.0.2.1",
    ] {
        let mut words = vec![net.as_str(), "ip"];
        words.extend(there.split(' '));
        run("nsenter", &words)?;
    }
    settle_link()
}

/// Waits until the kernel has told the link of its peer, which it does when it finds the time, and has
/// given it the address that comes of that: whoever looks before and after must not see it happen.
fn settle_link() -> Result<()> {
    let is_zero = |name: &str| {
        let value = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/wan/{name}"));
        value.is_ok_and(|value| value.trim() == "0")
    };
    let has_six = is_zero("disable_ipv6") && is_zero("addr_gen_mode");
    for _ in 0..6000 {
        let show = ["-br", "address", "show", "dev", "wan"];
        let seen = Command::new("ip").args(show).output().context("run ip")?;
        let seen = String::from_utf8_lossy(&seen.stdout);
        if seen.contains(" UP ") && (!has_six || seen.contains(" fe80:")) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    bail!("the link to the outside does not come up");
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("run {program}"))?;
    if !status.success() {
        bail!("{program} {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}

/// The duty of every pid 1: orphans become its children, and stay zombies
/// until it waits for them.
fn reap() -> Result<ExitCode> {
    let mut child = SigSet::empty();
    child.add(Signal::SIGCHLD);
    child.thread_block()?;
    loop {
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|s| s != WaitStatus::StillAlive) {
        }
        child.wait()?;
    }
}

impl Enter {
    fn run(&self) -> Result<ExitCode> {
        let first = Pid::from_raw(self.pid);
        let cgroup = self.cgroup()?;
        if self.apart {
            apart::open_streams()?;
        }
        self.join(first)?;
        if let Some(fd) = self.net_fd {
            // Only from in there: the first process has changed its ids, and is closed to its owner.
            let net = fs::File::open(format!("/proc/1/fd/{fd}"))
                .context("open the outside network (was the host made with one?)")?;
            setns(net, CloneFlags::CLONE_NEWNET).context("join the outside network")?;
        }
        // The command decides what a Ctrl-C means; this process only waits.
        let mut before = SigSet::empty();
        sigprocmask(
            SigmaskHow::SIG_SETMASK,
            Some(&SigSet::all()),
            Some(&mut before),
        )?;
        let (gate, opener) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Child => {
                drop(opener);
                nix::unistd::read(&gate, &mut [0])?;
                sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
                self.exec()
            }
            ForkResult::Parent { child } => {
                if let Some(mut cgroup) = cgroup {
                    write!(cgroup, "{child}").context("move the command into its cgroup")?;
                }
                drop(opener);
                pass_on(waitpid(child, None)?)
            }
        }
    }

    /// Where the command's pid is to be written. This process does not join the
    /// cgroup itself: there the command is alone, as in a scope of systemd's.
    fn cgroup(&self) -> Result<Option<fs::File>> {
        let leaf = if self.delegated { DELEGATED } else { SESSION };
        let path = format!("/proc/{}/root/sys/fs/cgroup/{leaf}/cgroup.procs", self.pid);
        if !Path::new(&path).exists() {
            return Ok(None);
        }
        let file = fs::File::options().write(true).open(&path);
        Ok(Some(file.with_context(|| format!("open {path}"))?))
    }

    fn join(&self, first: Pid) -> Result<()> {
        let first = rustix::process::Pid::from_raw(first.as_raw()).context("the pid is 0")?;
        let pidfd = rustix::process::pidfd_open(first, rustix::process::PidfdFlags::empty())
            .context("the machine is gone")?;
        let mut all = OWN | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWCGROUP;
        if self.apart {
            all |= CloneFlags::CLONE_NEWUSER;
        }
        setns(pidfd, all).context("join the machine's namespaces")
    }

    fn exec(&self) -> Result<ExitCode> {
        let home: PathBuf = std::env::var_os("HOME")
            .unwrap_or_else(|| "/".into())
            .into();
        if self.terminal {
            // Only here: a shell must see its session's leader in its pid namespace.
            nix::unistd::setsid()?;
            rustix::process::ioctl_tiocsctty(std::io::stdin())?;
        }
        if self.apart {
            apart::become_root()?;
        }
        if self.limited {
            apart::limit()?;
        }
        if self.student && !apart::has_student()? {
            apart::become_lone_student()?;
        } else if self.student {
            // As login(1) and the shell would have it: /dev/stdout is opened
            // anew, with the permissions of the pipe or terminal behind it.
            for stream in [
                std::io::stdin().as_fd(),
                std::io::stdout().as_fd(),
                std::io::stderr().as_fd(),
            ] {
                let (uid, gid) = (Uid::from_raw(STUDENT), Gid::from_raw(STUDENT));
                if !self.apart && (kind_of(stream)? == libc::S_IFIFO || self.terminal) {
                    nix::unistd::fchown(stream, Some(uid), Some(gid))?;
                }
            }
            setgroups(&[])?;
            setgid(Gid::from_raw(STUDENT))?;
            setuid(Uid::from_raw(STUDENT))?;
        }
        // After the change of user, which would clear it: prctl(2).
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        std::env::set_current_dir(&home).or_else(|_| std::env::set_current_dir("/"))?;
        let (program, arguments) = self.command.split_first().context("no command")?;
        let error = Command::new(program).args(arguments).exec();
        Err(error).with_context(|| format!("run {}", OsStr::display(program)))
    }
}

fn kind_of(stream: BorrowedFd<'_>) -> Result<libc::mode_t> {
    Ok(nix::sys::stat::fstat(stream)?.st_mode & libc::S_IFMT)
}

/// Ends as the command ended, by the same signal or with the same status.
fn pass_on(status: WaitStatus) -> Result<ExitCode> {
    match status {
        WaitStatus::Exited(_, code) => Ok(ExitCode::from(u8::try_from(code)?)),
        WaitStatus::Signaled(_, signal, _) => {
            std::io::stdout().flush().ok();
            rustix::process::setrlimit(
                rustix::process::Resource::Core,
                rustix::process::Rlimit {
                    current: Some(0),
                    maximum: Some(0),
                },
            )?;
            let mut one = SigSet::empty();
            one.add(signal);
            sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&one), None)?;
            raise(signal)?;
            bail!("{signal} did not end this process")
        }
        other => bail!("the command changed to {other:?}"),
    }
}
