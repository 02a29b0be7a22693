//! The flags and the words of docker's commands about containers: what each does to the container,
//! what is refused, and with which status.

use std::fs;
use std::time::{Duration, Instant};

use harness::engine::{Machine, Wanted, Who, for_each, shell};
use harness::registry::{Kind, Layout, Packing, Registry};
use harness::{build_dir, made, wait_for};

/// What a script prints in a container that the options make.
#[track_caller]
fn run(machine: &Machine, options: &str, script: &str) -> String {
    machine.ok(&shell(
        &format!("run --rm --network none {options} host"),
        script,
    ))
}

/// What `create` writes down for the options.
#[track_caller]
fn created(machine: &Machine, options: &str) -> serde_json::Value {
    let made = machine.minidocker(&format!("create --name made {options} host true"));
    made.ok();
    let state = machine.container("made").state();
    machine.ok("rm -v made");
    state
}

#[test]
fn each_command_has_an_example() {
    let machine = Machine::of(Who::Root);
    for command in [
        "run", "create", "start", "stop", "restart", "kill", "pause", "unpause", "wait", "rm",
        "rename", "attach", "exec", "port",
    ] {
        let help = machine.ok(&format!("{command} --help"));
        let example = format!("Example: minidocker {command} ");
        assert!(help.contains(&example), "{help}");
        assert_eq!(
            machine.ok(&format!("container {command} --help")),
            help.replace(
                &format!("Usage: minidocker {command}"),
                &format!("Usage: minidocker container {command}"),
            )
        );
    }
    machine.nothing_left();
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_with_125() {
    let machine = Machine::of(Who::Root);
    for (options, said) in [
        ("--link other", "unknown flag: --link"),
        ("--gpus all", "unknown flag: --gpus"),
        ("-Z", "unknown shorthand flag: -Z"),
        (
            "--name a/b",
            "invalid argument \"a/b\" for --name: Invalid container name (a/b)",
        ),
        (
            "-m much",
            "invalid argument \"much\" for --memory: invalid size: 'much'",
        ),
        ("--cpus many", "invalid argument \"many\" for --cpus"),
        ("--ulimit files=1", "invalid ulimit type: files"),
        ("-e =1", "invalid environment variable: =1"),
        ("-l =1", "invalid label '=1': empty name"),
        (
            "-w here",
            "the working directory 'here' is invalid, it needs to be an absolute path",
        ),
        ("--cap-add FLY", "unknown capability: \"CAP_FLY\""),
        ("--device null", "bad format for path: null"),
        ("--restart sometimes", "unknown policy 'sometimes'"),
        (
            "--restart on-failure:few",
            "maximum retry count must be an integer",
        ),
        ("--stop-signal NOISE", "invalid signal: NOISE"),
        (
            "--log-driver syslog",
            "logger: no log driver named 'syslog' is registered",
        ),
        (
            "--sysctl kernel.panic=1",
            "sysctl 'kernel.panic=1' is not allowed",
        ),
        ("--add-host db", "bad format for add-host: \"db\""),
        (
            "--add-host db:1.2.3",
            "invalid IP address in add-host: \"1.2.3\"",
        ),
        ("--dns name", "name is not an ip address"),
        ("--pid whose", "--pid: invalid PID mode"),
        ("--ipc whose", "invalid IPC mode: whose"),
        ("--uts whose", "--uts: invalid UTS mode"),
        ("--platform a/b/c/d", "\"a/b/c/d\" is no platform"),
        (
            "--pull sometimes",
            "invalid argument \"sometimes\" for --pull: must be one of always, missing, never",
        ),
        (
            "-a stdwhat",
            "invalid argument \"stdwhat\" for --attach: must be one of stdin, stdout, stderr",
        ),
        // What comes after a flag is its value, whatever it looks like.
        ("-m -1", "invalid argument \"-1\" for --memory"),
        ("--name --rm", "invalid argument \"--rm\" for --name"),
        (
            "--rm --restart always",
            "Conflicting options: --restart and --rm",
        ),
        (
            "-v /a:/b:ro:rw",
            "invalid volume specification: '/a:/b:ro:rw'",
        ),
        (
            "-v /a:b",
            "invalid mount path: 'b' mount path must be absolute",
        ),
        ("-v /a:/", "destination can't be '/'"),
        ("-v /a:/b:what", "invalid mode: what"),
        ("-v /a:/b --tmpfs /b", "Duplicate mount point: /b"),
        ("--mount type=bind,dst=/b", "field Source must not be empty"),
        (
            "--mount type=bind,src=/nowhere,dst=/b",
            "bind source path does not exist: /nowhere",
        ),
        (
            "--mount src=data,what=b",
            "unexpected key 'what' in 'what=b'",
        ),
        ("--tmpfs /b:what", "Invalid tmpfs option [\"what\"]"),
        (
            "--security-opt systempaths=unconfined",
            "--security-opt systempaths: that is not to be had here",
        ),
        (
            "--security-opt seccomp=/nowhere",
            "opening seccomp profile (/nowhere) failed",
        ),
        ("--security-opt what", "invalid --security-opt: \"what\""),
        (
            "--log-opt what=1",
            "unknown log opt 'what' for json-file log driver",
        ),
        ("--env-file /nowhere", "open /nowhere"),
        ("--expose what", "invalid range format for --expose: what"),
        ("-p 80:what", "Invalid containerPort: what"),
        (
            "-p 1-2:80-82",
            "Invalid ranges specified for container and host Ports: 80-82 and 1-2",
        ),
    ] {
        for command in ["run", "create"] {
            let error = machine.fails(125, &format!("{command} {options} host true"));
            assert!(error.contains(said), "{command} {options}: {error}");
        }
    }
    // Only the engine knows what a volume can be called, and of its errors `run` alone makes 125.
    for (status, command) in [(125, "run"), (1, "create")] {
        let error = machine.fails(status, &format!("{command} -v da%ta:/b host true"));
        assert!(error.contains("invalid characters for a local volume name"));
    }
    let error = machine.fails(125, "run --name");
    assert!(error.contains("flag needs an argument: --name"), "{error}");
    let error = machine
        .script("minidocker run host echo $'a\\xff'")
        .exits(125);
    assert!(error.contains(r#""a\xFF" is not UTF-8"#), "{error}");
    for line in [
        "run",
        "create",
        "exec",
        "exec aa",
        "stop",
        "rename aa",
        "kill -s NOISE aa",
    ] {
        let error = machine.fails(125, line);
        assert!(
            error.contains(&format!(
                "Run 'minidocker {}",
                line.split(' ').next().unwrap_or(line)
            )),
            "{error}"
        );
    }
    let error = machine.fails(125, "run -d -a stdout host true");
    assert_eq!(error, "minidocker: Conflicting options: -a and -d");
    machine.nothing_left();
}

#[test]
fn what_the_engine_refuses_is_125_for_run_and_1_for_create() {
    for_each(|machine| {
        for (options, said) in [
            ("-m 1m", "Minimum memory limit allowed is 6MB"),
            ("--memory-swap 1g", "You should always set the Memory limit"),
            (
                "-m 64m --memory-swap 32m",
                "Minimum memoryswap limit should be larger",
            ),
            ("--cpus 1000", "Range of CPUs is from 0.01 to "),
            (
                "--cpus 1 --cpu-quota 5000",
                "Nano CPUs and CPU Quota cannot both be set",
            ),
            ("--cpu-period 1", "CPU cfs period can not be less than 1ms"),
            (
                "--cpuset-cpus 8000",
                "Requested CPUs are not available - requested 8000",
            ),
            // A number that somebody may count up to (CVE-2018-20699).
            (
                "--cpuset-cpus 0-18446744073709551615",
                "Invalid value 0-18446744073709551615",
            ),
            ("--cpuset-mems 9-", "Invalid value 9- for cpuset mems"),
            ("--network container:nobody", "No such container: nobody"),
            (
                "--hostname hh --uts host",
                "conflicting options: hostname and the UTS mode",
            ),
            (
                "--oom-score-adj 2000",
                "range for oom score adj is [-1000, 1000]",
            ),
            ("--entrypoint= --pull never", "no command specified"),
        ] {
            let command = if options.contains("entrypoint") {
                ""
            } else {
                "true"
            };
            for (verb, code) in [("run", 125), ("create", 1)] {
                let error = machine.fails(code, &format!("{verb} {options} host {command}"));
                assert!(error.contains(said), "{verb} {options}: {error}");
            }
        }
        let error = machine.fails(125, "run --pull never nothing true");
        assert_eq!(error, "minidocker: No such image: nothing");
        machine.ok("create --name aa host true");
        for (verb, code) in [("run", 125), ("create", 1)] {
            let error = machine.fails(code, &format!("{verb} --name aa host true"));
            assert!(error.contains("Conflict. The container name \"/aa\" is already in use"));
        }
        assert_eq!(machine.ids().len(), 1);
        machine.nothing_left();
    });
}

#[test]
fn words_that_can_be_no_name_lead_nowhere() {
    let machine = Machine::of(Who::Root);
    machine.ok("create --name there host true");
    let id = machine.container("there").id().to_owned();
    let aside = machine.data().join("aside");
    fs::write(&aside, &id).expect("write an id beside the names");
    let long = "a".repeat(300);
    for word in ["", ".", "..", "/", "../names", "../aside", "a\nb", &long] {
        for command in ["stop", "logs", "inspect", "rm", "port"] {
            let error = machine.fails(1, &[command, word]);
            assert!(error.contains("No such "), "{command} {word:?}: {error}");
        }
        let error = machine.fails(1, &["volume", "inspect", word]);
        assert!(error.contains("no such volume"), "{word:?}: {error}");
    }
    fs::remove_file(&aside).expect("remove it");
    machine.nothing_left();
}

#[test]
fn a_command_that_cannot_be_executed_is_126_or_127() {
    for_each(|machine| {
        machine.ok("run -d --name up --network none host sleep 1000");
        for start in ["run --rm --network none host", "exec up"] {
            for (command, code) in [
                ("nosuch", 127),
                ("/etc/nosuch", 127),
                ("/etc", 126),
                ("/etc/hosts", 126),
            ] {
                let error = machine.fails(code, &format!("{start} {command}"));
                assert!(error.contains(command), "{error}");
            }
        }
        machine.ok("create --name broken --network none host nosuch");
        assert!(
            machine
                .fails(1, "start broken")
                .contains("failed to start containers: broken")
        );
        machine.fails(1, "start -a broken");
        machine.fails(1, "exec nobody true");
        machine.fails(1, "exec broken true");
        machine.nothing_left();
    });
}

#[test]
fn flags_end_at_the_image_and_arguments_arrive_as_they_are() {
    let machine = Machine::of(Who::Root);
    for (line, printed) in [
        (
            "run --rm --network none host echo -- -d --rm --help",
            "-- -d --rm --help",
        ),
        ("run --rm --network none -- host echo --", "--"),
        (
            "run --rm --network none --entrypoint echo host --name A=1",
            "--name A=1",
        ),
        (
            "container run --rm=true --network=none host echo yes",
            "yes",
        ),
        (
            "run --rm --network none --name one --name two host echo two",
            "two",
        ),
    ] {
        assert_eq!(machine.ok(line), printed, "{line}");
    }
    let words = ["", " ", "a b", "$HOME", "\n", "ü", "--"];
    let mut line = vec!["run", "--rm", "--network", "none", "host", "printf", "%s|"];
    line.extend(words);
    assert_eq!(machine.ok(&line), format!("{}|", words.join("|")));
    machine.nothing_left();
}

#[test]
fn variables_come_from_the_image_from_files_and_from_the_command_line() {
    for_each(|machine| {
        let file = machine.host().path("/tmp/variables");
        fs::write(
            &file,
            "\u{feff}A=file\n# no\n\n  B=two words \nC=file\nHOME\nNOBODY_HAS_IT\n",
        )
        .expect("write a file");
        let script = "printf '%s|' \"$A\" \"$B\" \"$C\" \"$D\" ${NOBODY_HAS_IT-unset}";
        let line =
            "run --rm --network none --env-file /tmp/variables -e C=line -e D= -e C=last host";
        assert_eq!(
            machine.ok(&shell(line, script)),
            "file|two words |last||unset|"
        );

        let home = machine.script("echo $HOME").text();
        assert_eq!(
            run(machine, "--env-file /tmp/variables", "echo $HOME"),
            home
        );
        // One that the caller does not have takes that of the image away.
        assert_eq!(
            run(machine, "-e PATH=/bin:/usr/bin", "echo $PATH"),
            "/bin:/usr/bin"
        );
        assert!(!run(machine, "-e NOBODY_HAS_IT", "env").contains("NOBODY_HAS_IT"));

        fs::write(&file, "A B=1\n").expect("write a file");
        let error = machine.fails(125, "run --env-file /tmp/variables host true");
        assert!(
            error.contains("poorly formatted environment: variable 'A B' contains whitespaces")
        );
        fs::remove_file(&file).expect("remove the file");
        machine.nothing_left();
    });
}

#[test]
fn a_process_has_its_directory_its_user_and_its_machines_name() {
    for_each(|machine| {
        assert_eq!(
            run(machine, "-w /new/dir", "pwd; stat -c %u /new/dir"),
            "/new/dir\n0"
        );
        assert_eq!(
            run(machine, "-h box --domainname home.arpa", "hostname"),
            "box"
        );
        assert_eq!(run(machine, "-u 0:0", "id -u"), "0");
        if machine.who() != Who::Lone {
            assert_eq!(run(machine, "-u 7:8", "id -u; id -g; id -G"), "7\n8\n8");
            assert_eq!(run(machine, "-u 7 --group-add 9", "id -u; id -g"), "7\n0");
            assert_eq!(run(machine, "-u 7:8 --group-add 9", "id -G"), "8 9");
        }
        let error = machine.fails(125, "run --rm --network none -u nobody-here host true");
        assert!(error.contains("nobody-here"), "{error}");
        // What is half a number is no number (CVE-2026-30892).
        machine.fails(125, "run --rm --network none -u 0x0 host true");
        assert_eq!(
            machine.ok("run --rm --network none --entrypoint echo host one two"),
            "one two"
        );
        machine.nothing_left();
    });
}

#[test]
fn what_was_asked_for_is_written_down() {
    let machine = Machine::of(Who::Root);
    fs::write(machine.host().path("/tmp/labels"), "one=file\nfile\n").expect("write a file");
    let state = created(
        &machine,
        "-l one=1 -l two --label-file /tmp/labels --stop-signal RTMIN+3 --stop-timeout -1 -it \
         --expose 80 --expose 7-8/udp --restart on-failure:3 --log-opt max-size=1m --log-opt max-file=2 \
         -m 64m --memory-swap -1 --memory-reservation 32m --cpus 0.5 -c 512 --pids-limit 100 --shm-size 1m \
         --oom-score-adj -500 --init --read-only --cap-add cap_net_admin --cap-drop ALL \
         --security-opt no-new-privileges --ulimit nofile=1:2 --ulimit nofile=3:4 --sysctl net.ipv4.ip_forward=1",
    );
    let config = &state["config"];
    let labels = serde_json::json!({ "file": "", "one": "1", "two": "" });
    assert_eq!(config["Labels"], labels);
    assert_eq!(config["StopSignal"], "RTMIN+3");
    assert_eq!(config["StopTimeout"], -1);
    assert_eq!(
        (&config["Tty"], &config["OpenStdin"]),
        (&true.into(), &true.into())
    );
    let ports: Vec<_> = config["ExposedPorts"]
        .as_object()
        .expect("ports")
        .keys()
        .collect();
    assert_eq!(ports, ["7/udp", "8/udp", "80/tcp"]);
    assert_eq!(config["Image"], "host");
    let host = &state["host"];
    for (key, value) in [
        ("Memory", serde_json::json!(64 << 20)),
        ("MemorySwap", serde_json::json!(-1)),
        ("MemoryReservation", serde_json::json!(32 << 20)),
        ("NanoCpus", serde_json::json!(500_000_000)),
        ("CpuShares", serde_json::json!(512)),
        ("PidsLimit", serde_json::json!(100)),
        ("ShmSize", serde_json::json!(1 << 20)),
        ("OomScoreAdj", serde_json::json!(-500)),
        ("Init", serde_json::json!(true)),
        ("ReadonlyRootfs", serde_json::json!(true)),
        ("CapAdd", serde_json::json!(["NET_ADMIN"])),
        ("CapDrop", serde_json::json!(["ALL"])),
        ("NoNewPrivileges", serde_json::json!(true)),
        ("RestartPolicy", serde_json::json!({ "OnFailure": 3 })),
        ("NetworkMode", serde_json::json!("bridge")),
        (
            "Ulimits",
            serde_json::json!([{ "Name": "nofile", "Soft": 3, "Hard": 4 }]),
        ),
        (
            "LogConfig",
            serde_json::json!({ "Type": "", "MaxSize": 1 << 20, "MaxFile": 2 }),
        ),
    ] {
        assert_eq!(host[key], value, "{key}");
    }
    fs::remove_file(machine.host().path("/tmp/labels")).expect("remove the file");
    let bare = created(&machine, "");
    assert_eq!(bare["config"]["AttachStdout"], true);
    assert_eq!(bare["host"]["AutoRemove"], false);
    machine.nothing_left();
}

#[test]
fn an_image_says_how_it_runs_and_the_user_has_the_last_word() {
    for_each(|machine| {
        // The same files in another image, with more to say.
        let import = "set -o pipefail; minidocker run --rm --network none host sh -c \
            'cd /; tar -c $(ls | grep -vxE \"proc|sys|dev|run\")' | minidocker import \
            -c 'ENTRYPOINT [\"sh\", \"-c\"]' -c 'CMD [\"echo $GREETING $PWD\"]' \
            -c 'ENV GREETING=hello PATH=/bin:/usr/bin:/sbin' -c 'WORKDIR /srv/app' \
            -c 'LABEL a=image b=image' -c 'STOPSIGNAL USR1' -c 'VOLUME /keep' -c 'EXPOSE 80' - mine";
        machine.script(import).ok();
        assert_eq!(machine.ok("run --rm --network none mine"), "hello /srv/app");
        assert_eq!(
            machine.ok("run --rm --network none -e GREETING=bye mine"),
            "bye /srv/app"
        );
        // Without a value of our own, the variable goes.
        assert_eq!(
            machine.ok("run --rm --network none -e GREETING mine"),
            "/srv/app"
        );
        let other = ["run", "--rm", "--network", "none", "mine", "echo other"];
        assert_eq!(machine.ok(&other), "other");
        // Who replaces the entrypoint replaces its arguments, too.
        assert_eq!(
            machine.ok("run --rm --network none --entrypoint pwd mine"),
            "/srv/app"
        );
        let empty = [
            "run",
            "--rm",
            "--network",
            "none",
            "--entrypoint",
            "",
            "mine",
            "pwd",
        ];
        assert_eq!(machine.ok(&empty), "/srv/app");

        let script = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done";
        machine.ok(&[
            "run",
            "-d",
            "--name",
            "aa",
            "--network",
            "none",
            "-l",
            "b=user",
            "mine",
            script,
        ]);
        let state = machine.container("aa").state();
        assert_eq!(
            state["config"]["Labels"],
            serde_json::json!({ "a": "image", "b": "user" })
        );
        assert!(state["config"]["ExposedPorts"]["80/tcp"].is_object());
        assert_eq!(machine.ok("exec aa pwd"), "/srv/app");
        wait_for("the trap", 60, || {
            (machine.ok("logs aa") == "ready").then_some(())
        });
        machine.ok("stop aa");
        assert_eq!(machine.ok("wait aa"), "7");
        let volumes = machine.data().join("volumes");
        let count = || fs::read_dir(&volumes).expect("the volumes").count();
        assert_eq!(count(), 1, "that of /keep");
        machine.ok("rm -v aa");
        assert_eq!(count(), 0);
        machine.ok("rmi mine");
        machine.nothing_left();
    });
}

#[test]
fn directories_of_the_host_are_shared() {
    for_each(|machine| {
        let setup = "mkdir /tmp/dir && cd /tmp/dir && echo text >file && chmod 777 . && \
            minidocker run --rm --network none -v ./:/here -v .:/dot:ro -w /here host \
            sh -c 'cat file /dot/file; echo new >new; echo x >/dot/x 2>/dev/null || echo refused'";
        assert_eq!(machine.script(setup).ok(), "text\ntext\nrefused");
        assert_eq!(
            machine
                .script("cat /tmp/dir/new; ls -l /tmp/dir/new | cut -d' ' -f3")
                .ok()
                .lines()
                .next(),
            Some("new")
        );
        let mount = "--mount type=bind,src=/tmp/dir,dst=/a/b,readonly";
        assert_eq!(
            run(
                machine,
                mount,
                "cat /a/b/file; touch /a/b/file 2>&1 | grep -c Read-only"
            ),
            "text\n1"
        );
        // With -v docker makes what is not there.
        assert_eq!(
            run(machine, "-v /tmp/made/here:/x", "touch /x/y; echo done"),
            "done"
        );
        assert!(machine.host().path("/tmp/made/here/y").exists());
        // One in another is mounted after it, in whichever order they are written.
        assert_eq!(
            run(
                machine,
                "-v /tmp/dir/file:/m/n/file -v /tmp/made:/m/n",
                "cd /m/n; ls; cat file"
            )
            .lines()
            .last(),
            Some("text")
        );
        machine.host().shell("rm -r /tmp/dir /tmp/made");
        machine.nothing_left();
    });
}

#[test]
fn volumes_keep_what_is_in_them() {
    for_each(|machine| {
        let volumes = machine.data().join("volumes");
        let names = || {
            let entries = fs::read_dir(&volumes).expect("the volumes").flatten();
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        // A new one begins with what the image has there.
        assert_eq!(
            run(
                machine,
                "-v data:/etc",
                "cat /etc/passwd >/dev/null && echo mine >/etc/mine && echo ok"
            ),
            "ok"
        );
        assert_eq!(
            run(
                machine,
                "-v data:/x",
                "cat /x/mine; test -e /x/passwd && echo filled"
            ),
            "mine\nfilled"
        );
        assert_eq!(
            run(
                machine,
                "-v data:/x:ro",
                "rm /x/mine 2>&1 | grep -c Read-only"
            ),
            "1"
        );
        assert_eq!(
            run(
                machine,
                "-v bare:/etc:nocopy",
                "test -e /etc/passwd || echo empty"
            ),
            "empty"
        );
        assert_eq!(
            run(machine, "--mount src=data,dst=/x", "cat /x/mine"),
            "mine"
        );
        // Without a name it is for one container, and goes with it where that is wanted.
        machine.ok("run --rm --network none -v /anon host touch /anon/x");
        assert_eq!(names().len(), 2);
        machine.ok("run --name aa --network none -v /anon host touch /anon/x");
        machine.ok("rm aa");
        assert_eq!(names().len(), 3);
        machine.ok("run --name aa --network none -v /anon host touch /anon/x");
        machine.ok("start aa");
        machine.ok("wait aa");
        machine.ok("rm -v aa");
        assert_eq!(names().len(), 3);
        assert!(names().iter().any(|name| name == "data"));
        machine.ok("volume prune -af");
        fs::remove_dir(&volumes).expect("an empty directory");
        machine.nothing_left();
    });
}

#[test]
fn memory_can_be_mounted_and_the_root_be_read_only() {
    for_each(|machine| {
        let size = "df -k /t | tail -1 | awk '{print $2}'; stat -c %a /t";
        assert_eq!(
            run(machine, "--tmpfs /t:size=1m,mode=700", size),
            "1024\n700"
        );
        let mount = "--mount type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1770";
        assert_eq!(run(machine, mount, size), "2048\n1770");
        assert_eq!(
            run(
                machine,
                "--shm-size 1m",
                "df -k /dev/shm | tail -1 | awk '{print $2}'"
            ),
            "1024"
        );
        assert_eq!(
            run(
                machine,
                "--read-only --tmpfs /t",
                "touch /x 2>&1 | grep -c Read-only; touch /t/x && echo ok"
            ),
            "1\nok"
        );
        machine.nothing_left();
    });
}

#[test]
fn rights_are_given_and_taken() {
    for_each(|machine| {
        let effective = |options: &str| {
            let line = run(machine, options, "grep CapEff /proc/self/status");
            u64::from_str_radix(line.split_whitespace().last().unwrap_or_default(), 16)
                .expect("a number")
        };
        // Docker's fourteen; CHOWN is the first, NET_ADMIN the thirteenth.
        assert_eq!(effective(""), 0xa804_25fb);
        assert_eq!(effective("--cap-drop ALL"), 0);
        assert_eq!(effective("--cap-drop all --cap-add chown"), 1);
        assert_eq!(
            effective("--cap-drop CAP_CHOWN --cap-add NET_ADMIN"),
            0xa804_35fa
        );
        assert_eq!(effective("--cap-drop ALL --privileged") & 1, 1);
        let status = |options: &str, what: &str| {
            let line = run(
                machine,
                options,
                &format!("grep ^{what}: /proc/self/status"),
            );
            line.split_whitespace()
                .last()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(status("", "NoNewPrivs"), "0");
        assert_eq!(
            status("--security-opt no-new-privileges", "NoNewPrivs"),
            "1"
        );
        assert_eq!(
            status("--security-opt no-new-privileges=false", "NoNewPrivs"),
            "0"
        );
        assert_eq!(status("", "Seccomp"), "2");
        assert_eq!(status("--security-opt seccomp=unconfined", "Seccomp"), "0");
        assert_eq!(
            run(machine, "--ulimit nofile=100:200", "ulimit -Sn; ulimit -Hn"),
            "100\n200"
        );
        if machine.who() != Who::Root {
            // More than the user has nobody can give them.
            let raised = "here=$(ulimit -Hn); minidocker run --rm --network none \
                --ulimit nofile=$((here + 1)) host sh -c 'ulimit -Hn'; echo $here";
            let raised = machine.script(raised).ok();
            let limits: Vec<&str> = raised.lines().collect();
            assert!(limits.len() == 2 && limits[0] == limits[1], "{limits:?}");
        }
        assert_eq!(
            run(
                machine,
                "--oom-score-adj 500",
                "cat /proc/self/oom_score_adj"
            ),
            "500"
        );
        assert_eq!(
            run(
                machine,
                "--sysctl net.ipv4.ip_forward=1",
                "cat /proc/sys/net/ipv4/ip_forward"
            ),
            "1"
        );
        assert_eq!(run(machine, "--init", "cat /proc/1/comm"), "docker-init");
        machine.nothing_left();
    });
}

#[test]
fn a_file_has_the_id_of_the_container_that_was_made() {
    for_each(|machine| {
        let id = machine.ok("create --cidfile /tmp/cid --name aa host true");
        let file = machine.host().path("/tmp/cid");
        assert_eq!(fs::read_to_string(&file).expect("the file"), id);
        let error = machine.fails(125, "run --cidfile /tmp/cid host true");
        assert!(error.contains("container ID file found, make sure the other container isn't running or delete /tmp/cid"));
        assert_eq!(
            fs::read_to_string(&file).expect("the file"),
            id,
            "it was not touched"
        );
        fs::remove_file(&file).expect("remove the file");
        machine.fails(125, "run --cidfile /tmp/cid --name aa host true");
        assert!(
            !file.exists(),
            "of a container that could not be made there is no id"
        );
        machine.nothing_left();
    });
}

#[test]
fn one_command_is_for_several_containers_and_does_what_it_can() {
    for_each(|machine| {
        for name in ["aa", "bb"] {
            machine.ok(&format!(
                "create --name {name} --network none host sleep 1000"
            ));
        }
        let all = |line: &str, printed: &str| {
            let out = machine.minidocker(line);
            let error = out.exits(1);
            assert!(
                error.contains("minidocker: No such container: nobody"),
                "{line}: {error}"
            );
            assert_eq!(out.text(), printed, "{line}");
        };
        all("start aa nobody bb", "aa\nbb");
        if machine.who() == Who::Root {
            all("pause aa nobody bb", "aa\nbb");
            all("unpause aa nobody bb", "aa\nbb");
        }
        all("restart -t 0 aa nobody bb", "aa\nbb");
        all("kill aa nobody bb", "aa\nbb");
        all("wait aa nobody bb", "137\n137");
        all("stop aa nobody bb", "aa\nbb");
        all("rm aa nobody bb", "aa\nbb");
        // Who removes by force does not mind that it is gone.
        assert_eq!(machine.minidocker("rm -f nobody").code(), 0);
        machine.nothing_left();
    });
}

#[test]
fn a_container_is_asked_to_end_in_its_own_way_and_then_ended() {
    for_each(|machine| {
        let trap = |signal: &str, status: u8| {
            format!("trap 'exit {status}' {signal}; echo ready; while :; do sleep 0.05; done")
        };
        let start = |options: &str, script: &str| {
            let line = format!("run -d --name aa --network none {options} host");
            machine.ok(&shell(&line, script));
            wait_for("the trap", 60, || {
                (machine.ok("logs aa") == "ready").then_some(())
            });
        };
        let stopped = |line: &str| {
            let began = Instant::now();
            machine.ok(line);
            let took = began.elapsed();
            let status = machine.ok("wait aa");
            machine.ok("rm aa");
            (status, took)
        };
        start("", &trap("TERM", 3));
        assert_eq!(stopped("stop aa").0, "3");
        start("--stop-signal SIGUSR1", &trap("USR1", 4));
        assert_eq!(stopped("stop aa").0, "4");
        start("", &trap("HUP", 5));
        assert_eq!(stopped("stop -s 1 aa").0, "5");
        start("", &trap("USR2", 6));
        assert_eq!(stopped("kill --signal=SIGUSR2 aa").0, "6");

        // What is deaf to it is killed when its time is over.
        for (options, line, least) in [
            ("", "stop -t 1 aa", 1000),
            ("", "stop --time 0 aa", 0),
            ("--stop-timeout 1", "stop aa", 1000),
        ] {
            start(
                options,
                &trap("\"\" TERM; trap true USR1", 0).replace("exit 0", ""),
            );
            let (status, time) = stopped(line);
            assert_eq!(status, "137", "{line}");
            // Less than who is given no time has, which is ten seconds.
            let times = Duration::from_millis(least)..Duration::from_secs(10);
            assert!(times.contains(&time), "{line}: {time:?}");
        }
        machine.nothing_left();
    });
}

#[test]
fn several_that_are_stopped_wait_at_the_same_time() {
    let machine = Machine::of(Who::Root);
    let names = ["aa", "bb", "cc", "dd"];
    // Each goes when all have been asked to.
    let script = "trap 'touch /asked/$(hostname)' TERM; touch /ready
        until [ $(ls /asked | wc -l) = 4 ]; do sleep 0.05; done; exit 3";
    for name in names {
        let line = format!("run -d --name {name} --network none -v asked:/asked host");
        machine.ok(&shell(&line, script));
        machine.ok(&shell(
            &format!("exec {name}"),
            "until [ -e /ready ]; do sleep 0.02; done",
        ));
    }
    assert_eq!(machine.ok("stop -t 1000 aa bb cc dd"), names.join("\n"));
    assert_eq!(machine.ok("wait aa bb cc dd"), ["3"; 4].join("\n"));
    machine.no_container_left();
    machine.ok("volume rm asked");
    machine.nothing_left();
}

#[test]
fn kill_reaches_all_that_a_container_has_started() {
    for_each(|machine| {
        let script = "sleep 7001 & setsid sleep 7002 & (setsid sleep 7003 &) ; wait";
        machine.ok(&shell("run -d --name aa --network none host", script));
        machine.ok("exec -d aa sleep 7004");
        let sleepers = || {
            let all = machine.processes().into_iter();
            all.filter(|process| process.line.starts_with("sleep 700"))
                .count()
        };
        for line in ["kill aa", "stop -t 0 aa", "rm -f aa"] {
            wait_for("the processes", 60, || (sleepers() >= 3).then_some(()));
            machine.ok(line);
            assert_eq!(sleepers(), 0, "{line}");
            if line != "rm -f aa" {
                machine.ok("start aa");
            }
        }
        machine.nothing_left();
    });
}

#[test]
fn a_policy_waits_longer_each_time_and_counts() {
    for_each(|machine| {
        let failing = "cut -d' ' -f1 /proc/uptime; exit 3";
        machine.ok(&shell(
            "run -d --name aa --network none --restart on-failure:2 host",
            failing,
        ));
        machine.ok(&shell(
            "run -d --name bb --network none --restart always host",
            failing,
        ));
        machine.ok(&shell(
            "run -d --name cc --network none --restart on-failure host",
            "exit 0",
        ));
        assert_eq!(machine.ok("wait aa"), "3");
        assert_eq!(
            machine.ok("logs aa").lines().count(),
            3,
            "once, and twice again"
        );
        assert_eq!(machine.container("aa").state()["life"]["restarts"], 2);
        assert_eq!(machine.ok("wait cc"), "0");
        assert_eq!(machine.container("cc").state()["life"]["restarts"], 0);

        let moments = || {
            let log = machine.ok("logs bb");
            log.lines()
                .filter_map(|line| line.parse::<f64>().ok())
                .collect::<Vec<_>>()
        };
        wait_for("four starts", 60, || (moments().len() >= 4).then_some(()));
        machine.ok("stop bb");
        let moments = moments();
        for (two, least) in moments.windows(2).zip([0.1, 0.2, 0.4]) {
            let pause = two[1] - two[0];
            // The kernel's clock there counts in hundredths.
            assert!((least - 0.01..least + 30.0).contains(&pause), "{moments:?}");
        }
        assert_eq!(machine.container("bb").status(), "exited");
        machine.nothing_left();
    });
}

#[test]
fn wait_waits_for_the_end() {
    for_each(|machine| {
        machine.ok(&shell(
            "run -d --name aa --network none host",
            "sleep 0.5; exit 42",
        ));
        let both = machine.spawn("wait aa aa");
        assert_eq!(both.wait().ok(), "42\n42");
        machine.ok("create --name bb host true");
        assert_eq!(machine.ok("wait bb"), "0");
        machine.nothing_left();
    });
}

#[test]
fn a_name_can_be_changed_and_is_free_then() {
    for_each(|machine| {
        // No id begins with an x.
        machine.ok("run -d --name xx --network none host sleep 1000");
        machine.ok("create --name bb host true");
        assert_eq!(machine.ok("rename xx cc"), "");
        machine.fails(1, "exec xx true");
        machine.ok("exec cc true");
        for (line, said) in [
            (
                "rename cc bb",
                "Conflict. The container name \"/bb\" is already in use",
            ),
            ("rename cc cc", "same name as its current name"),
            ("rename cc -", "Invalid container name"),
            ("rename xx dd", "No such container: xx"),
        ] {
            let error = machine.fails(1, line);
            assert!(error.contains(said), "{line}: {error}");
        }
        machine.ok("create --name xx host true");
        machine.nothing_left();
    });
}

#[test]
fn of_many_who_want_one_name_one_gets_it() {
    for_each(|machine| {
        for round in 0..5 {
            let creators: Vec<_> = (0..10)
                .map(|_| machine.spawn("create --name same host true"))
                .collect();
            let ended = creators.into_iter().map(|creator| creator.wait());
            let (made, refused): (Vec<_>, Vec<_>) = ended.partition(|out| out.code() == 0);
            assert_eq!(
                (made.len(), refused.len()),
                (1, 9),
                "round {round}: {made:?}"
            );
            for out in refused {
                assert!(
                    out.errors().contains("Conflict. The container name"),
                    "{out}"
                );
            }
            assert_eq!(machine.ids(), [made[0].text()]);
            // One that died too early to take its name back.
            let path = machine.data().join("names/same");
            fs::write(&path, "0".repeat(64)).expect("write a name");
            machine.ok(&format!("rm {}", made[0].text()));
        }
        machine.ok("create --name same host true");
        machine.nothing_left();
    });
}

#[test]
fn one_more_process_has_what_it_asks_for() {
    for_each(|machine| {
        machine.ok("run -d --name aa --network none -e A=container -w /srv --cap-drop CHOWN host sleep 1000");
        let exec =
            |options: &str, script: &str| machine.ok(&shell(&format!("exec {options} aa"), script));
        assert_eq!(exec("", "pwd; echo $A; id -u"), "/srv\ncontainer\n0");
        assert_eq!(
            exec("-w /tmp -e A=exec -e B=2", "pwd; echo $A$B"),
            "/tmp\nexec2"
        );
        let file = machine.host().path("/tmp/variables");
        fs::write(&file, "A=file\n").expect("write a file");
        assert_eq!(exec("--env-file /tmp/variables", "echo $A"), "file");
        fs::remove_file(&file).expect("remove the file");
        if machine.who() != Who::Lone {
            assert_eq!(exec("-u 7:8", "id -u; id -g"), "7\n8");
        }
        let capabilities = "grep CapEff /proc/self/status | cut -f2";
        assert_eq!(exec("", capabilities), "00000000a80425fa");
        assert_ne!(exec("--privileged", capabilities), "00000000a80425fa");
        assert_eq!(machine.minidocker(&shell("exec aa", "exit 42")).code(), 42);
        assert_eq!(
            machine
                .minidocker(&shell("exec aa", "kill -TERM $$"))
                .code(),
            143
        );

        let mut cat = machine.feed("exec -i aa cat");
        cat.write(b"typed\n");
        cat.close_stdin();
        assert_eq!(cat.wait().ok(), "typed");
        assert_eq!(
            machine.ok("exec aa cat"),
            "",
            "without -i there is nothing to read"
        );
        assert_eq!(
            machine.ok(&shell("exec -d aa", "echo done >/tmp/done; sleep 1000")),
            ""
        );
        wait_for("what was left in the background", 60, || {
            let out = machine.minidocker("exec aa cat /tmp/done");
            (out.text() == "done").then_some(())
        });
        let error = machine.fails(125, "exec -w here aa true");
        assert!(error.contains("it needs to be an absolute path"), "{error}");
        machine.ok("stop -t 0 aa");
        let error = machine.fails(1, "exec aa true");
        assert!(error.contains("is not running"), "{error}");
        machine.nothing_left();
    });
}

#[test]
fn only_the_streams_that_were_named_are_attached() {
    let machine = Machine::of(Who::Root);
    let script = "echo out; echo err >&2; cat";
    for (options, out, err) in [
        ("", "out", "err"),
        ("-a stdout", "out", ""),
        ("-a STDERR", "", "err"),
        ("-a stdout -a stderr", "out", "err"),
    ] {
        let line = format!("run --rm --network none {options} host");
        let ran = machine.minidocker(&shell(&line, script));
        ran.ok();
        assert_eq!(
            (ran.text().as_str(), ran.errors().as_str()),
            (out, err),
            "{options}"
        );
    }
    machine.nothing_left();
}

#[test]
fn start_can_be_with_what_it_starts() {
    for_each(|machine| {
        machine.ok(&shell(
            "create -i --name aa --network none host",
            "cat; exit 5",
        ));
        let mut cat = machine.feed("start -ai aa");
        cat.write(b"typed\n");
        cat.close_stdin();
        let ran = cat.wait();
        assert_eq!((ran.text().as_str(), ran.code()), ("typed", 5));
        let error = machine.fails(1, "start -a aa bb");
        assert!(
            error.contains("cannot start and attach multiple containers at once"),
            "{error}"
        );
        let error = machine.fails(1, "attach aa");
        assert!(error.contains("You cannot attach to a stopped container, start it first"));
        machine.nothing_left();
    });
}

#[test]
fn an_image_that_is_not_at_hand_is_fetched() {
    let program = build_dir().join("registry");
    let machine = Machine::with(Wanted {
        shown: vec![
            (program, "registry".to_owned()),
            (made("clients"), "clients".to_owned()),
        ],
        ..Wanted::default()
    });
    let host = machine.host();
    let mut layout = Layout::new(host, "/tmp/one");
    let layer = layout.layer(Packing::Gzip, &[("file", b"text")]);
    layout.name("one", &layout.image(Kind::Oci, "amd64", &[&layer]));
    let registry = Registry::open(host);
    let name = registry.fill("/tmp/one", "one", "new");

    let out = machine.minidocker(&format!("create --name aa {name} true"));
    // Standard output is the container's affair.
    assert_eq!(out.ok(), machine.container("aa").id());
    let told = out.errors();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines[0],
        format!("Unable to find image '{name}:latest' locally")
    );
    assert_eq!(lines[1], "latest: Pulling from new");
    assert!(
        told.contains(&format!("Status: Downloaded newer image for {name}:latest")),
        "{told}"
    );

    let again = machine.minidocker(&format!("create {name} true"));
    assert_eq!(again.errors(), "");
    let always = machine.minidocker(&format!("create --pull always {name} true"));
    assert!(
        always.errors().contains("Status: Image is up to date"),
        "{}",
        always.errors()
    );
    let quiet = machine.minidocker(&format!("create --pull=always -q {name} true"));
    assert_eq!(quiet.errors(), "");
    // The image holds no program, and its container was made all the same.
    machine.fails(127, &format!("run --network none --name bb {name} true"));
    assert_eq!(machine.container("bb").status(), "created");
    let missing = machine.fails(125, &format!("run {name}:nope true"));
    assert!(
        missing.starts_with(&format!("Unable to find image '{name}:nope' locally")),
        "{missing}"
    );
    let never = machine.fails(125, &format!("run --pull=never {name}:nope true"));
    assert!(
        never.ends_with(&format!("No such image: {name}:nope")),
        "{never}"
    );
}
