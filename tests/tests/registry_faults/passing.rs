//! Faults that pass: the pull succeeds, and asks for nothing twice that it has.

use harness::registry::{Hostile, Minidocker, machine};
use harness::{Host, Setup, User};

use crate::{Bystander, image, with_each_user};

/// A pull from a registry with these options, which must succeed.
struct Pull<'a> {
    hostile: Hostile<'a>,
    /// The large blob.
    digest: String,
    size: u64,
}

impl<'a> Pull<'a> {
    fn new(host: &'a Host, minidocker: &Minidocker<'_>, seed: u8, options: &[&str]) -> Pull<'a> {
        let path = format!("/tmp/{seed}-{:?}", minidocker.user());
        let layer = image(host, &path, seed);
        let hostile = Hostile::start(host, &path, options);
        minidocker.ok(&format!("pull {}:one", hostile.name("x")));
        Pull {
            hostile,
            digest: layer.digest,
            size: layer.size as u64,
        }
    }

    /// From which bytes on the large blob was asked for.
    fn downloads(&self) -> Vec<u64> {
        self.hostile.downloads(&self.digest)
    }
}

fn beside_a_bystander(check: impl Fn(&Host, &Minidocker<'_>) + Sync) {
    with_each_user(|host, user| {
        let bystander = Bystander::new(host, user);
        check(host, &bystander.minidocker);
        bystander.assert_unharmed();
    });
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    beside_a_bystander(|host, minidocker| {
        let once = Pull::new(
            host,
            minidocker,
            1,
            &["--fault", "cut=20000", "--times", "1"],
        );
        assert_eq!(once.downloads(), [0, 20_000]);
        let always = Pull::new(host, minidocker, 2, &["--fault", "cut=25000"]);
        assert_eq!(always.downloads(), [0, 25_000, 50_000]);
    });
}

#[test]
fn a_registry_that_knows_no_ranges_is_asked_for_the_whole_again() {
    beside_a_bystander(|host, minidocker| {
        let pull = Pull::new(host, minidocker, 3, &["--fault", "no-range=20000"]);
        let downloads = pull.downloads();
        assert!(
            downloads.starts_with(&[0, 20_000]) && downloads.len() <= 3,
            "{downloads:?}"
        );
    });
}

#[test]
fn a_token_that_ends_half_way_is_replaced() {
    beside_a_bystander(|host, minidocker| {
        let uses = ["--token-uses", "2"];
        let pull = Pull::new(host, minidocker, 4, &uses);
        let tokens = pull.hostile.seen().into_iter();
        let tokens = tokens.filter(|seen| seen.path == "/token").count();
        // A manifest, a configuration and two layers, and perhaps a HEAD before.
        assert!((2..=5).contains(&tokens), "{:?}", pull.hostile.seen());
        // Also in the middle of a blob.
        let options = ["--fault", "cut=15000", "--token-uses", "3"];
        let pull = Pull::new(host, minidocker, 5, &options);
        let mut downloads = pull.downloads();
        downloads.dedup();
        let expected: Vec<u64> = (0..pull.size).step_by(15_000).collect();
        assert_eq!(downloads, expected, "{:?}", pull.hostile.seen());
    });
}

#[test]
fn a_busy_registry_is_left_alone_for_as_long_as_it_says() {
    let host = machine(Setup::default());
    let minidocker = Minidocker::of(&host, User::Root);
    // A number of seconds, and a date.
    let date = "date -u -d '+3 seconds' '+%a, %d %b %Y %H:%M:%S GMT'";
    for (seed, after, least) in [(6, "echo 3", 3.0), (7, date, 1.5)] {
        let start = std::time::Instant::now();
        let fault = format!("busy={}", host.shell(after));
        let pull = Pull::new(
            &host,
            &minidocker,
            seed,
            &["--fault", &fault, "--times", "1"],
        );
        let took = start.elapsed().as_secs_f64();
        assert!((least..60.0).contains(&took), "{after}: {took} s");
        assert_eq!(pull.downloads(), [0]);
    }
    minidocker.assert_sound();
}

#[test]
fn a_registry_that_is_unavailable_is_asked_again() {
    beside_a_bystander(|host, minidocker| {
        let options = ["--fault", "unavailable", "--times", "2"];
        let pull = Pull::new(host, minidocker, 8, &options);
        assert_eq!(pull.downloads(), [0]);
        let options = ["--fault", "hang-up", "--times", "2"];
        let pull = Pull::new(host, minidocker, 9, &options);
        assert_eq!(pull.downloads(), [0]);
    });
}

/// As it comes from a server for files of any kind.
#[test]
fn a_manifest_that_says_itself_what_it_is_may_come_as_text() {
    beside_a_bystander(|host, minidocker| {
        let options = ["--fault", "manifest-type=text/html"];
        Pull::new(host, minidocker, 12, &options);
    });
}

#[test]
fn blobs_that_are_elsewhere_come_from_there_without_a_credential() {
    beside_a_bystander(|host, minidocker| {
        let path = format!("/tmp/10-{:?}", minidocker.user());
        let layer = image(host, &path, 10);
        let elsewhere = Hostile::start(host, &path, &[]);
        let fault = format!("redirect={}", elsewhere.port());
        let options = ["--fault", &fault, "--token-uses", "100"];
        let hostile = Hostile::start(host, &path, &options);
        minidocker.ok(&format!("pull {}:one", hostile.name("x")));
        assert_eq!(elsewhere.downloads(&layer.digest), [0]);
        let seen = elsewhere.seen();
        assert!(seen.iter().all(|seen| !seen.authorized), "{seen:?}");
        let seen = hostile.seen();
        let asked = seen.iter().find(|seen| seen.path.ends_with(&layer.digest));
        assert!(asked.is_some_and(|asked| asked.authorized), "{seen:?}");
    });
}

#[test]
fn what_a_registry_that_died_has_sent_is_not_asked_for_again() {
    beside_a_bystander(|host, minidocker| {
        let path = format!("/tmp/11-{:?}", minidocker.user());
        let layer = image(host, &path, 11);
        let mut hostile = Hostile::start(host, &path, &["--fault", "die=30000"]);
        let port = hostile.port();
        let pull = format!("pull {}:one", hostile.name("x"));
        let said = minidocker.fails(&pull);
        assert!(said.contains(&port.to_string()), "{said}");
        assert!(!hostile.is_running());
        minidocker.assert_sound();
        drop(hostile);
        let healthy = Hostile::at(host, port, &path, &[]);
        minidocker.ok(&pull);
        assert_eq!(healthy.downloads(&layer.digest), [30_000]);
    });
}
