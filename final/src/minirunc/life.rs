//! A container's life: create, start, run, kill, delete.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::Args;
use minidocker::runtime::{Bundle, Created, Runtime, Settings};
use namespaces::Signals;
use nix::sys::signal::Signal;

use crate::Subject;

/// What `create` and `run` have in common.
#[derive(Debug, Args)]
struct Making {
    #[command(flatten)]
    subject: Subject,
    /// The bundle's directory
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// A unix socket that takes the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Write the first process's pid to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Leave the container in the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass on so many descriptors, from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

impl Making {
    fn read(self, detached: bool) -> Result<(Subject, Bundle, Settings)> {
        let bundle = Bundle::load(&self.bundle)?;
        let process = bundle.spec.process().as_ref();
        let terminal = process.is_some_and(|process| process.terminal() == Some(true));
        check_terminal(terminal, detached, self.console_socket.is_some())?;
        let settings = Settings {
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            preserve_fds: self.preserve_fds,
            no_new_keyring: self.no_new_keyring,
            ..Settings::default()
        };
        Ok((self.subject, bundle, settings))
    }
}

/// A terminal that nobody shows would fill up, and a socket that nobody needs
/// would wait for ever.
pub(crate) fn check_terminal(terminal: bool, detached: bool, socket: bool) -> Result<()> {
    ensure!(
        socket || !terminal || !detached,
        "process.terminal: give a --console-socket for the terminal of a container in the background"
    );
    ensure!(
        !socket || (terminal && detached),
        "--console-socket is for the terminal (process.terminal) of a container in the background"
    );
    Ok(())
}

/// Make a container, and hold it before its command
///
///     minirunc create --bundle box mybox && minirunc start mybox
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Create {
    #[command(flatten)]
    making: Making,
}

impl Create {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        let (subject, bundle, settings) = self.making.read(true)?;
        let (created, ()) = runtime.create(&subject.id, bundle, &settings, |_| Ok(()))?;
        created.process.abandon();
        Ok(())
    }
}

/// Run the command of a container that was created
///
///     minirunc start mybox
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Start {
    #[command(flatten)]
    subject: Subject,
}

impl Start {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        runtime.open(&self.subject.id)?.start()
    }
}

/// Make a container, run its command, and remove it at the end
///
///     minirunc run --bundle box mybox
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Run {
    #[command(flatten)]
    making: Making,
    /// Leave the container in the background
    #[arg(short, long)]
    detach: bool,
    /// Do not remove the container at its end
    #[arg(long)]
    keep: bool,
    /// Taken for runc's sake: other people's orphans are never adopted
    #[arg(long)]
    no_subreaper: bool,
}

impl Run {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<u8> {
        let (subject, bundle, settings) = self.making.read(self.detach)?;
        let (created, ()) = runtime.create(&subject.id, bundle, &settings, |_| Ok(()))?;
        let Created { container, process } = created;
        if let Err(error) = container.start() {
            container.delete(true)?;
            return Err(error);
        }
        if self.detach {
            process.abandon();
            return Ok(0);
        }
        let signals = Signals::hold()?;
        // Others may want to do something with it meanwhile.
        container.unlock()?;
        let status = process.wait(&signals);
        if !self.keep {
            container.delete(true)?;
        }
        status
    }
}

/// Send a signal to a container
///
///     minirunc kill mybox KILL
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Kill {
    #[command(flatten)]
    subject: Subject,
    /// A signal's name or number
    #[arg(default_value = "SIGTERM", value_parser = parse_signal)]
    signal: i32,
    /// To all its processes, not only the first
    #[arg(short, long)]
    all: bool,
}

impl Kill {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        runtime.open(&self.subject.id)?.kill(self.signal, self.all)
    }
}

/// `9`, `KILL`, `SIGKILL`, `sigkill`; of the real-time ones only the number.
fn parse_signal(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse() {
        ensure!(
            (0..=libc::SIGRTMAX()).contains(&number),
            "there is no such signal"
        );
        return Ok(number);
    }
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    match format!("SIG{name}").parse::<Signal>() {
        Ok(signal) => Ok(signal as i32),
        Err(_) => bail!("there is no such signal"),
    }
}

/// Remove a container that has ended
///
///     minirunc delete --force mybox
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Delete {
    #[command(flatten)]
    subject: Subject,
    /// Kill it first, and be content if there is none
    #[arg(short, long)]
    force: bool,
}

impl Delete {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<()> {
        runtime.delete(&self.subject.id, self.force)
    }
}

#[cfg(test)]
mod tests {
    use super::parse_signal;

    #[test]
    fn a_signal_is_given_by_name_or_number() {
        for text in ["9", "KILL", "SIGKILL", "sigkill", "kill"] {
            assert_eq!(parse_signal(text).ok(), Some(9), "{text}");
        }
        assert_eq!(parse_signal("64").ok(), Some(64));
        for text in ["65", "-1", "", "SIG", "FOO", "9x", "SIGSIGKILL"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }
}
