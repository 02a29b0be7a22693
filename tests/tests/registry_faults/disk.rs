//! A disk that is full.

use harness::registry::{Hostile, Kind, Layout, Minidocker, Packing, noise};
use harness::{Host, User};

use crate::{Bystander, with_each_user};

/// Gives the user's store a disk of its own.
fn mount(host: &Host, minidocker: &Minidocker<'_>, size: &str) {
    let dir = minidocker.dir();
    let owner = match minidocker.user() {
        User::Root => "0",
        User::Student => "1000",
    };
    host.run_as(minidocker.user(), ["mkdir", "-p", dir]).ok();
    host.shell(&format!(
        "mount -t tmpfs -o size={size},mode=755,uid={owner},gid={owner} tmpfs {dir}"
    ));
}

fn resize(host: &Host, minidocker: &Minidocker<'_>, size: &str) {
    host.shell(&format!(
        "mount -o remount,size={size} {}",
        minidocker.dir()
    ));
}

/// An image of four layers, each larger than a quarter of what is free at first.
fn large(host: &Host) {
    let mut layout = Layout::new(host, "/tmp/large");
    let layers: Vec<_> = (0..4)
        .map(|n| layout.layer(Packing::Gzip, &[("noise", &noise(200 + n, 2_000_000))]))
        .collect();
    let all: Vec<_> = layers.iter().collect();
    layout.name("one", &layout.image(Kind::Oci, "amd64", &all));
}

#[test]
fn a_pull_onto_a_full_disk_says_so_and_succeeds_when_there_is_room() {
    with_each_user(|host, user| {
        large(host);
        let hostile = Hostile::start(host, "/tmp/large", &[]);
        let pull = format!("pull {}:one", hostile.name("x"));
        mount(host, &Minidocker::of(host, user), "6m");
        let bystander = Bystander::new(host, user);
        let minidocker = &bystander.minidocker;
        for _ in 0..2 {
            let said = minidocker.fails(&pull);
            assert!(said.contains("No space left on device"), "{said}");
            bystander.assert_unharmed();
        }
        // Who makes room by taking away something else can do so on the full disk.
        minidocker.ok(&format!("tag {} again:1", bystander.name));
        minidocker.ok("rmi again:1");
        resize(host, minidocker, "64m");
        minidocker.ok(&pull);
        bystander.assert_unharmed();
        minidocker.ok(&format!("rmi {}:one", hostile.name("x")));
        bystander.assert_unharmed();
    });
}

#[test]
fn a_load_onto_a_full_disk_says_so_and_leaves_nothing() {
    with_each_user(|host, user| {
        large(host);
        host.shell("tar -C /tmp/large -cf /tmp/large.tar .; chmod 644 /tmp/large.tar");
        mount(host, &Minidocker::of(host, user), "6m");
        let bystander = Bystander::new(host, user);
        let minidocker = &bystander.minidocker;
        let before = minidocker.blobs();
        let said = minidocker.fails("load -i /tmp/large.tar");
        assert!(said.contains("No space left on device"), "{said}");
        bystander.assert_unharmed();
        assert_eq!(minidocker.blobs(), before);
        resize(host, minidocker, "64m");
        minidocker.ok("load -i /tmp/large.tar");
        bystander.assert_unharmed();
    });
}

#[test]
fn a_file_that_cannot_be_written_in_full_is_as_it_was() {
    with_each_user(|host, user| {
        large(host);
        let hostile = Hostile::start(host, "/tmp/large", &[]);
        let bystander = Bystander::new(host, user);
        let minidocker = &bystander.minidocker;
        let name = format!("{}:one", hostile.name("x"));
        minidocker.ok(&format!("pull {name}"));
        host.shell("mkdir /tmp/small; mount -t tmpfs -o size=1m,mode=1777 tmpfs /tmp/small");
        for before in ["", "what was there\n"] {
            if !before.is_empty() {
                let write = format!("printf '{before}' >/tmp/small/saved");
                host.run_as(user, ["sh", "-c", &write]).ok();
            }
            let said = minidocker.fails(&format!("save -o /tmp/small/saved {name}"));
            assert!(said.contains("No space left on device"), "{said}");
            let after = host.shell("cd /tmp/small; ls -A | grep -v ^saved$ || cat saved 2>&1 || :");
            assert!(
                after == before.trim() || before.is_empty() && after.contains("No such file"),
                "{after}"
            );
        }
        minidocker.ok(&format!("save -o /tmp/small/saved {}", bystander.name));
        bystander.assert_unharmed();
    });
}

#[test]
fn a_disk_that_is_read_only_is_told() {
    with_each_user(|host, user| {
        large(host);
        let hostile = Hostile::start(host, "/tmp/large", &[]);
        let bystander = Bystander::new(host, user);
        let minidocker = &bystander.minidocker;
        mount_read_only(host, minidocker);
        for line in [
            format!("pull {}:one", hostile.name("x")),
            format!("tag {} other:1", bystander.name),
            format!("rmi {}", bystander.name),
            "image prune -f".to_owned(),
        ] {
            let said = minidocker.fails(&line);
            assert!(said.contains("Read-only file system"), "{line}: {said}");
        }
    });
}

/// What is there may be read, and nothing written.
fn mount_read_only(host: &Host, minidocker: &Minidocker<'_>) {
    let dir = minidocker.dir();
    host.shell(&format!(
        "mount --bind {dir} {dir}; mount -o remount,bind,ro {dir}"
    ));
}
