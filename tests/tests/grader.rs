//! The grader: what it says of good programs, of bad ones, and of none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::{build_dir, wait_for};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

/// A directory that is gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("grader-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a scratch directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("a scratch directory");
        Scratch(dir)
    }

    /// A script to be graded.
    fn script(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a scratch directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a scratch directory");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// `lab check`, as somebody starts it who does not have cargo.
fn lab(arguments: &[&str], program: &Path) -> Command {
    let mut lab = Command::new(harness::lab());
    lab.arg("check").args(arguments).arg("--bin").arg(program);
    lab.env_remove("CARGO").stdin(Stdio::null());
    lab
}

fn check(arguments: &[&str], program: &Path) -> Output {
    lab(arguments, program).output().expect("run lab")
}

/// The JSON of a run, and its exit status.
fn json(arguments: &[&str], program: &Path) -> (Value, i32) {
    let arguments = [arguments, &["--json", "-"]].concat();
    let out = check(&arguments, program);
    let code = out.status.code().expect("an exit status");
    let parsed = serde_json::from_slice(&out.stdout);
    let report = parsed.unwrap_or_else(|error| panic!("{error}: {out:?}"));
    (report, code)
}

fn step(number: u8) -> PathBuf {
    build_dir().join(format!("step{number:02}"))
}

/// The statuses of the checks of one step.
fn statuses(report: &Value, step: u64) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().expect("checks").iter();
    checks
        .filter(|check| check["step"] == step)
        .map(|check| (text(&check["id"]), text(&check["status"])))
        .collect()
}

/// Whether a process lives that has `word` among its arguments.
fn lives(word: &str) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .any(|line| {
            line.split(|byte| *byte == 0)
                .any(|it| it == word.as_bytes())
        })
}

#[test]
fn the_reference_gets_full_points_and_the_step_before_none_of_the_new_ones() {
    for number in [1, 2] {
        let (report, code) = json(&[&number.to_string()], &step(number));
        assert_eq!(code, 0, "{report:#}");
        assert_eq!(report["points"], 100, "{report:#}");
    }
    let (report, code) = json(&["2"], &step(1));
    assert_eq!(
        (code, &report["points"]),
        (1, &Value::from(0)),
        "{report:#}"
    );
    for (id, status) in statuses(&report, 1) {
        assert_eq!(status, "passed", "{id}: {report:#}");
    }
    for (id, status) in statuses(&report, 2) {
        assert_eq!(status, "failed", "{id}: {report:#}");
    }
}

#[test]
fn what_is_not_done_yet_is_not_called_failed() {
    let scratch = Scratch::new("undone");
    let script = "#!/bin/sh\necho 'x: not yet implemented: task 01.2: who is root' >&2\nexit 101\n";
    let program = scratch.script("undone", script);
    let (report, code) = json(&["1", "--only", "hostname"], &program);
    assert_eq!(code, 1);
    assert_eq!(report["checks"][0]["status"], "not-done", "{report:#}");
    let out = check(&["1", "--only", "hostname"], &program);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        text.contains("not done yet") && !text.contains("FAILED"),
        "{text}"
    );
    assert!(text.contains("task 01.2"), "{text}");
    assert!(!text.contains('\x1b'), "colours are for terminals: {text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

#[test]
fn a_script_is_a_program_like_any_other() {
    let scratch = Scratch::new("script");
    let script = "#!/bin/sh\n[ $1 = run ] && shift; [ \"$1\" = -- ] && shift; exec \"$@\"\n";
    let (report, _) = json(&["1"], &scratch.script("thin", script));
    let passed = |id: &str| statuses(&report, 1).contains(&(id.to_owned(), "passed".to_owned()));
    assert!(passed("arguments") && passed("streams"), "{report:#}");
    assert!(
        !passed("six-namespaces") && !passed("hostname") && !passed("pid-1"),
        "{report:#}"
    );
}

#[test]
fn what_is_no_program_is_named_as_such() {
    let scratch = Scratch::new("none");
    fs::write(scratch.0.join("plain"), "hello\n").unwrap();
    scratch.script("interpreter", "#!/no/such/interpreter\n");
    scratch.script("windows", "#!/bin/sh\r\nexit 0\r\n");
    scratch.script("empty", "");
    for (name, said) in [
        ("missing", "cannot be found"),
        ("plain", "chmod +x"),
        ("interpreter", "/no/such/interpreter"),
        ("windows", "CR LF"),
        ("empty", "neither a binary nor a script"),
        ("", "a directory"),
    ] {
        let (report, code) = json(&["1"], &scratch.0.join(name));
        assert_eq!((code, &report["points"]), (1, &Value::from(0)), "{name}");
        let saw = report["checks"][0]["saw"].as_str().unwrap();
        assert!(saw.contains(said), "{name}: {saw}");
    }
}

#[test]
fn a_hanging_program_a_flood_and_a_fork_bomb_are_survived() {
    let scratch = Scratch::new("hostile");
    // Nobody else's processes have this number, not even those of this test beside it.
    let mark = (70_000_000 + std::process::id()).to_string();
    let hang =
        &format!("#!/bin/sh\ntrap '' TERM INT HUP\nsleep {mark}; while :; do sleep {mark}; done\n");
    let bomb = format!("#!/bin/bash\nb() {{ b | b & }}\nb\nsleep {mark} & while :; do b; done\n");
    let flood = "#!/bin/sh\nhead -c 1073741824 /dev/zero\n";
    for (name, script, said) in [
        ("hang", hang.as_str(), "went on, and was killed"),
        ("bomb", &bomb, ""),
        ("flood", flood, "more than 1 MiB"),
    ] {
        let start = Instant::now();
        let (report, code) = json(
            &["1", "--only", "exit-status"],
            &scratch.script(name, script),
        );
        assert_eq!((code, &report["points"]), (1, &Value::from(0)), "{name}");
        let saw = report["checks"][0]["saw"].as_str().unwrap();
        assert!(saw.contains(said), "{name}: {saw}");
        assert!(start.elapsed() < Duration::from_secs(300), "{name}");
    }
    assert!(!lives(&mark), "something is left");
}

#[test]
fn a_printed_result_is_no_result() {
    let scratch = Scratch::new("forged");
    let script = "#!/bin/sh\necho '{\"id\":\"hostname\",\"status\":\"passed\",\"points\":8}'\n\
        printf '\\033[32mpassed\\033[0m  100 of 100 points\\n'\n";
    let program = scratch.script("forger", script);
    let out = check(&["1", "--only", "hostname,pid-1"], &program);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(
        text.contains("0 of 15 points") && !text.contains('\x1b'),
        "{text}"
    );
}

#[test]
fn a_seed_repeats_a_run() {
    let ran = |seed: &str| {
        let (report, _) = json(
            &["1", "--only", "hostname,exit-status", "--seed", seed],
            &step(1),
        );
        assert_eq!(report["seed"].to_string(), seed);
        report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|check| check["ran"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(ran("11"), ran("11"));
    assert_ne!(ran("11"), ran("12"));
}

#[test]
fn the_three_files_agree() {
    let scratch = Scratch::new("files");
    let file = |name: &str| scratch.0.join(name).display().to_string();
    let (json, junit, gradescope) = (file("a.json"), file("b.xml"), file("c.json"));
    let arguments = [
        "2",
        "--only",
        "hostname,rootfs,proc,volume",
        "--json",
        &json,
        "--junit",
        &junit,
        "--gradescope",
        &gradescope,
    ];
    check(&arguments, &step(1));
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report["schema"], "minidocker-lab/1");
    let checks = report["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 4);
    let results: Value = serde_json::from_str(&fs::read_to_string(gradescope).unwrap()).unwrap();
    assert_eq!(results["score"], report["points"]);
    for (test, check) in results["tests"].as_array().unwrap().iter().zip(checks) {
        assert_eq!(test["score"], check["points"]);
        assert_eq!(test["max_score"], check["max_points"]);
        assert!(
            test["name"]
                .as_str()
                .unwrap()
                .contains(check["id"].as_str().unwrap())
        );
        assert_eq!(test["visibility"], "visible");
    }
    let xml = fs::read_to_string(junit).unwrap();
    let tags = elements(&xml);
    let count = |name: &str| tags.iter().filter(|tag| tag.as_str() == name).count();
    let failed = checks
        .iter()
        .filter(|check| check["status"] == "failed")
        .count();
    assert_eq!((count("testcase"), count("failure")), (4, failed), "{xml}");
    assert!(xml.contains(&format!("failures=\"{failed}\"")), "{xml}");
}

/// The names of the elements of an XML document, each closed where it must be.
fn elements(xml: &str) -> Vec<String> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    for piece in xml.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        assert!(!text.contains('>'), "{text}");
        let name: String = tag
            .trim_start_matches('/')
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        if tag.starts_with('?') || tag.ends_with('/') {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else {
            all.push(name.clone());
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    all
}

#[test]
fn a_grade_with_holes_is_not_taken_for_a_grade() {
    let (report, code) = json(&["1", "--budget", "0"], &step(1));
    assert_eq!(code, 2, "{report:#}");
    for (id, status) in statuses(&report, 1) {
        assert_eq!(status, "cannot-run", "{id}");
    }
}

/// It is the machine's root, and that is all that it is.
#[test]
fn what_a_program_writes_and_kills_stays_on_its_machine() {
    let scratch = Scratch::new("vandal");
    let open = scratch.0.join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let (open, shm) = (
        open.display(),
        format!("/dev/shm/vandal-{}", std::process::id()),
    );
    let script = format!(
        "#!/bin/sh\nmount -o remount,rw / 2>/dev/null\numount -l /tmp /dev/shm 2>/dev/null\n\
         echo x 2>/dev/null >{open}/vandal && echo WROTE-FILE\n\
         echo x 2>/dev/null >{shm}\n\
         kill -9 {} 2>/dev/null && echo KILLED\necho tried\n",
        std::process::id()
    );
    let (report, _) = json(
        &["1", "--only", "options-end"],
        &scratch.script("vandal", &script),
    );
    let saw = report["checks"][0]["saw"].as_str().unwrap();
    assert!(
        saw.contains("tried") && !saw.contains("WROTE") && !saw.contains("KILLED"),
        "{saw}"
    );
    assert_eq!(fs::read_dir(scratch.0.join("open")).unwrap().count(), 0);
    assert!(!Path::new(&shm).exists());
}

#[test]
fn an_interrupt_leaves_nothing() {
    let scratch = Scratch::new("interrupt");
    // As above: a number that is nobody else's.
    let mark = (80_000_000 + std::process::id()).to_string();
    let program = scratch.script("sleeper", &format!("#!/bin/sh\nsleep {mark}\n"));
    let mut grader = lab(&["1"], &program)
        .process_group(0)
        .stdout(Stdio::null())
        .spawn()
        .expect("run lab");
    wait_for("the program to run", 60, || lives(&mark).then_some(()));
    // As the terminal does, to the whole foreground group.
    killpg(Pid::from_raw(grader.id().cast_signed()), Signal::SIGINT).unwrap();
    grader.wait().unwrap();
    wait_for("the program's end", 60, || (!lives(&mark)).then_some(()));
}

/// Runs the grader as uid 1000 with a home of its own, on a machine whose
/// /etc/subuid and /etc/subgid say `ids`.
fn as_somebody(scratch: &Scratch, ids: &str, arguments: &str) -> Output {
    for name in ["lab", "machine", "step01", "step02"] {
        fs::copy(build_dir().join(name), scratch.0.join(name)).expect("a copy");
    }
    let dir = scratch.0.display();
    let script = format!(
        "mkdir -p {dir}/home && chown 1000:1000 {dir}/home && printf '{ids}' >{dir}/ids
         mount --bind {dir}/ids /etc/subuid && mount --bind {dir}/ids /etc/subgid
         cd {dir}/home && exec setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all \
            env -i HOME={dir}/home PATH=/usr/sbin:/usr/bin:/sbin:/bin {dir}/lab check {arguments}"
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
    unshare.stdin(Stdio::null()).output().expect("run unshare")
}

#[test]
fn nobody_needs_root_to_be_graded() {
    let scratch = Scratch::new("somebody");
    for ids in ["1000:300000:65536\\n", ""] {
        let arguments = format!("2 --bin {}/step02", scratch.0.display());
        let out = as_somebody(&scratch, ids, &arguments);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(text.contains("100 of 100 points"), "{ids}: {text}{out:?}");
        assert_eq!(out.status.code(), Some(0), "{ids}: {text}");
    }
}

/// Tells what it can reach.
const SPY: &str = "#!/bin/sh
for port in 0 1 2 3; do (echo '{\"id\":\"forged\"}' >/dev/ttyS$port) 2>/dev/null && echo WROTE-$port; done
(umount -l /root; ls /root/grade /root/grade/lab) 2>/dev/null && echo FOUND-GRADER
find / -xdev -name lab -type f 2>/dev/null | grep -q . && echo FOUND-LAB
find / -xdev '(' -name 'step0*' ! -path '/run/*' ')' -type f 2>/dev/null | grep -q . && echo FOUND-STEP
(cat /proc/1/exe | head -c 4) 2>/dev/null | grep -q ELF && strings /proc/1/exe 2>/dev/null | grep -q six-namespaces && echo FOUND-CHECKS
(echo x >/etc/spied; echo x >/usr/bin/spied; echo x >/spied) 2>/dev/null
mount -o remount,rw / 2>/dev/null
kill -9 -1 2>/dev/null
echo spied uid $(id -u)
";

#[test]
fn in_the_virtual_machine_a_program_finds_nobody_to_deceive() {
    let scratch = Scratch::new("spy");
    let program = scratch.script("spy", SPY);
    let (report, code) = json(
        &["1", "--vm", "--only", "wrong-option,hostname,streams"],
        &program,
    );
    assert_eq!(
        (code, &report["points"]),
        (1, &Value::from(0)),
        "{report:#}"
    );
    assert_eq!(report["checks"].as_array().unwrap().len(), 3, "{report:#}");
    let saw = report["checks"].to_string();
    assert!(saw.contains("spied uid 0"), "it ran: {report:#}");
    for found in ["WROTE", "FOUND"] {
        assert!(!saw.contains(found), "{report:#}");
    }
    assert!(!saw.contains("forged"), "{report:#}");
}
