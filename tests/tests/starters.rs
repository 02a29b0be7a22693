//! What `cargo lab start` writes: it compiles, it keeps the solutions to itself,
//! and with all tasks solved it is the reference.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use harness::{Host, Setup};

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a repository")
}

/// A place of a test's own; nothing is in it.
fn place(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("starters")
        .join(name);
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).expect("a directory");
    place
}

fn lab(from: &Path, words: &[&str]) -> Output {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
    lab.args(words).current_dir(from).output().expect("run lab")
}

/// What it prints, if it goes well.
fn said(from: &Path, words: &[&str]) -> String {
    let output = lab(from, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// With what it refuses.
fn refused(from: &Path, words: &[&str]) -> String {
    let output = lab(from, words);
    assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// A starter for step `number`, new.
fn start(number: u8, place: &Path) -> PathBuf {
    let dir = place.join(format!("lab{number}"));
    said(
        place,
        &["start", &number.to_string(), dir.to_str().expect("UTF-8")],
    );
    dir
}

/// All files below a directory, by their paths from it.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut directories = vec![dir.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("list") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.insert(path.strip_prefix(dir).expect("below").to_owned());
            }
        }
    }
    found
}

/// A marked region of the reference, as plainly as it can be read.
struct Task {
    id: String,
    file: PathBuf,
    body: String,
    todo: String,
}

fn is_marker(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("// task 0") || line.starts_with("// } todo!(")
}

fn tasks(step: u8) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for file in files(&root().join("steps")) {
        if !file.starts_with(package(step)) || file.extension().is_none_or(|kind| kind != "rs") {
            continue;
        }
        let file = Path::new("steps").join(file);
        let source = fs::read_to_string(root().join(&file)).expect("a source");
        for part in source.split("// task ").skip(1) {
            let (id, rest) = part.split_once(" {\n").expect("// task NN.k {");
            let (body, rest) = rest.split_once("// } todo!(").expect("// } todo!(…)");
            let (todo, _) = rest.split_once('\n').expect("a line");
            tasks.push(Task {
                id: id.to_owned(),
                file: file.clone(),
                body: body.trim().to_owned(),
                todo: format!("todo!({todo}"),
            });
        }
    }
    tasks.sort_by(|one, other| one.id.cmp(&other.id));
    tasks
}

/// The directory of a step.
fn package(step: u8) -> String {
    let names = fs::read_dir(root().join("steps")).expect("list");
    let mut names = names.map(|entry| {
        entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("UTF-8")
    });
    names
        .find(|name| name.starts_with(&format!("{step:02}-")))
        .expect("a step")
}

/// Builds programs and tests of a starter's own step, and returns what cargo says. The programs go
/// to a place of their own, and what they depend on is the workspace's, compiled already (cargo
/// before 1.91 compiles it again).
fn build(dir: &Path, number: u8) -> String {
    let output = Command::new("cargo")
        .args([
            "build",
            "--offline",
            "--locked",
            "--all-targets",
            "--package",
        ])
        .arg(format!("step{number:02}"))
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", programs())
        .env(
            "CARGO_BUILD_BUILD_DIR",
            programs().parent().expect("target"),
        )
        .output()
        .expect("run cargo");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "step {number}: {said}");
    said
}

fn programs() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("starters")
}

#[test]
fn a_starter_compiles_without_a_warning_and_says_what_is_not_done_yet() {
    let place = place("compile");
    for number in 1..=5 {
        let said = build(&start(number, &place), number);
        assert!(!said.contains("warning"), "step {number}: {said}");
    }
    let host = Host::with(Setup {
        shown: vec![(programs().join("debug"), "starters".to_owned())],
        ..Setup::default()
    });
    host.shell(
        r#"mkdir /tmp/layout && cd /tmp/layout && echo '{"imageLayoutVersion":"1.0.0"}' >oci-layout
        d=sha256:$(printf %064d 0); m=application/vnd.oci.image.manifest.v1+json
        echo '{"schemaVersion":2,"manifests":[{"mediaType":"'$m'","digest":"'$d'","size":1}]}' >index.json"#,
    );
    for (number, words, first) in [
        (1, &["run", "true"][..], "01.1"),
        (2, &["run", "true"], "02.1"),
        // Further on it would leave a cgroup behind: to remove one is a task, too.
        (3, &["run", "-m", "64m", "true"], "03.1"),
        (4, &["run", "true"], "04.4"),
        (5, &["load", "/tmp/layout"], "05.2"),
    ] {
        let program = format!("/run/workspace/starters/step{number:02}");
        let output = host.run([&[program.as_str()], words].concat());
        let errors = output.errors();
        let undone = errors
            .lines()
            .find(|line| line.contains("not yet implemented"));
        let wanted = format!("not yet implemented: task {first}: ");
        assert!(
            undone.is_some_and(|line| line.starts_with(&wanted)),
            "step {number}: {errors}"
        );
        assert_ne!(output.code(), 0);
    }
}

#[test]
fn a_starter_has_its_own_step_blank_and_nothing_of_later_ones() {
    let place = place("blank");
    for number in 1..=5 {
        let dir = start(number, &place);
        let entries = fs::read_dir(dir.join("steps")).unwrap();
        let steps: BTreeSet<_> = entries.map(|it| it.unwrap().file_name()).collect();
        let wanted = (1..=number).map(|step| package(step).into());
        assert_eq!(steps, wanted.chain(["cli".into()]).collect());

        let files = files(&dir);
        let texts: Vec<String> = files
            .iter()
            .map(|file| fs::read_to_string(dir.join(file)).unwrap())
            .collect();
        let whole = texts.join("\n");
        assert!(!whole.lines().any(is_marker));
        for later in number + 1..=5 {
            assert!(
                !whole.contains(&format!("step{later:02}")),
                "step {later} in {number}"
            );
        }
        for task in (1..=5).flat_map(tasks) {
            let own = task.id.starts_with(&format!("{number:02}"));
            // A body that is nothing but its function's line, and an end.
            let blank = format!("{{\n{}{}\n", indent(&whole, &task.todo), task.todo);
            assert_eq!(whole.contains(&blank), own, "{} in {number}", task.id);
            let known = task.id.as_str() < format!("{number:02}").as_str();
            assert_eq!(whole.contains(&task.body), known, "{} in {number}", task.id);
        }
    }
}

/// What stands before a text in its line.
fn indent<'a>(whole: &'a str, text: &str) -> &'a str {
    let line = whole.lines().find(|line| line.trim_start() == text);
    line.map_or("", |line| &line[..line.len() - line.trim_start().len()])
}

#[test]
fn a_starter_with_all_tasks_solved_is_the_reference() {
    let place = place("solve");
    for number in 1..=5 {
        let dir = start(number, &place);
        let tasks = tasks(number);
        assert_eq!(tasks.len(), 5);
        for (nth, task) in tasks.iter().enumerate() {
            // By its place and from it, with the zero and without.
            match nth % 2 {
                0 => said(&place, &["solve", &task.id, dir.to_str().unwrap()]),
                _ => said(
                    &dir.join("steps"),
                    &["solve", task.id.trim_start_matches('0')],
                ),
            };
            let source = fs::read_to_string(dir.join(&task.file)).unwrap();
            assert!(source.contains(&task.body) && !source.contains(&task.todo));
        }
        for file in files(&dir.join("steps")) {
            let ours = fs::read_to_string(root().join("steps").join(&file)).unwrap();
            let theirs = fs::read_to_string(dir.join("steps").join(&file)).unwrap();
            let lines = ours.split_inclusive('\n').filter(|line| !is_marker(line));
            assert_eq!(theirs, lines.collect::<String>(), "{}", file.display());
        }
        let error = refused(&dir, &["solve", &tasks[0].id]);
        assert!(error.contains("is no longer in"), "{error}");
    }
}

#[test]
fn nothing_is_overwritten_and_nothing_stays_half_done() {
    let place = place("refuse");
    fs::write(place.join("mine"), "precious").unwrap();
    let error = refused(root(), &["start", "2", place.to_str().unwrap()]);
    assert!(error.contains("is not empty"), "{error}");
    for words in [
        &["start", "6"][..],
        &["start", "0"],
        &["start", "2", "mine"],
        &["start", "2", "no/such/place"],
        &["start", "2", root().join("steps/06-mine").to_str().unwrap()],
        &["solve", "2.1"],
        &["hint", "2.9"],
        &["hint", "2"],
    ] {
        refused(&place, words);
    }
    assert_eq!(files(&place), BTreeSet::from(["mine".into()]));
    assert_eq!(fs::read_to_string(place.join("mine")).unwrap(), "precious");
    let beside = fs::read_dir(place.parent().unwrap()).unwrap();
    let mut beside = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(beside.all(|name| !name.starts_with('.')));

    // An empty directory is a place as good as any.
    let empty = place.join("empty");
    fs::create_dir(&empty).unwrap();
    said(&place, &["start", "1", "empty"]);
    assert!(empty.join("lab.json").is_file());
}

#[test]
fn a_starter_knows_its_tasks_and_the_way_to_the_lab_tool() {
    let place = place("know");
    let dir = start(3, &place);
    let readme = fs::read_to_string(dir.join("README.md")).unwrap();
    for task in tasks(3) {
        let (_, said) = task.todo.split_once(": ").unwrap();
        let (title, _) = said.rsplit_once(" (book").unwrap();
        let line = readme
            .lines()
            .find(|line| line.contains(&task.id) && line.contains(title));
        assert!(
            line.unwrap().contains(task.file.to_str().unwrap()),
            "{readme}"
        );
    }
    let config = fs::read_to_string(dir.join(".cargo/config.toml")).unwrap();
    assert!(config.contains(root().join("Cargo.toml").to_str().unwrap()));
}

#[test]
fn every_task_has_a_hint_and_none_gives_the_solution_away() {
    for task in (1..=5).flat_map(tasks) {
        let short = task.id.trim_start_matches('0');
        let hint = said(Path::new("/"), &["hint", short]);
        let more = said(Path::new("/"), &["hint", &task.id, "--more"]);
        assert!(
            hint.contains(&task.id) && hint.lines().count() > 5,
            "{hint}"
        );
        assert!(more.len() > hint.len() + 200, "{more}");
        assert!(
            more.lines().all(|line| line.chars().count() <= 80),
            "{more}"
        );
        let code = task.body.lines().map(str::trim);
        for line in code.filter(|line| line.len() > 20 && !line.starts_with("//")) {
            assert!(!more.contains(line), "{}: {line}", task.id);
        }
    }
}

#[test]
fn the_storys_growth_is_shown_as_diff_shows_it() {
    let shown = said(Path::new("/"), &["diff", "3", "4"]);
    let diff = Command::new("diff")
        .args([
            "-u",
            "steps/03-cgroups/src/run.rs",
            "steps/04-network/src/run.rs",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let count = |text: &str, sign| {
        let lines = text.lines().skip(2);
        lines.filter(|line| line.starts_with(sign)).count()
    };
    let diff = String::from_utf8(diff.stdout).unwrap();
    for sign in ['+', '-'] {
        assert_eq!(count(&shown, sign), count(&diff, sign), "{shown}");
    }
    assert!(!shown.contains('\x1b') && count(&shown, '+') > 10);
}
