//! Grading in the virtual machine.
//!
//! There this same program grades, from a directory that only root can read.
//! The submission is root of a user namespace there, and so nobody: it cannot
//! open the serial port through which the results come.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::report::Graded;
use super::submission::{Submission, interpreter};
use super::trial::Problem;
use super::{Wanted, tell_all};
use crate::call::call;
use crate::system::{Freight, find};
use crate::vm;

/// Where the grader lies in the machine.
const PLACE: &str = "/root/grade";

/// How long booting takes, at most.
const BOOT: u64 = 120;

/// Runs the checks in a virtual machine, and tells of each when it is done.
pub fn grade(
    submission: &Submission,
    seed: u64,
    wanted: &[Wanted],
    budget: u64,
    tell: &mut dyn FnMut(Graded),
) {
    let start = Instant::now();
    let mut left = wanted.to_vec();
    let booted = boot(submission, seed, wanted, budget, &mut |line| {
        let Ok(graded) = serde_json::from_str::<Graded>(line) else {
            return;
        };
        left.retain(|(_, check)| check.id != graded.id);
        tell(graded);
    });
    let why = match booted {
        Err(error) => format!("the virtual machine: {error:#}"),
        Ok(_) if left.is_empty() => return,
        Ok(status) => format!(
            "the grader in the virtual machine ended with status {status} after {} s",
            start.elapsed().as_secs()
        ),
    };
    let problem = Problem::Impossible {
        why,
        fix: "`cargo lab vm -- true` shows whether the virtual machine starts".to_owned(),
    };
    tell_all(&left, submission, &problem, tell);
}

fn boot(
    submission: &Submission,
    seed: u64,
    wanted: &[Wanted],
    budget: u64,
    tell: &mut dyn FnMut(&str),
) -> Result<u8> {
    let freight = freight(submission)?;
    let only: Vec<&str> = wanted.iter().map(|(_, check)| check.id).collect();
    let script = format!(
        "stty -F /dev/ttyS3 raw -echo\n\
         {PLACE}/lab check {} --bin {PLACE}/submission --seed {seed} --only {} --budget {budget} \
         --stream /dev/ttyS3 </dev/null >/dev/null 2>/dev/ttyS0; status=$?\n",
        submission.step,
        only.join(","),
    );
    vm::boot(
        &freight,
        &script,
        Some(Duration::from_secs(budget + BOOT)),
        tell,
    )
}

/// The grader, the submission, and what that needs to run.
fn freight(submission: &Submission) -> Result<Freight> {
    let build = crate::build_dir()?;
    let at = |name: &str| Path::new(PLACE).join(name);
    let mut freight = Freight {
        private: vec![
            (build.join("lab"), at("lab")),
            (build.join("machine"), at("machine")),
            (submission.path.clone(), at("submission")),
        ],
        ..Freight::default()
    };
    let head = fs::read(&submission.path)
        .with_context(|| format!("read {}", submission.path.display()))?;
    if let Some(words) = interpreter(&head) {
        take_interpreter(&words, &mut freight)?;
    }
    Ok(freight)
}

/// A script's interpreter: the one that env(1) finds, where it asks that.
fn take_interpreter(words: &[PathBuf], freight: &mut Freight) -> Result<()> {
    let path = match words {
        [env, name, ..] if env.ends_with("env") => {
            let name = name.to_string_lossy();
            freight.programs.push(env.clone());
            find(&name).with_context(|| {
                format!("the script wants {name}, which is in none of the system's directories")
            })?
        }
        [path, ..] => path.clone(),
        [] => bail!("the script's first line names no interpreter"),
    };
    let real = path.canonicalize().unwrap_or_else(|_| path.clone());
    let name = real
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if name.starts_with("python") {
        freight.directories = python_library(&path)?;
    } else if !["sh", "bash", "dash", "busybox"].contains(&name.as_str()) {
        eprintln!(
            "lab: {} is taken into the virtual machine with the libraries that it is linked to; \
             its modules and other files are not",
            path.display()
        );
    }
    freight.programs.push(path);
    Ok(())
}

/// Python's own modules; those that somebody installed stay here.
fn python_library(python: &Path) -> Result<Vec<PathBuf>> {
    let ask = "import sysconfig; print(sysconfig.get_path('stdlib'))";
    let dir = PathBuf::from(call(Command::new(python).args(["-I", "-c", ask]))?);
    if !dir.is_dir() {
        bail!("{} has no library at {}", python.display(), dir.display());
    }
    Ok(vec![dir])
}
