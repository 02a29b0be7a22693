//! Writes of the runtime's to `/proc`, led to files that do nothing, or that do
//! something else (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881).

use std::fs;
use std::os::unix::fs::symlink;

use harness::{Bundle, wait_for};
use serde_json::json;

use crate::host;

/// CVE-2019-16884, CVE-2019-19921: a volume where labels are written to.
#[test]
fn nothing_is_mounted_over_proc() {
    let host = host();
    host.shell("mkdir -p /tmp/fake/attr /tmp/fake/sys; echo fake >/tmp/fake/file");
    let mut bundle = Bundle::new(&host, "over");
    let mounts = bundle.config["mounts"].clone();
    for (source, target) in [
        ("/tmp/fake", "/proc"),
        ("/tmp/fake", "/proc/self"),
        ("/tmp/fake/attr", "/proc/self/attr"),
        ("/tmp/fake/file", "/proc/self/attr/exec"),
        ("/tmp/fake/file", "/proc/thread-self/attr/apparmor/exec"),
        ("/tmp/fake/sys", "/proc/sys"),
        ("/tmp/fake/file", "/proc/sys/kernel/core_pattern"),
        ("/tmp/fake/file", "/proc/sysrq-trigger"),
        ("/tmp/fake/attr", "//proc/./self/attr"),
        ("/tmp/fake/attr", "/tmp/../proc/self/attr"),
    ] {
        for tmpfs in [false, true] {
            bundle.set("/mounts", mounts.clone());
            if tmpfs {
                bundle.add(
                    "/mounts",
                    json!({"destination": target, "type": "tmpfs", "source": "tmpfs"}),
                );
            } else {
                bundle.bind(source, target);
            }
            bundle.script("echo ran");
            let error = bundle.run().exits(1);
            assert!(error.contains("mounts[7]"), "{target}: {error}");
        }
    }
}

/// The same through a link of the image's.
#[test]
fn nothing_is_mounted_over_proc_through_a_link() {
    let host = host();
    host.shell("mkdir -p /tmp/fake; echo fake >/tmp/fake/file");
    for (number, (link, below)) in [
        ("/proc/self/attr", ""),
        ("/proc/self", "/attr"),
        ("/proc", "/sys"),
        ("proc", "/sys/kernel"),
        ("/", "/proc"),
        ("/dev/fd/..", "/attr"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut bundle = Bundle::new(&host, &format!("through{number}"));
        symlink(link, bundle.path("/way")).unwrap();
        bundle.bind("/tmp/fake", &format!("/way{below}"));
        bundle.script("echo ran; cat /proc/self/attr/file /proc/sys/file /proc/file");
        let out = bundle.run();
        assert!(!out.text().contains("fake"), "{link}{below}: {out}");
        out.exits(1);
    }
}

/// The image's own `/proc`, which the runtime's must not be led away from.
#[test]
fn a_proc_that_is_a_link_is_refused() {
    let host = host();
    host.shell("mkdir -p /tmp/fake/sys/net/ipv4; echo 0 >/tmp/fake/sys/net/ipv4/ip_forward");
    for (number, link) in ["/tmp", "/tmp/fake", "../../../../../tmp/fake", "sys"]
        .into_iter()
        .enumerate()
    {
        let mut bundle = Bundle::new(&host, &format!("proc{number}"));
        fs::remove_dir(bundle.path("/proc")).unwrap();
        symlink(link, bundle.path("/proc")).unwrap();
        bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
        bundle.script("echo ran");
        let error = bundle.run().exits(1);
        assert!(error.contains("/proc"), "{link}: {error}");
        assert_eq!(host.shell("cat /tmp/fake/sys/net/ipv4/ip_forward"), "0");
    }
}

/// CVE-2025-52881: a parameter that is written while the container's `/proc` is
/// what the image, or a volume, makes of it.
#[test]
fn parameters_are_the_kernels_whatever_the_image_has() {
    let host = host();
    let mut bundle = Bundle::new(&host, "parameters");
    // No proc of its own at all: the image's is a directory with files.
    let fake = "/proc/sys/net/ipv4/ip_forward";
    fs::create_dir_all(bundle.path("/proc/sys/net/ipv4")).unwrap();
    fs::write(bundle.path(fake), "fake\n").unwrap();
    fs::create_dir_all(bundle.path("/proc/self/attr")).unwrap();
    fs::write(bundle.path("/proc/self/oom_score_adj"), "fake\n").unwrap();
    bundle.unmount("/proc");
    bundle.set("/linux/maskedPaths", json!([]));
    bundle.set("/linux/readonlyPaths", json!([]));
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    bundle.set("/process/oomScoreAdj", json!(500));
    bundle.script("sleep 100");
    bundle.write();
    let dir = bundle.dir();
    let run = [
        "minirunc",
        "run",
        "-d",
        "--pid-file",
        "/tmp/pid",
        "--bundle",
        &dir,
        "parameters",
    ];
    bundle.background(&run).ok();
    let value = "nsenter --net --target $(cat /tmp/pid) cat /proc/sys/net/ipv4/ip_forward";
    assert_eq!(host.shell(value), "1");
    assert_eq!(host.shell("cat /proc/$(cat /tmp/pid)/oom_score_adj"), "500");
    assert_eq!(fs::read_to_string(bundle.path(fake)).unwrap(), "fake\n");
    bundle.delete();
}

/// CVE-2025-52881, in `exec`: a container that may mount has put files of its
/// own over its `/proc`.
#[test]
fn exec_writes_to_no_file_that_the_container_has_put_over_its_proc() {
    let host = host();
    let mut bundle = Bundle::new(&host, "covered");
    for set in ["bounding", "effective", "permitted"] {
        bundle.add(
            &format!("/process/capabilities/{set}"),
            json!("CAP_SYS_ADMIN"),
        );
    }
    bundle.set("/linux/seccomp", json!(null));
    bundle.set("/process/oomScoreAdj", json!(300));
    bundle.script(
        "mount -t tmpfs tmpfs /proc && mkdir -p /proc/self/attr /proc/1 /proc/self/fd \
             && echo fake | tee /proc/self/oom_score_adj /proc/self/attr/exec >/proc/1/status \
             && ln -s /etc /proc/thread-self && echo covered && exec sleep 100",
    );
    let mut running = bundle.spawn();
    running.expect("covered");
    let exec = ["minirunc", "exec", "covered", "sleep", "99"];
    let joined = host.spawn(exec);
    let find = "for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' <$p/cmdline)\" = 'sleep 99 ' ] && \
                cat $p/oom_score_adj; done 2>/dev/null; true";
    let score = wait_for("the command", 60, || {
        Some(host.shell(find)).filter(|score| !score.is_empty())
    });
    assert_eq!(score, "300");
    let fake = "cat /proc/self/oom_score_adj /proc/self/attr/exec";
    assert_eq!(bundle.exec(["sh", "-c", fake]).ok(), "fake\nfake");
    drop(joined);
    bundle.delete();
}
