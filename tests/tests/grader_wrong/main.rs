//! The grader is graded: programs that are right get full points, and of those
//! that are wrong about one thing each, that one thing is found.
//!
//! The grader is run as its users run it, and told from nobody what it grades.

mod compile;
mod grade;
mod wrong;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use compile::{STRICT, Steps, c_source, compile, labs};
use harness::build_dir;
use wrong::{ANYWHERE, IN_RUST, WITH_CONTROLLERS, Wrong};

/// Does `work` for each of `all`, a few at once, and panics with all that it
/// complains of.
fn for_each<T: Sync>(all: &[T], work: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let complaints = Mutex::new(String::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(complaint) = work(one) {
                        let mut complaints = complaints.lock().expect("nobody panicked");
                        writeln!(complaints, "{complaint}").expect("memory");
                    }
                }
            });
        }
    });
    let complaints = complaints.into_inner().expect("nobody panicked");
    assert!(complaints.is_empty(), "{complaints}");
}

fn step(number: u8) -> PathBuf {
    build_dir().join(format!("step{number:02}"))
}

/// Whether the checks that are meant for what is wrong fail, and fail as wrong.
fn are_caught(all: &[Wrong], program: &Path) -> Result<(), String> {
    let meant: Vec<&str> = all
        .iter()
        .filter_map(|wrong| wrong.caught_by.first())
        .copied()
        .collect();
    let step = all.first().expect("something is wrong").step;
    let report = grade::check_only(step, program, &meant);
    let failed = report.named("failed");
    let missed: Vec<&str> = all
        .iter()
        .filter(|wrong| {
            !wrong
                .caught_by
                .first()
                .is_some_and(|one| failed.contains(one))
        })
        .map(|wrong| wrong.name)
        .collect();
    match missed.is_empty() {
        true => Ok(()),
        false => Err(format!("{}: not caught: {report}", missed.join(", "))),
    }
}

#[test]
fn what_is_wrong_in_steps_1_to_4_is_found() {
    let programs: Vec<&[Wrong]> = ANYWHERE.iter().map(std::slice::from_ref).collect();
    for_each(&programs, |one| are_caught(one, &compile::wrong_c(one)));
}

/// The grader takes these into its virtual machine by itself, where this machine
/// has no controllers to lend.
#[test]
fn what_is_wrong_about_limits_is_found() {
    for_each(WITH_CONTROLLERS, |row| {
        are_caught(row, &compile::wrong_c(row))
    });
}

#[test]
fn what_is_wrong_in_step_5_is_found() {
    let steps = Steps::copied();
    // One after the other: each is built in the same directory.
    let mut complaints = String::new();
    for (file, wrong) in IN_RUST {
        let program = steps.build(file, wrong);
        if let Err(complaint) = are_caught(std::slice::from_ref(wrong), &program) {
            complaints += &complaint;
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
}

/// That all other checks pass follows from what the right program gets; here
/// it is seen.
#[test]
#[ignore = "takes a quarter of an hour"]
fn what_is_wrong_in_steps_1_to_4_is_found_by_no_other_check() {
    let rows = ANYWHERE.iter().map(std::slice::from_ref);
    let rows: Vec<&[Wrong]> = rows.chain(WITH_CONTROLLERS.iter().copied()).collect();
    for_each(&rows, |row| {
        let report = grade::check(row[0].step, &compile::wrong_c(row));
        let fails: BTreeSet<&str> = report.not_passed().into_iter().collect();
        let meant = row.iter().flat_map(|wrong| wrong.caught_by.iter().copied());
        let meant: BTreeSet<&str> = meant.collect();
        println!("{}: {fails:?}", row[0].name);
        (fails == meant)
            .then_some(())
            .ok_or_else(|| format!("{}: {report}", row[0].name))
    });
}

#[test]
fn a_program_in_another_language_gets_full_points() {
    let program = compile("minic", 4, &c_source(), STRICT);
    for report in [grade::check(3, &program), check_without_limits(4, &program)] {
        assert!(report.not_passed().is_empty(), "{report}");
        assert_eq!(report.points, 100, "{report}");
    }
}

/// Grades without the limits, for which the grader may have to boot a machine:
/// once for each program is enough.
fn check_without_limits(step: u8, program: &Path) -> grade::Report {
    let all = grade::check(step, Path::new("/nothing"));
    let wanted = all.checks_that(|check| check.step != 3 || check.id == "limit-refused");
    grade::check_only(step, program, &wanted)
}

#[test]
fn an_empty_starter_is_not_done_yet_and_never_failed() {
    for step in 1..=5 {
        let starter = compile::starter(step);
        let report = match step {
            3 => grade::check(3, &starter),
            _ => check_without_limits(step, &starter),
        };
        // Of the steps before, a check may not get as far as what it is about.
        assert!(report.named("failed").is_empty(), "step {step}: {report}");
        let done = report.checks_that(|check| check.step == step && check.status != "not-done");
        assert!(done.is_empty(), "step {step}: {done:?}: {report}");
        assert_eq!(report.points, 0);
    }
}

#[test]
fn a_step_passes_all_checks_but_those_of_the_next() {
    for next in 2..=4 {
        let report = match next {
            3 => grade::check(next, &step(next - 1)),
            _ => check_without_limits(next, &step(next - 1)),
        };
        let new = report.checks_that(|check| check.step == next);
        assert_eq!(report.not_passed(), new, "step {next}: {report}");
        assert_eq!(report.points, 0);
    }
}

/// Step 5 takes an image where step 4 takes a command, and so step 4 passes
/// nothing there.
#[test]
fn the_last_step_gets_full_points_and_the_one_before_it_none() {
    let report = check_without_limits(5, &step(4));
    assert!(report.named("passed").is_empty(), "{report}");
    for last in [4, 5] {
        let report = check_without_limits(last, &step(last));
        assert!(report.not_passed().is_empty(), "{report}");
        assert_eq!(report.points, 100, "{report}");
    }
}

/// How far a shell script gets with unshare(1): to where a signal ought to be
/// passed on, and told of afterwards. (That of Debian 12 stumbles when its
/// child is killed.)
#[test]
fn unshare_in_a_script_does_all_of_step_1_but_signals() {
    let report = grade::check(1, &labs().join("other/unshare.sh"));
    let fails = ["killed-status", "signals", "afterwards-1"];
    assert_eq!(report.not_passed(), fails, "{report}");
    assert_eq!(report.named("failed"), fails, "{report}");
}

#[test]
fn chroot_in_a_script_does_not_do_for_step_2() {
    let report = grade::check(2, &labs().join("other/chroot.sh"));
    let new = report.checks_that(|check| check.step == 2 && check.status == "failed");
    let of_chroot = ["rootfs", "pivot"];
    let of_dev = ["devices", "pts-and-shm"];
    let of_a_script = ["descriptors", "afterwards-2"];
    let all = [of_chroot, of_dev, of_a_script].concat();
    assert_eq!(new, all, "{report}");
    assert!(report.named("not-done").is_empty(), "{report}");
}

/// Programs that are no containers at all: the grader goes on, and nothing of
/// them is left.
#[test]
fn a_program_that_misbehaves_fails_its_check_and_no_more() {
    let mark = format!("{}", 7_000_000 + std::process::id());
    for_each(
        &[
            ("hangs", format!("exec sleep {mark}")),
            ("never_stops_printing", "exec yes".to_owned()),
            (
                "ignores_signals",
                format!("trap '' INT TERM HUP; sleep {mark}"),
            ),
            ("leaves_a_process", format!("setsid sleep {mark} & exit 0")),
            ("kills_everybody", "kill -9 -1".to_owned()),
            ("says_it_is_fine", "echo passed; exit 0".to_owned()),
        ],
        |(name, script)| {
            let program = compile::script(name, script);
            let report = grade::check_only(1, &program, &["hostname"]);
            (report.named("failed") == ["hostname"])
                .then_some(())
                .ok_or_else(|| format!("{name}: {report}"))
        },
    );
    assert_eq!(
        processes_with(&mark),
        0,
        "a process of the program's lives on"
    );
}

/// A check that asks for a failure, or for nothing to be there, asks for a
/// success as well.
#[test]
fn a_program_that_does_nothing_gets_no_points() {
    for (name, script) in [
        (
            "refuses",
            "echo 'refuses: I would rather not' >&2; exit 125",
        ),
        ("agrees", "exit 0"),
    ] {
        let program = compile::script(name, script);
        let report = grade::check(2, &program);
        assert!(report.named("passed").is_empty(), "{name}: {report}");
    }
}

fn processes_with(word: &str) -> usize {
    let processes = std::fs::read_dir("/proc").expect("list /proc").flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|one| one == word.as_bytes())
        })
        .count()
}

#[test]
fn what_is_no_program_is_told_in_a_sentence_and_gets_no_points() {
    let scratch = compile::scratch();
    let not_executable = scratch.join("not_executable");
    std::fs::write(&not_executable, "#!/bin/sh\n").expect("write a file");
    for path in [scratch.join("missing"), scratch.clone(), not_executable] {
        let report = grade::check(1, &path);
        assert_eq!(report.status, Some(1), "{}: {report}", path.display());
        assert_eq!(report.points, 0);
        assert_eq!(
            report.named("failed").len(),
            report.checks.len(),
            "{report}"
        );
    }
}
