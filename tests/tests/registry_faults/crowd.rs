//! Commands that run beside a pull, or are waiting for one, or interrupt it.

use std::fs;
use std::time::Duration;

use harness::registry::{Hostile, Kind, Layer, Layout, Minidocker, Packing, noise};
use harness::{Host, wait_for};
use nix::sys::signal::Signal;

use crate::{Bystander, with_each_user};

/// `one` of three layers, and `two` of the first two of them, from a registry that takes
/// two seconds for each.
fn slow(host: &Host) -> (Vec<Layer>, Hostile<'_>) {
    let mut layout = Layout::new(host, "/tmp/slow");
    let layers: Vec<_> = (0..3)
        .map(|n| layout.layer(Packing::Gzip, &[("noise", &noise(240 + n, 500_000))]))
        .collect();
    let all: Vec<_> = layers.iter().collect();
    layout.name("one", &layout.image(Kind::Oci, "amd64", &all));
    layout.name("two", &layout.image(Kind::Oci, "amd64", &all[..2]));
    (
        layers,
        Hostile::start(host, "/tmp/slow", &["--speed", "250"]),
    )
}

/// How much of a layer has come that is not there whole.
fn come(layer: &Layer, host: &Host, minidocker: &Minidocker<'_>) -> u64 {
    let hex = layer.digest.trim_start_matches("sha256:");
    let part = host.path(minidocker.dir()).join("ingest").join(hex);
    fs::metadata(part).map_or(0, |part| part.len())
}

/// Waits until more of a layer has come than `before`, and holds the registry then.
fn hold_in(
    layer: &Layer,
    before: u64,
    minidocker: &Minidocker<'_>,
    (host, hostile): (&Host, &Hostile<'_>),
) {
    wait_for("a part of a layer", 60, || {
        (come(layer, host, minidocker) > before).then_some(())
    });
    hostile.hold();
}

/// With patience for a registry that is held.
fn patient<'a>(bystander: &Bystander<'a>) -> Minidocker<'a> {
    let minidocker = bystander.minidocker.clone();
    minidocker.with("MINIDOCKER_REGISTRY_TIMEOUT=600")
}

#[test]
fn what_a_pull_is_about_to_need_is_not_cleared_away() {
    with_each_user(|host, user| {
        let (layers, hostile) = slow(host);
        let bystander = Bystander::new(host, user);
        let minidocker = &patient(&bystander);
        let mut pull = minidocker.spawn(&format!("pull {}:one", hostile.name("x")));
        hold_in(&layers[0], 0, minidocker, (host, &hostile));
        for _ in 0..3 {
            minidocker.ok("image prune -f");
            minidocker.ok(&format!("tag {} other:1", bystander.name));
            minidocker.ok("rmi other:1");
        }
        assert!(pull.is_running());
        hostile.go_on();
        pull.wait().ok();
        for layer in &layers {
            assert_eq!(hostile.downloads(&layer.digest), [0]);
        }
        // The same with an image whose layers it finds here, and which is then removed.
        minidocker.ok(&format!("rmi {}:one", hostile.name("x")));
        minidocker.ok(&format!("pull {}:two", hostile.name("x")));
        let pull = minidocker.spawn(&format!("pull {}:one", hostile.name("x")));
        hold_in(&layers[2], 0, minidocker, (host, &hostile));
        minidocker.ok(&format!("rmi {}:two", hostile.name("x")));
        minidocker.ok("image prune -f");
        hostile.go_on();
        pull.wait().ok();
        bystander.assert_unharmed();
        minidocker.inspect(&format!("{}:one", hostile.name("x")), "{{.Id}}");
    });
}

#[test]
fn a_pull_that_waits_for_another_goes_on_when_that_one_is_killed() {
    with_each_user(|host, user| {
        let (layers, hostile) = slow(host);
        let bystander = Bystander::new(host, user);
        let minidocker = &patient(&bystander);
        let pull = format!("pull {}:one", hostile.name("x"));
        let first = minidocker.spawn(&pull);
        hold_in(&layers[0], 0, minidocker, (host, &hostile));
        let second = minidocker.spawn(&pull);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(
            hostile.downloads(&layers[0].digest),
            [0],
            "the second one waits"
        );
        first.kill_after(Duration::ZERO);
        hostile.go_on();
        second.wait().ok();
        let downloads = hostile.downloads(&layers[0].digest);
        assert!(
            matches!(downloads[..], [0, from] if from > 0),
            "{downloads:?}"
        );
        // Which clears away what the killed one has left half-made.
        minidocker.ok("images -q");
        bystander.assert_unharmed();
    });
}

#[test]
fn an_interrupted_pull_ends_at_once_and_the_next_goes_on() {
    with_each_user(|host, user| {
        let (layers, hostile) = slow(host);
        let bystander = Bystander::new(host, user);
        let minidocker = &patient(&bystander);
        let pull = format!("pull {}:one", hostile.name("x"));
        let mut there = 0;
        for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
            let running = minidocker.spawn(&pull);
            hold_in(&layers[0], there, minidocker, (host, &hostile));
            running.signal(signal);
            // The registry says nothing to whoever would wait for it.
            running.wait().exits(status);
            there = come(&layers[0], host, minidocker);
            hostile.go_on();
            bystander.assert_unharmed();
        }
        minidocker.ok(&pull);
        let downloads = hostile.downloads(&layers[0].digest);
        assert!(
            downloads.is_sorted() && downloads.len() == 3,
            "{downloads:?}"
        );
        assert!(
            downloads[1] > 0 && downloads[2] > downloads[1],
            "{downloads:?}"
        );
        bystander.assert_unharmed();
    });
}

#[test]
fn a_signal_to_everybody_at_the_terminal_ends_a_pull() {
    with_each_user(|host, user| {
        let (layers, hostile) = slow(host);
        let bystander = Bystander::new(host, user);
        let pull = ["minidocker", "pull", &format!("{}:one", hostile.name("x"))].map(str::to_owned);
        let mut terminal = host.terminal(user, pull);
        hold_in(&layers[0], 0, &bystander.minidocker, (host, &hostile));
        terminal.send("\x03");
        assert_eq!(terminal.wait(), 130);
        hostile.go_on();
        bystander.assert_unharmed();
    });
}
