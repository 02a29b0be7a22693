//! What podman and docker have in common: a command line, and what must come of it.

use std::fmt::Write as _;

use harness::{Host, Output, Terminal, User, wait_for};

use crate::checks::Checks;

/// podman or docker, by the name of its command.
pub struct Engine<'a> {
    pub host: &'a Host,
    pub name: &'static str,
}

type Check = (&'static str, fn(&Engine<'_>));

/// What must hold on any machine.
const EVERYWHERE: [Check; 21] = [
    ("the exit status is the command's", exit_status),
    ("words and variables arrive byte for byte", words),
    ("standard input and much output pass through", streams),
    ("a command that is not there: 127", not_found),
    ("a command that cannot be executed: 126", not_executable),
    ("a terminal", terminal),
    ("volumes, writable and not", volumes),
    ("a read-only root, and memory on /tmp", read_only),
    ("users and groups", users),
    ("the streams of a user", streams_of_a_user),
    ("capabilities and no new privileges", capabilities),
    ("a privileged container", privileged),
    ("the seccomp profile", seccomp),
    ("masked and read-only paths", masked),
    ("devices", devices),
    ("limits of a process", rlimits),
    ("names, system settings and shared memory", settings),
    ("an init process", init),
    ("namespaces that two containers share", shared_namespaces),
    ("the life of a container in the background", life),
    ("exec", exec),
];

pub fn check_all(engine: &Engine<'_>, checks: &mut Checks) {
    for (name, check) in EVERYWHERE {
        checks.check(name, || check(engine));
    }
}

impl Engine<'_> {
    /// Runs one line of shell, `run --rm busybox id` for example.
    #[track_caller]
    pub fn call(&self, line: &str) -> Output {
        let script = format!("{} {line}", self.name);
        self.host.run(["sh", "-c", &script])
    }

    /// Runs a container to its end.
    #[track_caller]
    pub fn run(&self, line: &str) -> Output {
        self.call(&format!("run --rm --network none {line}"))
    }

    /// Runs a container in the background.
    #[track_caller]
    pub fn start(&self, name: &str, line: &str) {
        self.call(&format!("run -d --network none --name {name} {line}"))
            .ok();
    }

    #[track_caller]
    pub fn remove(&self, name: &str) {
        // docker does not wait, and knows no such option.
        let at_once = if self.name == "podman" { "-t 0" } else { "" };
        self.call(&format!("rm -f {at_once} {name}")).ok();
    }

    fn terminal(&self, line: &str) -> Terminal {
        let script = format!("exec {} {line}", self.name);
        self.host.terminal(User::Root, ["sh", "-c", &script])
    }

    #[track_caller]
    pub fn inspect(&self, name: &str, what: &str) -> String {
        let what = what.replace(' ', "}} {{");
        let line = format!("inspect --type container --format '{{{{{what}}}}}' {name}");
        self.call(&line).ok()
    }

    /// The container's cgroup, seen from outside.
    #[track_caller]
    fn cgroup(&self, name: &str) -> Cgroup<'_> {
        let pid = self.inspect(name, ".State.Pid");
        let path = self
            .host
            .shell(&format!("sed -n s/^0:://p /proc/{pid}/cgroup"));
        Cgroup {
            host: self.host,
            path,
        }
    }
}

struct Cgroup<'a> {
    host: &'a Host,
    path: String,
}

impl Cgroup<'_> {
    #[track_caller]
    fn read(&self, file: &str) -> String {
        self.host
            .shell(&format!("cat /sys/fs/cgroup{}/{file}", self.path))
    }

    #[track_caller]
    fn holds(&self, file: &str, value: &str) {
        assert_eq!(self.read(file), value, "{file}");
    }
}

fn exit_status(engine: &Engine<'_>) {
    engine.run("busybox true").exits(0);
    engine.run("busybox sh -c 'exit 7'").exits(7);
    engine
        .run("busybox sh -c 'sh -c \"kill -9 \\$\\$\"; exit $?'")
        .exits(137);
}

fn words(engine: &Engine<'_>) {
    let out = engine.run(
        r#"-e LINE="one
two" -e EMPTY= -w /etc busybox sh -c 'printf "%s|" "$@" "$LINE" "$EMPTY" "$PWD"' name 'a  b' '' '$x' "ü'""#,
    );
    assert_eq!(out.ok(), "a  b||$x|ü'|one\ntwo||/etc|");
}

fn streams(engine: &Engine<'_>) {
    let script = format!(
        "echo hello | {name} run -i --rm --network none busybox cat; \
         {name} run --rm --network none busybox seq 1 20000 | sha256sum; seq 1 20000 | sha256sum",
        name = engine.name
    );
    let out = engine.host.run(["sh", "-c", &script]).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert_eq!(lines[0], "hello");
    assert_eq!(lines[1], lines[2], "what came out is what went in");
    let out = engine.run("busybox sh -c 'echo out; echo err >&2'");
    assert_eq!((out.text(), out.errors()), ("out".into(), "err".into()));
}

fn not_found(engine: &Engine<'_>) {
    for command in ["no-such-command", "/no/such/command"] {
        let out = engine.run(&format!("busybox {command}"));
        let error = out.exits(127);
        assert!(error.contains(command), "the command is named: {out}");
    }
}

fn not_executable(engine: &Engine<'_>) {
    for command in ["/etc/plain", "/etc"] {
        let out = engine.run(&format!("busybox {command}"));
        let error = out.exits(126).to_lowercase();
        assert!(error.contains("permission denied"), "{out}");
    }
}

/// Types until the shell on the other side sees a window of that size.
fn expect_size(terminal: &mut Terminal, size: &str) {
    let mut line = String::new();
    // The command's words must not be what is waited for.
    write!(
        line,
        "until stty size | grep -q '{size}'; do sleep 0.1; done; "
    )
    .expect("memory");
    terminal.send(&format!("{line} echo it is ${{HOME:+so}}\n"));
    terminal.expect("it is so");
}

fn terminal(engine: &Engine<'_>) {
    let mut terminal = engine.terminal("run -it --rm --network none -e HOME=/ busybox sh");
    terminal.expect("# ");
    terminal.send("tty; test -t 0 && test -t 1 && test -t 2 && echo three of ${HOME:+them}\n");
    terminal.expect("/dev/pts/0");
    terminal.expect("three of them");
    expect_size(&mut terminal, "24 80");
    terminal.resize(30, 100);
    expect_size(&mut terminal, "30 100");
    // The group that gets the Ctrl-C is in the foreground by the time it speaks.
    terminal.send("sh -c \"echo ${HOME:+good} night; exec sleep 1000\"\n");
    terminal.expect("good night");
    terminal.send("\x03");
    terminal.send("echo status $?\n");
    terminal.expect("status 130");
    // Whoever holds no capability may use the terminal as well.
    terminal.send("exec 3>/dev/tty; echo through the ${HOME:+name} >&3; ls -l /dev/console\n");
    terminal.expect("through the name");
    terminal.expect("/dev/console");
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait(), 5);
}

fn volumes(engine: &Engine<'_>) {
    engine
        .host
        .shell("mkdir -p /tmp/volume; echo mine >/tmp/volume/file; echo one >/tmp/one");
    let out = engine.run(
        "-v /tmp/volume:/data -v /tmp/volume:/look:ro -v /tmp/one:/etc/one:ro busybox sh -c \
         'cat /look/file /etc/one; echo theirs >/data/new; cat /look/new; echo no >/look/new'",
    );
    assert_eq!(out.text(), "mine\none\ntheirs");
    assert_eq!(out.code(), 1, "{out}");
    assert!(out.errors().contains("Read-only file system"), "{out}");
    assert_eq!(engine.host.shell("cat /tmp/volume/new"), "theirs");
    // A named volume takes over what the image has there.
    engine
        .run("-v kept:/etc busybox sh -c 'echo x >/etc/kept'")
        .ok();
    let out = engine.run("-v kept:/v busybox cat /v/kept /v/plain");
    assert_eq!(out.ok(), "x\ntext");
}

fn read_only(engine: &Engine<'_>) {
    let out = engine.run(
        "--read-only --tmpfs /scratch:size=1m,mode=1777 busybox sh -c \
         'echo x >/scratch/x && cat /scratch/x; df -k /scratch | tail -1; echo x >/x'",
    );
    assert!(out.errors().contains("Read-only file system"), "{out}");
    assert!(out.text().starts_with("x\n"), "{out}");
    assert!(out.text().contains(" 1024 "), "{out}");
}

fn users(engine: &Engine<'_>) {
    let line = "busybox sh -c 'id -u; id -g; id -G; touch /etc/x 2>/dev/null || echo no; grep Cap[PE] /proc/self/status'";
    let out = engine.run(&format!("-u ann {line}")).ok();
    let none = "CapPrm:\t0000000000000000\nCapEff:\t0000000000000000";
    assert_eq!(out, format!("1234\n2345\n2345 3456\nno\n{none}"));
    let out = engine.run(&format!("-u 77:88 --group-add 99 {line}")).ok();
    assert_eq!(out, format!("77\n88\n88 99\nno\n{none}"));
}

/// Programs that log to /dev/stdout open it anew, and must be let.
fn streams_of_a_user(engine: &Engine<'_>) {
    let out = engine.run("-u ann busybox sh -c 'echo out >/dev/stdout; echo err >/dev/stderr'");
    assert_eq!((out.ok(), out.errors()), ("out".into(), "err".into()));
    let out = engine.run("-t -u ann busybox sh -c 'stat -c %u /dev/pts/0; echo fine >/dev/tty'");
    assert_eq!(out.ok().replace('\r', ""), "1234\nfine");
}

/// The sets of capabilities of a container's command, by name.
fn sets(out: &Output) -> Vec<(String, u64)> {
    let set = |line: &str| {
        let (name, bits) = line.strip_prefix("Cap")?.split_once(":\t")?;
        Some((name.to_owned(), u64::from_str_radix(bits, 16).ok()?))
    };
    out.ok().lines().filter_map(set).collect()
}

fn capabilities(engine: &Engine<'_>) {
    const CHOWN: u64 = 1;
    const KILL: u64 = 1 << 5;
    const NET_ADMIN: u64 = 1 << 12;
    let look = "busybox cat /proc/self/status";
    let hold = |line: &str, bits: u64| {
        for (name, found) in sets(&engine.run(&format!("{line} {look}"))) {
            let expected = match name.as_str() {
                "Prm" | "Eff" | "Bnd" => bits,
                _ => 0,
            };
            assert_eq!(found, expected, "Cap{name} of `{line}`");
        }
    };
    hold("--cap-drop all", 0);
    hold(
        "--cap-drop all --cap-add chown --cap-add net_admin",
        CHOWN | NET_ADMIN,
    );
    let usual = engine.run(look);
    for (name, bits) in sets(&usual) {
        let expected = match name.as_str() {
            "Prm" | "Eff" | "Bnd" => CHOWN | KILL,
            _ => 0,
        };
        let some = bits & (CHOWN | KILL | NET_ADMIN);
        assert_eq!(some, expected, "Cap{name}: {bits:x}");
    }
    assert!(usual.ok().contains("NoNewPrivs:\t0"), "{usual}");
    let out = engine
        .run(&format!("--security-opt no-new-privileges {look}"))
        .ok();
    assert!(out.contains("NoNewPrivs:\t1"), "{out}");
}

/// Where the machine's root lacks a capability itself, its containers do as well.
fn privileged(engine: &Engine<'_>) {
    // docker of this age knows no later ones.
    const KNOWN: u64 = (1 << 38) - 1;
    let bits = |hex: &str| u64::from_str_radix(hex, 16).expect("a set of capabilities");
    let own = bits(
        &engine
            .host
            .shell("sed -n 's/^CapEff:.//p' /proc/self/status"),
    );
    let out = engine.run(
        "--privileged busybox sh -c 'sed -n s/^CapEff:.//p /proc/self/status; \
         grep Seccomp: /proc/self/status; mkdir /m; \
         mount -t tmpfs x /m && mknod /m/kmsg c 1 11 && : </m/kmsg && echo all'",
    );
    let text = out.ok();
    let mut lines = text.lines();
    let found = bits(lines.next().unwrap_or_default());
    assert_eq!(found & KNOWN, own & KNOWN, "{found:x} and {own:x}: {out}");
    assert!(lines.eq(["Seccomp:\t0", "all"]), "{out}");
}

fn seccomp(engine: &Engine<'_>) {
    let out = engine.run("busybox sh -c 'grep Seccomp: /proc/self/status; unshare -U true'");
    assert_eq!(out.text(), "Seccomp:\t2");
    // podman's profile lets everybody have user namespaces.
    let refused = out.errors().contains("Operation not permitted");
    assert_eq!(refused, engine.name == "docker", "{out}");
    let out =
        engine.run("--security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status");
    assert_eq!(out.ok(), "Seccomp:\t0");
    // A profile of one's own: everything but mkdir.
    engine.host.shell(
        r#"echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}' >/tmp/profile.json"#,
    );
    let out = engine.run("--security-opt seccomp=/tmp/profile.json busybox mkdir /new");
    out.exits(1);
    assert!(out.errors().contains("No space left on device"), "{out}");
}

fn masked(engine: &Engine<'_>) {
    let out = engine.run(
        "busybox sh -c 'cat /proc/timer_list /proc/keys /proc/kcore 2>/dev/null | head -c 9 | wc -c; ls -A /sys/firmware | wc -l; \
         echo 1 >/proc/sys/kernel/panic; true'",
    );
    assert_eq!(out.text().replace('\n', " "), "0 0");
    assert!(out.errors().contains("Read-only file system"), "{out}");
}

fn devices(engine: &Engine<'_>) {
    // One more that is given, and one that is made inside and was not.
    let out = engine.run(
        "--device /dev/null:/dev/given --cap-add mknod busybox sh -c \
         'stat -c %t:%T /dev/given /dev/null /dev/full /dev/tty; readlink /dev/fd; readlink /dev/stdin; \
          echo x >/dev/given && echo fine; head -c 8 /dev/urandom | wc -c; \
          mknod /kmsg c 1 11 && : </kmsg'",
    );
    let expected = "1:3\n1:3\n1:7\n5:0\n/proc/self/fd\n/proc/self/fd/0\nfine\n8";
    assert_eq!(out.text(), expected);
    assert!(out.errors().contains("Operation not permitted"), "{out}");
}

fn rlimits(engine: &Engine<'_>) {
    let out = engine.run(
        "--ulimit nofile=100:200 --ulimit core=0 busybox sh -c 'ulimit -n; ulimit -Hn; ulimit -c'",
    );
    assert_eq!(out.ok(), "100\n200\n0");
    // More than this machine's root may have: so much as it may.
    let most = engine
        .host
        .shell("grep -q CapEff:.*fffeffffff /proc/self/status && ulimit -Hn || echo 1000000");
    let out = engine.run("--ulimit nofile=1000000:1000000 busybox sh -c 'ulimit -n; ulimit -Hn'");
    assert_eq!(out.ok(), format!("{most}\n{most}"));
}

fn settings(engine: &Engine<'_>) {
    let out = engine.run(
        "--hostname box --sysctl net.ipv4.ip_unprivileged_port_start=77 --sysctl kernel.shmmax=12345 \
         --shm-size 2m --env A=b busybox sh -c 'hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start \
         /proc/sys/kernel/shmmax; df -k /dev/shm | tail -1; cat /proc/self/cgroup; umask; echo $A; ls /proc/self/fd | wc -l'",
    );
    let text = out.ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["box", "77", "12345"], "{out}");
    assert!(lines[3].contains(" 2048 "), "{out}");
    assert!(lines.contains(&"0::/"), "a cgroup namespace: {out}");
    // Three streams, and the directory that ls reads.
    assert_eq!(lines[lines.len() - 3..], ["0022", "b", "4"], "{out}");
}

fn init(engine: &Engine<'_>) {
    let out = engine.run("--init busybox sh -c 'cat /proc/1/comm; exit 3'");
    out.exits(3);
    assert!(
        ["docker-init", "catatonit", "podman-init"].contains(&out.text().as_str()),
        "{out}"
    );
}

fn shared_namespaces(engine: &Engine<'_>) {
    engine.start("first", "--ipc shareable busybox sleep 1000");
    let links = "busybox sh -c 'readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; readlink /proc/self/ns/pid; readlink /proc/self/ns/uts'";
    let second = "--network container:first --ipc container:first --pid container:first";
    let out = engine.call(&format!("run --rm {second} {links}")).ok();
    let pid = engine.inspect("first", ".State.Pid");
    for (kind, same) in [("net", true), ("ipc", true), ("pid", true), ("uts", false)] {
        let first = engine
            .host
            .shell(&format!("readlink /proc/{pid}/ns/{kind}"));
        assert_eq!(out.contains(&first), same, "{kind}: {first} in {out}");
    }
    let out = engine
        .call(&format!(
            "run --rm --network host --pid host --uts host {links}"
        ))
        .ok();
    for kind in ["net", "pid", "uts"] {
        let own = engine.host.shell(&format!("readlink /proc/self/ns/{kind}"));
        assert!(out.contains(&own), "{kind}: {own} in {out}");
    }
    engine.remove("first");
}

/// Says hello, and ends with status 3 when it is asked to end.
const SERVICE: &str =
    "busybox sh -c 'trap \"echo bye; exit 3\" TERM; echo hello; while :; do sleep 0.05; done'";

fn state(engine: &Engine<'_>) -> String {
    engine.inspect("service", ".State.Status")
}

fn life(engine: &Engine<'_>) {
    engine.start("service", SERVICE);
    let says = |text: &str| {
        wait_for(&format!("{text:?} in the log"), 60, || {
            (engine.call("logs service").text() == text).then_some(())
        });
    };
    says("hello");
    let list = engine.call("ps").ok();
    assert!(list.contains("service") && list.contains("Up "), "{list}");
    assert!(engine.call("top service").ok().contains("sleep 0.05"));

    let cgroup = engine.cgroup("service");
    engine.call("pause service").ok();
    assert_eq!(state(engine), "paused");
    cgroup.holds("cgroup.freeze", "1");
    engine.call("unpause service").ok();
    assert_eq!(state(engine), "running");
    cgroup.holds("cgroup.freeze", "0");

    engine.call("stop service").ok();
    assert_eq!(engine.inspect("service", ".State.ExitCode"), "3");
    says("hello\nbye");
    engine.call("start service").ok();
    says("hello\nbye\nhello");
    engine.call("kill service").ok();
    assert_eq!(engine.call("wait service").ok(), "137");
    engine.call("start service").ok();
    says("hello\nbye\nhello\nhello");
    engine.call("restart service").ok();
    assert_eq!(state(engine), "running");
    // Until then nobody hears what it is asked: it is process 1.
    says("hello\nbye\nhello\nhello\nbye\nhello");
    // A signal by name that the service survives, and one that ends it.
    engine.call("kill -s WINCH service").ok();
    assert_eq!(state(engine), "running");
    engine.call("kill -s TERM service").ok();
    assert_eq!(engine.call("wait service").ok(), "3");
    engine.call("rm service").ok();
    assert!(!engine.call("ps -a").ok().contains("service"));
}

fn exec(engine: &Engine<'_>) {
    engine.start("host", "--cap-drop net_raw -e A=b busybox sleep 1000");
    let exec = |line: &str| engine.call(&format!("exec {line}"));
    let out = exec("host sh -c 'echo $A; cat /proc/1/comm; hostname; exit 9'");
    out.exits(9);
    let id = engine.call("ps --no-trunc -q").ok();
    let expected = format!("b\nsleep\n{}", &id[..12]);
    assert_eq!(out.text(), expected);
    let out = exec("-u ann -w /etc -e C=d host sh -c 'id -u; id -G; pwd; echo $C'").ok();
    assert!(
        out.starts_with("1234\n") && out.contains("3456\n/etc\nd"),
        "{out}"
    );
    // What holds for the container holds for whoever comes later.
    let status = "cat /proc/self/status /proc/self/cgroup";
    let later = exec(&format!("host {status}"));
    assert!(later.ok().contains("Seccomp:\t2"), "{later}");
    assert!(
        later.ok().contains("0::/\n") || later.ok().ends_with("0::/"),
        "{later}"
    );
    let bounding = engine.host.shell(&format!(
        "grep CapBnd /proc/{}/status",
        engine.inspect("host", ".State.Pid")
    ));
    assert!(later.ok().contains(&bounding), "{bounding}: {later}");
    let script = format!("echo through | {} exec -i host cat", engine.name);
    assert_eq!(engine.host.run(["sh", "-c", &script]).ok(), "through");
    for missing in ["no-such-command", "/no/such/command"] {
        let out = exec(&format!("host {missing}"));
        assert!([126, 127].contains(&out.code()), "{out}");
        assert!(
            format!("{out}").contains("no such file") || format!("{out}").contains("not found"),
            "{out}"
        );
    }
    exec("host /etc/plain").exits(126);
    exec("-d host sh -c 'echo later >/tmp/later'").ok();
    wait_for("what exec -d writes", 60, || {
        (exec("host cat /tmp/later").text() == "later").then_some(())
    });
    let mut terminal = engine.terminal("exec -it -e HOME=/ host sh");
    terminal.expect("# ");
    terminal.send("tty\n");
    terminal.expect("/dev/pts/");
    expect_size(&mut terminal, "24 80");
    terminal.resize(40, 120);
    expect_size(&mut terminal, "40 120");
    terminal.send("exit 6\n");
    assert_eq!(terminal.wait(), 6);
    engine.remove("host");
}

/// Limits as the kernel was told, before and after a change of them.
pub fn limits_are_in_force(engine: &Engine<'_>) {
    engine.start(
        "bounded",
        "--memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 32 busybox sleep 1000",
    );
    let cgroup = engine.cgroup("bounded");
    cgroup.holds("memory.max", "67108864");
    cgroup.holds("cpu.max", "50000 100000");
    cgroup.holds("pids.max", "32");
    let script = "for n in $(seq 40); do sleep 100 & done";
    let out = engine.call(&format!("exec bounded sh -c '{script}'"));
    assert!(out.errors().contains("fork"), "{out}");
    let stats = "stats --no-stream --format '{{.MemUsage}}' bounded";
    let stats = engine.call(stats).ok();
    let is_limit = stats.ends_with("/ 64MiB") || stats.ends_with("/ 67.11MB");
    assert!(is_limit, "{stats}");
    // podman of this age changes no limit on processes, and docker wants to hear of swap.
    let docker = engine.name == "docker";
    let more = if docker {
        "--memory-swap 96m --pids-limit 48"
    } else {
        ""
    };
    let line = format!("update --memory 96m --cpus 0.25 {more} bounded");
    engine.call(&line).ok();
    cgroup.holds("memory.max", "100663296");
    cgroup.holds("cpu.max", "25000 100000");
    if docker {
        cgroup.holds("pids.max", "48");
    }
    engine.remove("bounded");
}

/// First as somebody in the container, then as its first process.
pub fn hog_is_killed(engine: &Engine<'_>) {
    let hog = "dd if=/dev/zero of=/dev/null bs=200M count=1";
    let limit = "--memory 64m --memory-swap 64m";
    let script = format!("sleep 1; {hog}; echo it ended with $?; exec sleep 1000");
    engine.start("hog", &format!("{limit} busybox sh -c '{script}'"));
    wait_for("the hog's end", 60, || {
        let log = engine.call("logs hog").ok();
        log.contains("it ended with 137").then_some(())
    });
    let events = engine.cgroup("hog").read("memory.events");
    assert!(events.contains("oom_kill 1"), "{events}");
    // podman of this age does not find what conmon notes down.
    if engine.name == "docker" {
        engine.call("kill hog").ok();
        wait_for("docker to tell of it", 60, || {
            let state = engine.inspect("hog", ".State.Running .State.OOMKilled");
            (state == "false true").then_some(())
        });
    }
    engine.remove("hog");
    engine.run(&format!("{limit} busybox {hog}")).exits(137);
}
