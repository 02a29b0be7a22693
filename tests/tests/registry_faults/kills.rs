//! Commands that are killed at any moment, a hundred times in all.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use harness::registry::{Hostile, Kind, Layer, Layout, Minidocker, Packing, machine, noise};
use harness::{Host, Setup, User, wait_for};

use crate::Bystander;

/// How often, of each command and by each user.
const PULLS: u32 = 20;
const OTHERS: u32 = 10;

/// An image of four layers, of which two are another image's too, and all of it also as an
/// archive.
fn images(host: &Host) -> Vec<Layer> {
    let mut layout = Layout::new(host, "/tmp/layout");
    let layers: Vec<_> = (0..4)
        .map(|n| layout.layer(Packing::Gzip, &[("noise", &noise(220 + n, 300_000))]))
        .collect();
    let all: Vec<_> = layers.iter().collect();
    layout.name("one", &layout.image(Kind::Oci, "amd64", &all));
    layout.name("two", &layout.image(Kind::Oci, "amd64", &all[..2]));
    host.shell("tar -C /tmp/layout -cf /tmp/layout.tar .; chmod 644 /tmp/layout.tar");
    layers
}

/// One user's commands, and what must not be harmed by their ends.
struct Victim<'a> {
    host: &'a Host,
    bystander: Bystander<'a>,
    minidocker: Minidocker<'a>,
}

impl<'a> Victim<'a> {
    fn new(host: &'a Host, user: User) -> Victim<'a> {
        let bystander = Bystander::new(host, user);
        let minidocker = bystander.minidocker.clone();
        Victim {
            host,
            bystander,
            minidocker,
        }
    }

    /// How long a command takes that nobody kills.
    fn time(&self, line: &str) -> Duration {
        let start = Instant::now();
        self.minidocker.ok(line);
        start.elapsed()
    }

    /// Kills a command after a part of its time, differently for each `round`, and looks.
    fn kill(&self, line: &str, whole: Duration, round: u32) {
        let moment = whole * ((round * 37 + 5) % 101) / 100;
        let script = format!(
            "minidocker {line} >/dev/null 2>&1 & sleep {}; kill -KILL $!; wait",
            moment.as_secs_f64()
        );
        let user = self.minidocker.user();
        self.host.run_as(user, ["sh", "-c", &script]);
        wait_for("everything that it started to end", 60, || {
            let out = self.host.run(["pgrep", "-x", "minidocker"]);
            out.text().is_empty().then_some(())
        });
        self.minidocker.assert_unharmed();
        // Which clears away what the killed one has left half-made.
        let images = self.minidocker.ok("images -q");
        assert!(!images.is_empty(), "the bystander is listed");
        self.minidocker.assert_sound();
    }

    /// Removes an image if it is there.
    fn remove(&self, name: &str) {
        if self
            .minidocker
            .call(&format!("image inspect {name}"))
            .code()
            == 0
        {
            self.minidocker.ok(&format!("rmi {name}"));
        }
    }

    /// What a pull need not download: how many bytes are there of each blob.
    fn there(&self, layers: &[Layer]) -> BTreeMap<String, u64> {
        let dir = self.host.path(self.minidocker.dir());
        let size = |layer: &Layer| {
            let hex = layer.digest.trim_start_matches("sha256:");
            let whole = dir.join("images/blobs/sha256").join(hex);
            let part = dir.join("ingest").join(hex);
            let size = fs::metadata(whole).or_else(|_| fs::metadata(part));
            (layer.digest.clone(), size.map_or(0, |size| size.len()))
        };
        layers.iter().map(size).collect()
    }
}

fn pulls(user: User) {
    let host = machine(Setup::default());
    let layers = images(&host);
    let victim = Victim::new(&host, user);
    let hostile = Hostile::start(&host, "/tmp/layout", &["--speed", "3000"]);
    let pull = format!("pull {}:one", hostile.name("x"));
    let rmi = format!("rmi {}:one", hostile.name("x"));
    let whole = victim.time(&pull);
    victim.minidocker.ok(&rmi);
    let mut halves = 0;
    for round in 0..PULLS {
        let there = victim.there(&layers);
        let is_half = |layer: &&Layer| (1..layer.size as u64).contains(&there[&layer.digest]);
        halves += layers.iter().filter(is_half).count();
        let before: Vec<usize> = layers
            .iter()
            .map(|layer| hostile.downloads(&layer.digest).len())
            .collect();
        victim.kill(&pull, whole, round);
        // Also a pull that is killed asks only for what the killed ones before have not got.
        for (layer, before) in layers.iter().zip(before) {
            let downloads = hostile.downloads(&layer.digest).split_off(before);
            let expected = there[&layer.digest];
            assert!(
                downloads.iter().all(|from| *from == expected),
                "{downloads:?} where {expected} of {} bytes were there",
                layer.size
            );
        }
        victim.remove(&format!("{}:one", hostile.name("x")));
    }
    assert!(
        halves > 3,
        "hardly a pull was killed in the middle of a layer: {halves}"
    );
    // In the middle of it, and then to its end.
    victim.kill(&pull, whole, 4);
    let there = victim.there(&layers);
    let healthy = Hostile::start(&host, "/tmp/layout", &[]);
    let pull = format!("pull {}:one", healthy.name("x"));
    victim.minidocker.ok(&pull);
    for layer in &layers {
        let expected = match there[&layer.digest] {
            size if size == layer.size as u64 => Vec::new(),
            size => vec![size],
        };
        assert_eq!(
            healthy.downloads(&layer.digest),
            expected,
            "of {}",
            layer.size
        );
    }
    victim.bystander.assert_unharmed();
}

#[test]
fn saves_that_are_killed_leave_no_half_of_an_archive() {
    let host = machine(Setup::default());
    images(&host);
    let victim = Victim::new(&host, User::Root);
    victim.minidocker.ok("load -i /tmp/layout.tar");
    host.shell("mkdir /tmp/saved");
    let save = "save -o /tmp/saved/archive layout:one";
    let whole = victim.time(save);
    let expected = host.shell("sha256sum </tmp/saved/archive; rm /tmp/saved/archive");
    for round in 0..OTHERS {
        victim.kill(save, whole, round);
        let left = host.shell(
            "cd /tmp/saved; for f in *; do [ ! -e $f ] || { echo $f; sha256sum <$f; }; done",
        );
        assert!(
            left.is_empty() || left == format!("archive\n{expected}"),
            "{left}"
        );
        host.shell("rm -f /tmp/saved/archive");
    }
    victim.bystander.assert_unharmed();
}

#[test]
fn pulls_that_are_killed_leave_what_the_next_one_goes_on_with() {
    pulls(User::Root);
}

#[test]
fn pulls_that_are_killed_leave_what_the_next_one_goes_on_with_without_root() {
    pulls(User::Student);
}

fn others(user: User) {
    let host = machine(Setup::default());
    images(&host);
    let victim = Victim::new(&host, user);
    let hostile = Hostile::start(&host, "/tmp/layout", &[]);
    let pull = |tag: &str| format!("pull {}:{tag}", hostile.name("x"));
    let rmi = |tag: &str| format!("rmi {}:{tag}", hostile.name("x"));
    victim.minidocker.ok("images -q");
    let before = victim.minidocker.blobs();
    let load = "load -i /tmp/layout.tar";
    let whole = victim.time(load);
    for round in 0..OTHERS {
        // Names that say only a tag are in the repository that the file's name makes.
        victim.remove("layout:one");
        victim.remove("layout:two");
        victim.kill(load, whole, round);
    }
    victim.remove("layout:one");
    victim.remove("layout:two");
    // Of two images that share layers one goes, and the other stays whole.
    victim.minidocker.ok(&pull("two"));
    victim.minidocker.ok(&pull("one"));
    let whole = victim.time(&rmi("one"));
    for round in 0..OTHERS {
        victim.minidocker.ok(&pull("one"));
        victim.kill(&rmi("one"), whole, round);
        victim
            .minidocker
            .ok(&format!("image inspect {}:two", hostile.name("x")));
    }
    let prune = "image prune -f";
    let dangle = || {
        victim.minidocker.ok(&pull("one"));
        let name = hostile.name("x");
        victim.minidocker.ok(&format!("tag {name}:one {name}:gone"));
        // An image whose name another takes is nobody's.
        victim.minidocker.ok(&rmi("one"));
        victim
            .minidocker
            .ok(&format!("tag {} {name}:gone", victim.bystander.name));
    };
    dangle();
    let whole = victim.time(prune);
    for round in 0..OTHERS {
        dangle();
        victim.kill(prune, whole, round);
        victim
            .minidocker
            .ok(&format!("image inspect {}:two", hostile.name("x")));
    }
    victim.minidocker.ok(prune);
    for name in ["two", "gone"] {
        victim.minidocker.ok(&rmi(name));
    }
    victim.minidocker.ok(prune);
    let images = victim.minidocker.ok("images -a");
    assert_eq!(victim.minidocker.blobs(), before, "{images}");
    victim.bystander.assert_unharmed();
    victim.minidocker.ok(&pull("one"));
    victim.bystander.assert_unharmed();
}

#[test]
fn loads_and_removals_that_are_killed_harm_nothing() {
    others(User::Root);
}

#[test]
fn loads_and_removals_that_are_killed_harm_nothing_without_root() {
    others(User::Student);
}
