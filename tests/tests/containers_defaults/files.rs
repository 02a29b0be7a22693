//! What is mounted, what is hidden, and what can be written to.

use harness::engine::Who;

use crate::{for_each, inside, refused, words};

#[test]
fn what_tells_of_the_host_is_hidden_and_what_changes_it_cannot_be_written() {
    for_each(|machine| {
        let script = "
            for file in /proc/interrupts /proc/keys /proc/timer_list /proc/kcore /proc/sched_debug; do
                test ! -e $file || test ! -s $file || wc -c <$file
            done
            for directory in /proc/acpi /proc/scsi /sys/firmware /sys/devices/virtual/powercap; do
                test ! -e $directory || ls -A $directory
            done
            cat /proc/interrupts /proc/keys /proc/timer_list 2>/dev/null
            for file in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/mm/ksm/run; do
                echo x 2>/dev/null >$file && echo wrote to $file
            done
            mkdir /sys/fs/cgroup/below 2>/dev/null && echo made a cgroup
            true";
        assert_eq!(inside(machine, "", script), "");
    });
}

#[test]
fn dev_holds_dockers_devices_and_no_others() {
    for_each(|machine| {
        let found = inside(
            machine,
            "",
            "ls /dev; stat -c %t:%T /dev/null; echo >/dev/null; head -c 3 /dev/zero | wc -c",
        );
        let expected =
            "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 1:3 3";
        assert_eq!(
            found
                .split_whitespace()
                .filter(|name| *name != "core")
                .collect::<Vec<_>>()
                .join(" "),
            expected
        );
        let found = inside(
            machine,
            "-t",
            "tty; ls /dev/console; stat -c %t /dev/console",
        );
        assert!(
            found.contains("/dev/pts/0") && found.contains("/dev/console"),
            "{found}"
        );
        let said = refused(machine, "--device /dev/nosuch");
        assert!(said.contains("/dev/nosuch"), "{said}");
        machine.nothing_left();
    });
}

#[test]
fn a_device_of_the_hosts_can_be_had_under_any_name() {
    for_each(|machine| {
        let script = "stat -c %t:%T /dev/nothing; echo lost >/dev/nothing";
        assert_eq!(
            inside(machine, "--device /dev/null:/dev/nothing", script),
            "1:3"
        );
        let found = inside(machine, "--device /dev/fuse", "stat -c %t:%T /dev/fuse");
        assert_eq!(found, "a:e5");
        machine.nothing_left();
    });
}

#[test]
fn shared_memory_has_64_mib_unless_somebody_says_otherwise() {
    for_each(|machine| {
        let size = |options| {
            inside(
                machine,
                options,
                "df -k /dev/shm | awk 'END {print $2}'; stat -c %a /dev/shm",
            )
        };
        assert_eq!(size(""), "65536\n1777");
        assert_eq!(size("--shm-size 1m"), "1024\n1777");
        assert_eq!(size("--shm-size 2097152"), "2048\n1777");
    });
}

#[test]
fn a_read_only_root_leaves_what_is_mounted_upon_it() {
    for_each(|machine| {
        let script = "
            for place in / /etc /srv; do touch $place/file 2>/dev/null && echo wrote to $place; done
            touch /run/file /dev/shm/file && echo wrote to the rest
            echo x 2>/dev/null >>/etc/hosts || echo hosts stay";
        let found = inside(machine, "--read-only --tmpfs /run", script);
        assert_eq!(found, "wrote to the rest\nhosts stay");
        machine.nothing_left();
    });
}

#[test]
fn a_tmpfs_has_dockers_options_and_the_users_over_them() {
    for_each(|machine| {
        let options = |option: &str, place: &str| {
            let script =
                format!("grep ' {place} ' /proc/mounts | cut -d' ' -f3,4; stat -c %a {place}");
            inside(machine, option, &script)
        };
        let found = options("--tmpfs /scratch", "/scratch");
        assert!(found.starts_with("tmpfs rw,nosuid,nodev,noexec"), "{found}");
        let found = options("--tmpfs /scratch:size=1m,mode=1700,exec", "/scratch");
        assert!(
            found.contains("size=1024k") && found.ends_with("1700"),
            "{found}"
        );
        assert!(
            !found.contains("noexec") && found.contains("nosuid"),
            "{found}"
        );
        let found = options(
            "--mount type=tmpfs,destination=/scratch,tmpfs-size=1m",
            "/scratch",
        );
        assert!(found.contains("size=1024k"), "{found}");
        machine.nothing_left();
    });
}

#[test]
fn a_directory_of_the_hosts_is_shared_as_far_as_it_is_allowed() {
    for_each(|machine| {
        machine
            .script("mkdir -p /tmp/a/b; echo hello >/tmp/a/file")
            .ok();
        let script = "cat /data/file; echo inside >/data/new && echo wrote; touch /data/b/c && echo wrote below";
        let found = inside(machine, "-v /tmp/a:/data", script);
        assert_eq!(found, "hello\nwrote\nwrote below");
        assert_eq!(machine.script("cat /tmp/a/new").ok(), "inside");
        let script = format!("{{ {script}; }} 2>/dev/null; true");
        assert_eq!(inside(machine, "-v /tmp/a:/data:ro", &script), "hello");
        let option = "--mount type=bind,source=/tmp/a,target=/data,readonly";
        assert_eq!(inside(machine, option, &script), "hello");
        let found = inside(machine, "-v /tmp/a/file:/etc/hosts", "cat /etc/hosts");
        assert_eq!(found, "hello", "the user's goes before the engine's");
        let option = "--mount type=bind,source=/tmp/nosuch,target=/data";
        assert!(refused(machine, option).contains("/tmp/nosuch"));
        machine.script("rm -r /tmp/a").ok();
        machine.nothing_left();
    });
}

#[test]
fn below_a_read_only_volume_nothing_can_be_written_either() {
    let machine = harness::engine::Machine::of(Who::Root);
    machine
        .host()
        .shell("mkdir -p /tmp/a/b; mount -t tmpfs t /tmp/a/b");
    let found = inside(
        &machine,
        "-v /tmp/a:/data:ro",
        "touch /data/b/c 2>/dev/null || echo refused",
    );
    assert_eq!(found, "refused");
    machine.host().shell("umount /tmp/a/b; rm -r /tmp/a");
    machine.nothing_left();
}

#[test]
fn what_the_host_unmounts_is_in_no_containers_way() {
    let machine = harness::engine::Machine::of(Who::Root);
    let host = machine.host();
    host.shell("mkdir /tmp/a; mount -t tmpfs t /tmp/a; mount --make-shared /tmp/a; mkdir /tmp/a/b");
    machine.ok("run -d --name aa --network none -v /tmp/a:/data:rslave host sleep 100");
    machine.ok("run -d --name bb --network none -v /tmp/a:/data host sleep 100");
    host.shell("mount -t tmpfs t /tmp/a/b; touch /tmp/a/b/late");
    assert_eq!(machine.ok("exec aa ls /data/b"), "late");
    assert_eq!(machine.ok("exec bb ls /data/b"), "");
    host.shell("umount /tmp/a/b");
    let mounts = machine.ok("exec aa cat /proc/mounts");
    assert!(!mounts.contains("/data/b"), "{mounts}");
    let said = refused(&machine, "-v /tmp/a:/data:rshared");
    assert!(said.contains("rshared"), "{said}");
    machine.ok("rm -f aa bb");
    host.shell("umount /tmp/a; rmdir /tmp/a");
    machine.nothing_left();
}

#[test]
fn what_is_mounted_upon_is_no_change_of_the_containers() {
    for_each(|machine| {
        machine.ok(&words_of_kept(
            "aa",
            "touch /srv/mine; ls -a /; readlink /etc/mtab; ls /etc",
        ));
        assert_eq!(
            machine
                .ok("start -a aa")
                .lines()
                .filter(|name| [".dockerenv", "proc", "sys", "dev"].contains(name))
                .count(),
            4
        );
        let log = machine.ok("logs aa");
        for there in ["hosts", "hostname", "resolv.conf", "/proc/mounts"] {
            assert!(log.lines().any(|line| line == there), "{there} of {log}");
        }
        assert_eq!(machine.ok("diff aa"), "C /srv\nA /srv/mine");
        machine.nothing_left();
    });
}

/// A container that stays.
fn words_of_kept<'a>(name: &'a str, script: &'a str) -> Vec<&'a str> {
    let words = words("", "host", script);
    let mut all = vec!["create", "--name", name];
    all.extend(
        words
            .into_iter()
            .filter(|word| !["run", "--rm"].contains(word)),
    );
    all
}
