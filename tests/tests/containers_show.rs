//! What can be seen of containers, and done to many at once: lists, inspections, processes, use,
//! events, the disk, damage that is mended, and the way back from a reboot.

use std::fs;

use harness::engine::{Machine, Wanted, Who, shell};
use harness::wait_for;
use serde_json::Value;

/// One where containers have cgroups, as after a login on a usual machine.
fn machine(who: Who) -> Machine {
    Machine::with(Wanted {
        who,
        delegated: true,
        ..Wanted::default()
    })
}

/// Four containers: one runs, one is paused, one has failed, one never ran.
fn four(machine: &Machine) {
    machine.ok(&shell(
        "run -d --network none --name runs -l tier=front -l com.kind=a host",
        "echo 'two  blanks'; exec sleep 1000",
    ));
    machine.ok("run -d --network none --name paused host sleep 1000");
    machine.ok("pause paused");
    machine.ok(&shell("run -d --network none --name failed host", "exit 3"));
    machine.ok("wait failed");
    machine.ok("create --network none --name new -v /tmp host true");
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// The keys of an object, in their order.
fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn ps_shows_each_state_in_dockers_words() {
    for who in [Who::Root, Who::Student] {
        let machine = machine(who);
        assert_eq!(
            machine.ok("ps"),
            "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES"
        );
        four(&machine);
        let all = machine.ok("ps -a --format {{.Names}}:{{.State}}:{{.Status}}");
        let all: Vec<String> = all.lines().map(without_ages).collect();
        assert_eq!(
            all,
            [
                "new:created:Created",
                "failed:exited:Exited (3) AGE ago",
                "paused:paused:Up AGE (Paused)",
                "runs:running:Up AGE",
            ]
        );
        let running = machine.ok("container ls --format {{.Names}}");
        assert_eq!(lines(&running), ["paused", "runs"]);
        let table = machine.ok("ps -a");
        let table = lines(&table);
        assert!(
            table[0].starts_with("CONTAINER ID   IMAGE     COMMAND "),
            "{table:#?}"
        );
        assert!(
            table[4].contains("   host      \"sh -c 'echo 'two  b…\"   "),
            "{table:#?}"
        );
        assert!(table[4].ends_with("   runs"), "{table:#?}");
        machine.nothing_left();
    }
}

/// The line with AGE for how long something is ago.
fn without_ages(line: &str) -> String {
    let mut line = line.to_owned();
    for age in ["Less than a second", "1 second", "About a minute"] {
        line = line.replace(age, "AGE");
    }
    let digits = |word: &str| word.parse::<u32>().is_ok();
    let words: Vec<&str> = line.split(' ').collect();
    match words.iter().position(|word| *word == "seconds") {
        Some(at) if at > 0 && digits(words[at - 1]) => {
            line.replace(&format!("{} seconds", words[at - 1]), "AGE")
        }
        _ => line,
    }
}

#[test]
fn ps_has_as_much_as_its_flags_and_filters_say() {
    let machine = Machine::of(Who::Root);
    four(&machine);
    let id = machine.ok("ps -aq --no-trunc --filter name=failed");
    assert_eq!(id, machine.container("failed").id());
    let (short, host) = (&id[..12], machine.ok("images -q host"));
    for (words, expected) in [
        ("", "paused runs"),
        ("-l", "new"),
        ("-n 2", "new failed"),
        ("-n 0", "paused runs"),
        ("-n -1 -a", "new failed paused runs"),
        ("--latest --filter name=runs", "runs"),
        ("--filter name=un", "runs"),
        ("-a --filter name=^/new$", "new"),
        ("-a --filter name=new --filter name=failed", "new failed"),
        ("-a --filter status=exited", "failed"),
        (
            "--filter status=created --filter status=exited",
            "new failed",
        ),
        ("--filter status=restarting", ""),
        ("-a --filter exited=3", "failed"),
        ("-a --filter exited=0", ""),
        ("--filter label=tier", "runs"),
        ("--filter label=tier=front --filter label=com.kind", "runs"),
        ("--filter label=tier=back", ""),
        ("-a --filter before=failed", "paused runs"),
        ("-a --filter since=failed", "new"),
        ("-a --filter ancestor=host", "new failed paused runs"),
        ("-a --filter ancestor=nothing", ""),
        ("-a --filter volume=/tmp", "new"),
        ("-a --filter network=none", "new failed paused runs"),
        ("-a --filter network=bridge", ""),
        ("-a --filter health=none -n 1", "new"),
    ] {
        let shown = machine.ok(&format!("ps --format {{{{.Names}}}} {words}"));
        let shown: Vec<&str> = shown.lines().collect();
        assert_eq!(shown.join(" "), expected, "ps {words}");
    }
    for filter in [format!("id={short}"), format!("ancestor={host}")] {
        let shown = machine.ok(&format!("ps -a --filter {filter} --format {{{{.ID}}}}"));
        assert!(shown.contains(short), "{filter}: {shown}");
    }
    assert_eq!(machine.ok("ps -q"), machine.ok("ps --quiet --format table"));
    for wrong in [
        "colour=red",
        "status=tired",
        "exited=x",
        "before=nobody",
        "is-task=true",
    ] {
        machine.fails(1, &format!("ps --filter {wrong}"));
    }
    machine.fails(125, "ps --filter name");
    machine.fails(125, "ps --colour");
    machine.nothing_left();
}

#[test]
fn ps_prints_what_a_template_asks_for() {
    let machine = Machine::of(Who::Root);
    four(&machine);
    let one = json(&machine.ok("ps -a --filter name=new --format json"));
    assert_eq!(
        keys(&one),
        [
            "Command",
            "CreatedAt",
            "ID",
            "Image",
            "Labels",
            "LocalVolumes",
            "Mounts",
            "Names",
            "Networks",
            "Ports",
            "RunningFor",
            "Size",
            "State",
            "Status",
        ]
    );
    assert_eq!(one["Command"], "\"true\"");
    assert_eq!(one["LocalVolumes"], "1");
    assert_eq!(one["Networks"], "none");
    assert_eq!(one["Size"], "0B");
    assert_eq!(
        one,
        json(&machine.ok(&["ps", "-l", "--format", "{{json .}}"]))
    );
    let runs = |format: &str| machine.ok(&["ps", "--filter", "name=runs", "--format", format]);
    assert_eq!(
        runs(r#"{{.Label "tier"}}|{{.Label "com.kind"}}|{{.Label "none"}}|{{.Labels}}"#),
        "front|a||com.kind=a,tier=front"
    );
    assert_eq!(
        runs(r#"table {{.Names}}\t{{.Label "com.kind"}}\t{{upper .State}}"#),
        "NAMES     kind      STATE\nruns      a         RUNNING"
    );
    machine.fails(1, &["ps", "--format", "{{.Colour}}"]);
    let label = "made=\u{1b}[2J";
    machine.ok(&["create", "-l", label, "--name", "rude", "host", "true"]);
    let labels = machine.ok("ps -l --format {{.Labels}}");
    assert_eq!(labels, r"made=\u{1b}[2J");
    machine.ok("rm rude");
    machine.ok("exec runs dd if=/dev/zero of=/large bs=1000 count=5");
    let size = machine.ok("ps -s --filter name=runs --format {{.Size}}");
    assert!(
        size.starts_with("5kB (virtual ") && size.ends_with("MB)"),
        "{size}"
    );
    assert_eq!(size, runs("{{.Size}}"));
    // Whoever takes the image's name away leaves the container's list with its id.
    machine.ok("tag host other");
    machine.ok("create --network none --name by-other other true");
    assert_eq!(machine.ok("ps -l --format {{.Image}}"), "other");
    machine.ok("rmi other");
    assert_eq!(
        machine.ok("ps -l --format {{.Image}}"),
        machine.ok("images -q host")
    );
    machine.nothing_left();
}

#[test]
fn times_are_those_of_the_zone_that_the_caller_names() {
    let machine = machine(Who::Root);
    // Two of the same, for old and new readers, and the rule for what comes after (RFC 8536).
    let head =
        r"TZif2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\4";
    let zone = format!(r"{head}\0\0\115\130\0\0IST\0");
    let place = "/usr/share/zoneinfo";
    machine.host().shell(&format!(
        "mount -t tmpfs none /usr/share && mkdir {place} && printf '{zone}{zone}\\nIST-5:30\\n' >{place}/There"
    ));
    machine.ok("create --name aa host true");
    let show = |zone: &str, command: &str| {
        machine
            .script(&format!("TZ={zone} minidocker {command}"))
            .ok()
    };
    for (zone, end) in [
        ("There", " +0530 IST"),
        (":There", " +0530 IST"),
        ("XST-3", " +0300 XST"),
        ("UTC", " +0000 UTC"),
    ] {
        let shown = show(zone, "ps -a --format '{{.CreatedAt}}'");
        assert!(shown.ends_with(end), "{zone}: {shown}");
    }
    let told = show("There", "events --since 1h --until 0s");
    assert!(told.contains("+05:30 container create"), "{told}");
    machine.host().shell("umount /usr/share");
    machine.nothing_left();
}

#[test]
fn two_hundred_containers_are_listed_as_they_are() {
    let machine = Machine::of(Who::Root);
    let made = machine.script(
        "for n in $(seq 180); do minidocker create --network none --name c$n host true; done; \
         for n in $(seq 181 200); do minidocker run -d --network none --name c$n host sleep 1000; done",
    );
    assert_eq!(made.ok().lines().count(), 200);
    let all = machine.ok("ps -a --format {{.Names}}");
    let expected: Vec<String> = (1..=200).rev().map(|n| format!("c{n}")).collect();
    assert_eq!(lines(&all), expected);
    assert_eq!(machine.ok("ps -q").lines().count(), 20);
    for n in [185, 190] {
        machine.ok(&format!("kill c{n}"));
    }
    let dead = machine.ok("ps -a --filter exited=137 --format {{.Names}}");
    assert_eq!(lines(&dead), ["c190", "c185"]);
    let pruned = machine.ok("container prune --force");
    assert_eq!(pruned.lines().count(), 182 + 3, "{pruned}");
    assert_eq!(machine.ok("ps -aq").lines().count(), 18);
    machine.nothing_left();
}

/// Docker's document, in its order.
const DOCUMENT: [&str; 25] = [
    "Id",
    "Created",
    "Path",
    "Args",
    "State",
    "Image",
    "ResolvConfPath",
    "HostnamePath",
    "HostsPath",
    "LogPath",
    "Name",
    "RestartCount",
    "Driver",
    "Platform",
    "MountLabel",
    "ProcessLabel",
    "AppArmorProfile",
    "ExecIDs",
    "HostConfig",
    "GraphDriver",
    "SizeRw",
    "SizeRootFs",
    "Mounts",
    "Config",
    "NetworkSettings",
];

#[test]
fn inspect_shows_dockers_document() {
    let machine = Machine::of(Who::Root);
    let line = "run -d --network none --name box --restart on-failure:3 -m 64m --memory-swap -1 \
                -p 127.0.0.1:8080:80 --log-opt max-size=2m -v named:/v:ro --tmpfs /t --init \
                -w /tmp -e A=b --hostname inner host sleep 1000";
    // What cannot be limited here is refused.
    let line = line.replace("-m 64m --memory-swap -1 ", "");
    machine.ok(&line);
    let list = json(&machine.ok("inspect -s box"));
    let it = &list[0];
    assert_eq!(keys(it), DOCUMENT);
    let without = DOCUMENT.iter().filter(|key| !key.starts_with("Size"));
    let plain = json(&machine.ok("container inspect box"));
    assert_eq!(keys(&plain[0]), without.copied().collect::<Vec<_>>());
    assert_eq!(it["Id"], machine.container("box").id());
    assert_eq!(it["Path"], "sleep");
    assert_eq!(it["Args"], serde_json::json!(["1000"]));
    assert_eq!(it["Name"], "/box");
    assert_eq!(it["State"]["Status"], "running");
    assert_eq!(it["State"]["Pid"], machine.container("box").init().pid);
    assert_eq!(it["State"]["FinishedAt"], "0001-01-01T00:00:00Z");
    assert_eq!(it["Config"]["Hostname"], "inner");
    assert_eq!(it["Config"]["WorkingDir"], "/tmp");
    let host = &it["HostConfig"];
    let policy = serde_json::json!({ "Name": "on-failure", "MaximumRetryCount": 3 });
    assert_eq!(host["RestartPolicy"], policy);
    assert_eq!(host["LogConfig"]["Config"]["max-size"], "2m");
    assert_eq!(host["PortBindings"]["80/tcp"][0]["HostPort"], "8080");
    assert_eq!(host["Init"], true);
    assert_eq!(it["Mounts"][0]["Name"], "named");
    assert_eq!(it["Mounts"][0]["RW"], false);
    for (template, expected) in [
        ("{{.State.Running}} {{.State.ExitCode}}", "true 0"),
        (
            "{{range .Config.Env}}{{if eq . \"A=b\"}}found{{end}}{{end}}",
            "found",
        ),
        ("{{json .HostConfig.Init}} {{.HostConfig.Memory}}", "true 0"),
        ("{{.Name}} {{.ID | len}}", "/box 64"),
        ("{{.State.Health}}", "<no value>"),
    ] {
        assert_eq!(machine.ok(&["inspect", "-f", template, "box"]), expected);
    }
    // A container goes before an image of that name, and each kind has its own.
    machine.ok("create --network none --name host host true");
    assert_eq!(machine.ok("inspect -f {{.Name}} host"), "/host");
    assert!(
        machine
            .ok("inspect --type image -f {{.RepoTags}} host")
            .contains("host:latest")
    );
    machine.fails(1, "inspect --type image box");
    let missing = machine.minidocker("inspect box nobody");
    assert_eq!(missing.code(), 1);
    assert!(
        missing.errors().contains("No such object: nobody"),
        "{missing}"
    );
    assert!(missing.text().contains("\"/box\""), "{missing}");
    assert_eq!(machine.minidocker("inspect nobody").text(), "[]");
    machine.fails(1, "container inspect nobody");
    machine.fails(64, &["inspect", "-f", "{{", "box"]);
    machine.ok("rm -f box host");
    machine.script("minidocker system prune -f --volumes").ok();
    let volumes = machine.data().join("volumes");
    assert!(
        volumes.join("named").exists(),
        "a volume with a name was pruned"
    );
    fs::remove_dir_all(volumes).expect("remove the volumes");
    machine.nothing_left();
}

#[test]
fn published_ports_are_shown_and_found() {
    let machine = Machine::of(Who::Root);
    machine.ok(
        "run -d --name web -p 127.0.0.1:8080:80 -p 9000-9001:9000-9001 --expose 443 host sleep 1000",
    );
    machine.ok("create --name idle -p 81:81 host true");
    assert_eq!(
        machine.ok("ps --format {{.Ports}}"),
        "443/tcp, 0.0.0.0:9000-9001->9000-9001/tcp, [::]:9000-9001->9000-9001/tcp, \
         127.0.0.1:8080->80/tcp"
    );
    for (filter, expected) in [
        ("publish=8080", "web"),
        ("publish=80", ""),
        ("publish=9000-9100/tcp", "web"),
        ("publish=8080/udp", ""),
        ("expose=80", "web"),
        ("expose=443", "web"),
        ("expose=8080", ""),
        ("publish=81", ""),
    ] {
        let shown = machine.ok(&format!("ps -a --format {{{{.Names}}}} --filter {filter}"));
        assert_eq!(shown, expected, "{filter}");
    }
    let template = "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}} \
                    {{json (index .NetworkSettings.Ports \"443/tcp\")}} \
                    {{range .NetworkSettings.Networks}}{{.IPPrefixLen}}{{end}}";
    let shown = machine.ok(&["inspect", "-f", template, "web"]);
    assert!(shown.starts_with("8080 null "), "{shown}");
    let address = machine.ok("inspect -f {{.NetworkSettings.IPAddress}} web");
    assert!(address.parse::<std::net::Ipv4Addr>().is_ok(), "{address}");
    machine.ok("stop -t 0 web");
    assert_eq!(
        machine.ok("ps -a --filter name=web --format {{.Ports}}"),
        ""
    );
    machine.nothing_left();
}

#[test]
fn top_and_stats_look_at_a_containers_processes() {
    for who in Who::ALL {
        let machine = Machine::of(who);
        machine.ok(&shell(
            "run -d --network none --name busy host",
            "sleep 1000 & sleep 1001",
        ));
        machine.ok("exec -d busy sleep 1002");
        let commands = ["sleep 1000", "sleep 1001", "sleep 1002"];
        // Who has just been forked has the arguments of the shell yet.
        let top = wait_for("all processes", 60, || {
            let top = machine.ok("top busy");
            let has = |command: &str| {
                let of = top.lines().filter(|line| line.ends_with(command));
                of.count() == 1
            };
            commands.into_iter().all(has).then_some(top)
        });
        assert_eq!(top.lines().count(), 4, "{top}");
        let first = top.lines().next().unwrap_or_default();
        let titles: Vec<&str> = first.split_whitespace().collect();
        assert_eq!(
            titles,
            ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
        );
        let pids = machine.ok("top busy -o pid,args");
        assert_eq!(pids.lines().count(), 4, "{pids}");
        machine.fails(1, "top busy -o args");
        let stats = json(&machine.ok("stats --no-stream --format json"));
        assert_eq!(
            keys(&stats),
            [
                "BlockIO",
                "CPUPerc",
                "Container",
                "ID",
                "MemPerc",
                "MemUsage",
                "Name",
                "NetIO",
                "PIDs",
            ]
        );
        assert_eq!(stats["Name"], "busy");
        assert_eq!(stats["PIDs"], "3", "{stats}");
        machine.ok("stop -t 0 busy");
        machine.fails(1, "top busy");
        let rows = machine.ok("stats --no-stream -a");
        assert!(
            rows.starts_with(
                "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   \
                 BLOCK I/O   PIDS\n"
            ),
            "{rows}"
        );
        assert!(rows.ends_with("0B / 0B     0"), "{rows}");
        machine.nothing_left();
    }
}

#[test]
fn stats_go_on_at_a_terminal_until_nobody_wants_them() {
    let machine = Machine::of(Who::Student);
    machine.ok("run -d --network none --name busy host sleep 1000");
    let mut terminal = machine.terminal("stats");
    for _ in 0..2 {
        // Each time the screen is cleared first.
        terminal.expect("\x1b[H\x1b[2J");
        terminal.expect("busy");
    }
    terminal.send("\x03");
    terminal.wait();
    let mut follower = machine.spawn("stats busy --format {{.Name}}={{.PIDs}}");
    follower.expect("busy=1\nbusy=1\n");
    machine.ok("rm -f busy");
    assert_eq!(follower.wait().code(), 0);
    machine.nothing_left();
}

#[test]
fn containers_are_listed_although_the_images_cannot_be_read() {
    let machine = Machine::of(Who::Root);
    machine.ok("run -d --network none --name one host sleep 1000");
    let index = machine.data().join("images/index.json");
    let good = fs::read(&index).expect("an index");
    fs::write(&index, "{").expect("damage it");
    assert_eq!(machine.ok("ps --format {{.Names}}={{.Image}}"), "one=host");
    assert_eq!(
        machine.ok("inspect --type container -f {{.State.Status}} one"),
        "running"
    );
    fs::write(&index, good).expect("mend it");
    machine.nothing_left();
}

#[test]
fn events_tell_a_whole_life_in_order() {
    for who in [Who::Root, Who::Student] {
        let machine = machine(who);
        let mut follower = machine.spawn(&[
            "events",
            "--since",
            "1h",
            "--filter",
            "event=die",
            "--format",
            "{{.Action}} {{.Actor.Attributes.exitCode}}",
        ]);
        machine.ok("create --network none --name one -l kind=sweet host sleep 1000");
        for line in [
            "start one",
            "exec one true",
            "pause one",
            "unpause one",
            "rename one two",
            "stop -t 0 two",
            "start two",
            "kill two",
            "wait two",
            "rm two",
        ] {
            machine.ok(line);
        }
        assert!(follower.expect("die 137\ndie 137\n").ends_with("die 137\n"));
        follower.signal(nix::sys::signal::Signal::SIGINT);
        let all = machine.ok("events --since 10m --until 0s --format {{.Action}}");
        let short: Vec<&str> = all
            .lines()
            .map(|action| action.split(": ").next().unwrap_or_default())
            .collect();
        assert_eq!(
            short,
            [
                "create",
                "start",
                "exec_create",
                "exec_start",
                "exec_die",
                "pause",
                "unpause",
                "rename",
                "kill",
                "kill",
                "die",
                "stop",
                "start",
                "kill",
                "die",
                "destroy",
            ]
        );
        let count = |filter: &str| {
            let words = format!("events --since 10m --until 0s --filter {filter}");
            machine.ok(&words).lines().count()
        };
        assert_eq!(count("container=two"), 9);
        assert_eq!(count("label=kind=sweet"), 16);
        assert_eq!(count("label=kind=sour"), 0);
        assert_eq!(count("image=host"), 16);
        assert_eq!(count("type=image"), 0);
        assert_eq!(count("event=exec_create --filter event=die"), 3);
        let first = machine.ok("system events --since 10m --until 0s --filter event=create");
        let id = machine.ok("events --since 10m --until 0s --filter event=create --format {{.ID}}");
        assert!(
            first.ends_with(&format!(
                " container create {id} (image=host, kind=sweet, name=one)"
            )),
            "{first}"
        );
        machine.nothing_left();
    }
}

#[test]
fn events_tell_of_images_too() {
    let machine = Machine::of(Who::Student);
    machine.ok("tag host team/one:v1");
    machine
        .script("minidocker save team/one:v1 -o /tmp/one.tar")
        .ok();
    machine.ok("rmi team/one:v1");
    machine.ok("load -q -i /tmp/one.tar");
    machine.ok("rmi team/one:v1");
    let told = machine.ok("events --since 10m --until 0s --filter type=image --format {{.Action}}");
    assert_eq!(lines(&told), ["tag", "untag", "load", "untag"]);
    let named =
        machine.ok("events --since 10m --until 0s --filter image=team/one --format {{.Action}}");
    assert_eq!(lines(&named), ["tag", "load"]);
    machine.script("rm /tmp/one.tar").ok();
    machine.nothing_left();
}

#[test]
fn the_disk_is_accounted_for_and_cleared() {
    for who in [Who::Root, Who::Student] {
        let machine = Machine::of(who);
        let write =
            "dd if=/dev/zero of=/large bs=1000 count=7; dd if=/dev/zero of=/v/data bs=1000 count=9";
        machine.ok(&shell("run --network none --name done -v /v host", write));
        machine.ok(&shell(
            "run -d --network none --name busy host",
            "dd if=/dev/zero of=/large bs=1000 count=20; exec sleep 1000",
        ));
        let rows = |format: &str| machine.ok(&["system", "df", "--format", format]);
        wait_for("the container to write", 60, || {
            rows("{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}")
                .contains("Containers 2 1 27kB 7kB (25%)")
                .then_some(())
        });
        let all = rows("{{.Type}}: {{.TotalCount}} {{.Active}} {{.Reclaimable}}");
        let all = lines(&all);
        assert_eq!(all[0], "Images: 1 1 0B (0%)");
        assert_eq!(all[2], "Local Volumes: 1 1 0B (0%)");
        assert_eq!(all[3], "Build Cache: 0 0 0B");
        assert_eq!(
            machine.ok("system df").lines().next(),
            Some("TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE")
        );
        let each = machine.ok("system df -v");
        for title in [
            "Images space usage:",
            "Containers space usage:",
            "Local Volumes space usage:",
        ] {
            assert!(each.contains(title), "{each}");
        }
        // Nobody is there to say yes.
        assert_eq!(
            machine
                .script("minidocker container prune </dev/null")
                .code(),
            0
        );
        assert_eq!(machine.ok("ps -aq").lines().count(), 2);
        let id = machine.container("done").id().to_owned();
        machine.ok("container prune -f --filter until=1h");
        machine.ok("container prune -f --filter label=none");
        assert_eq!(
            machine.ok("system prune -f --filter label!=none"),
            format!("Deleted Containers:\n{id}\n\nTotal reclaimed space: 7kB")
        );
        let pruned = machine.ok("system prune -f --volumes");
        assert!(pruned.ends_with("Total reclaimed space: 9kB"), "{pruned}");
        assert_eq!(machine.ok("ps --format {{.Names}}"), "busy");
        machine.nothing_left();
    }
}

/// Breaks what is kept of seven containers, each in its own way, and returns what a check is to say.
fn damage(machine: &Machine) -> Vec<String> {
    for name in [
        "good", "torn", "empty", "lost", "killed", "stacked", "halved",
    ] {
        machine.ok(&format!(
            "run -d --network none --name {name} host sleep 1000"
        ));
    }
    machine.ok("exec torn touch /precious");
    machine.ok("stop -t 0 torn empty lost stacked halved");
    let id = |name: &str| machine.container(name).id().to_owned();
    let state = |name: &str| machine.container(name).data().join("state.json");
    let text = fs::read(state("torn")).expect("a state");
    fs::write(state("torn"), &text[..text.len() / 2]).expect("tear it");
    fs::write(state("empty"), "").expect("empty it");
    let halved = machine.container("halved");
    halved.edit(|state| state["life"]["status"] = "removing".into());
    machine.container("killed").kill_shim();
    let (torn, empty, stacked) = (id("torn"), id("empty"), id("stacked"));
    let names = machine.data().join("names");
    fs::rename(names.join("lost"), names.join("stray")).expect("rename");
    let gone = "a".repeat(64);
    let run = match machine.who() {
        Who::Root => "/run/minidocker",
        _ => "/run/user/1000/minidocker",
    };
    let left = format!("mkdir -p {run}/containers/{gone} {run}/runtime/{gone}");
    machine.script(&left).ok();
    let mut said = vec![
        format!("the state of container {torn} is lost"),
        format!("the state of container {empty} is lost"),
        "the shim of container killed is gone".to_owned(),
        "container halved is half removed".to_owned(),
        "the name lost does not lead to its container".to_owned(),
        "the name stray leads to no container".to_owned(),
        format!("containers/{gone} is left of a container that is gone"),
        format!("the runtime still has container {gone}"),
    ];
    if machine.who() == Who::Root {
        let merged = format!("/var/lib/minidocker/containers/{stacked}/merged");
        let cgroup = format!("/sys/fs/cgroup/minidocker-engine/{stacked}");
        let host = machine.host();
        host.shell(&format!("mkdir {cgroup}; mount -t tmpfs left {merged}"));
        said.push(format!("the cgroup {cgroup} is left"));
        said.push(format!("something is still mounted on {merged}"));
    }
    said
}

#[test]
fn a_check_tells_each_damage_and_mends_it() {
    for who in [Who::Root, Who::Student] {
        let machine = machine(who);
        let damage = damage(&machine);
        let dry = machine.minidocker("system check --dry-run");
        assert_eq!(dry.code(), 1, "{dry}");
        for what in &damage {
            assert!(dry.text().contains(what), "{what}: {dry}");
        }
        assert_eq!(dry.text().lines().count(), damage.len(), "{dry}");
        let gone = machine.run().join("runtime").join("a".repeat(64));
        assert!(gone.exists(), "a dry run has removed something");

        let said = machine.ok("system check");
        assert!(
            said.contains("its files are kept in a dead container"),
            "{said}"
        );
        assert_eq!(machine.ok("system check"), "");
        let all = machine.ok("ps -a --format {{.Names}}:{{.State}}");
        let mut all = lines(&all);
        all.sort_unstable();
        assert_eq!(
            all,
            [
                "empty:dead",
                "good:running",
                "killed:exited",
                "lost:exited",
                "stacked:exited",
                "torn:dead",
            ]
        );
        assert_eq!(
            machine.ok("inspect -f {{.Config.Cmd}} torn"),
            "[sleep 1000]"
        );
        assert!(
            machine
                .container("torn")
                .data()
                .join("upper/precious")
                .exists()
        );
        machine.ok("rm torn empty lost");
        machine.nothing_left();
    }
}

#[test]
fn what_only_a_person_can_decide_is_told_and_stays() {
    let machine = Machine::of(Who::Root);
    for name in ["orphan", "new", "lives"] {
        machine.ok(&format!(
            "run -d --network none --name {name} host sleep 1000"
        ));
    }
    machine.ok("stop -t 0 orphan new");
    let other = format!("sha256:{}", "0".repeat(64));
    machine
        .container("orphan")
        .edit(|state| state["image"] = other.clone().into());
    machine
        .container("new")
        .edit(|state| state["version"] = 99.into());
    fs::write(machine.container("lives").data().join("state.json"), "").expect("empty it");
    for _ in 0..2 {
        let said = machine.minidocker("system check");
        assert_eq!(said.code(), 1, "{said}");
        for what in [
            "the image of container orphan is gone",
            "is of version 99",
            "its shim lives: `minidocker rm -f",
        ] {
            assert!(said.text().contains(what), "{what}: {said}");
        }
        assert_eq!(said.text().lines().count(), 3, "{said}");
    }
    machine.ok("rm -f lives");
    machine.nothing_left();
}

#[test]
fn after_a_reboot_one_command_brings_back_what_is_to_run() {
    for who in [Who::Root, Who::Student] {
        let machine = Machine::of(who);
        for (name, policy) in [
            ("first", "always"),
            ("second", "unless-stopped"),
            ("never", "no"),
            ("failing", "on-failure"),
            ("halted", "unless-stopped"),
            ("held", "always"),
        ] {
            machine.ok(&format!(
                "run -d --network none --restart {policy} --name {name} host sleep 1000"
            ));
        }
        machine.ok("create --network none --restart always --name new host sleep 1000");
        machine.ok("stop -t 0 halted held");
        // What a reboot does: all processes end, and what is in memory is gone.
        let shims = machine.shims().into_iter().map(|(shim, _)| shim);
        let inits = machine
            .processes()
            .into_iter()
            .filter(|it| it.name == "sleep");
        for pid in shims.chain(inits.map(|it| it.pid)) {
            machine.host().run(["kill", "-9", &pid.to_string()]).ok();
        }
        fs::remove_dir_all(machine.run()).expect("empty the memory");
        wait_for("the cgroups to go", 60, || {
            let left = "find /sys/fs/cgroup -path '*/minidocker-engine/*' -type d";
            machine
                .host()
                .run(["sh", "-c", &format!("{left} -exec rmdir {{}} +")]);
            machine.host().shell(left).is_empty().then_some(())
        });
        let names = |line: &str| machine.ok(&format!("ps -a --format {{{{.Names}}}} {line}"));
        assert_eq!(names("--filter status=running"), "");
        assert_eq!(
            machine
                .ok("ps -a --filter name=never --format {{.Status}}")
                .split(' ')
                .next(),
            Some("Exited")
        );
        assert_eq!(
            lines(&machine.ok("system start")),
            ["first", "second", "held"]
        );
        assert_eq!(
            lines(&names("--filter status=running")),
            ["held", "second", "first"]
        );
        assert_eq!(machine.ok("system start"), "");
        // Stopped for a reboot, they come back as well.
        assert_eq!(machine.ok("system stop").lines().count(), 3);
        assert_eq!(names("--filter status=running"), "");
        assert_eq!(
            lines(&machine.ok("system start")),
            ["first", "second", "held"]
        );
        machine.nothing_left();
    }
}

#[test]
fn info_and_version_say_what_is_so() {
    let machine = machine(Who::Student);
    four(&machine);
    let info = machine.ok("info");
    for line in [
        " Containers: 4",
        "  Running: 1",
        "  Paused: 1",
        "  Stopped: 2",
        " Images: 1",
        " Storage Driver: overlay",
        " Logging Driver: json-file",
        " Cgroup Version: 2",
        "  rootless",
        " OSType: linux",
        " Docker Root Dir: /home/student/.local/share/minidocker",
    ] {
        assert!(info.lines().any(|it| it == line), "{line}: {info}");
    }
    let numbers =
        "{{.Containers}} {{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}}";
    assert_eq!(machine.ok(&["system", "info", "-f", numbers]), "4 1 1 2");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(machine.ok("version -f {{.Server.Version}}"), version);
    assert_eq!(
        machine.ok("version -f {{.Client.Version}}{{.Client.GitCommit}}"),
        version
    );
    assert!(machine.ok("version").starts_with("Client: "));
    machine.nothing_left();
}
