//! Outside without root: a program that carries the packets.
//!
//! A veth end in the host's namespace takes CAP_NET_ADMIN there. In a namespace of our own we may
//! have a tap device: a link whose frames a program reads and writes. pasta(1) and slirp4netns(1)
//! are such programs: they open the tap inside, and turn its frames into ordinary sockets outside.
//!
//! Both give the container 10.0.2.100, with 10.0.2.2 as the way out and a name server at 10.0.2.3,
//! which stands for the host's own, on loopback too.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid, pipe2};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::publish::Publish;

/// slirp4netns' socket for orders, in the container's directory.
const ORDERS: &str = "slirp4netns.sock";

/// pasta or slirp4netns at work. It goes when this is dropped, and when we die.
#[derive(Debug)]
pub struct Carrier {
    child: Child,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // An error says that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Carrier {
    /// The container's address.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
    /// The length of its subnet's prefix.
    pub const PREFIX: u8 = 24;
    /// Its way out.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    /// Its name server.
    pub const NAMESERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

    /// Connects a network namespace. `None`: there is no program that can; a warning says why, or
    /// what to install. In `directory` the carrier may put a socket.
    ///
    /// # Errors
    /// A port cannot be had, or is asked for and nothing could carry it.
    pub fn connect(to: &Target, ports: &[Publish], directory: &Path) -> Result<Option<Carrier>> {
        // Of a port that it cannot have, the carrier would say less than bind(2) says to us.
        let reserved = ports.iter().map(Publish::reserve);
        drop(reserved.collect::<Result<Vec<_>>>()?);
        match Carrier::begin(to, ports, directory) {
            Ok(carrier) => Ok(Some(carrier)),
            Err(why) if ports.is_empty() => {
                tracing::warn!("the container has only its loopback network: {why:#}");
                Ok(None)
            }
            Err(why) => Err(why.context("without root no port can be published here")),
        }
    }

    /// The same, where nothing but a carrier will do.
    ///
    /// # Errors
    /// There is none, or none can.
    pub fn begin(to: &Target, ports: &[Publish], directory: &Path) -> Result<Carrier> {
        let mut failures = Vec::new();
        for (program, start) in [("pasta", pasta as Start), ("slirp4netns", slirp4netns)] {
            let Some(path) = find(program) else { continue };
            match start(&path, to, ports, directory) {
                Ok(carrier) => return Ok(carrier),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        ensure!(
            !failures.is_empty(),
            "neither pasta nor slirp4netns is installed (packages passt, slirp4netns)"
        );
        bail!(failures.join("; "))
    }

    /// What can be read when it has ended.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn ended(&self) -> Result<OwnedFd> {
        // It is waited for when this is dropped: until then the number is nobody else's.
        let process = rustix::process::Pid::from_child(&self.child);
        pidfd_open(process, PidfdFlags::empty()).context("pidfd_open")
    }
}

/// Whose network a carrier connects.
#[derive(Debug)]
pub enum Target {
    /// That of a process in a user namespace of ours, which the carrier joins.
    Process(Pid),
    /// This network namespace, of the user namespace that we are in.
    Netns(File),
}

impl Target {
    /// What the carrier is started with, and finds its way by.
    fn inherited(&self) -> Result<Stdio> {
        Ok(match self {
            Target::Process(_) => Stdio::null(),
            Target::Netns(netns) => netns.try_clone()?.into(),
        })
    }
}

/// The network namespace that a carrier inherits, as its standard output: any other descriptor it
/// may close when it starts. By the process' number it could not look for it: it would join the user
/// namespace that it is in already (setns(2): EINVAL), or has given up the right to look by then.
const INHERITED: &str = "/proc/self/fd/1";

type Start = fn(&Path, &Target, &[Publish], &Path) -> Result<Carrier>;

fn pasta(program: &Path, to: &Target, ports: &[Publish], _: &Path) -> Result<Carrier> {
    let mut arguments = strings(&["--quiet", "--foreground", "--ipv4-only", "--config-net"]);
    arguments.extend(strings(&[
        "--no-dhcp",
        "--no-ndp",
        "--no-ra",
        "--no-map-gw",
    ]));
    arguments.extend(strings(&["--ns-ifname", "eth0", "--netmask"]));
    arguments.push(Carrier::PREFIX.to_string().into());
    for (option, address) in [
        ("--address", Carrier::ADDRESS),
        ("--gateway", Carrier::GATEWAY),
        ("--dns-forward", Carrier::NAMESERVER),
    ] {
        arguments.extend([option.into(), address.to_string().into()]);
    }
    // Without these it would open whatever port the container or the host listens on.
    for (option, protocol) in [
        ("--tcp-ports", crate::Protocol::Tcp),
        ("--udp-ports", crate::Protocol::Udp),
    ] {
        let wanted = ports.iter().filter(|port| port.protocol == protocol);
        let wanted: Vec<_> = wanted.collect();
        if wanted.is_empty() {
            arguments.extend([option.into(), "none".into()]);
        }
        // Thousands, one by one, are more than execve(2) takes.
        for range in wanted.chunk_by(|port, next| next.follows(port)) {
            let (Some(first), Some(last)) = (range.first(), range.last()) else {
                continue;
            };
            let address = first.address.map(|address| format!("{address}/"));
            let ports = format!(
                "{}{}-{}:{}-{}",
                address.unwrap_or_default(),
                first.host,
                last.host,
                first.container,
                last.container
            );
            arguments.extend([option.into(), ports.into()]);
        }
    }
    arguments.extend(strings(&["--tcp-ns", "none", "--udp-ns", "none"]));
    // It writes its pid when all is set up: our pipe is the file.
    arguments.extend(strings(&["--pid", "/dev/stdin"]));
    match to {
        Target::Process(pid) => arguments.push(pid.to_string().into()),
        Target::Netns(_) => {
            arguments.extend(strings(&["--netns-only", "--no-netns-quit"]));
            arguments.extend(strings(&["--netns", INHERITED]));
        }
    }
    start(command(program, &arguments).stdout(to.inherited()?))
}

fn slirp4netns(
    program: &Path,
    to: &Target,
    ports: &[Publish],
    directory: &Path,
) -> Result<Carrier> {
    let mut arguments = strings(&["--configure", "--mtu=65520", "--disable-host-loopback"]);
    arguments.extend(strings(&["--enable-sandbox", "--ready-fd=0"]));
    if !ports.is_empty() {
        arguments.push(format!("--api-socket={ORDERS}").into());
    }
    match to {
        Target::Process(pid) => arguments.push(pid.to_string().into()),
        Target::Netns(_) => arguments.extend(strings(&["--netns-type=path", INHERITED])),
    }
    arguments.push("eth0".into());
    let mut command = command(program, &arguments);
    command.current_dir(directory).stdout(to.inherited()?);
    let carrier = start(&mut command)?;
    for port in ports {
        forward(directory, port).with_context(|| format!("have slirp4netns publish {port}"))?;
    }
    Ok(carrier)
}

/// One order to slirp4netns: a line of JSON there, one back (slirp4netns(1), "API SOCKET").
fn forward(directory: &Path, port: &Publish) -> Result<()> {
    // A socket's path has room for 107 bytes (unix(7)), a descriptor's is short.
    let directory = File::open(directory)?;
    let path = format!("/proc/self/fd/{}/{ORDERS}", directory.as_raw_fd());
    let mut orders = UnixStream::connect(path)?;
    let order = format!(
        r#"{{"execute":"add_hostfwd","arguments":{{"proto":"{}","host_addr":"{}","host_port":{},"guest_addr":"{}","guest_port":{}}}}}"#,
        port.protocol,
        port.on_host().ip(),
        port.host,
        Carrier::ADDRESS,
        port.container
    );
    // In one write: it reads once, and takes what it then has for the whole.
    orders.write_all(order.as_bytes())?;
    let mut answer = String::new();
    orders.read_to_string(&mut answer)?;
    ensure!(
        answer.contains(r#""return""#),
        "it answered {}",
        answer.trim()
    );
    Ok(())
}

fn command(program: &Path, arguments: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    // Ctrl-C is meant for the container; its network stays to the end.
    command.process_group(0);
    die_with_us(&mut command);
    command
}

/// Starts a carrier and waits until it says that it is ready, by a byte on its standard input: any
/// descriptor can be written to, and this one is inherited without more ado.
fn start(command: &mut Command) -> Result<Carrier> {
    let (ready, told) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
    // Not a pipe: nobody would read it during the container's life.
    let complaints = memfd_create(c"complaints", MFdFlags::MFD_CLOEXEC).context("memfd_create")?;
    command.stdin(told).stderr(complaints.try_clone()?);
    let program = PathBuf::from(command.get_program());
    tracing::info!(
        call = "clone(SIGCHLD)",
        "a process to carry the container's packets"
    );
    let arguments: Vec<_> = command.get_args().collect();
    tracing::info!(
        call = format!("execve({program:?}, {arguments:?})"),
        "without root, a program turns the packets of a tap device into ordinary sockets"
    );
    let child = command
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    command.stdin(Stdio::null()); // our copy of the pipe's other end goes
    let mut carrier = Carrier { child };
    if wait_ready(ready, &program)? {
        return Ok(carrier);
    }
    let status = carrier.child.wait()?;
    let mut complaints = File::from(complaints);
    let mut text = String::new();
    complaints.rewind()?;
    complaints.read_to_string(&mut text)?;
    // pasta complains about a missing syslog first, and about its failure last.
    let telling = |line: &&str| !line.is_empty() && !line.ends_with("to syslog");
    let said: Vec<&str> = text.lines().map(str::trim).filter(telling).collect();
    bail!(
        "{} failed ({status}): {}",
        program.display(),
        said.join(", ")
    )
}

/// Whether a byte came, or the end.
fn wait_ready(ready: OwnedFd, program: &Path) -> Result<bool> {
    let mut fds = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
    let events = poll(&mut fds, PollTimeout::from(10_000u16)).context("poll")?;
    ensure!(
        events > 0,
        "{} was not ready after 10 seconds",
        program.display()
    );
    Ok(File::from(ready).read(&mut [0])? > 0)
}

/// Has the kernel kill the command when this process dies, of kill -9 too. The setting survives
/// that the program joins a user namespace of its own user's (prctl(2), PR_SET_PDEATHSIG; seen
/// with pasta 2023-03 and slirp4netns 1.2).
fn die_with_us(command: &mut Command) {
    let us = getpid();
    let arm = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // We may have died just before.
        if getppid() == us {
            Ok(())
        } else {
            Err(std::io::Error::from_raw_os_error(libc::ESRCH))
        }
    };
    // SAFETY: between fork and exec only async-signal-safe functions may run: prctl(2) and
    // getppid(2) are bare system calls, and no memory is allocated.
    unsafe { command.pre_exec(arm) };
}

/// The program's place in PATH. Found here, so that there is one execve, and not one a directory.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| {
            path.metadata()
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
}

fn strings(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsStr::new).map(OsStr::to_owned).collect()
}
