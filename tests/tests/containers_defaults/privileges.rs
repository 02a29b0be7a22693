//! Capabilities, system calls, new privileges, and who runs a command.

use harness::engine::{Machine, Who};

use crate::{for_each, inside, refused, with_debian, words};

/// Docker's fourteen, as capabilities(7) numbers them.
const DEFAULT: u64 = 0xa804_25fb;
const CHOWN: u64 = 1;
const KILL: u64 = 1 << 5;
const NET_ADMIN: u64 = 1 << 12;
const SYS_TIME: u64 = 1 << 25;

/// A line of the container's own status (proc_pid_status(5)).
fn status(machine: &Machine, options: &str, name: &str) -> String {
    let script = format!("sed -n 's/^{name}:[ \t]*//p' /proc/self/status");
    inside(machine, options, &script)
}

fn capabilities(machine: &Machine, options: &str) -> u64 {
    let sets = inside(machine, options, "sed -n 's/^Cap//p' /proc/self/status");
    let set = |name: &str| {
        let line = sets.lines().find(|line| line.starts_with(name));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        u64::from_str_radix(number.expect("a set"), 16).expect("a number")
    };
    assert_eq!(set("Eff"), set("Bnd"), "{sets}");
    assert_eq!(set("Eff"), set("Prm"), "{sets}");
    assert_eq!((set("Inh"), set("Amb")), (0, 0), "{sets}");
    set("Eff")
}

#[test]
fn root_has_dockers_fourteen_capabilities() {
    for_each(|machine| {
        assert_eq!(capabilities(machine, ""), DEFAULT);
        assert_eq!(
            capabilities(
                machine,
                "--cap-add net_admin --cap-drop CAP_CHOWN --cap-drop kill"
            ),
            DEFAULT & !CHOWN & !KILL | NET_ADMIN
        );
        assert_eq!(capabilities(machine, "--cap-drop ALL"), 0);
        assert_eq!(
            capabilities(machine, "--cap-drop all --cap-add Chown --cap-add SYS_TIME"),
            CHOWN | SYS_TIME
        );
        let all = capabilities(machine, "--cap-add ALL --cap-drop SYS_TIME");
        assert!(all & NET_ADMIN != 0 && all & SYS_TIME == 0, "{all:x}");
        assert!(refused(machine, "--cap-add root").contains("unknown capability"));
        machine.nothing_left();
    });
}

#[test]
fn anybody_else_has_none() {
    for who in [Who::Root, Who::Student] {
        let machine = with_debian(who);
        let script = "sed -n 's/^Cap\\(Eff\\|Prm\\|Bnd\\):[ \t]*//p' /proc/self/status";
        let sets = machine.ok(&words("--user daemon", "debian", script));
        assert_eq!(sets, format!("{:016x}\n{:016x}\n{DEFAULT:016x}", 0, 0));
    }
}

#[test]
fn a_process_that_is_added_has_no_more_than_the_first() {
    for_each(|machine| {
        machine.ok("run -d --name aa --network none --cap-drop CHOWN host sleep 100");
        let script = "sed -n 's/^CapBnd:[ \t]*//p; s/^Seccomp:[ \t]*/seccomp /p' /proc/self/status";
        let found = machine.ok(&["exec", "aa", "sh", "-c", script]);
        assert_eq!(found, format!("{:016x}\nseccomp 2", DEFAULT & !CHOWN));
        let found = machine.ok(&["exec", "--privileged", "aa", "sh", "-c", script]);
        let (set, seccomp) = found.split_once('\n').unwrap();
        let set = u64::from_str_radix(set, 16).unwrap();
        assert!(set & CHOWN != 0 && set & NET_ADMIN != 0, "{set:x}");
        assert_eq!(seccomp, "seccomp 2", "the container's profile stays");
        machine.nothing_left();
    });
}

/// Prints, for each process called `sleep`, what the kernel runs at its system calls (ptrace(2),
/// `PTRACE_SECCOMP_GET_FILTER`).
const FILTERS: &str = r"
import ctypes, glob, hashlib, os
libc = ctypes.CDLL(None)
libc.ptrace.argtypes = [ctypes.c_long] * 3 + [ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
SEIZE, INTERRUPT, DETACH, GET_FILTER = 0x4206, 0x4207, 17, 0x420c
for path in glob.glob('/proc/[0-9]*/comm'):
    if open(path).read() != 'sleep\n':
        continue
    pid = int(path.split('/')[2])
    assert libc.ptrace(SEIZE, pid, 0, None) == 0 == libc.ptrace(INTERRUPT, pid, 0, None)
    os.waitpid(pid, 0x40000000)
    programs = []
    while (length := libc.ptrace(GET_FILTER, pid, len(programs), None)) > 0:
        program = ctypes.create_string_buffer(8 * length)
        assert libc.ptrace(GET_FILTER, pid, len(programs), program) == length
        programs.append(hashlib.sha256(program.raw).hexdigest())
    libc.ptrace(DETACH, pid, 0, None)
    print(*programs)
";

#[test]
fn the_filter_of_a_process_that_is_added_is_that_of_the_first_instruction_for_instruction() {
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}"#;
    for_each(|machine| {
        machine.script(&format!("echo '{profile}' >/tmp/p")).ok();
        let mut seen = Vec::new();
        for options in [
            "",
            "--cap-add SYS_ADMIN",
            "--init --security-opt no-new-privileges --security-opt seccomp=/tmp/p",
        ] {
            machine.ok(&format!(
                "run -d --name aa --network none {options} host sleep 100"
            ));
            machine.ok("exec -d aa sleep 100");
            machine.ok("exec -d --privileged aa sleep 100");
            // It is compiled once, and kept.
            machine.ok("exec -d aa sleep 100");
            let filters = machine.host().run(["python3", "-c", FILTERS]).ok();
            let mut filters: Vec<&str> = filters.lines().collect();
            assert_eq!(filters.len(), 4, "{filters:#?}");
            filters.dedup();
            assert!(filters.len() == 1 && !filters[0].is_empty(), "{filters:#?}");
            seen.push(filters[0].to_owned());
            machine.ok("rm -f aa");
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 3, "each profile is another program: {seen:#?}");
        machine.script("rm /tmp/p").ok();
        machine.nothing_left();
    });
}

#[test]
fn the_filter_of_system_calls_is_on_and_can_be_taken_off() {
    for_each(|machine| {
        assert_eq!(status(machine, "", "Seccomp"), "2");
        let refusals = "unshare --mount true 2>&1; mount -t tmpfs t /mnt 2>&1; true";
        let said = inside(machine, "", refusals);
        let says = ["not permitted", "permission denied"];
        assert_eq!(
            said.lines()
                .filter(|line| says.iter().any(|it| line.contains(it)))
                .count(),
            2,
            "{said}"
        );
        let off = "--security-opt seccomp=unconfined";
        assert_eq!(status(machine, off, "Seccomp"), "0");
        // A user namespace takes no capability: it was the filter that refused it.
        inside(machine, off, "unshare --user true");
        machine.fails(
            1,
            &words(
                "",
                "host",
                "unshare --user true || { echo minidocker: no >&2; exit 1; }",
            ),
        );
        // With the capability come the calls that need it.
        inside(machine, "--cap-add SYS_ADMIN", "mount -t tmpfs t /mnt");
        machine.nothing_left();
    });
}

#[test]
fn a_profile_of_the_users_takes_the_place_of_dockers() {
    for_each(|machine| {
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}}]}"#;
        let script = format!(
            "cat >/tmp/profile.json <<'E'\n{profile}\nE\n\
             minidocker run --rm --network none --security-opt seccomp=/tmp/profile.json host \
             sh -c 'mkdir /tmp/a 2>&1; unshare --user rmdir /srv && echo removed'"
        );
        let said = machine.script(&script).ok();
        assert!(said.contains("No space left"), "{said}");
        assert!(said.ends_with("removed"), "{said}");
        let script =
            "echo nonsense >/tmp/p; minidocker run --rm --security-opt seccomp=/tmp/p host true";
        let said = machine.script(script).exits(125);
        assert!(said.contains("seccomp"), "{said}");
    });
}

#[test]
fn no_new_privileges_is_asked_for() {
    for_each(|machine| {
        assert_eq!(status(machine, "", "NoNewPrivs"), "0");
        let option = "--security-opt no-new-privileges";
        assert_eq!(status(machine, option, "NoNewPrivs"), "1");
        let option = "--security-opt=no-new-privileges:true";
        assert_eq!(status(machine, option, "NoNewPrivs"), "1");
    });
}

#[test]
fn a_privileged_container_has_all_that_its_user_has() {
    for_each(|machine| {
        let own = machine.script(match machine.who() {
            Who::Root => "sed -n 's/^CapEff:[ \t]*//p' /proc/self/status",
            _ => "unshare -Ur sed -n 's/^CapEff:[ \t]*//p' /proc/self/status",
        });
        let own = u64::from_str_radix(&own.ok(), 16).unwrap();
        assert_eq!(capabilities(machine, "--privileged"), own);
        assert_eq!(status(machine, "--privileged", "Seccomp"), "0");
        let found = inside(
            machine,
            "--privileged",
            "grep -c ' /proc/' /proc/mounts; grep -E ' /sys(/fs/cgroup)? ' /proc/mounts; ls /dev",
        );
        assert!(found.starts_with("0\n"), "nothing is masked: {found}");
        let mounts = || found.lines().filter(|line| line.contains(" /sys"));
        assert_eq!(mounts().count(), 2, "{found}");
        assert!(mounts().all(|line| line.contains(" rw,")), "{found}");
        assert!(found.lines().any(|name| name == "fuse"), "{found}");
        machine.nothing_left();
    });
}

#[test]
fn a_command_runs_as_whom_the_image_knows() {
    for who in [Who::Root, Who::Student] {
        let machine = with_debian(who);
        let id = |options: &str| {
            machine.ok(&words(options, "debian", "id -u; id -g; id -G; echo $HOME"))
        };
        assert_eq!(id(""), "0\n0\n0\n/root");
        assert_eq!(id("--user daemon"), "1\n1\n1\n/usr/sbin");
        assert_eq!(
            id("--user 1:games --group-add video --group-add 4711"),
            "1\n60\n60 44 4711\n/usr/sbin"
        );
        assert_eq!(id("--user 4711"), "4711\n0\n0\n/");
        let refusals = [
            (
                "--user nobodyelse",
                "unable to find user nobodyelse: no matching entries in passwd file",
            ),
            ("--user 0x0", "unable to find user 0x0"),
            (
                "--group-add nogroupelse",
                "unable to find group nogroupelse",
            ),
        ];
        for (options, says) in refusals {
            let said = machine.fails(125, &words(options, "debian", "true"));
            assert!(said.contains(says), "{said}");
        }
        machine.nothing_left();
    }
}

#[test]
fn with_a_single_id_nobody_else_can_be_had_and_it_is_said_why() {
    let machine = Machine::of(Who::Lone);
    assert_eq!(inside(&machine, "", "id -u; id -g"), "0\n0");
    let said = refused(&machine, "--user 1000");
    assert!(said.contains("1000 is not mapped"), "{said}");
}
