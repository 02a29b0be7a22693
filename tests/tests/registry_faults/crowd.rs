//! Commands that run beside a pull, or are waiting for one, or interrupt it.

use std::time::Duration;

use harness::registry::{Hostile, Kind, Layer, Layout, Packing, noise};
use harness::{Host, wait_for};
use nix::sys::signal::Signal;

use crate::{Bystander, with_each_user};

/// `one` of three layers, and `two` of the first two of them, from a registry that takes
/// half a second for each.
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
        Hostile::start(host, "/tmp/slow", &["--speed", "1000"]),
    )
}

/// Waits until some of the first layer has come.
fn wait_for_some(hostile: &Hostile<'_>, layer: &Layer) {
    wait_for("a download", 60, || {
        (!hostile.downloads(&layer.digest).is_empty()).then_some(())
    });
    std::thread::sleep(Duration::from_millis(100));
}

#[test]
fn what_a_pull_is_about_to_need_is_not_cleared_away() {
    with_each_user(|host, user| {
        let (layers, hostile) = slow(host);
        let bystander = Bystander::new(host, user);
        let minidocker = &bystander.minidocker;
        let mut pull = minidocker.spawn(&format!("pull {}:one", hostile.name("x")));
        wait_for_some(&hostile, &layers[0]);
        let mut rounds = 0;
        while pull.is_running() {
            minidocker.ok("image prune -f");
            minidocker.ok(&format!("tag {} other:1", bystander.name));
            minidocker.ok("rmi other:1");
            rounds += 1;
        }
        pull.wait().ok();
        assert!(rounds > 1, "the pull took too short a time");
        for layer in &layers {
            assert_eq!(hostile.downloads(&layer.digest), [0]);
        }
        // The same with an image whose layers it finds here, and which is then removed.
        minidocker.ok(&format!("rmi {}:one", hostile.name("x")));
        minidocker.ok(&format!("pull {}:two", hostile.name("x")));
        let before = hostile.downloads(&layers[2].digest).len();
        let pull = minidocker.spawn(&format!("pull {}:one", hostile.name("x")));
        wait_for("a download", 60, || {
            (hostile.downloads(&layers[2].digest).len() > before).then_some(())
        });
        minidocker.ok(&format!("rmi {}:two", hostile.name("x")));
        minidocker.ok("image prune -f");
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
        let minidocker = &bystander.minidocker;
        let pull = format!("pull {}:one", hostile.name("x"));
        let first = minidocker.spawn(&pull);
        wait_for_some(&hostile, &layers[0]);
        let second = minidocker.spawn(&pull);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(
            hostile.downloads(&layers[0].digest),
            [0],
            "the second one waits"
        );
        first.kill_after(Duration::ZERO);
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
        let minidocker = &bystander.minidocker;
        let pull = format!("pull {}:one", hostile.name("x"));
        for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
            let before = hostile.downloads(&layers[0].digest).len();
            let running = minidocker.spawn(&pull);
            wait_for("a download", 60, || {
                (hostile.downloads(&layers[0].digest).len() > before).then_some(())
            });
            std::thread::sleep(Duration::from_millis(100));
            running.signal(signal);
            let out = running.wait_at_most(Duration::from_secs(2));
            out.exits(status);
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
        wait_for_some(&hostile, &layers[0]);
        terminal.send("\x03");
        assert_eq!(terminal.wait(), 130);
        bystander.assert_unharmed();
    });
}
