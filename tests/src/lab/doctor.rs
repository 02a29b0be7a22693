//! `cargo lab doctor`: whether the steps run on this machine, and if not, what helps.
//!
//! What can be tried is tried, in a child with namespaces of its own that is gone a moment later;
//! only the rest is read. The steps' own leaves do the trying, so that what works here works there.

mod finding;
mod images;
mod isolation;
mod limits;
mod machine;
mod network;
mod tools;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use namespaces::{Isolation, Signals};
use nix::sched::CloneFlags;
use nix::unistd::{User, geteuid};
use serde_json::json;

use finding::{Finding, Grade, wrapped};

use crate::terminal::{WIDTH, say};

/// Looks, tells, and answers the exit status.
pub fn run(json: Option<&Path>) -> Result<u8> {
    let caller = Caller::find()?;
    let mut findings = machine::examine();
    findings.extend(isolation::examine(&caller)?);
    findings.extend(limits::examine()?);
    findings.extend(network::examine(&caller));
    findings.extend(images::examine(&caller));
    findings.extend(tools::examine());
    machine::blame_the_container(&mut findings);
    if let Some(path) = json {
        write_json(path, &caller, &findings)?;
    }
    let fails = findings.iter().any(|finding| finding.grade == Grade::Fails);
    say(&finding::page(&findings));
    for line in wrapped(&verdict(&caller.name, &findings), WIDTH) {
        say(&finding::coloured(fails.into(), &line));
    }
    Ok(if fails { 2 } else { 0 })
}

/// Who asks.
struct Caller {
    /// As the steps see it: whether they do without a user namespace.
    privileged: bool,
    /// `root`, or a user's name.
    name: String,
    dirs: Result<Dirs>,
    signals: Signals,
}

impl Caller {
    fn find() -> Result<Caller> {
        let privileged = namespaces::is_privileged()?;
        let uid = geteuid();
        let user = User::from_uid(uid).ok().flatten();
        Ok(Caller {
            privileged,
            name: user.map_or_else(|| format!("uid {uid}"), |user| user.name),
            dirs: Dirs::of_caller(privileged),
            signals: Signals::hold()?,
        })
    }

    /// Does `work` in a child that has `namespaces` of its own, and a user namespace where the steps
    /// would take one. Answers the status that `work` returns.
    fn attempt(&self, namespaces: CloneFlags, work: impl Fn() -> Result<u8>) -> Result<u8> {
        let isolation = Isolation {
            namespaces,
            ..Isolation::users_only()?
        };
        self.attempt_in(&isolation, work)
    }

    fn attempt_in(&self, isolation: &Isolation, work: impl Fn() -> Result<u8>) -> Result<u8> {
        let child = namespaces::spawn(isolation, |_| work())?;
        let status = child.release(&self.signals)?.wait(&self.signals)?;
        ensure!(status < 125, "the child ended with status {status}");
        Ok(status)
    }
}

/// Plainly, which steps run, and what does not.
fn verdict(name: &str, findings: &[Finding]) -> String {
    let broken = findings.iter().filter_map(|finding| finding.breaks).min();
    let steps = match broken {
        None => format!("Steps 1 to 5 run here as {name}."),
        Some(..=1) => format!("The steps do not run here as {name}: see what fails above."),
        Some(2) => format!("Only step 1 runs here as {name}: see what fails above."),
        Some(first) => format!(
            "Steps 1 to {} run here as {name}, and no later one: see what fails above.",
            first - 1
        ),
    };
    let mut lost: Vec<&str> = findings.iter().filter_map(|finding| finding.lost).collect();
    lost.dedup();
    match lost.as_slice() {
        [] => steps,
        _ if broken == Some(1) => steps,
        lost => format!("{steps} Not here: {}.", lost.join("; ")),
    }
}

fn write_json(path: &Path, caller: &Caller, findings: &[Finding]) -> Result<()> {
    let fails = findings.iter().any(|finding| finding.grade == Grade::Fails);
    let report = json!({
        "user": caller.name,
        "privileged": caller.privileged,
        "fit": !fails,
        "verdict": verdict(&caller.name, findings),
        "findings": findings,
    });
    let text = serde_json::to_string_pretty(&report)? + "\n";
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
