//! Faults: registries that break off, lie, dawdle and send us away, images that are none,
//! disks that are full, and commands that are killed. Every time there is a sentence and
//! status 1, the store is sound, and a second try gets what is missing.

mod calls;
mod crowd;
mod disk;
mod documents;
mod kills;
mod lasting;
mod looks;
mod mending;
mod passing;
mod pushes;
mod servers;

use harness::registry::{Kind, Layer, Layout, Minidocker, Packing, Registry, machine, noise};
use harness::{Host, Setup, User};

/// Makes a check as root and as student, each on a machine of their own: most of their time
/// is spent waiting.
fn with_each_user(check: impl Fn(&Host, User) + Sync) {
    std::thread::scope(|scope| {
        for user in [User::Root, User::Student] {
            let check = &check;
            scope.spawn(move || check(&machine(Setup::default()), user));
        }
    });
}

/// An image `one` in a layout at `path`, whose first layer is the largest blob. It is not
/// compressed: nothing but its digest tells what was done to it.
fn image(host: &Host, path: &str, seed: u8) -> Layer {
    let mut layout = Layout::new(host, path);
    let first = layout.layer(Packing::Plain, &[("noise", &noise(seed, 60_000))]);
    let second = layout.layer(Packing::Gzip, &[("small", &[seed])]);
    layout.name("one", &layout.image(Kind::Oci, "amd64", &[&first, &second]));
    first
}

/// An image that is in the store before anything goes wrong, and must be afterwards.
struct Bystander<'a> {
    minidocker: Minidocker<'a>,
    name: String,
}

impl<'a> Bystander<'a> {
    fn new(host: &'a Host, user: User) -> Bystander<'a> {
        let minidocker = Minidocker::of(host, user);
        let path = format!("/tmp/bystander-{user:?}");
        let mut layout = Layout::new(host, &path);
        let layer = layout.layer(Packing::Gzip, &[("calm", b"as ever\n")]);
        layout.name("one", &layout.image(Kind::Oci, "amd64", &[&layer]));
        let registry = Registry::open(host);
        let name = registry.fill(&path, "one", "bystander");
        minidocker.ok(&format!("pull {name}"));
        Bystander { minidocker, name }
    }

    /// It is as it was, and everything else in the store is sound.
    #[track_caller]
    fn assert_unharmed(&self) {
        self.minidocker.assert_sound();
        let layer = self.minidocker.layers(&self.name).remove(0);
        let calm = std::fs::read_to_string(layer.join("calm"));
        assert_eq!(calm.expect("the bystander's file"), "as ever\n");
    }
}
