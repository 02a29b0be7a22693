//! Programs of the caller's, run at six moments of a container's life
//! (runtime-spec, config.md#posix-platform-hooks).
//!
//! A hook reads the container's state on standard input. What it prints is
//! nobody's, but for standard error, which becomes part of our sentence where
//! the hook fails. It has as long as its `timeout` says, and is then killed
//! with all that it started.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::{Hook, State};
use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// poll(2) counts in whole milliseconds, and must not wake up before the time.
const ROUND_UP: Duration = Duration::from_millis(1);

/// So much of a hook's complaint is told.
const LONGEST: usize = 4096;

/// Runs the hooks in their order, and stops at the first that fails. `what` is
/// their name in the configuration, as `createRuntime`.
pub(crate) fn run(hooks: &[Hook], what: &str, state: &State) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, what, state)
            .with_context(|| format!("hooks.{what}[{index}]: {}", hook.path().display()))?;
    }
    Ok(())
}

fn run_one(hook: &Hook, what: &str, state: &State) -> Result<()> {
    let mut command = command(hook);
    // A hook for the start is run in the container, where there is no bundle.
    if what != "startContainer" {
        command.current_dir(state.bundle());
    }
    let mut child = command
        .stdin(told(state)?)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // To be killed as a whole.
        .process_group(0)
        .spawn()
        .context("start it")?;
    let limit = hook
        .timeout()
        .and_then(|seconds| u64::try_from(seconds).ok());
    let (status, complaint) = attend(&mut child, limit.map(Duration::from_secs))?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{}{complaint}", how_ended(status)),
        None => bail!(
            "it was killed after its timeout of {} s{complaint}",
            limit.unwrap_or_default()
        ),
    }
}

/// Arguments and environment are the hook's own, and none of ours.
fn command(hook: &Hook) -> Command {
    let mut command = Command::new(hook.path());
    if let Some([name, args @ ..]) = hook.args().as_deref() {
        command.arg0(name).args(args);
    }
    let env = hook.env().iter().flatten();
    command
        .env_clear()
        .envs(env.filter_map(|variable| variable.split_once('=')));
    command
}

/// The state as a file without a name: unlike a pipe it never waits for a hook
/// that does not read.
fn told(state: &State) -> Result<File> {
    let file = memfd_create("state", MemfdFlags::CLOEXEC).context("keep the state for it")?;
    let mut file = File::from(file);
    file.write_all(&serde_json::to_vec(state)?)
        .and_then(|()| file.rewind())
        .context("write the state for it")?;
    Ok(file)
}

/// Waits for the hook's end, and hears its complaints meanwhile. No status
/// means that its time was over.
fn attend(child: &mut Child, limit: Option<Duration>) -> Result<(Option<ExitStatus>, String)> {
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let pid = Pid::from_child(child);
    let process = pidfd_open(pid, PidfdFlags::empty()).context("watch it")?;
    let mut errors = child.stderr.take();
    if let Some(errors) = &errors {
        fcntl_setfl(errors, OFlags::NONBLOCK).context("listen to it")?;
    }
    let mut complaint = Vec::new();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let in_time = left != Some(Duration::ZERO);
        if !in_time {
            // All that it started, too; it fails only where nobody is left.
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let mut waiting = vec![PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let errors_fd = errors.as_ref().map(AsFd::as_fd);
        waiting.extend(errors_fd.map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        let timeout = left.filter(|_| in_time).map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left + ROUND_UP).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait for it"),
        }
        let ended = waiting.first().and_then(PollFd::any) == Some(true);
        if errors
            .as_mut()
            .is_some_and(|pipe| hear(pipe, &mut complaint))
        {
            errors = None;
        }
        if ended {
            let status = child.wait().context("wait for it")?;
            return Ok((Some(status).filter(|_| in_time), sentence(&complaint)));
        }
    }
}

/// Takes what the hook has written, and keeps its beginning. True at the end.
fn hear(pipe: &mut ChildStderr, complaint: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return true,
            Ok(length) => {
                let room = LONGEST.saturating_sub(complaint.len());
                complaint.extend(buffer.iter().take(length.min(room)));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// `: ` and the complaint on one line, or nothing.
fn sentence(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.join("; ") {
        none if none.is_empty() => none,
        some => format!(": {some}"),
    }
}

fn how_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with status {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use oci_spec::runtime::{HookBuilder, StateBuilder};

    use super::*;

    fn hook(script: &str) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned);
        HookBuilder::default()
            .path("/bin/sh")
            .args(args)
            .env(["A=b=c".to_owned()])
            .timeout(5)
            .build()
            .expect("a hook")
    }

    fn run_script(script: &str) -> Result<()> {
        run_hook(hook(script))
    }

    fn run_hook(hook: Hook) -> Result<()> {
        let state = StateBuilder::default().id("box").bundle("/usr");
        let state = state.build().expect("a state");
        run(&[hook], "prestart", &state)
    }

    fn error_of(script: &str) -> String {
        format!("{:#}", run_script(script).expect_err(script))
    }

    #[test]
    fn a_hook_reads_the_state_in_the_bundle_and_has_its_own_environment() {
        let script = r#"read state
            case $state in *'"id":"box"'*) ;; *) echo "$state" >&2; exit 1; esac
            [ "$A" = b=c ] && [ "$PWD" = /usr ] && [ -z "$HOME$CARGO" ]"#;
        run_script(script).expect(script);
    }

    #[test]
    fn a_hook_that_reads_nothing_and_prints_much_is_no_trouble() {
        run_script("yes | head -c 1000000; yes | head -c 1000000 >&2").expect("a hook");
    }

    #[test]
    fn what_a_failed_hook_says_is_told() {
        let error = error_of("echo a; echo b >&2; echo c >&2; exit 3");
        assert_eq!(
            error,
            "hooks.prestart[0]: /bin/sh: it ended with status 3: b; c"
        );
        assert!(error_of("kill -9 $$").ends_with("it was ended by signal 9"));
    }

    #[test]
    fn a_hook_that_is_missing_is_named() {
        let mut missing = hook("");
        missing.set_path(Path::new("/no/such/hook").to_owned());
        let error = format!("{:#}", run_hook(missing).expect_err("it is missing"));
        assert_eq!(
            error,
            "hooks.prestart[0]: /no/such/hook: start it: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_slow_hook_is_killed_with_what_it_started() {
        let mut slow = hook("sleep 31.4159 & sleep 31.4159");
        slow.set_timeout(Some(1));
        let begun = Instant::now();
        let error = format!("{:#}", run_hook(slow).expect_err("it is slow"));
        assert!(
            error.ends_with("it was killed after its timeout of 1 s"),
            "{error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(25));
        let lives = || {
            let mut found = Command::new("pgrep");
            found
                .args(["-f", "^sleep 31.4159"])
                .status()
                .expect("pgrep")
                .success()
        };
        // Who is killed is there until it is its turn to die.
        while lives() {
            assert!(
                begun.elapsed() < Duration::from_secs(25),
                "a child of the hook lives on"
            );
        }
    }

    #[test]
    fn what_a_hook_leaves_running_is_not_waited_for() {
        let begun = Instant::now();
        run_script("sleep 60 & exit 0").expect("a hook");
        assert!(begun.elapsed() < Duration::from_secs(50));
    }
}
