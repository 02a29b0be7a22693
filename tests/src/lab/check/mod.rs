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
//!   knows `.as_student()`, `.fed(bytes)`, `.holding(file)` and
//!   `.arguments(bytes)`, and for a container to look at while it runs
//!   `.start(command)` and `.asleep()`, which finds its command's pid as well;
//!   [`Trial::call`] takes all words (`load FILE`). From step 5 on `run` gets an
//!   image by itself.
//! - **Look** at an [`Output`](program::Output) by `.prints(text)`,
//!   `.exits(code)`, `.explains()`, `.text()`; at a running one by `.until(text)`
//!   and `.signal(…)`; at a pid by `namespace`, `mounts`, `owner` and
//!   `ids_inside`; at the machine by [`Trial::machine`], a shell script, and by
//!   [`Trial::path`], a file of the machine as this process opens it.
//! - **Say** what is wrong by [`same`], [`ensure`] or [`failed`]. What was run
//!   is remembered. "Not done yet" is found in what the submission prints.
//! - **Chance** ([`Trial::word`], [`Trial::number`], [`Trial::pick`]) decides on
//!   every name, number and content, so that a printed answer cannot pass. `--seed` repeats it.
//! - **Afterwards**: `let before = t.snapshot();` … `t.unchanged(&before)`.
//! - What a check [`Need`]s of a machine stands in its row.
//!
//! # Whom a check trusts
//!
//! Nobody on the machine: the submission is root there. It prints what it
//! likes, and it may change whatever a later command on the machine finds. So
//! what counts is looked at from outside, through `/proc/PID`, and nothing that
//! it prints is a result. The machine is in a user namespace whose root is
//! nobody outside, and the real machine's files are read-only in it unless
//! somebody goes to the trouble of remounting them. What any user of the real
//! machine can read and reach, it can too; `--vm` leaves it nothing to reach.
//!
//! A step's points make 100. A check that is named for a task fails as long as
//! that task is not done, and only then, as far as this is possible.

mod image;
mod program;
mod random;
mod report;
mod step01;
mod step02;
mod step03;
mod step04;
mod step05;
mod submission;
mod talk;
mod trial;
mod virtually;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use report::{Graded, Report, Status};
pub use trial::{Found, Trial, ensure, failed, same};

use crate::tasks::TaskId;
use crate::vm;
use report::Terminal;
use submission::Submission;
use trial::Problem;

/// The checks of all steps, in the order in which they are learned.
const STEPS: &[Step] = &[
    step01::STEP,
    step02::STEP,
    step03::STEP,
    step04::STEP,
    step05::STEP,
];

/// One step's checks.
pub struct Step {
    pub number: u8,
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
    /// Run only the checks of this task (2.3) or of this name
    #[arg(long, value_name = "TASK|CHECK", value_delimiter = ',')]
    only: Vec<String>,
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
    /// Grade in a virtual machine, out of reach of everything on this one
    #[arg(long)]
    vm: bool,
    /// Tell of each check at once, as a line of JSON
    #[arg(long, value_name = "FILE", hide = true)]
    stream: Option<PathBuf>,
    /// Begin no check after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    budget: u64,
}

/// The hint where what was handed in cannot be run.
const NO_PROGRAM: &str = "--bin is the path of an executable file, a binary or a script that begins \
                          with #!; the book's page on the contract says what it must do";

/// Grades; the exit status is 0 when all passed, 1 when some failed, 2 when
/// some of the step's own could not be run.
pub fn run(options: &Options) -> Result<u8> {
    let submission = Submission::find(options.step, options.bin.as_deref())?;
    let seed = options.seed.unwrap_or_else(random::seed);
    let wanted = wanted(submission.step, &options.only)?;
    let mut stream = options.stream.as_deref().map(open_stream).transpose()?;
    let mut terminal = Terminal::new(options.json.as_deref());
    let mut report = Report::new(&submission, seed);
    terminal.opening(&report);
    let start = Instant::now();
    let mut tell = |graded: Graded| {
        if let Some(stream) = &mut stream {
            serde_json::to_writer(&mut *stream, &graded).ok();
            writeln!(stream).ok();
        }
        terminal.check(&graded);
        report.checks.push(graded);
    };
    if let Some(why) = submission.refusal()? {
        // What a check hints at is no help to who has no program yet.
        let mut tell = |graded: Graded| {
            let hint = NO_PROGRAM.to_owned();
            tell(Graded { hint, ..graded });
        };
        tell_all(&wanted, &submission, &Problem::unusable(&why), &mut tell);
    } else if options.vm {
        virtually::grade(&submission, seed, &wanted, options.budget, &mut tell);
    } else {
        natively(&submission, seed, &wanted, options.budget, &mut tell);
    }
    // What ran in a virtual machine came last.
    let place = |graded: &Graded| wanted.iter().position(|(_, check)| check.id == graded.id);
    report.checks.sort_by_key(place);
    report.close(start.elapsed());
    terminal.summary(&report);
    report.write(options)?;
    Ok(report.exit_status())
}

fn open_stream(path: &Path) -> Result<File> {
    let file = File::options().append(true).create(true).open(path);
    file.with_context(|| format!("open {}", path.display()))
}

/// Grades on this machine, but for what needs more than it has.
fn natively(
    submission: &Submission,
    seed: u64,
    wanted: &[Wanted],
    budget: u64,
    tell: &mut dyn FnMut(Graded),
) {
    let probe = Trial::new(submission, 0, &[]);
    let controllers = match &probe {
        Err(problem) => return tell_all(wanted, submission, problem, tell),
        Ok(trial) => trial.has_controllers().is_ok(),
    };
    drop(probe);
    let elsewhere = |(_, check): &Wanted| {
        check.needs.contains(&Need::Controllers)
            && !controllers
            && !harness::in_the_vm()
            && vm::is_possible()
    };
    let (there, here): (Vec<Wanted>, Vec<Wanted>) = wanted.iter().partition(|one| elsewhere(one));
    // A machine is not booted for what brings no points: that is asked for.
    let (own, earlier): (Vec<Wanted>, Vec<Wanted>) = there
        .into_iter()
        .partition(|(step, _)| step.number == submission.step);
    tell_all(&earlier, submission, &Problem::not_repeated(), tell);
    grade(submission, seed, &here, budget, tell);
    if !own.is_empty() {
        virtually::grade(submission, seed, &own, budget, tell);
    }
}

/// Gives every check the same verdict, because none can be run.
fn tell_all(
    wanted: &[Wanted],
    submission: &Submission,
    problem: &Problem,
    tell: &mut dyn FnMut(Graded),
) {
    for (step, check) in wanted {
        let graded = Graded::of(step, check, submission.step);
        tell(graded.with(problem.clone(), Vec::new(), Instant::now()));
    }
}

/// A check, and the step that it belongs to.
type Wanted = (&'static Step, &'static Check);

/// The checks of all steps up to this one, or those of them that `only` names.
fn wanted(step: u8, only: &[String]) -> Result<Vec<Wanted>> {
    // A task may be written 2.3 or 02.3, as everywhere.
    let task = |name: &String| name.parse().map(|task: TaskId| task.to_string());
    let only: Vec<String> = only
        .iter()
        .map(|name| task(name).unwrap_or_else(|_| name.clone()))
        .collect();
    let named = |check: &Check| {
        let is = |name: &String| name == check.id || Some(name.as_str()) == check.task;
        only.is_empty() || only.iter().any(is)
    };
    let applies = |check: &Check| step < 5 || !check.needs.contains(&Need::RootfsOption);
    let steps = STEPS.iter().filter(|known| known.number <= step);
    let checks: Vec<_> = steps
        .flat_map(|step| step.checks.iter().map(move |check| (step, check)))
        .filter(|(_, check)| named(check) && applies(check))
        .collect();
    if checks.is_empty() {
        let steps = match step {
            1 => "step 1".to_owned(),
            _ => format!("steps 1 to {step}"),
        };
        bail!(
            "no check of {steps} is called {}; tasks are called 2.3, and the names of \
             all checks are in what --json writes",
            only.join(",")
        );
    }
    Ok(checks)
}

/// Runs the checks, several at once, and tells of each in their order.
fn grade(
    submission: &Submission,
    seed: u64,
    wanted: &[Wanted],
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
