//! Step 2: a root file system of its own.

use std::fs;

use harness::{Host, Setup, User, assert_same};

const BOTH: [User; 2] = [User::Root, User::Student];

/// A small root file system at /tmp/root: busybox and what points at it.
fn small_rootfs(host: &Host) {
    host.shell(
        "mkdir -p /tmp/root/bin /tmp/root/etc && cp $(command -v busybox) /tmp/root/bin/
         for name in sh ls cat id mount touch echo stat readlink ps sleep; do
             ln -s busybox /tmp/root/bin/$name
         done
         echo here >/tmp/root/etc/marker; chmod -R go+rX /tmp/root",
    );
}

fn shell_in(host: &Host, user: User, options: &[&str], script: &str) -> harness::Output {
    let mut argv = vec!["step02", "run"];
    argv.extend(options);
    argv.extend(["--", "sh", "-c", script]);
    host.run_as(user, argv)
}

#[test]
fn without_rootfs_one_is_made_from_the_hosts_programs() {
    let host = Host::new();
    for user in BOTH {
        let script = "ls / >/dev/null && cat /proc/self/comm && ps >/dev/null && mount >/dev/null \
            && hostname >/dev/null && id -u && env >/dev/null && sleep 0 && ip link >/dev/null && echo fine";
        let out = shell_in(&host, user, &[], script).ok();
        assert!(out.ends_with("0\nfine"), "{user:?}: {out}");
    }
    assert!(host.path("/var/lib/minidocker/rootfs").is_dir());
    assert!(
        host.path("/home/student/.local/share/minidocker/rootfs")
            .is_dir()
    );
}

#[test]
fn the_default_rootfs_is_made_once() {
    let host = Host::new();
    host.run(["step02", "run", "true"]).ok();
    let stat = "find /var/lib/minidocker/rootfs -path '*/dev/*' -o -printf '%i %T@ %p\n' | sort";
    let before = host.shell(stat);
    host.run(["step02", "run", "true"]).ok();
    assert_eq!(host.shell(stat), before);
}

#[test]
fn ten_first_containers_at_once_all_find_a_whole_rootfs() {
    let host = Host::new();
    for user in BOTH {
        let running: Vec<_> = (0..10)
            .map(|_| host.spawn_as(user, ["step02", "run", "sh", "-c", "ls /bin | wc -l"]))
            .collect();
        let counts: Vec<String> = running.into_iter().map(|one| one.wait().ok()).collect();
        assert!(
            counts.iter().all(|count| *count == counts[0]),
            "{user:?}: {counts:?}"
        );
    }
}

#[test]
fn a_program_of_the_host_that_the_default_rootfs_lacks_is_named_as_such() {
    let host = Host::new();
    for user in BOTH {
        let out = host.run_as(user, ["step02", "run", "--", "/usr/bin/strace"]);
        let error = out.exits(127);
        assert!(error.starts_with("step02: "), "{error}");
        assert!(
            error.contains("/usr/bin/strace") && error.contains("rootfs"),
            "{error}"
        );
    }
}

#[test]
fn the_given_rootfs_is_the_root() {
    let host = Host::new();
    small_rootfs(&host);
    for user in BOTH {
        let out = shell_in(
            &host,
            user,
            &["--rootfs", "/tmp/root"],
            "cat /etc/marker; echo /*",
        );
        let out = out.ok();
        assert!(out.starts_with("here\n"), "{user:?}: {out}");
        assert!(
            !out.contains("/home"),
            "{user:?}: the host's files are seen: {out}"
        );
    }
}

#[test]
fn the_hosts_root_is_out_of_reach() {
    let host = Host::new();
    host.shell("echo secret > /run/secret; chmod 644 /run/secret");
    for user in BOTH {
        let out = shell_in(
            &host,
            user,
            &[],
            "cat /run/secret ../../run/secret; mount | wc -l; cat /proc/mounts",
        );
        assert!(!out.text().contains("secret"), "{out}");
        // After a chroot the host's mounts would still be listed.
        assert!(!out.text().contains("/run/workspace"), "{out}");
        let breakout = "mkdir -p x && exec chroot x sh -c 'for i in 1 2 3 4 5 6 7 8 9; do cd ..; done; cat run/secret'";
        let out = shell_in(&host, user, &[], breakout);
        assert!(!out.text().contains("secret"), "{user:?}: {out}");
    }
}

#[test]
fn every_mount_is_one_that_was_asked_for() {
    let host = Host::new();
    for user in BOTH {
        let out = shell_in(&host, user, &[], "cat /proc/self/mountinfo").ok();
        let places: Vec<&str> = out
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .collect();
        for place in ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/sys"] {
            assert!(
                places.contains(&place),
                "{user:?}: {place} is not mounted:\n{out}"
            );
        }
        for place in &places {
            let expected = *place == "/"
                || ["/proc", "/dev", "/sys"]
                    .iter()
                    .any(|p| place.starts_with(p));
            assert!(expected, "{user:?}: {place} is mounted:\n{out}");
        }
    }
}

#[test]
fn proc_shows_the_containers_processes_alone() {
    let host = Host::new();
    for user in BOTH {
        let out = shell_in(
            &host,
            user,
            &[],
            "exec /bin/sh -c 'ls -d /proc/[0-9]*; readlink /proc/self'",
        )
        .ok();
        let numbers: Vec<u32> = out
            .lines()
            .filter_map(|line| line.rsplit('/').next()?.parse().ok())
            .collect();
        assert!(numbers.iter().all(|n| *n < 10), "{user:?}: {out}");
    }
}

#[test]
fn dev_holds_what_every_program_may_expect() {
    let host = Host::new();
    for user in BOTH {
        let script = "cd /dev && for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' $d; done";
        let out = shell_in(&host, user, &[], script).ok();
        for (name, number) in [
            ("null", "1:3"),
            ("zero", "1:5"),
            ("full", "1:7"),
            ("random", "1:8"),
            ("urandom", "1:9"),
            ("tty", "5:0"),
        ] {
            let wanted = format!("{name} character special file {number} 666");
            assert!(
                out.lines().any(|line| line == wanted),
                "{user:?}: {wanted} is not in\n{out}"
            );
        }
        let script = "cd /dev && echo x >null && head -c3 zero | wc -c && head -c3 urandom | wc -c \
            && ! echo x 2>/dev/null >full && touch shm/f && stat -c %a shm && for l in fd stdin stdout stderr; do readlink $l; done && test -e ptmx \
            && test -d mqueue && echo done >stdout";
        let out = shell_in(&host, user, &[], script).ok();
        assert!(
            out.contains("/proc/self/fd") && out.contains("1777") && out.ends_with("done"),
            "{user:?}: {out}"
        );
    }
}

#[test]
fn no_other_device_is_there() {
    let host = Host::new();
    for user in BOTH {
        let out = shell_in(&host, user, &[], "find /dev -type b -o -type c | sort").ok();
        for line in out.lines() {
            let known = [
                "null", "zero", "full", "random", "urandom", "tty", "ptmx", "console",
            ];
            let name = line.rsplit('/').next().unwrap_or_default();
            assert!(
                known.contains(&name) || line.starts_with("/dev/pts/"),
                "{user:?}: {line}"
            );
        }
    }
}

#[test]
fn a_terminal_can_be_opened_inside() {
    let host = Host::new();
    for user in BOTH {
        let mut terminal = host.terminal(
            user,
            [
                "step02",
                "run",
                "sh",
                "-c",
                "tty; ls -l $(tty); echo x >/dev/tty; echo end",
            ],
        );
        terminal.expect("/dev/");
        terminal.expect("end");
        let screen = String::from_utf8_lossy(&terminal.screen()).into_owned();
        assert!(
            !screen.contains("not a tty") && !screen.contains("No such"),
            "{user:?}: {screen}"
        );
        assert_eq!(terminal.wait(), 0);
    }
}

#[test]
fn sys_is_read_only_and_shows_the_containers_network() {
    let host = Host::online();
    for user in BOTH {
        let out = shell_in(
            &host,
            user,
            &[],
            "ls /sys/class/net; grep ' /sys ' /proc/mounts",
        )
        .ok();
        assert!(!out.contains("wan"), "{user:?}: {out}");
        let options = out.lines().last().unwrap_or_default();
        assert!(options.contains(" ro,"), "{user:?}: {options}");
    }
}

#[test]
fn volumes_are_shared_and_ro_ones_cannot_be_written() {
    let host = Host::new();
    for user in BOTH {
        host.shell("rm -rf /tmp/share; mkdir -p /tmp/share && echo one >/tmp/share/file && chmod 777 /tmp/share");
        let out = shell_in(
            &host,
            user,
            &["-v", "/tmp/share:/data"],
            "cat /data/file; echo two >/data/new",
        )
        .ok();
        assert_eq!(out, "one");
        assert_eq!(host.shell("cat /tmp/share/new"), "two");
        let out = shell_in(
            &host,
            user,
            &["-v", "/tmp/share:/data:ro"],
            "cat /data/file; echo three >/data/new || echo refused",
        );
        assert_eq!(out.ok(), "one\nrefused", "{user:?}");
        assert_eq!(host.shell("cat /tmp/share/new"), "two");
        // A file, into a directory that does not exist yet.
        let out = shell_in(&host, user, &["-v", "/tmp/share/file:/a/b/c"], "cat /a/b/c").ok();
        assert_eq!(out, "one");
        // Relative to where one is, as the README has it.
        let out = host.run_as(
            user,
            [
                "sh",
                "-c",
                "cd /tmp && exec step02 run -v ./share:/data cat /data/file",
            ],
        );
        assert_eq!(out.ok(), "one");
    }
}

#[test]
fn a_read_only_volume_is_read_only_in_its_submounts_too() {
    let host = Host::new();
    host.shell("mkdir -p /tmp/share/sub && mount -t tmpfs -o mode=777 none /tmp/share/sub");
    for user in BOTH {
        let out = shell_in(
            &host,
            user,
            &["-v", "/tmp/share:/data:ro"],
            "touch /data/sub/x || echo refused",
        );
        assert_eq!(out.ok(), "refused", "{user:?}");
    }
}

#[test]
fn a_volume_over_a_symlink_that_points_out_of_the_rootfs_stays_inside() {
    let host = Host::new();
    small_rootfs(&host);
    host.shell("mkdir /tmp/share /run/victim && ln -s /run/victim /tmp/root/data && ln -s ../../../run/victim /tmp/root/up");
    let before = host.snapshot();
    for target in ["/data", "/up", "/data/../../../run/victim/deeper"] {
        let volume = format!("/tmp/share:{target}");
        shell_in(
            &host,
            User::Root,
            &["--rootfs", "/tmp/root", "-v", &volume],
            "true",
        );
        let files = host.snapshot();
        let seen = files
            .part("files")
            .iter()
            .filter(|line| line.contains("/run/victim") && !line.contains("/tmp/root"))
            .count();
        assert_eq!(seen, 1, "{target}");
        assert_eq!(files.part("mounts"), before.part("mounts"));
    }
}

#[test]
fn a_rootfs_whose_dev_or_proc_is_a_link_is_refused_or_kept_inside() {
    let host = Host::new();
    for name in ["dev", "proc", "sys"] {
        host.shell("rm -rf /tmp/root /tmp/victim; mkdir /tmp/victim");
        small_rootfs(&host);
        host.shell(&format!("ln -s /tmp/victim /tmp/root/{name}"));
        let before = host.snapshot();
        let out = shell_in(&host, User::Root, &["--rootfs", "/tmp/root"], "true");
        assert!([0, 125].contains(&out.code()), "{out}");
        assert_eq!(host.shell("ls -A /tmp/victim"), "", "{name}: {out}");
        assert_eq!(host.snapshot().part("mounts"), before.part("mounts"));
    }
}

#[test]
fn a_read_only_root_cannot_be_written_but_dev_shm_can() {
    let host = Host::new();
    for user in BOTH {
        let script = "touch /x || echo refused; mount -o remount,rw / 2>/dev/null; touch /dev/shm/x && echo shm";
        let out = shell_in(&host, user, &["--read-only"], script);
        assert_eq!(out.ok(), "refused\nshm", "{user:?}");
    }
}

#[test]
fn what_is_written_into_a_given_rootfs_stays_there() {
    let host = Host::new();
    small_rootfs(&host);
    shell_in(
        &host,
        User::Root,
        &["--rootfs", "/tmp/root"],
        "echo kept >/etc/new",
    )
    .ok();
    assert_eq!(host.shell("cat /tmp/root/etc/new"), "kept");
}

#[test]
fn a_wrong_rootfs_or_volume_is_an_error_of_one_sentence() {
    let host = Host::new();
    host.shell("mkdir /tmp/empty; echo x >/tmp/file");
    for user in BOTH {
        for (options, word, codes) in [
            (&["--rootfs", "/no/such"][..], "/no/such", &[125][..]),
            (&["--rootfs", "/tmp/file"], "/tmp/file", &[125]),
            (&["-v", "/no/such:/data"], "/no/such", &[125]),
            (&["-v", "nonsense"], "nonsense", &[2, 125]),
            (&["-v", "/tmp:relative"], "relative", &[2, 125]),
            (&["-v", "/tmp:/data:rx"], "rx", &[2, 125]),
        ] {
            let out = shell_in(&host, user, options, "true");
            assert!(codes.contains(&out.code()), "{user:?}: {out}");
            assert!(out.errors().contains(word), "{user:?}: {out}");
        }
    }
    let before = host.snapshot();
    let out = host.run(["step02", "run", "--rootfs", "/tmp/empty", "sh"]);
    assert_eq!(out.code(), 127, "{out}");
    // What it made as mount points may stay: the directory is the user's.
    let outside = |snapshot: harness::Snapshot| snapshot.without("/tmp/empty");
    assert_same(&outside(before), || outside(host.snapshot()));
}

#[test]
fn a_file_name_that_is_not_utf8_works_as_rootfs_and_volume() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let host = Host::new();
    small_rootfs(&host);
    host.shell("mv /tmp/root \"$(printf '/tmp/r\\377t')\"; mkdir \"$(printf '/tmp/v\\376')\"; echo v >\"$(printf '/tmp/v\\376/f')\"");
    let argv: [&[u8]; 8] = [
        b"step02",
        b"run",
        b"--rootfs",
        b"/tmp/r\xfft",
        b"-v",
        b"/tmp/v\xfe:/d\xfc",
        b"cat",
        b"/d\xfc/f",
    ];
    for user in BOTH {
        assert_eq!(
            host.run_as(user, argv.map(OsStr::from_bytes)).ok(),
            "v",
            "{user:?}"
        );
    }
}

#[test]
fn the_container_is_seen_from_outside_with_its_own_root() {
    let host = Host::new();
    small_rootfs(&host);
    let argv = [
        "step02",
        "run",
        "--rootfs",
        "/tmp/root",
        "sh",
        "-c",
        "echo up; exec sleep 1020304",
    ];
    let mut running = host.spawn(argv);
    running.expect("up");
    let child = running.container();
    let seen = fs::read_to_string(format!("/proc/{child}/root/etc/marker")).unwrap();
    assert_eq!(seen, "here\n");
}

#[test]
fn without_subordinate_ids_it_works_with_ones_own_id_alone() {
    let host = Host::with(Setup {
        no_subids: true,
        ..Setup::default()
    });
    let script = "id -u; ls -ld /dev/pts >/dev/null && echo x >/dev/null && echo fine";
    let out = shell_in(&host, User::Student, &[], script);
    assert_eq!(out.ok(), "0\nfine");
    let mut terminal = host.terminal(
        User::Student,
        [
            "step02",
            "run",
            "sh",
            "-c",
            "tty && echo x >/dev/tty && echo end",
        ],
    );
    terminal.expect("end");
}

#[test]
fn the_host_is_as_it_was_afterwards() {
    let host = Host::online();
    small_rootfs(&host);
    let before = host.snapshot();
    for user in BOTH {
        for options in [
            &[][..],
            &["--rootfs", "/tmp/root", "--read-only"],
            &["-v", "/no/such:/x"],
        ] {
            for script in [
                "true",
                "exit 4",
                "kill -9 $$; mount -t tmpfs x /tmp",
                "mount -t tmpfs none /mnt; sleep 1000 &",
            ] {
                shell_in(&host, user, options, script);
            }
        }
    }
    // Mount points are made in a rootfs that is given; they stay, empty.
    let outside = |snapshot: harness::Snapshot| snapshot.without("/tmp/root");
    assert_same(&outside(before), || outside(host.snapshot()));
}

#[test]
fn a_signal_during_a_slow_start_ends_it_at_once() {
    let host = Host::new();
    host.run(["step02", "run", "mkdir", "-p", "/m"]).ok();
    let before = host.snapshot();
    // Thousands of mounts are what a start can be kept busy with; how long, is told by the time on a
    // processor, in hundredths, which is nobody else's.
    let script = "many=$(seq -f '-v /srv:/m/%.0f' 30000); used() { awk '{ print $16 + $17 }' /proc/$$/stat; }
        step02 run $many true
        a=$(used); step02 run $many true; b=$(used)
        step02 run $many true & until pgrep -x step02 >/dev/null; do :; done
        sleep 0.2; pkill -TERM -o -x step02; wait $! || echo $?
        c=$(used); echo $((b - a)) $((c - b))";
    let out = host.shell(script);
    let numbers: Vec<u64> = out.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [status, whole, cut_short] = numbers[..] else {
        panic!("{out}")
    };
    assert_eq!(status, 143);
    assert!(
        cut_short < whole * 2 / 3,
        "{cut_short} of {whole} hundredths of a second"
    );
    host.run(["step02", "run", "sh", "-c", "rm -r /m"]).ok();
    assert_same(&before, || host.snapshot());
}
