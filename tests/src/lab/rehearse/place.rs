//! Where the book is rehearsed: a fresh clone, and an ordinary user at it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use harness::{Host, Setup, Terminal, User};
use nix::unistd::geteuid;

/// The uid and gid of the user for whom root rehearses.
const STUDENT: &str = "1000:1000";

/// A clone of the repository, and how to get a shell in it.
pub struct Place {
    /// The home directory that the clone is in.
    home: PathBuf,
    /// The private machine on which root's deputy sits; an ordinary user
    /// rehearses on their own.
    host: Option<Host>,
}

impl Place {
    /// Clones what is committed. With `keep` the clone of the last time is
    /// brought up to date, so that little is left to compile.
    pub fn prepare(repository: &Path, keep: bool) -> Result<Place> {
        let home = repository.join("target/rehearsal");
        let clone = home.join("minidocker");
        let changed = said(git(repository).args(["status", "--porcelain"]))?;
        if !changed.is_empty() {
            println!("lab: only what is committed is rehearsed; not so:\n{changed}");
        }
        if !keep && home.exists() {
            fs::remove_dir_all(&home).with_context(|| format!("remove {}", home.display()))?;
        }
        if clone.exists() {
            say(git(&clone).args(["fetch", "--quiet", "origin", "HEAD"]))?;
            say(git(&clone).args(["reset", "--quiet", "--hard", "FETCH_HEAD"]))?;
        } else {
            fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
            say(git(&home)
                .args(["clone", "--quiet"])
                .args([repository, &clone]))?;
        }
        clear_workspaces(&home)?;
        lend_kernel(repository, &clone)?;
        write_rc(&home)?;
        let host = match geteuid().is_root() {
            true => Some(deputy(&home)?),
            false => None,
        };
        Ok(Place { home, host })
    }

    /// A bash at the top of the clone, with the built programs in its PATH.
    pub fn bash(&self) -> Terminal {
        let argv = ["bash", "--noprofile", "--noediting", "--rcfile"];
        match &self.host {
            Some(host) => {
                let variables = [
                    "TERM=dumb",
                    "LANG=C.UTF-8",
                    "CARGO_NET_OFFLINE=true",
                    "CARGO_TERM_COLOR=never",
                    "PATH=/run/workspace/rust/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                ];
                let words = ["env"].into_iter().chain(variables).chain(argv);
                host.terminal(User::Student, words.chain(["/home/student/rc", "-i"]))
            }
            None => {
                let mut bash = Command::new(argv[0]);
                bash.args(&argv[1..]).arg(self.home.join("rc")).arg("-i");
                bash.env("TERM", "dumb").env("CARGO_TERM_COLOR", "never");
                Terminal::start(bash, "bash".to_owned())
            }
        }
    }
}

/// A private machine with this home directory and this toolchain, both on disk.
fn deputy(home: &Path) -> Result<Host> {
    let theirs = home.join(".cargo");
    if !theirs.exists() {
        let registry = cargo_home()?.join("registry");
        fs::create_dir_all(&theirs)?;
        say(Command::new("cp").arg("-r").args([&registry, &theirs]))?;
    }
    say(Command::new("chown").args(["-R", STUDENT]).arg(home))?;
    let sysroot = said(Command::new("rustc").args(["--print", "sysroot"]))?;
    let host = Host::with(Setup {
        shown: vec![
            (home.to_owned(), "home".to_owned()),
            (PathBuf::from(sysroot.trim()), "rust".to_owned()),
        ],
        ..Setup::default()
    });
    host.shell("mount --bind /run/workspace/home /home/student");
    Ok(host)
}

/// What a shell does before the book's first line. The clone is found beside
/// this file, wherever that is for whoever reads it.
fn write_rc(home: &Path) -> Result<()> {
    let rc = "PS1='$ '; PS2='> '; unset HISTFILE\n\
              cd \"$(dirname \"$BASH_SOURCE\")/minidocker\"\n\
              PATH=\"$PWD/target/debug:$PATH\"\n";
    fs::write(home.join("rc"), rc).context("write the shell's first lines")
}

/// Takes away the labs that were started beside the clone the last time.
fn clear_workspaces(home: &Path) -> Result<()> {
    for entry in fs::read_dir(home).context("list the rehearsal's directory")? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(b"minidocker-lab")
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The virtual machine's kernel, where it was fetched before: the private
/// machine has no network to fetch it from.
fn lend_kernel(repository: &Path, clone: &Path) -> Result<()> {
    let (ours, theirs) = (repository.join("target/vm/kernel"), clone.join("target/vm"));
    if ours.exists() && !theirs.exists() {
        fs::create_dir_all(&theirs)?;
        say(Command::new("cp").arg("-r").args([&ours, &theirs]))?;
    }
    Ok(())
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(Path::new(&home).join(".cargo"))
}

fn git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    // Root's deputy owns the clone.
    git.current_dir(dir).args(["-c", "safe.directory=*"]);
    git
}

/// Runs a command that must succeed.
fn say(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed");
    }
    Ok(())
}

/// What a command prints, which must succeed.
fn said(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
