//! `cargo lab doctor`: each finding is true, and its fix turns it green.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use harness::{Host, Setup, User, assert_same, in_the_vm, lab};
use serde_json::Value;

/// Held to write by the test that turns a switch of the whole machine, to read by the others.
static SWITCH: RwLock<()> = RwLock::new(());

fn undisturbed() -> RwLockReadGuard<'static, ()> {
    SWITCH.read().unwrap_or_else(PoisonError::into_inner)
}

fn host(mut setup: Setup) -> Host {
    setup.shown.push((lab(), "lab".to_owned()));
    Host::with(setup)
}

/// What the doctor said.
struct Report {
    code: i32,
    text: String,
    json: Value,
}

impl Report {
    fn finding(&self, name: &str) -> &Value {
        let findings = self.json["findings"].as_array().expect("a list");
        let found = findings.iter().find(|finding| finding["name"] == name);
        found.unwrap_or_else(|| panic!("nothing about {name}:\n{}", self.text))
    }

    #[track_caller]
    fn is(&self, name: &str, grade: &str) -> String {
        let finding = self.finding(name);
        assert_eq!(finding["grade"], grade, "{name} in:\n{}", self.text);
        finding["seen"].as_str().expect("text").to_owned()
    }

    /// The command that helps, for a root without sudo(8).
    #[track_caller]
    fn command(&self, name: &str) -> String {
        let command = self.finding(name)["fix"]["run"].as_str();
        let command = command.unwrap_or_else(|| panic!("no command for {name}:\n{}", self.text));
        command.replace("sudo ", "")
    }

    fn verdict(&self) -> &str {
        self.json["verdict"].as_str().expect("text")
    }
}

/// Runs the doctor, which must leave the machine alone and keep to its form.
#[track_caller]
fn doctor(host: &Host, user: User) -> Report {
    let file = match user {
        User::Root => "/run/doctor.json",
        User::Student => "/home/student/doctor.json",
    };
    let before = host.snapshot();
    let out = host.run_as(user, ["lab", "doctor", "--json", file]);
    let json = host.shell(&format!("cat {file}; rm {file}"));
    assert_same(&before, || host.snapshot());
    let (code, text) = (out.code(), out.text());
    assert_eq!(out.errors(), "", "{out}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "longer than 80 columns: {line}");
        assert!(!line.contains('\x1b'), "a colour, and no terminal: {line}");
    }
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["fit"], code == 0);
    Report { code, text, json }
}

/// Whether every step really runs, as its verdict has it.
#[track_caller]
fn agrees_with_the_steps(host: &Host, user: User, report: &Report) {
    let runs = |argv: &[&str]| host.run_as(user, argv).code() == 0;
    let broken = report.json["findings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|finding| finding["breaks"].as_u64())
        .min()
        .unwrap_or(6);
    for number in 1..=5 {
        let step = format!("step0{number}");
        let argv: &[&str] = match number {
            5 => &["step05", "run", "host", "true"],
            _ => &[&step, "run", "true"],
        };
        assert_eq!(runs(argv), number < broken, "{step} runs? {}", report.text);
    }
    if broken > 3 {
        let limited = runs(&["step03", "run", "-m", "64m", "--pids-limit", "9", "true"]);
        let ok = report.finding("controllers")["grade"] == "ok";
        assert_eq!(limited, ok, "limits work? {}", report.text);
    }
}

#[test]
fn it_is_green_where_root_can_run_the_steps() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    let report = doctor(&host, User::Root);
    assert_eq!(report.code, 0, "{}", report.text);
    for good in ["kernel", "user", "others", "own root", "bridge", "overlay"] {
        report.is(good, "ok");
    }
    assert!(
        report
            .verdict()
            .starts_with("Steps 1 to 5 run here as root.")
    );
    agrees_with_the_steps(&host, User::Root, &report);
}

#[test]
fn it_is_green_where_an_ordinary_user_can_run_the_steps() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    let report = doctor(&host, User::Student);
    assert_eq!(report.code, 0, "{}", report.text);
    let ids = report.is("more user ids", "ok");
    assert!(ids.contains("100000 to 165535"), "{ids}");
    report.is("way outside", "ok");
    let limits = report.is("controllers", "note");
    assert!(limits.contains("memory, cpu, pids"), "{limits}");
    assert!(
        report
            .verdict()
            .starts_with("Steps 1 to 5 run here as student.")
    );
    assert!(report.verdict().contains("-m, --cpus, --pids-limit"));
    agrees_with_the_steps(&host, User::Student, &report);
}

#[test]
fn a_user_without_subordinate_ids_gets_them_by_the_fix() {
    let _lock = undisturbed();
    let host = host(Setup {
        no_subids: true,
        ..Setup::default()
    });
    let report = doctor(&host, User::Student);
    assert_eq!(report.code, 0, "{}", report.text);
    report.is("more user ids", "note");
    let ids = ["step01", "run", "cat", "/proc/self/uid_map"];
    assert_eq!(host.run_as_student(ids).ok().lines().count(), 1);
    host.shell(&report.command("more user ids"));
    doctor(&host, User::Student).is("more user ids", "ok");
    assert_eq!(host.run_as_student(ids).ok().lines().count(), 2);
}

#[test]
fn without_helper_programs_it_says_which_to_install() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    let out = host.run_as_student(["env", "PATH=/nowhere", "/run/workspace/lab", "doctor"]);
    let text = out.ok().split_whitespace().collect::<Vec<_>>().join(" ");
    for told in [
        "newuidmap is not installed",
        "neither pasta nor slirp4netns",
    ] {
        assert!(text.contains(told), "{text}");
    }
    assert!(text.contains(" passt"), "{text}");
    assert!(text.contains("the way outside, and -p"), "{text}");
}

#[test]
fn where_user_namespaces_are_switched_off_the_fix_switches_them_on() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    // The limit belongs to a user namespace, so that the machine's own stays.
    let script = "unshare --user sleep 1000 >/dev/null 2>&1 &
        until [ $(readlink /proc/$!/ns/user) != $(readlink /proc/$$/ns/user) ]; do sleep 0.01; done
        echo 0 0 65536 >/proc/$!/uid_map; echo 0 0 65536 >/proc/$!/gid_map
        exec nsenter --user --target $! --setuid 0 --setgid 0 sh -uc '
            student() {
                setpriv --reuid 1000 --regid 1000 --clear-groups env HOME=/home/student \"$@\"
            }
            echo 0 >/proc/sys/user/max_user_namespaces
            student lab doctor --json /home/student/1.json; echo \"exit $?\"
            fix=$(sed -n \"s/.*.run.: .sudo \\(.*max_user.*\\)\\\".*/\\1/p\" /home/student/1.json | head -1)
            echo \"fix $fix\"; $fix
            student lab doctor --json /home/student/2.json; echo \"exit $?\"
            student step02 run true; echo \"exit $?\"
            rm /home/student/?.json'";
    let text = host.run(["sh", "-c", script]).ok();
    let ends: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("exit"))
        .collect();
    assert_eq!(ends, ["exit 2", "exit 0", "exit 0"], "{text}");
    assert!(
        text.contains("fix sysctl -w user.max_user_namespaces="),
        "{text}"
    );
    assert!(
        text.contains("The steps do not run here as student"),
        "{text}"
    );
}

#[test]
fn without_cgroup2_only_the_limits_are_missed() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    host.shell("umount /sys/fs/cgroup");
    let report = doctor(&host, User::Root);
    assert_eq!(report.code, 0, "{}", report.text);
    let seen = report.is("cgroups", "ok");
    assert!(seen.contains("no cgroup file system is mounted"), "{seen}");
    report.is("controllers", "note");
    agrees_with_the_steps(&host, User::Root, &report);
}

#[test]
fn a_covered_proc_as_in_a_container_is_found_by_trying() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    // What an engine covers before it starts a container cannot be uncovered inside.
    host.shell("mount --bind /dev/null /proc/keys");
    let contained = |command: &str| {
        let argv = [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            command,
        ];
        host.run(argv)
    };
    for (text, step) in [
        (contained("lab doctor"), contained("step02 run true")),
        (
            host.run_as_student(["lab", "doctor"]),
            host.run_as_student(["step02", "run", "true"]),
        ),
    ] {
        text.exits(2);
        step.exits(125);
        let text = text.text();
        assert!(text.contains("systempaths=unconfined"), "{text}");
        assert!(text.contains("Only step 1 runs here as"), "{text}");
        assert!(text.contains("inside a container"), "{text}");
        assert!(text.contains("--privileged"), "{text}");
    }
    // The fix: a container around that covers nothing.
    host.shell("umount /proc/keys");
    contained("lab doctor").ok();
    contained("step02 run true").ok();
}

#[test]
fn without_a_capability_it_is_an_ordinary_user_with_another_name() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    let text = host
        .run(["setpriv", "--bounding-set=-net_admin", "lab", "doctor"])
        .ok();
    assert!(text.contains("way outside"), "{text}");
    assert!(text.contains("Steps 1 to 5 run here as root."), "{text}");
}

#[test]
fn a_call_that_a_filter_refuses_is_found_by_trying() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    for (call, first) in [
        ("sethostname", 1),
        ("unshare", 1),
        ("pivot_root", 2),
        ("setns", 4),
    ] {
        let inject = format!("inject={call}:error=EPERM");
        let filtered = |argv: &[&str]| {
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            host.run(strace.iter().chain(argv))
        };
        let out = filtered(&["lab", "doctor"]);
        out.exits(2);
        let verdict = match first {
            1 => "The steps do not run here as root".to_owned(),
            2 => "Only step 1 runs here as root".to_owned(),
            first => format!("Steps 1 to {} run here as root", first - 1),
        };
        assert!(out.text().contains(&verdict), "without {call}: {out}");
        for number in 1..=4 {
            let out = filtered(&[&format!("step0{number}"), "run", "true"]);
            assert_eq!(out.code() == 0, number < first, "without {call}: {out}");
        }
    }
}

#[test]
fn in_a_container_of_ours_it_is_true_as_well() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    let script = "export PATH=/ws:$PATH HOME=/root
        lab doctor; echo \"doctor $?\"
        for n in 1 2 3 4; do step0$n run true; echo \"step $?\"; done
        step05 run host true; echo \"step $?\"";
    for user in [User::Root, User::Student] {
        let run = [
            "step02",
            "run",
            "-v",
            "/run/workspace:/ws",
            "-v",
            "/usr:/usr:ro",
        ];
        let out = host.run_as(user, run.iter().chain(&["sh", "-c", script]));
        let text = out.ok();
        assert!(text.contains("inside a container"), "{out}");
        assert!(text.contains("Steps 1 to 5 run here as "), "{out}");
        assert!(text.contains("doctor 0"), "{out}");
        assert_eq!(text.matches("step 0").count(), 5, "{out}");
    }
}

#[test]
fn old_kernels_and_wsl_are_told_apart() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    let with_kernel = |release: &str| {
        host.shell(&format!(
            "echo {release} >/tmp/release; mount --bind /tmp/release /proc/sys/kernel/osrelease"
        ));
        let report = doctor(&host, User::Root);
        host.shell("umount /proc/sys/kernel/osrelease; rm /tmp/release");
        report
    };
    let old = with_kernel("5.10.0-28-amd64");
    assert_eq!(old.code, 2, "{}", old.text);
    assert!(old.is("kernel", "fails").contains("older than 5.14"));
    let one = with_kernel("4.4.0-19041-Microsoft");
    assert!(one.is("kernel", "fails").contains("WSL 1"));
    let two = with_kernel("5.15.90.1-microsoft-standard-WSL2");
    assert_eq!(two.code, 0, "{}", two.text);
    assert!(two.is("kernel", "ok").contains("WSL 2"));
}

#[test]
fn a_file_system_that_takes_no_overlay_is_found_by_trying() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    host.shell(
        "mkdir -p /run/o/l /run/o/u /run/o/w
         mount -t overlay -o lowerdir=/run/o/l,upperdir=/run/o/u,workdir=/run/o/w \
            overlay /var/lib/minidocker",
    );
    let report = doctor(&host, User::Root);
    assert_eq!(report.code, 2, "{}", report.text);
    report.is("overlay", "fails");
    assert!(
        report
            .verdict()
            .starts_with("Steps 1 to 4 run here as root")
    );
    agrees_with_the_steps(&host, User::Root, &report);
    // The fix: another file system there.
    host.shell("umount /var/lib/minidocker");
    doctor(&host, User::Root).is("overlay", "ok");
}

#[test]
fn a_full_file_system_is_noted() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    host.shell("mount -t tmpfs -o size=8m tmpfs /var/lib/minidocker");
    let report = doctor(&host, User::Root);
    assert_eq!(report.code, 0, "{}", report.text);
    let seen = report.is("directory", "note");
    assert!(seen.contains(", 7 MiB free"), "{seen}");
}

#[test]
fn a_read_only_proc_sys_stops_the_bridge() {
    let _lock = undisturbed();
    let host = host(Setup::default());
    host.shell("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys");
    let report = doctor(&host, User::Root);
    assert_eq!(report.code, 2, "{}", report.text);
    assert!(report.is("bridge", "fails").contains("ip_forward"));
    assert!(
        report
            .verdict()
            .starts_with("Steps 1 to 3 run here as root")
    );
    agrees_with_the_steps(&host, User::Root, &report);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn in_the_virtual_machine_nothing_is_missing() {
    let _lock = undisturbed();
    assert!(in_the_vm());
    let host = host(Setup {
        delegated: true,
        ..Setup::default()
    });
    let report = doctor(&host, User::Root);
    let text = host.run(["env", "MINIDOCKER_VM=1", "lab", "doctor"]).ok();
    assert!(
        text.contains("the virtual machine of cargo lab vm"),
        "{text}"
    );
    report.is("cgroups", "ok");
    report.is("controllers", "ok");
    agrees_with_the_steps(&host, User::Root, &report);
    let report = doctor(&host, User::Student);
    report.is("controllers", "ok");
    agrees_with_the_steps(&host, User::Student, &report);
}

#[test]
#[ignore = "runs in the virtual machine"]
fn debians_switch_for_user_namespaces_is_named_and_turned() {
    let _lock = SWITCH.write().unwrap_or_else(PoisonError::into_inner);
    let host = host(Setup::default());
    let switch = "/proc/sys/kernel/unprivileged_userns_clone";
    let _open = Open(switch);
    host.shell(&format!("echo 0 >{switch}"));
    let report = doctor(&host, User::Student);
    assert_eq!(report.code, 2, "{}", report.text);
    assert!(report.is("user", "fails").contains("for root"));
    agrees_with_the_steps(&host, User::Student, &report);
    assert_eq!(doctor(&host, User::Root).code, 0);
    host.shell(&report.command("user"));
    let after = doctor(&host, User::Student);
    assert_eq!(after.code, 0, "{}", after.text);
}

/// A switch of the whole machine that is on again in the end.
struct Open(&'static str);

impl Drop for Open {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0, "1");
    }
}
