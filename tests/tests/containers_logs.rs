//! What a container wrote: its log file as docker's json-file driver writes it, and `logs`.

use std::fs;
use std::path::Path;

use harness::engine::{Machine, Who, shell};
use harness::wait_for;
use serde_json::Value;

/// A container called `aa` that has run this script.
fn ran(machine: &Machine, options: &str, script: &str) {
    let line = format!("run --name aa --network none {options} host");
    machine.minidocker(&shell(&line, script));
}

/// The log's lines as they are in the file, without their times.
#[track_caller]
fn lines(machine: &Machine, end: &str) -> Vec<String> {
    let aa = machine.container("aa");
    let path = aa.data().join(format!("{}-json.log{end}", aa.id()));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.ends_with('\n'), "a torn end: {text}");
    let line = |line: &str| {
        let entry: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let time = entry["time"].as_str().expect("a time");
        let end = format!(",\"time\":\"{time}\"}}");
        // RFC 3339, in UTC, and no zeros at the end of a fraction.
        let digits = time.strip_suffix('Z').expect("UTC");
        assert!(digits.len() >= 19 && !digits[19..].ends_with('0'), "{time}");
        line.strip_suffix(&end)
            .expect("the time is the last")
            .to_owned()
    };
    text.lines().map(line).collect()
}

#[test]
fn a_log_is_what_docker_writes() {
    for who in Who::ALL {
        let machine = Machine::of(who);
        let script = r#"printf 'a "b" \\ \t<&>\n\n'; read go; printf 'oh \377 \303\244\n' >&2;
            read go; printf 'no end'"#;
        machine.ok(&shell("create -i --name aa --network none host", script));
        let mut run = machine.feed("start -ai aa");
        // Of two streams it is not known which was written to first.
        for written in [2, 3] {
            wait_for("what was written", 60, || {
                let log = machine.container("aa").log();
                (log.lines().count() == written).then_some(())
            });
            run.write(b"\n");
        }
        run.wait().ok();
        assert_eq!(
            lines(&machine, ""),
            [
                r#"{"log":"a \"b\" \\ \u0009\u003c\u0026\u003e\n","stream":"stdout""#,
                r#"{"log":"\n","stream":"stdout""#,
                r#"{"log":"oh \ufffd ä\n","stream":"stderr""#,
                r#"{"log":"no end","stream":"stdout""#,
            ]
        );
        let mode = fs::metadata(log_of(&machine)).expect("a log").permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o640
        );
        let out = machine.minidocker("logs aa");
        assert_eq!(out.stdout, b"a \"b\" \\ \t<&>\n\nno end");
        assert_eq!(out.stderr, "oh \u{fffd} ä\n".as_bytes());
        machine.nothing_left();
    }
}

fn log_of(machine: &Machine) -> std::path::PathBuf {
    let aa = machine.container("aa");
    aa.data().join(format!("{}-json.log", aa.id()))
}

#[test]
fn a_long_line_is_in_pieces_and_a_terminals_lines_end_as_it_ends_them() {
    let machine = Machine::of(Who::Root);
    ran(
        &machine,
        "",
        "head -c 40000 /dev/zero | tr '\\0' x; echo; echo next",
    );
    let lengths: Vec<usize> = lines(&machine, "")
        .iter()
        .map(|line| line.matches('x').count())
        .collect();
    assert_eq!(lengths, [16384, 16384, 7232, 1]);
    let out = machine.minidocker("logs aa");
    assert_eq!(out.stdout.len(), 40_001 + 5);
    machine.ok("rm aa");
    ran(&machine, "-t", "echo out; echo err >&2");
    assert_eq!(
        lines(&machine, ""),
        [
            r#"{"log":"out\r\n","stream":"stdout""#,
            r#"{"log":"err\r\n","stream":"stdout""#,
        ]
    );
    machine.nothing_left();
}

#[test]
fn large_logs_come_out_byte_for_byte() {
    let machine = Machine::of(Who::Student);
    let script = "
        head -c 48M /dev/urandom | base64 -w 200 >/tmp/in
        minidocker run -i --name aa --network none host cat </tmp/in | cmp - /tmp/in && echo run
        minidocker logs aa | cmp - /tmp/in && echo logs
        rm /tmp/in";
    assert_eq!(machine.script(script).ok(), "run\nlogs");
    machine.nothing_left();
}

#[test]
fn parts_of_a_log_are_found() {
    let machine = Machine::of(Who::Root);
    ran(&machine, "", "seq 1 50; sleep 1.2; seq 51 100");
    let seq = |from: usize, to: usize| -> String {
        let all: Vec<String> = (from..=to).map(|n| n.to_string()).collect();
        all.join("\n")
    };
    for (options, expected) in [
        ("", seq(1, 100)),
        ("--tail all", seq(1, 100)),
        ("--tail 3", seq(98, 100)),
        ("-n 60", seq(41, 100)),
        ("-n 0", String::new()),
        ("-n 1000", seq(1, 100)),
        ("-n -1", seq(1, 100)),
        ("--since 1h", seq(1, 100)),
        ("--until 1h", String::new()),
        ("--since 2001-01-01", seq(1, 100)),
        ("--until 2001-01-01T00:00:00Z", String::new()),
        ("--follow --tail 2", seq(99, 100)),
    ] {
        assert_eq!(
            machine.ok(&format!("logs {options} aa")),
            expected,
            "{options}"
        );
    }
    let stamped = machine.ok("logs -t aa");
    let (time, number) = stamped
        .lines()
        .nth(50)
        .and_then(|line| line.split_once(' '))
        .expect("a time");
    assert_eq!(
        (number, time.len()),
        ("51", "2024-01-01T00:00:00.123456789Z".len())
    );
    assert_eq!(machine.ok(&format!("logs --since {time} aa")), seq(51, 100));
    assert_eq!(
        machine.ok(&format!("logs --since {time} -n 10 aa")),
        seq(91, 100)
    );
    let (before, _) = stamped
        .lines()
        .nth(49)
        .and_then(|line| line.split_once(' '))
        .expect("a time");
    assert_eq!(machine.ok(&format!("logs --until {before} aa")), seq(1, 50));
    assert_eq!(machine.ok("container logs -n 1 aa"), "100");
    let said = machine.fails(1, "logs --since yesterday aa");
    assert!(said.contains("invalid value for \"since\""), "{said}");
    machine.nothing_left();
}

#[test]
fn who_follows_sees_each_line_once_and_leaves_at_the_end() {
    for who in Who::ALL {
        let machine = Machine::of(who);
        let script = "echo 1; read line; seq 2 20000; echo oh >&2; exit 3";
        // Files of 100 KB are full a dozen times.
        let options = "-di --log-opt max-size=100k --log-opt max-file=100";
        ran(&machine, options, script);
        let followers = ["logs -f aa", "logs --follow --tail 5 aa"].map(|line| {
            let mut follower = machine.spawn(line);
            follower.expect("1\n");
            follower
        });
        let mut attached = machine.feed("attach aa");
        attached.write(b"\n");
        attached.wait().exits(3);
        for follower in followers {
            let out = follower.wait();
            let all: Vec<String> = (1..=20_000).map(|n| n.to_string()).collect();
            assert!(out.ok().lines().eq(all.iter().map(String::as_str)), "{out}");
            assert_eq!(out.errors(), "oh");
        }
        machine.nothing_left();
    }
}

#[test]
fn a_log_that_is_full_is_put_aside() {
    let machine = Machine::of(Who::Root);
    let options = "--log-opt max-size=10k --log-opt max-file=3";
    ran(&machine, options, "seq 1 1000");
    let files = [".2", ".1", ""].map(|end| lines(&machine, end));
    assert!(!Path::new(&format!("{}.3", log_of(&machine).display())).exists());
    for file in &files[..2] {
        let length: usize = file.iter().map(String::len).sum();
        assert!((4_000..12_000).contains(&length), "{length}");
    }
    let kept = files.concat().len();
    let all: Vec<String> = (1001 - kept..=1000).map(|n| n.to_string()).collect();
    assert_eq!(machine.ok("logs aa"), all.join("\n"));
    let tail = kept - files[0].len() + 2;
    let last = machine.ok(&format!("logs -n {tail} aa"));
    assert_eq!(last, all[all.len() - tail..].join("\n"));
    machine.ok("rm aa");
    // A single file begins anew.
    ran(&machine, "--log-opt max-size=10k", "seq 1 1000");
    let out = machine.ok("logs aa");
    assert!(out.ends_with("\n1000") && out.len() < 5000, "{out}");
    machine.nothing_left();
}

#[test]
fn no_log_is_kept_where_none_is_wanted() {
    let machine = Machine::of(Who::Root);
    let out = machine.ok("run --name aa --log-driver none --network none host echo hello");
    assert_eq!(out, "hello");
    assert!(!log_of(&machine).exists());
    let said = machine.fails(1, "logs aa");
    let sentence = "configured logging driver does not support reading";
    assert!(said.contains(sentence), "{said}");
    machine.nothing_left();
}

#[test]
fn damaged_lines_are_left_out_with_a_word() {
    let machine = Machine::of(Who::Root);
    ran(&machine, "", "echo one; echo two; echo three");
    let path = log_of(&machine);
    let text = fs::read_to_string(&path).expect("a log");
    let all: Vec<&str> = text.lines().collect();
    let torn = format!("{}\n{}\n{}\n{{\"log\":\"fo", all[0], &all[1][..20], all[2]);
    fs::write(&path, torn).expect("write a log");
    let out = machine.minidocker("logs aa");
    assert_eq!(out.ok(), "one\nthree");
    assert_eq!(
        out.errors(),
        "minidocker: 2 damaged lines of the log were left out"
    );
    // Whoever writes there next begins a line.
    machine.ok("start -a aa");
    let out = machine.minidocker("logs aa");
    assert_eq!(out.ok(), "one\nthree\none\ntwo\nthree");
    assert_eq!(
        out.errors(),
        "minidocker: 1 damaged line of the log was left out"
    );
    machine.nothing_left();
}

#[test]
fn a_full_disk_under_the_log_holds_nobody_up() {
    let machine = Machine::of(Who::Root);
    let script = "read line; seq 1 20000; echo full; read line; echo room; read line; echo on";
    machine.ok(&shell("create -i --name aa --network none host", script));
    let log = log_of(&machine);
    let aa = machine.container("aa");
    let inside = format!("/var/lib/minidocker/containers/{0}/{0}-json.log", aa.id());
    machine.host().shell(&format!(
        "mkdir /tmp/small; mount -t tmpfs -o size=128k small /tmp/small; touch {inside} /tmp/small/log; \
         head -c 64k /dev/zero >/tmp/small/filler; mount --bind /tmp/small/log {inside}"
    ));
    let mut run = machine.feed("start -ai aa");
    run.write(b"\n");
    run.expect("full\n");
    let length = fs::metadata(&log).expect("a log").len();
    assert!((60_000..=66_000).contains(&length), "{length}");
    machine.host().shell("rm /tmp/small/filler");
    run.write(b"\n");
    run.expect("room\n");
    run.write(b"\n");
    let out = run.wait();
    assert_eq!(out.text().lines().count(), 20_003, "{out}");
    wait_for("the log to go on", 60, || {
        lines(&machine, "")
            .last()?
            .contains("\"on\\n\"")
            .then_some(())
    });
    let all = machine.minidocker("logs aa");
    let kept = all.text().lines().count() - 2;
    let missing = 20_001 - kept;
    let told = format!("minidocker: {missing} lines are missing here: No space left on device");
    assert!(all.errors().starts_with(&told), "{all}");
    machine
        .host()
        .shell(&format!("umount {inside} /tmp/small; rmdir /tmp/small"));
    machine.nothing_left();
}

#[test]
fn a_limit_of_files_sizes_costs_lines_and_no_container() {
    let machine = Machine::of(Who::Root);
    let script = "ulimit -f 64; minidocker run --name aa --network none host seq 1 20000 | tail -1";
    assert_eq!(machine.script(script).ok(), "20000");
    let length = fs::metadata(log_of(&machine)).expect("a log").len();
    assert!((60_000..=65_536).contains(&length), "{length}");
    let kept = lines(&machine, "").len();
    assert!((500..1500).contains(&kept), "{kept}");
    machine.nothing_left();
}
