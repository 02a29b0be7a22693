//! One more process in a container.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use minidocker::runtime::{Runtime, Settings, check_process, read_process};
use namespaces::Signals;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process, User};
use serde_json::Value;

use crate::Subject;
use crate::life::check_terminal;

/// Run one more command in a container
///
/// What is not given is as for the container's first process. What follows the
/// command is the command's.
///
///     minirunc exec --tty mybox sh
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Exec {
    #[command(flatten)]
    subject: Subject,
    /// The command and its arguments
    #[arg(
        trailing_var_arg = true,
        required_unless_present = "process",
        conflicts_with = "process"
    )]
    command: Vec<String>,
    /// A file with the process as a configuration has it, instead of a command
    /// and the options for one
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    /// A unix socket that takes the master of the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Leave the process in the background
    #[arg(short, long)]
    detach: bool,
    /// Write the process's pid to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Pass on so many descriptors, from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

/// What differs from the container's first process.
#[derive(Debug, Args, Default)]
struct Changes {
    /// The directory to start in
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set a variable of the environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Who runs it, in numbers
    #[arg(short, long, value_name = "UID[:GID]", value_parser = parse_user)]
    user: Option<Ids>,
    /// One more group, by its number
    #[arg(short = 'g', long, value_name = "GID", value_parser = parse_id)]
    additional_gids: Vec<u32>,
    /// One more capability
    #[arg(short, long, value_name = "CAPABILITY", value_parser = parse_capability)]
    cap: Vec<Capability>,
    /// Let it gain no privileges by execve(2)
    #[arg(long)]
    no_new_privs: bool,
    /// Its SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// Its AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
}

impl Exec {
    pub(crate) fn run(self, runtime: &Runtime) -> Result<u8> {
        let container = runtime.open(&self.subject.id)?;
        let process = match &self.process {
            Some(file) => read_process(file)?,
            None => {
                let spec = container.spec()?;
                let first = spec.process().as_ref();
                let first =
                    first.context("process: it is missing in the container's configuration")?;
                let process = self.changes.applied_to(first, self.command);
                check_process(&process)?;
                process
            }
        };
        let terminal = process.terminal() == Some(true);
        check_terminal(terminal, self.detach, self.console_socket.is_some())?;
        let settings = Settings {
            pid_file: self.pid_file,
            console_socket: self.console_socket,
            preserve_fds: self.preserve_fds,
            ..Settings::default()
        };
        let running = container.exec(&process, &settings)?;
        if self.detach {
            running.abandon();
            return Ok(0);
        }
        let signals = Signals::hold()?;
        // Others may want to do something with it meanwhile.
        drop(container);
        running.wait(&signals)
    }
}

impl Changes {
    fn applied_to(self, first: &Process, command: Vec<String>) -> Process {
        let mut process = first.clone();
        let env = [process.env().clone().unwrap_or_default(), self.env].concat();
        process.set_args(Some(command));
        process.set_env(Some(env));
        process.set_terminal(Some(self.tty));
        if let Some(cwd) = self.cwd {
            process.set_cwd(cwd);
        }
        if let Some(ids) = self.user {
            let mut user = User::default();
            user.set_uid(ids.uid)
                .set_gid(ids.gid)
                .set_umask(first.user().umask());
            process.set_user(user);
        }
        if !self.additional_gids.is_empty() {
            let groups = process
                .user_mut()
                .additional_gids_mut()
                .get_or_insert_default();
            groups.extend(self.additional_gids);
        }
        if !self.cap.is_empty() {
            let capabilities = more_capabilities(first.capabilities().as_ref(), &self.cap);
            process.set_capabilities(Some(capabilities));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        if self.process_label.is_some() {
            process.set_selinux_label(self.process_label);
        }
        if self.apparmor.is_some() {
            process.set_apparmor_profile(self.apparmor);
        }
        process
    }
}

/// Never inheritable ones: a program with file capabilities of its own would
/// turn them into more than it was given (CVE-2022-29162).
fn more_capabilities(first: Option<&LinuxCapabilities>, more: &[Capability]) -> LinuxCapabilities {
    // Not the default, which has some.
    let mut sets = first.cloned().unwrap_or_else(no_capabilities);
    let with_more = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(more);
        Some(set)
    };
    sets.set_bounding(with_more(sets.bounding()));
    sets.set_effective(with_more(sets.effective()));
    sets.set_permitted(with_more(sets.permitted()));
    sets
}

fn no_capabilities() -> LinuxCapabilities {
    let none = Capabilities::new;
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(none()))
        .set_effective(Some(none()))
        .set_permitted(Some(none()))
        .set_inheritable(Some(none()))
        .set_ambient(Some(none()));
    sets
}

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ids {
    uid: u32,
    gid: u32,
}

/// Digits and one colon, and nothing else: a name or a number that is half
/// understood would be somebody else (CVE-2026-30892). No group is group 0.
fn parse_user(text: &str) -> Result<Ids> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    Ok(Ids {
        uid: parse_id(uid)?,
        gid: parse_id(gid)?,
    })
}

fn parse_id(text: &str) -> Result<u32> {
    ensure!(
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
        "{text:?} is no number"
    );
    let id = text
        .parse()
        .with_context(|| format!("{text} is too great for an id"))?;
    ensure!(id != u32::MAX, "{text} is the kernel's word for none");
    Ok(id)
}

fn parse_capability(text: &str) -> Result<Capability> {
    serde_json::from_value(Value::from(text)).context("there is no such capability")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_given_in_numbers_and_nothing_else() {
        assert_eq!(parse_user("0").ok(), Some(Ids { uid: 0, gid: 0 }));
        assert_eq!(parse_user("1000:7").ok(), Some(Ids { uid: 1000, gid: 7 }));
        for text in [
            "",
            ":",
            "1000:",
            ":7",
            "root",
            "1000x",
            "1000:7x",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1:2:3",
            "0x10",
            "4294967295",
            "4294967296",
            "1000,7",
            "1:-1",
            "99999999999999999999",
        ] {
            assert!(parse_user(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_given_is_as_for_the_first_process() {
        let mut first = Process::default();
        first.set_terminal(Some(true)).set_cwd("/srv".into());
        first
            .user_mut()
            .set_uid(7)
            .set_additional_gids(Some(vec![8]));
        let changes = Changes {
            env: vec!["A=b".to_owned()],
            additional_gids: vec![9],
            ..Changes::default()
        };
        let process = changes.applied_to(&first, vec!["id".to_owned()]);
        assert_eq!(process.args(), &Some(vec!["id".to_owned()]));
        assert_eq!(process.terminal(), Some(false));
        assert_eq!(process.cwd(), first.cwd());
        assert_eq!(process.user().uid(), 7);
        assert_eq!(process.user().additional_gids(), &Some(vec![8, 9]));
        assert_eq!(
            process
                .env()
                .as_deref()
                .and_then(<[_]>::last)
                .map(String::as_str),
            Some("A=b")
        );
        assert_eq!(process.capabilities(), first.capabilities());
    }

    #[test]
    fn one_more_capability_is_never_inheritable() {
        let sets = more_capabilities(None, &[Capability::SysPtrace]);
        let only = Capabilities::from([Capability::SysPtrace]);
        assert_eq!(sets.bounding(), &Some(only.clone()));
        assert_eq!(sets.permitted(), &Some(only));
        assert_eq!(sets.inheritable(), &Some(Capabilities::new()));
        assert_eq!(sets.ambient(), &Some(Capabilities::new()));
    }
}
