//! Where the reader sits: an ordinary user of a laptop, with the clone and a
//! Rust toolchain.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use harness::{Host, Setup, Terminal, User};
use nix::unistd::geteuid;

use super::clone::{BUILD, Clone, DOWNLOADED, git};
use crate::call::call;

/// The reader's user id.
pub const READER: u32 = 1000;

/// Where the reader's clone is on a private machine.
const PLACE: &str = "/home/student/minidocker";

/// The reader's desk.
pub struct Desk {
    clone: PathBuf,
    /// The private machine, where this is root; otherwise the caller is the reader.
    host: Option<Host>,
    environment: Vec<(String, String)>,
}

impl Desk {
    /// A desk with the clone in `clone` on it.
    pub fn new(clone: &Clone) -> Result<Desk> {
        let (toolchain, cargo_home) = (toolchain()?, cargo_home());
        let host = geteuid()
            .is_root()
            .then(|| machine(&clone.home(), &toolchain, &cargo_home))
            .transpose()?;
        let place = match host {
            Some(_) => PLACE.to_owned(),
            None => clone.dir().to_string_lossy().into_owned(),
        };
        let cargo = match host {
            Some(_) => "/run/workspace/toolchain/bin".to_owned(),
            None => toolchain.join("bin").to_string_lossy().into_owned(),
        };
        let mut environment = vec![
            ("PS1".to_owned(), "$ ".to_owned()),
            ("TERM".to_owned(), "dumb".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("HISTFILE".to_owned(), "/dev/null".to_owned()),
            (
                "CARGO_BUILD_BUILD_DIR".to_owned(),
                format!("{place}/{BUILD}"),
            ),
            (
                "PATH".to_owned(),
                format!(
                    "{place}/target/debug:{cargo}:{place}/{DOWNLOADED}:/usr/local/sbin:\
                     /usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                ),
            ),
        ];
        if host.is_some() {
            // Everything was fetched for the repository's own build.
            environment.push(("CARGO_NET_OFFLINE".to_owned(), "true".to_owned()));
            let cargo_home = cargo_home.to_string_lossy().into_owned();
            environment.push(("CARGO_HOME".to_owned(), cargo_home));
        }
        Ok(Desk {
            clone: clone.dir(),
            host,
            environment,
        })
    }

    /// A bash in the clone, on a terminal of its own, with the prompt `$ `.
    pub fn bash(&self) -> Terminal {
        let bash = ["bash", "--norc", "--noprofile", "--noediting", "-i"];
        match &self.host {
            Some(host) => host.terminal(User::Student, self.words(&bash)),
            None => {
                // The shell as a child: killed with its terminal.
                let setsid = ["setsid", "--fork", "--ctty", "--wait"];
                let words = self.words(&[&setsid[..], &bash[..]].concat());
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                Terminal::start(command, "bash".to_owned())
            }
        }
    }

    /// `env` with the reader's environment, in the clone.
    fn words(&self, command: &[&str]) -> Vec<String> {
        let mut words = vec!["env".to_owned(), "-i".to_owned()];
        let kept = [
            "HOME",
            "USER",
            "XDG_RUNTIME_DIR",
            "XDG_DATA_HOME",
            "CARGO_HOME",
        ];
        match self.host {
            Some(_) => words.extend([
                "HOME=/home/student".to_owned(),
                "USER=student".to_owned(),
                "XDG_RUNTIME_DIR=/run/user/1000".to_owned(),
            ]),
            None => words.extend(kept.iter().filter_map(|name| {
                let value = std::env::var(name).ok()?;
                Some(format!("{name}={value}"))
            })),
        }
        for (name, value) in &self.environment {
            words.push(format!("{name}={value}"));
        }
        let place = match self.host {
            Some(_) => PLACE.to_owned(),
            None => self.clone.to_string_lossy().into_owned(),
        };
        words.extend(["--chdir".to_owned(), place]);
        // Options come before the variables: env(1).
        let options = words.split_off(words.len() - 2);
        words.splice(2..2, options);
        words.extend(command.iter().map(|word| (*word).to_owned()));
        words
    }

    /// Builds the steps and the lab tool, as the reader.
    pub fn build(&self) -> Result<()> {
        let words = self.words(&["cargo", "build", "--quiet", "--workspace", "--bins"]);
        let status = match &self.host {
            Some(host) => host.prepare(User::Student, true, words).status(),
            None => Command::new(&words[0]).args(&words[1..]).status(),
        };
        if !status.context("run cargo")?.success() {
            bail!("the clone does not build");
        }
        Ok(())
    }

    /// Fails where the sources are not as they were committed.
    pub fn check_sources(&self) -> Result<()> {
        let changed = git(&self.clone, &["status", "--porcelain"])?;
        if !changed.is_empty() {
            bail!("the page leaves the clone changed:\n{changed}");
        }
        Ok(())
    }

    /// Makes the sources what they were.
    pub fn restore(&self) -> Result<()> {
        git(&self.clone, &["checkout", "--quiet", "--force", "HEAD"])?;
        git(
            &self.clone,
            &["clean", "--quiet", "-dffx", "--exclude=/target"],
        )?;
        if let Some(host) = &self.host {
            host.shell(&format!("chown -hR {READER}:{READER} {PLACE}"));
            host.shell(&format!("pkill -KILL -u {READER} || true"));
        }
        Ok(())
    }
}

/// A laptop with the student's home, in which the clone is, and a toolchain.
fn machine(reader: &Path, toolchain: &Path, cargo: &Path) -> Result<Host> {
    let host = Host::make(Setup {
        shown: vec![
            (reader.to_owned(), "home".to_owned()),
            (toolchain.to_owned(), "toolchain".to_owned()),
            (cargo.join("registry"), "registry".to_owned()),
        ],
        ..Setup::default()
    })?;
    // Root's home is closed to others: an open one in its place.
    let is_closed = |dir: &&Path| {
        let mode = dir.metadata().map_or(0, |meta| meta.permissions().mode());
        mode & 0o001 == 0
    };
    let closed = cargo.ancestors().filter(is_closed).last().unwrap_or(cargo);
    // The registry is as a reader's own would be after the first build, at the path by which cargo
    // tells whether a crate is built already. Some crates' files are for their owner alone.
    let script = r#"mount --bind /run/workspace/home /home/student
         chmod 700 /home/student
         mount -t tmpfs -o mode=755 tmpfs "$1"
         mkdir -p "$2/registry" /run/registry/upper /run/registry/work
         mount -t overlay -o lowerdir=/run/workspace/registry \
             -o upperdir=/run/registry/upper,workdir=/run/registry/work overlay "$2/registry"
         find "$2/registry/src" ! -perm -o+r -exec chmod o+rX {} +
         chown student:student "$2""#;
    let mut words: Vec<&OsStr> = ["sh", "-euc", script, "sh"].map(OsStr::new).to_vec();
    words.extend([closed.as_os_str(), cargo.as_os_str()]);
    let out = host.run(words);
    if out.code() != 0 {
        bail!("lay out the reader's home: {}", out.errors());
    }
    Ok(host)
}

/// Where this program's cargo keeps what it fetches.
fn cargo_home() -> PathBuf {
    let home = || std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    std::env::var_os("CARGO_HOME").map_or_else(|| Path::new(&home()).join(".cargo"), PathBuf::from)
}

/// The directory of the Rust toolchain that built this program, or would.
fn toolchain() -> Result<PathBuf> {
    let sysroot = call(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(sysroot))
}
