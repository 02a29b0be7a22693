//! Links in a root that somebody else filled, or still changes, on the way to
//! where something is mounted (CVE-2021-30465, CVE-2024-45310).

use std::fs;
use std::os::unix::fs::symlink;

use harness::{Bundle, Host};
use serde_json::json;

use crate::{host, plant};

/// Exchanges two names as fast as it can.
const SWAP: &str = r#"
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <stdio.h>
    int main(int argc, char **argv) {
        if (argc != 3)
            return 2;
        puts("swapping");
        fflush(stdout);
        for (;;)
            if (renameat2(AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE))
                return 1;
    }
"#;

/// A directory of the host's, for links to point to.
const OUTSIDE: &str = "/tmp/outside";

/// What would have been made there.
fn outside(host: &Host) -> Vec<String> {
    let entries = fs::read_dir(host.path(OUTSIDE)).expect("list the directory outside");
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Links that mean the directory outside to whoever follows them on the host.
fn ways_out() -> Vec<String> {
    let up = "../".repeat(12);
    vec![
        OUTSIDE.to_owned(),
        format!("{up}tmp/outside"),
        format!("/{up}tmp/outside"),
        format!("/proc/1/root{OUTSIDE}"),
        "/proc/self/cwd/tmp/outside".to_owned(),
    ]
}

#[test]
fn a_mount_point_behind_a_link_stays_in_the_root() {
    let host = host();
    host.shell(&format!(
        "mkdir {OUTSIDE} /tmp/given && echo given >/tmp/given/file"
    ));
    for (number, way) in ways_out().into_iter().enumerate() {
        let name = format!("link{number}");
        let mut bundle = Bundle::new(&host, &name);
        symlink(&way, bundle.path("/target")).unwrap();
        bundle.bind("/tmp/given", "/target/directory");
        bundle.bind("/tmp/given/file", "/target/file");
        bundle.add(
            "/mounts",
            json!({"destination": "/target/memory", "type": "tmpfs", "source": "tmpfs"}),
        );
        bundle.script("cat /target/file /target/directory/file; touch /target/memory/x");
        let out = bundle.run();
        // Refused, or mounted inside.
        if out.code() == 0 {
            assert_eq!(out.text(), "given\ngiven", "{way}");
        } else {
            assert!(out.errors().contains("/target"), "{way}: {out}");
        }
        assert_eq!(outside(&host), [""; 0], "{way}");
    }
}

/// The regression of the first fixes: links inside must go on working.
#[test]
fn an_absolute_link_stays_in_the_root_and_works() {
    let host = host();
    host.shell("mkdir /tmp/given && echo given >/tmp/given/file");
    let mut bundle = Bundle::new(&host, "absolute");
    symlink("/run", bundle.path("/var/run")).unwrap();
    symlink("/etc/../var/run/deep", bundle.path("/etc/deep")).unwrap();
    bundle.bind("/tmp/given/file", "/var/run/file");
    bundle.bind("/tmp/given", "/etc/deep");
    bundle.script("cat /run/file /run/deep/file");
    assert_eq!(bundle.run().ok(), "given\ngiven");
    assert!(!host.path("/run/deep").exists());
}

/// A container that shares the volume /shared with others, and swaps
/// /shared/a with the link /shared/b.
fn swapper<'a>(host: &'a Host, target: &str) -> Bundle<'a> {
    host.shell("mkdir -p /tmp/shared/a");
    symlink(target, host.path("/tmp/shared/b")).expect("make a link");
    let mut swapper = Bundle::new(host, "swapper");
    plant(&swapper, "swap", SWAP);
    swapper.bind("/tmp/shared", "/shared");
    swapper.command(["swap", "/shared/a", "/shared/b"]);
    swapper
}

/// Runs the bundle by two at once, some hundred times, or as often as a slow
/// machine can in a few seconds.
fn run_often(host: &Host, victim: &Bundle) -> String {
    victim.write();
    let script = format!(
        "n=0; end=$(($(date +%s) + 8)); \
         while [ $n -lt 100 ] && [ $(date +%s) -lt $end ]; do n=$((n + 1)); \
             minirunc run --bundle {} $0$n 2>/dev/null || echo refused; done",
        victim.dir()
    );
    let two = ["one", "two"].map(|name| host.spawn(["sh", "-c", &script, name]));
    two.map(|one| one.wait().ok()).join("\n")
}

/// CVE-2021-30465, CVE-2024-45310, and the way that the latest ones were won.
#[test]
fn nobody_wins_a_race_for_a_mount_point() {
    let host = host();
    host.shell(&format!(
        "mkdir {OUTSIDE} /tmp/given; echo given >/tmp/given/file"
    ));
    let swapper = swapper(&host, &format!("{}tmp/outside", "../".repeat(12)));
    let mut running = swapper.spawn();
    running.expect("swapping");

    let mut victim = Bundle::new(&host, "victim");
    victim.bind("/tmp/shared", "/shared");
    victim.bind("/tmp/given", "/shared/a/deep/directory");
    victim.bind("/tmp/given/file", "/shared/a/deep/file");
    victim.add(
        "/mounts",
        json!({"destination": "/shared/a/memory", "type": "tmpfs", "source": "tmpfs"}),
    );
    // A mount that is not below the root any more is not in its table.
    victim.script("grep -c -e /deep/directory -e /deep/file -e /memory /proc/self/mountinfo");
    let said = run_often(&host, &victim);
    let mounted = said.lines().filter(|line| *line == "3").count();
    let refused = said.lines().filter(|line| *line == "refused").count();
    assert_eq!(outside(&host), [""; 0], "made outside");
    assert_eq!(
        mounted + refused,
        said.lines().count(),
        "mounted outside:\n{said}"
    );
    assert!(mounted > 0, "no container was ever made:\n{said}");
    assert!(running.is_running());
    swapper.delete();
}

/// The same for the file that covers a masked path, and with it for /dev/null
/// (CVE-2025-31133).
#[test]
fn nobody_wins_a_race_for_the_null_device() {
    let host = host();
    host.shell("mkdir /tmp/shared; mknod /tmp/shared/null c 1 3");
    symlink(
        "/proc/sys/kernel/core_pattern",
        host.path("/tmp/shared/link"),
    )
    .unwrap();
    let mut swapper = Bundle::new(&host, "swapper");
    plant(&swapper, "swap", SWAP);
    swapper.bind("/tmp/shared", "/shared");
    swapper.command(["swap", "/shared/null", "/shared/link"]);
    let mut running = swapper.spawn();
    running.expect("swapping");

    let mut victim = Bundle::new(&host, "victim");
    fs::write(victim.path("/masked"), "masked\n").unwrap();
    victim.unmount("/dev");
    victim.bind("/tmp/shared", "/dev");
    victim.set("/linux/maskedPaths", json!(["/masked"]));
    // What covers it is the null device, and nothing else ever.
    victim.command(["stat", "-c", "%F %t:%T", "/masked"]);
    let said = run_often(&host, &victim);
    let masked = "character special file 1:3";
    for line in said.lines() {
        assert!([masked, "refused"].contains(&line), "covered by: {line}");
    }
    assert!(said.contains(masked), "never masked:\n{said}");
    swapper.delete();
}
