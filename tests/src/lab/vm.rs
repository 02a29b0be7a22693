//! `cargo lab vm`: a machine of one's own, emulated, to break at will.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::cleanup::of_dead;
use crate::kernel::Kernel;
use crate::system::{self, Freight};
use crate::{clients, shell};

/// What the files of one machine are called, before the pid of who boots it.
pub const FILES: [&str; 4] = ["initramfs.", "status.", "log.", "lines."];

/// The suite that calls so many programs of others that its machine has no room for
/// anything else.
pub const WITH_CLIENTS: &str = "runtime_clients";

/// A command's time, where nobody sits at a terminal.
const LIMIT: Duration = Duration::from_secs(1200);

/// Builds the workspace, boots the machine, runs `command` in it, or a shell,
/// and returns its exit status.
pub fn run(command: &[OsString], limit: Option<u64>) -> Result<u8> {
    build()?;
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let limit = match limit {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => (!interactive).then_some(LIMIT),
    };
    // Suites take a while to compile, and most who come want a shell.
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    let wants = |what: &str| words.iter().any(|word| word.contains(what));
    let mut freight = Freight {
        own: system::OWN,
        ..Freight::default()
    };
    if wants("/workspace/suites") {
        freight.suites = suites()?;
    }
    if wants(WITH_CLIENTS) {
        let mut suites = freight.suites;
        suites.retain(|suite| system::suite_name(suite) == WITH_CLIENTS);
        freight = Freight {
            suites,
            ..clients::freight()?
        };
    }
    boot(&freight, &script(command, interactive)?, limit, &mut |_| {})
}

/// Where the kernel is kept, and what a machine needs as long as it runs.
pub fn dir() -> Result<PathBuf> {
    Ok(crate::target_dir()?.join("vm"))
}

/// Whether the programs are here that a virtual machine needs.
pub fn is_possible() -> bool {
    ["qemu-system-x86_64", "busybox"]
        .iter()
        .all(|name| system::find(name).is_some())
}

/// Boots the machine with programs that are built already, and lets it run the
/// shell script `script`, which must set `$status`. Each line that this writes
/// to /dev/ttyS3 is told.
pub fn boot(
    freight: &Freight,
    script: &str,
    limit: Option<Duration>,
    tell: &mut dyn FnMut(&str),
) -> Result<u8> {
    let qemu = system::find("qemu-system-x86_64")
        .context("qemu-system-x86_64 is not installed (Debian: apt-get install qemu-system-x86)")?;
    system::find("busybox")
        .context("busybox is not installed (Debian: apt-get install busybox-static)")?;
    let dir = dir()?;
    let kernel = Kernel::ensure(&dir)?;
    for stale in FILES.iter().flat_map(|name| of_dead(&dir, name)) {
        fs::remove_file(stale).ok();
    }
    // Two machines at once must not share these.
    let [files, status, log, lines] =
        FILES.map(|name| dir.join(format!("{name}{}", std::process::id())));
    let machine = Machine {
        kernel,
        files,
        status,
        log,
        lines,
    };
    system::write(&machine.files, &machine.kernel, freight, script)?;
    machine.run(&qemu, limit, tell)?;
    let said = fs::read_to_string(&machine.status).unwrap_or_default();
    said.trim().parse().map_err(|_| {
        let log = fs::read(&machine.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        anyhow!("the virtual machine ended without an exit status; its log:\n{log}")
    })
}

/// Compiles what the machine will hold.
fn build() -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--workspace", "--bins"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let status = cargo
        .current_dir(crate::workspace()?)
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("the workspace does not build");
    }
    Ok(())
}

/// The black-box suites' executables, compiled.
pub fn suites() -> Result<Vec<PathBuf>> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "test",
        "--quiet",
        "--package",
        "tests",
        "--test",
        "*",
        "--no-run",
    ]);
    cargo.arg("--message-format=json");
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let out = cargo
        .current_dir(crate::workspace()?)
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo")?;
    if !out.status.success() {
        bail!("the suites do not build");
    }
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message.get("executable")?.as_str().map(PathBuf::from)
    };
    let found = String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(executable)
        .collect::<Vec<_>>();
    let is_suite = |path: &PathBuf| path.parent().is_some_and(|dir| dir.ends_with("deps"));
    Ok(found.into_iter().filter(is_suite).collect())
}

/// The shell script that runs `command` and keeps its status.
fn script(command: &[OsString], interactive: bool) -> Result<String> {
    let mut script = String::new();
    if interactive {
        let size = rustix::termios::tcgetwinsize(std::io::stdin())?;
        writeln!(
            script,
            "stty -F /dev/ttyS0 sane rows {} cols {}",
            size.ws_row, size.ws_col
        )?;
        if let Some(term) = std::env::var_os("TERM") {
            writeln!(script, "export TERM={}", word(&term)?)?;
        }
    } else {
        // As a pipe would be: what goes in comes out, byte for byte.
        writeln!(script, "stty -F /dev/ttyS0 raw -echo")?;
    }
    let words = command
        .iter()
        .map(word)
        .collect::<Result<Vec<_>>>()?
        .join(" ");
    let words = if words.is_empty() { "sh -l" } else { &words };
    if interactive {
        // A terminal of its own, so that Ctrl-C reaches the command. By its path: busybox's shell
        // would take busybox's own, which waits for nobody.
        writeln!(
            script,
            "/usr/bin/setsid -c -w {words} </dev/ttyS0 >/dev/ttyS0 2>&1; status=$?"
        )?;
    } else {
        writeln!(script, "{words} </dev/null >/dev/ttyS0 2>&1; status=$?")?;
    }
    Ok(script)
}

/// A word as the shell reads it back.
fn word(word: &OsString) -> Result<String> {
    let quoted = shell::quoted(word).into_string();
    quoted.map_err(|word| anyhow!("{} is not UTF-8", word.display()))
}

/// A machine about to be booted.
struct Machine {
    kernel: Kernel,
    /// The archive with its files.
    files: PathBuf,
    /// Where the second serial port writes the exit status.
    status: PathBuf,
    /// Where the third writes what the kernel says.
    log: PathBuf,
    /// Where the fourth writes what is told line by line.
    lines: PathBuf,
}

impl Machine {
    /// Runs the emulator until the machine switches itself off.
    ///
    /// Never with KVM: that `/dev/kvm` exists does not mean that it works, and
    /// where it does not, the machine hangs instead of failing.
    fn run(&self, qemu: &Path, limit: Option<Duration>, tell: &mut dyn FnMut(&str)) -> Result<()> {
        let to_file = |path: &Path| {
            let mut option = OsString::from("file:");
            option.push(path);
            option
        };
        let mut child = Command::new(qemu)
            .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-no-reboot",
                "-display",
                "none",
            ])
            .args(["-chardev", "stdio,id=terminal,signal=off"])
            .args(["-serial", "chardev:terminal", "-serial"])
            .arg(to_file(&self.status))
            .arg("-serial")
            .arg(to_file(&self.log))
            .arg("-serial")
            .arg(to_file(&self.lines))
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&self.files)
            .args(["-append", "console=ttyS2 panic=-1 mitigations=off"])
            .spawn()
            .context("start qemu-system-x86_64")?;
        let start = Instant::now();
        let mut told = 0;
        let mut tell_new = || {
            let text = fs::read(&self.lines).unwrap_or_default();
            while let Some(length) = text[told..].iter().position(|byte| *byte == b'\n') {
                tell(&String::from_utf8_lossy(&text[told..told + length]));
                told += length + 1;
            }
        };
        while child.try_wait()?.is_none() {
            tell_new();
            if limit.is_some_and(|limit| start.elapsed() > limit) {
                child.kill()?;
                child.wait()?;
                bail!(
                    "the virtual machine was ended after {} s",
                    start.elapsed().as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        tell_new();
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for file in [&self.files, &self.status, &self.log, &self.lines] {
            fs::remove_file(file).ok();
        }
    }
}
