//! `--runtime PATH`: another program makes the container, from the same bundle: runc, crun, and what
//! understands their command line.
//!
//! ```text
//!   shim ──▶ runc create --bundle DATA/containers/ID --pid-file …     returns; the container's first
//!    │                                                                process, an orphan, is ours
//!    ├─────▶ runc start, kill, pause, resume, exec --detach …
//!    └─────▶ runc delete --force
//! ```
//!
//! It returns before the container ends, and the process that it leaves behind becomes a child of
//! ours: the shim is a subreaper (prctl(2), `PR_SET_CHILD_SUBREAPER`). What goes wrong stands in the
//! log that it is told to write.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use cgroups::Lasting;
use namespaces::{Failure, Running};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use oci_spec::runtime::Process;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::runtime::{Bundle, Id, Settings};
use crate::state::Places;

/// Another runtime, for one container.
#[derive(Clone, Debug)]
pub(super) struct External {
    program: PathBuf,
    /// Where it keeps what it knows of its containers.
    root: PathBuf,
    /// What a reboot may forget of this one.
    run: PathBuf,
}

/// A line of its log, of which the last tells why.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    msg: String,
}

impl External {
    /// The program has a path, or a name that is looked up in `PATH`.
    pub(super) fn of(program: &Path, places: &Places) -> External {
        let name = program.file_name().unwrap_or_default();
        External {
            program: program.to_owned(),
            root: places.runtime.with_file_name("runtimes").join(name),
            run: places.run.clone(),
        }
    }

    pub(super) fn create(&self, id: &Id, bundle: &Bundle, settings: Settings) -> Result<Running> {
        ensure!(
            !settings.init,
            "--init: the init is the built-in runtime's, and {} has none",
            self.program.display()
        );
        nix::sys::prctl::set_child_subreaper(true).context("become a subreaper")?;
        let mut command = self.command("create");
        command.arg("--bundle").arg(&bundle.path);
        let born = self.give_birth(command, &self.run.join("pid"), settings, &[id.as_str()]);
        born.inspect_err(|_| {
            let _ = self.delete(id);
        })
    }

    pub(super) fn exec(&self, id: &Id, process: &Process, settings: Settings) -> Result<Running> {
        let file = self.run.join("exec.json");
        fs::write(&file, serde_json::to_vec(process)?)
            .with_context(|| format!("write {}", file.display()))?;
        let mut command = self.command("exec");
        command.arg("--detach").arg("--process").arg(&file);
        self.give_birth(
            command,
            &self.run.join("exec.pid"),
            settings,
            &[id.as_str()],
        )
    }

    pub(super) fn start(&self, id: &Id) -> Result<()> {
        self.run("start", &[id.as_str()])
    }

    pub(super) fn kill(&self, id: &Id, signal: i32, all: bool) -> Result<()> {
        let signal = signal.to_string();
        // Without a cgroup it does not know who they all are, and may not say so. But pid 1 takes
        // them with it.
        let done = match all {
            true => self.run("kill", &["--all", id.as_str(), &signal]),
            false => Ok(()),
        };
        match self.run("kill", &[id.as_str(), &signal]) {
            Err(_) if all => done,
            sent => sent,
        }
    }

    pub(super) fn pause(&self, id: &Id) -> Result<()> {
        self.run("pause", &[id.as_str()])
    }

    pub(super) fn resume(&self, id: &Id) -> Result<()> {
        self.run("resume", &[id.as_str()])
    }

    pub(super) fn delete(&self, id: &Id) -> Result<()> {
        // After a reboot there may be neither it nor its files.
        if !self.root.exists() {
            return Ok(());
        }
        self.run("delete", &["--force", id.as_str()])?;
        // Some leave it behind where they failed.
        let group = Lasting::find(Path::new(&format!("/minidocker-engine-{id}")));
        match group {
            Ok(Some(group)) => group.kill().and_then(|()| group.remove()),
            _ => Ok(()),
        }
    }

    pub(super) fn open_root(&self) -> Result<OwnedFd> {
        // Our child, which nobody but us can make vanish.
        let root = format!("/proc/{}/root", pid_in(&self.run.join("pid"))?);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&root, flags, Mode::empty()).with_context(|| format!("open {root}"))
    }

    /// Has a process made, which is then our child. It gets the streams that the program has.
    fn give_birth(
        &self,
        mut command: Command,
        pid_file: &Path,
        settings: Settings,
        last: &[&str],
    ) -> Result<Running> {
        command.arg("--pid-file").arg(pid_file);
        if let Some(socket) = &settings.console_socket {
            command.arg("--console-socket").arg(socket);
        }
        if let Some([input, output, errors]) = settings.streams {
            command.stdin(input).stdout(output).stderr(errors);
        }
        let before = children();
        let done = self.carry_out(command.args(last));
        let born = done.and_then(|()| pid_in(pid_file));
        for child in children() {
            if !before.contains(&child) && born.as_ref().ok() != Some(&child) {
                let child = Pid::from_raw(child);
                // An exec that failed: until somebody takes note of its end the container's pid
                // namespace, and so the container, cannot end (pid_namespaces(7)).
                let _ = kill(child, Signal::SIGKILL).and_then(|()| waitpid(child, None));
            }
        }
        Running::adopt(Pid::from_raw(born?))
    }

    fn run(&self, verb: &str, args: &[&str]) -> Result<()> {
        self.carry_out(self.command(verb).args(args))
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--log")
            .arg(self.log())
            .args(["--log-format", "json", verb])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn log(&self) -> PathBuf {
        self.run.join("runtime.log")
    }

    fn carry_out(&self, command: &mut Command) -> Result<()> {
        let _ = fs::remove_file(self.log());
        let program = self.program.display();
        // Where a directory of PATH is closed to us, a name that is in none is EACCES (execvp(3)).
        let is_name = self.program.components().count() == 1;
        let status = command.status().map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow!("unknown or invalid runtime name: {program}"),
            ErrorKind::PermissionDenied if is_name => {
                anyhow!("unknown or invalid runtime name: {program}")
            }
            _ => anyhow!(error).context(format!("run {program}")),
        })?;
        if status.success() {
            return Ok(());
        }
        let sentence = match self.last_words() {
            Some(words) => format!("{program}: {words}"),
            None => format!("{program} failed without a word: {status}"),
        };
        Err(Failure {
            status: exit_status(&sentence),
            sentence,
        }
        .into())
    }

    fn last_words(&self) -> Option<String> {
        let log = fs::read_to_string(self.log()).ok()?;
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let mut errors =
            lines.filter(|line| !["warning", "info", "debug"].contains(&line.level.as_str()));
        errors.next_back().map(|line| line.msg)
    }
}

/// As docker reads the runtimes' sentences: whether it is the user's command that is not there, or
/// cannot be run, or something of theirs.
fn exit_status(sentence: &str) -> u8 {
    let sentence = sentence.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| sentence.contains(word));
    match () {
        () if !says(&["exec"]) => 125,
        () if says(&["not found", "no such file or directory"]) => 127,
        () if says(&[
            "permission denied",
            "is a directory",
            "exec format error",
            "open executable",
        ]) =>
        {
            126
        }
        () => 125,
    }
}

/// Ours, adopted ones included (proc_pid_task(5)).
fn children() -> Vec<i32> {
    let list = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_whitespace().flat_map(str::parse).collect()
}

fn pid_in(file: &Path) -> Result<i32> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    text.trim()
        .parse()
        .with_context(|| format!("{} holds no pid", file.display()))
}

#[cfg(test)]
mod tests {
    use super::exit_status;

    #[test]
    fn the_runtimes_sentences_have_dockers_exit_statuses() {
        for (sentence, status) in [
            (
                "runc create failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH",
                127,
            ),
            (
                "runc create failed: unable to start container process: exec: \"/nosuch\": stat /nosuch: no such file or directory",
                127,
            ),
            (
                "runc create failed: unable to start container process: exec: \"/etc\": permission denied",
                126,
            ),
            (
                "executable file `nosuch` not found in $PATH: No such file or directory",
                127,
            ),
            ("open executable: Operation not permitted", 126),
            ("exec format error", 126),
            ("mount `proc` to `/proc`: Permission denied", 125),
            ("cannot set limits: no such file or directory", 125),
        ] {
            assert_eq!(exit_status(sentence), status, "{sentence}");
        }
    }
}
