//! Pushes to a registry that dies, and comes back.

use std::time::Duration;

use harness::registry::{Hostile, Kind, Layout, Packing, Registry, noise};

use crate::{Bystander, with_each_user};

#[test]
fn a_push_outlives_the_registry() {
    with_each_user(|host, user| {
        let mut layout = Layout::new(host, "/tmp/layout");
        let layers: Vec<_> = (0..3)
            .map(|n| layout.layer(Packing::Gzip, &[("noise", &noise(n, 4_000_000))]))
            .collect();
        let all: Vec<_> = layers.iter().collect();
        layout.name("one", &layout.image(Kind::Oci, "amd64", &all));
        let bystander = Bystander::new(host, user);
        let minidocker = &bystander.minidocker;
        let source = Hostile::start(host, "/tmp/layout", &[]);
        let name = format!("{}:one", source.name("x"));
        minidocker.ok(&format!("pull {name}"));
        let mut registry = Registry::open(host);
        let address = registry.address();
        let mut paused = 0;
        // Some may be through before the registry dies.
        for round in 0..20 {
            if paused > 0 && round > 1 {
                break;
            }
            let to = format!("{address}/round-{round}");
            minidocker.ok(&format!("tag {name} {to}"));
            let mut push = minidocker.spawn(&format!("push {to}"));
            registry.wait_for_upload(&format!("round-{round}"), &mut push);
            registry.crash(Duration::from_millis(300));
            let said = push.wait().ok();
            paused += usize::from(said.contains("Retrying"));
            let copy = format!(
                "skopeo --insecure-policy copy --quiet --src-tls-verify=false docker://{to} dir:/tmp/copy-{round}"
            );
            host.run(copy.split(' ')).ok();
            // The next one meets a registry that has nothing of it.
            registry.forget();
        }
        assert!(paused > 0, "no push has met with a dead registry");
        bystander.assert_unharmed();
        let line = format!("push 127.0.0.1:1/{user:?}").to_lowercase();
        minidocker.ok(&format!("tag {name} {}", &line[5..]));
        let said = minidocker.fails(&line);
        assert!(said.contains("127.0.0.1:1"), "{said}");
    });
}
