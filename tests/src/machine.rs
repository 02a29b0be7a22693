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
//!                       ├ mnt: tmpfs /run /tmp /var/lib/minidocker /home/student, overlay /etc
//!                       └ cgroup: /minidocker-test-PID  = the machine's root
//!                                   ├ session            = where its commands are
//!                                   └ user, user/session = where student's are, when delegated
//! ```

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
    /// SOURCE=NAME: show the file or directory SOURCE at /run/workspace/NAME
    #[arg(long = "show")]
    shown: Vec<String>,
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
        // Only children enter the new pid namespace: this process stays where it is.
        unshare(CloneFlags::CLONE_NEWPID).context("unshare the pid namespace (is this root?)")?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Child => {
                rustix::process::set_parent_process_death_signal(Some(
                    rustix::process::Signal::KILL,
                ))?;
                self.first_process(&cgroup)
            }
            ForkResult::Parent { child } => {
                println!("pid {child}");
                wait_for_either_end(child)?;
                // The end of pid 1 is the end of its namespace; once it is
                // reaped, every process of the machine is gone.
                kill(child, Signal::SIGKILL).ok();
                waitpid(child, None).context("wait for the machine's end")?;
                remove_cgroup(&cgroup);
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    fn first_process(&self, cgroup: &str) -> Result<ExitCode> {
        let outside = self.own_namespaces()?;
        if !self.machine_cgroups {
            own_cgroups(cgroup, self.delegated)?;
        }
        self.own_files()?;
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
        unshare(
            CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWNET,
        )
        .context("unshare mount, uts, ipc and net namespaces")?;
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
    fn own_files(&self) -> Result<()> {
        if !self.machine_cgroups {
            // /sys/class/net shows the network namespace of whoever mounted it.
            let cgroups = Path::new("/sys/fs/cgroup");
            let held = hold(cgroups)?;
            umount2("/sys", MntFlags::MNT_DETACH)?;
            attach(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None)?;
            place(&held, cgroups)?;
        }
        let shown = self
            .shown
            .iter()
            .map(|entry| Shown::hold(entry))
            .collect::<Result<Vec<_>>>()?;
        for (dir, options) in [
            ("/run", "mode=755"),
            ("/tmp", "mode=1777"),
            ("/var/tmp", "mode=1777"),
            ("/var/lib/minidocker", "mode=755"),
            ("/home", "mode=755"),
        ] {
            fs::create_dir_all(dir).with_context(|| format!("create {dir}"))?;
            attach(
                Some("tmpfs"),
                dir,
                Some("tmpfs"),
                MsFlags::empty(),
                Some(options),
            )?;
        }
        own_etc(self.no_subids)?;
        for dir in ["/home/student", "/run/user/1000"] {
            fs::create_dir_all(dir)?;
            chown(
                dir,
                Some(Uid::from_raw(STUDENT)),
                Some(Gid::from_raw(STUDENT)),
            )?;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        }
        for one in &shown {
            one.place()?;
        }
        open_tun()?;
        Ok(())
    }
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
    tree: OwnedFd,
    is_file: bool,
    at: PathBuf,
}

impl Shown {
    fn hold(entry: &str) -> Result<Shown> {
        let (source, name) = entry.split_once('=').context("--show wants SOURCE=NAME")?;
        let source = Path::new(source);
        Ok(Shown {
            tree: hold(source)?,
            is_file: source.is_file(),
            at: Path::new("/run/workspace").join(name),
        })
    }

    fn place(&self) -> Result<()> {
        if self.is_file {
            self.at.parent().map(fs::create_dir_all).transpose()?;
            fs::File::options()
                .create(true)
                .append(true)
                .open(&self.at)?;
        } else {
            fs::create_dir_all(&self.at)?;
        }
        place(&self.tree, &self.at)
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
    attach(
        Some("cgroup2"),
        root_name,
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
fn own_etc(no_subids: bool) -> Result<()> {
    for dir in ["/run/etc/upper", "/run/etc/work"] {
        fs::create_dir_all(dir)?;
    }
    let options = "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work";
    attach(
        Some("overlay"),
        "/etc",
        Some("overlay"),
        MsFlags::empty(),
        Some(options),
    )?;
    let ids = if no_subids {
        ""
    } else {
        "student:100000:65536\n"
    };
    add_line(
        "/etc/passwd",
        "student:x:1000:1000::/home/student:/bin/sh\n",
    )?;
    add_line("/etc/group", "student:x:1000:\n")?;
    fs::write("/etc/subuid", ids)?;
    fs::write("/etc/subgid", ids)?;
    fs::write("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 laptop\n")?;
    let resolver = Path::new("/etc/resolv.conf");
    // Often a link into /run, which is another directory here.
    if resolver.is_symlink() {
        fs::remove_file(resolver)?;
    }
    fs::write(resolver, "nameserver 192.0.2.2\n")?;
    Ok(())
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

/// Adds an account's line to a file of accounts; it takes the place of others
/// of that name or number.
fn add_line(path: &str, line: &str) -> Result<()> {
    let before = fs::read_to_string(path).unwrap_or_default();
    let mut after: String = before
        .lines()
        .filter(|old| !old.starts_with("student:") && old.split(':').nth(2) != Some("1000"))
        .map(|old| format!("{old}\n"))
        .collect();
    after.push_str(line);
    fs::write(path, after).with_context(|| format!("write {path}"))
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
    Ok(())
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
        let net = self
            .net_fd
            .map(|fd| fs::File::open(format!("/proc/{first}/fd/{fd}")))
            .transpose()
            .context("open the outside network (was the host made with one?)")?;
        self.join(first)?;
        if let Some(net) = net {
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
        setns(
            pidfd,
            CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWUTS
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWCGROUP,
        )
        .context("join the machine's namespaces")
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
        if self.student {
            // As login(1) and the shell would have it: /dev/stdout is opened
            // anew, with the permissions of the pipe or terminal behind it.
            for stream in [
                std::io::stdin().as_fd(),
                std::io::stdout().as_fd(),
                std::io::stderr().as_fd(),
            ] {
                let (uid, gid) = (Uid::from_raw(STUDENT), Gid::from_raw(STUDENT));
                if kind_of(stream)? == libc::S_IFIFO || self.terminal {
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
