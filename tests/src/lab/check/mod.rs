//! `cargo lab check`: grades any executable that honours the CLI contract.
//!
//! ```text
//! check ── machine 1 (apart) ── BIN run … ── container      one machine per check, two at once
//!    │  └─ machine 2 (apart) ── BIN run … ── container
//!    └──── looks: what it printed · /proc/PID/ns, mountinfo, cgroupfs · the machine afterwards
//! ```
//!
//! # How to write a check
//!
//! A check is a row in its step's table (step01.rs and so on) and a function.
//! The function gets a [`Trial`]: a fresh machine with the submission on it,
//! and chance. It says what must hold, and `?` ends it at the first thing that
//! does not:
//!
//! ```ignore
//! /// The name comes back, and the machine keeps its own.
//! fn hostname(t: &Trial) -> Found {
//!     let name = t.word();
//!     t.run(&["--hostname", &name], &["hostname"])?.prints(&name)?;
//!     same("the machine's own hostname", "laptop", &t.machine("hostname")?)
//! }
//! ```
//!
//! - **Run** the submission by [`Trial::run`] (options, command), by
//!   [`Trial::shell`] (options, script), or by [`Trial::container`], which also
//!   knows `.as_student()`, `.fed(bytes)`, `.arguments(bytes)` and `.start(…)`
//!   for a container to look at while it runs; [`Trial::call`] takes all words
//!   (`load FILE`). From step 5 on `run` gets an image by itself.
//! - **Look** at an [`Output`](program::Output) by `.prints(text)`,
//!   `.exits(code)`, `.text()`; at a running one by `.until(text)`, `.process()`
//!   (a pid for `/proc`), `.signal(…)`; at the machine by [`Trial::machine`], a
//!   shell script, [`Trial::outside`], the same in the network outside, and
//!   [`Trial::path`], a file of the machine as this process opens it.
//! - **Say** what is wrong by [`same`], [`ensure`] or [`failed`]. What was run
//!   is remembered. "Not done yet" is found in what the submission prints.
//! - **Chance** ([`Trial::word`], [`Trial::number`], [`Trial::pick`]) decides on every name, number
//!   and content, so that a printed answer cannot pass. `--seed` repeats it.
//! - **Afterwards**: `let before = t.snapshot();` … `t.unchanged(&before)`.
//! - What a check [`Need`]s of a machine stands in its row.
//!
//! A step's points make 100. A check that is named for a task fails as long as
//! that task is not done, and only then, as far as this is possible.

mod program;
mod random;
mod report;
mod step01;
mod step02;
mod submission;
mod trial;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use program::Output;
pub use report::Report;
pub use trial::{Found, Trial, ensure, failed, same};

use report::{Graded, Status, Terminal};
use submission::Submission;
use trial::Problem;

/// The checks of all steps, in the order in which they are learned.
const STEPS: &[Step] = &[step01::STEP, step02::STEP];

/// One step's checks.
pub struct Step {
    pub number: u8,
    pub title: &'static str,
    pub checks: &'static [Check],
}

/// One thing that must hold.
pub struct Check {
    /// A name for `--only` and the reports.
    pub id: &'static str,
    /// The task that it tells about, `01.4`.
    pub task: Option<&'static str>,
    /// Of the step's 100.
    pub points: u32,
    /// What holds when it passes.
    pub title: &'static str,
    /// Where to look when it fails, without the answer.
    pub hint: &'static str,
    pub needs: &'static [Need],
    pub run: fn(&Trial) -> Found,
}

/// What not every machine has, or not every step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A second network, "outside": 192.0.2.2, beside the machine's 192.0.2.1.
    Outside,
    /// The controllers cpu, memory and pids of cgroup v2.
    Controllers,
    /// The option `--rootfs`, which step 5 gives up for images.
    RootfsOption,
}

/// What to grade, and where to write the result.
#[derive(clap::Args)]
pub struct Options {
    /// The step [default: that of the workspace one is in]
    step: Option<u8>,
    /// The program to grade [default: the workspace's own build of the step]
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Run only the checks of this task (02.3) or of this name
    #[arg(long, value_name = "TASK|CHECK")]
    only: Option<String>,
    /// Repeat the names, numbers and contents of an earlier run
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Write the result as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the result as Gradescope's results.json
    #[arg(long, value_name = "FILE")]
    gradescope: Option<PathBuf>,
    /// Begin no check after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    budget: u64,
}

/// Grades; the exit status is 0 when all passed, 1 when some failed, 2 when
/// some could not be run.
pub fn run(options: &Options) -> Result<u8> {
    let submission = Submission::find(options.step, options.bin.as_deref())?;
    let seed = options.seed.unwrap_or_else(random::seed);
    let wanted = wanted(submission.step, options.only.as_deref())?;
    let mut terminal = Terminal::new(options.json.as_deref());
    let mut report = Report::new(&submission, seed);
    terminal.opening(&report);
    let start = Instant::now();
    match submission.refusal()? {
        Some(why) => {
            terminal.refused(&why);
            report.refuse(&wanted, &why);
        }
        None => grade(&submission, seed, &wanted, options.budget, &mut |graded| {
            terminal.check(&graded);
            report.checks.push(graded);
        }),
    }
    report.close(start.elapsed());
    terminal.summary(&report);
    report.write(options)?;
    Ok(report.exit_status())
}

/// The checks of all steps up to this one, or those of them that `only` names.
fn wanted(step: u8, only: Option<&str>) -> Result<Vec<(&'static Step, &'static Check)>> {
    if !STEPS.iter().any(|known| known.number == step) {
        bail!("there are no checks of step {step}");
    }
    let named =
        |check: &Check| only.is_none_or(|only| only == check.id || Some(only) == check.task);
    let applies = |check: &Check| step < 5 || !check.needs.contains(&Need::RootfsOption);
    let steps = STEPS.iter().filter(|known| known.number <= step);
    let checks: Vec<_> = steps
        .flat_map(|step| step.checks.iter().map(move |check| (step, check)))
        .filter(|(_, check)| named(check) && applies(check))
        .collect();
    if checks.is_empty() {
        bail!(
            "no check of steps 1 to {step} is called {}; tasks are called 02.3, and the names of \
             all checks are in what --json writes",
            only.unwrap_or_default()
        );
    }
    Ok(checks)
}

/// Runs the checks, several at once, and tells of each in their order.
fn grade(
    submission: &Submission,
    seed: u64,
    wanted: &[(&'static Step, &'static Check)],
    budget: u64,
    tell: &mut dyn FnMut(Graded),
) {
    // A panic in a check is a verdict of that check and no more.
    std::panic::set_hook(Box::new(|_| {}));
    let end = Instant::now() + Duration::from_secs(budget);
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(4);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::<Option<Graded>>::new());
    results
        .lock()
        .expect("nobody panicked")
        .resize_with(wanted.len(), || None);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((step, check)) = wanted.get(at) else {
                        break;
                    };
                    let graded = try_out(submission, seed, step, check, end);
                    if sender.send((at, graded)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = std::collections::BTreeMap::new();
        let mut told = 0;
        for (at, graded) in receiver {
            waiting.insert(at, graded);
            while let Some(graded) = waiting.remove(&told) {
                tell(graded);
                told += 1;
            }
        }
    });
    drop(std::panic::take_hook());
}

/// Runs one check on a machine of its own.
fn try_out(submission: &Submission, seed: u64, step: &Step, check: &Check, end: Instant) -> Graded {
    let start = Instant::now();
    let mut graded = Graded::of(step, check, submission.step);
    if start > end {
        graded.status = Status::CannotRun;
        graded.saw = "the time for all checks was over".to_owned();
        graded.hint = "give more by --budget SECONDS, or see which check takes so long".to_owned();
        return graded;
    }
    let trial = match Trial::new(submission, random::mixed(seed, check.id), check.needs) {
        Ok(trial) => trial,
        Err(problem) => return graded.with(problem, Vec::new(), start),
    };
    let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (check.run)(&trial)));
    let found = attempt.unwrap_or_else(|panic| {
        let why = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no reason given");
        Err(Problem::Impossible {
            why: format!("the check itself stumbled: {why}"),
            fix: "run it again; if it stays so, tell the instructor".to_owned(),
        })
    });
    let ran = trial.ran();
    drop(trial);
    match found {
        Ok(()) => graded.passed(ran, start),
        Err(problem) => graded.with(problem, ran, start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_step_is_worth_a_hundred_points() {
        for step in STEPS {
            let sum: u32 = step.checks.iter().map(|check| check.points).sum();
            assert_eq!(sum, 100, "step {}", step.number);
        }
    }

    #[test]
    fn names_are_unique_and_tasks_are_of_their_step() {
        let mut names = BTreeSet::new();
        for step in STEPS {
            for check in step.checks {
                assert!(names.insert(check.id), "{} is there twice", check.id);
                let task = check.task.unwrap_or_default();
                assert!(
                    task.is_empty() || task.starts_with(&format!("{:02}.", step.number)),
                    "{}: {task}",
                    check.id
                );
                assert!(check.title.len() <= 52, "{}: {}", check.id, check.title);
            }
        }
    }
}
