//! Pushes to a registry that dies, and comes back.

use std::time::{Duration, Instant};

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
        let whole = {
            let start = Instant::now();
            minidocker.ok(&format!("tag {name} {address}/first"));
            minidocker.ok(&format!("push {address}/first"));
            start.elapsed()
        };
        let mut paused = 0;
        // Each into a registry that has nothing of it.
        for part in [30, 50, 70] {
            host.shell(&format!(
                "rm -r /tmp/registry-{}/data/docker",
                &address[10..]
            ));
            let to = format!("{address}/at-{part}");
            minidocker.ok(&format!("tag {name} {to}"));
            let start = Instant::now();
            let push = minidocker.spawn(&format!("push {to}"));
            std::thread::sleep(whole * part / 100);
            registry.crash(Duration::from_millis(300));
            push.wait().ok();
            println!("{part}: {whole:?} {:?}", start.elapsed());
            paused += usize::from(start.elapsed() > whole + Duration::from_millis(500));
            let copy = format!(
                "skopeo --insecure-policy copy --quiet --src-tls-verify=false docker://{to} dir:/tmp/copy-{part}"
            );
            host.run(copy.split(' ')).ok();
        }
        assert!(paused > 0, "no push has met with a dead registry");
        bystander.assert_unharmed();
        let line = format!("push 127.0.0.1:1/{user:?}").to_lowercase();
        minidocker.ok(&format!("tag {name} {}", &line[5..]));
        let said = minidocker.fails(&line);
        assert!(said.contains("127.0.0.1:1"), "{said}");
    });
}
