//! What the runtime makes and binds in `/dev`, where the image has a link, or
//! somebody else's file, in the place of a device.

use std::fs;
use std::os::unix::fs::symlink;

use harness::{Bundle, Host, User};
use serde_json::json;

use crate::host;

const VICTIM: &str = "/tmp/victim";

/// A host with a file, and an empty directory, that nobody may touch.
fn with_victim() -> Host {
    let host = host();
    host.shell(&format!("echo untouched >{VICTIM}; mkdir /tmp/outside"));
    host
}

#[track_caller]
fn assert_untouched(host: &Host, what: &str) {
    assert_eq!(host.shell(&format!("cat {VICTIM}")), "untouched", "{what}");
    assert_eq!(host.shell("ls -A /tmp/outside"), "", "{what}");
}

/// What an image's link may point to: the host's file for those who follow it
/// there, by one way or another.
fn links() -> [String; 4] {
    [
        VICTIM.to_owned(),
        format!("{}tmp/victim", "../".repeat(12)),
        "/proc/sys/kernel/core_pattern".to_owned(),
        "/proc/1/root/tmp/victim".to_owned(),
    ]
}

/// CVE-2025-31133: the file that covers masked files.
#[test]
fn a_null_device_that_is_a_link_covers_nothing() {
    let host = with_victim();
    for (number, link) in links().into_iter().enumerate() {
        let mut bundle = Bundle::new(&host, &format!("null{number}"));
        // No /dev of the runtime's: the image's.
        bundle.unmount("/dev");
        symlink(&link, bundle.path("/dev/null")).unwrap();
        bundle.script("echo written >/proc/kcore; cat /proc/kcore | head -c 100; echo ran");
        let error = bundle.run().exits(1);
        assert!(error.contains("/dev/null"), "{link}: {error}");
        assert_untouched(&host, &link);
    }
}

/// CVE-2025-31133, with a `/dev` that is a volume of somebody's.
#[test]
fn a_null_device_of_a_volume_is_looked_at_before_it_covers_anything() {
    let host = with_victim();
    let fakes = [
        "echo fake >null",
        "mknod null c 1 5",
        "mknod null b 1 3",
        "mkfifo null",
        "mkdir null",
        "ln -s zero null; mknod zero c 1 5",
        "ln -s /tmp/victim null",
    ];
    for (number, fake) in fakes.into_iter().enumerate() {
        let name = format!("volume{number}");
        host.shell(&format!(
            "mkdir /tmp/dev{number}; cd /tmp/dev{number}; {fake}"
        ));
        let mut bundle = Bundle::new(&host, &name);
        bundle.unmount("/dev");
        bundle.bind(&format!("/tmp/dev{number}"), "/dev");
        bundle.script("echo ran");
        let error = bundle.run().exits(1);
        assert!(error.contains("/dev/null"), "{fake}: {error}");
        assert_untouched(&host, fake);
    }
}

/// The same for the devices that are made: what is there is no such device.
#[test]
fn a_device_whose_place_is_taken_is_not_made_somewhere_else() {
    let host = with_victim();
    for (number, link) in links().into_iter().enumerate() {
        let mut bundle = Bundle::new(&host, &format!("zero{number}"));
        bundle.unmount("/dev");
        symlink(&link, bundle.path("/dev/zero")).unwrap();
        bundle.script("echo ran");
        let error = bundle.run().exits(1);
        assert!(error.contains("/dev/zero"), "{link}: {error}");
        assert_untouched(&host, &link);
    }
}

/// CVE-2026-41579, CVE-2026-47766: everything that would be made in `/dev`.
#[test]
fn a_dev_that_is_a_link_is_refused_and_nothing_is_made_behind_it() {
    let host = with_victim();
    let up = "../".repeat(12);
    let ways = [
        "/tmp/outside".to_owned(),
        format!("{up}tmp/outside"),
        "/proc/1/root/tmp/outside".to_owned(),
        "tmp".to_owned(),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        for mounted in [true, false] {
            for users in [false, true] {
                let name = format!("dev{number}-{mounted}-{users}");
                let mut bundle = Bundle::new(&host, &name);
                fs::remove_dir(bundle.path("/dev")).unwrap();
                symlink(&way, bundle.path("/dev")).unwrap();
                if !mounted {
                    bundle.unmount("/dev");
                    bundle.set("/linux/maskedPaths", json!([]));
                }
                if users {
                    bundle.own_users();
                }
                bundle.script("echo ran");
                let error = bundle.run().exits(1);
                assert!(error.contains("/dev"), "{way}: {error}");
                assert_untouched(&host, &way);
            }
        }
    }
}

/// A device with a path of its own, through the image's links.
#[test]
fn a_device_behind_a_link_is_not_made_on_the_host() {
    let host = with_victim();
    let mut bundle = Bundle::new(&host, "behind");
    symlink("../../../../../../../tmp/outside", bundle.path("/srv")).unwrap();
    bundle.add(
        "/linux/devices",
        json!({"path": "/srv/device", "type": "c", "major": 1, "minor": 5}),
    );
    bundle.script("true");
    bundle.run();
    assert_untouched(&host, "linux.devices");
    for path in ["/dev/../../outside/x", "../tmp/outside/x", "/"] {
        bundle.set("/linux/devices/0/path", json!(path));
        let error = bundle.run().exits(1);
        assert!(error.contains("linux.devices[0]"), "{path}: {error}");
        assert_untouched(&host, path);
    }
}

/// CVE-2025-52565: the terminal that is bound on `/dev/console`.
#[test]
fn a_console_or_terminals_that_are_links_lead_nowhere() {
    let host = with_victim();
    for (number, link) in links().into_iter().enumerate() {
        for place in ["/dev/console", "/dev/pts", "/dev/ptmx", "/dev/tty"] {
            let name = format!("console{number}{}", place.replace('/', "-"));
            let mut bundle = Bundle::new(&host, &name);
            bundle.set("/process/terminal", json!(true));
            bundle.set("/linux/maskedPaths", json!([]));
            // The image's /dev, as far as it has one, with terminals in it.
            let kept: Vec<_> = bundle.config["mounts"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|mount| {
                    let at = mount["destination"].as_str().unwrap();
                    !at.starts_with("/dev") || at == "/dev/pts"
                })
                .cloned()
                .collect();
            bundle.set("/mounts", json!(kept));
            symlink(&link, bundle.path(place)).unwrap();
            bundle.script("echo typed >/dev/console; echo ran");
            bundle.write();
            let run = ["minirunc", "run", "--bundle", &bundle.dir(), &name];
            let terminal = host.terminal(User::Root, run);
            // It may work with a terminal of the container's own, or be refused.
            terminal.wait();
            assert_untouched(&host, &format!("{place} to {link}"));
        }
    }
}
