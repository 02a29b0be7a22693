//! What goes to a registry, and what is not sent twice.

use harness::User;
use harness::registry::{Minidocker, PASSWORD, Registry, Request, USER};

use crate::{BOTH, Images, filled, host, raw, skopeo};

/// Requests that carry a blob's bytes.
fn uploads(asked: &[Request]) -> Vec<&Request> {
    let carries = |asked: &&Request| {
        asked.method == "PATCH" || asked.method == "PUT" && asked.path.contains("/blobs/uploads/")
    };
    asked.iter().filter(carries).collect()
}

#[test]
fn what_was_pulled_is_pushed_byte_for_byte() {
    let host = host();
    let images = Images::new(&host);
    let source = filled(&host, &["one", "two", "old"]);
    let target = Registry::open(&host);
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        for image in ["one", "two", "old"] {
            let from = format!("{}/{image}", source.address());
            let to = format!("{}/{user:?}/{image}:v1", target.address()).to_lowercase();
            minidocker.ok(&format!("pull {from}"));
            minidocker.ok(&format!("tag {from} {to}"));
            let said = minidocker.ok(&format!("push {to}"));
            let digest = images.digest(image);
            assert!(
                said.contains(&format!("v1: digest: {digest} size: ")),
                "{said}"
            );
            assert_eq!(raw(&host, &to), raw(&host, &from));
            // Every blob is there, or skopeo would not have it.
            let copy = format!(
                "copy --quiet --src-tls-verify=false docker://{to} dir:/tmp/{user:?}-{image}"
            );
            skopeo(&host, &copy).ok();
        }
        minidocker.assert_sound();
    }
}

#[test]
fn what_a_registry_has_is_not_sent_again() {
    let host = host();
    let images = Images::new(&host);
    let source = filled(&host, &["one"]);
    let from = format!("{}/one", source.address());
    let target = Registry::open(&host);
    let minidocker = Minidocker::of(&host, User::Root);
    minidocker.ok(&format!("pull {from}"));
    let to = format!("{}/first", target.address());
    minidocker.ok(&format!("tag {from} {to}"));
    minidocker.ok(&format!("push {to}"));
    assert!(
        uploads(&target.requests()).len() >= 4,
        "three layers and the configuration"
    );
    let before = target.requests().len();
    let said = minidocker.ok(&format!("push {to}"));
    assert!(said.contains("Layer already exists"), "{said}");
    let asked = target.requests().split_off(before);
    assert!(uploads(&asked).is_empty(), "{asked:?}");
    // Another repository of the same registry: nothing but words.
    let second = format!("{}/second", target.address());
    minidocker.ok(&format!("tag {from} {second}"));
    let before = target.requests().len();
    let said = minidocker.ok(&format!("push {second}"));
    assert!(said.contains("Mounted from first"), "{said}");
    let asked = target.requests().split_off(before);
    assert!(uploads(&asked).is_empty(), "{asked:?}");
    for layer in [&images.first, &images.second, &images.third] {
        let mount = |asked: &&Request| {
            let is_mount = asked.path.contains("mount=") && asked.status == 201;
            asked.method == "POST" && is_mount && asked.path.contains(&layer.digest[7..])
        };
        assert_eq!(asked.iter().filter(mount).count(), 1, "{asked:?}");
    }
    assert_eq!(raw(&host, &second), raw(&host, &from));
}

#[test]
fn only_who_may_push_does() {
    let host = host();
    Images::new(&host);
    let source = filled(&host, &["one"]);
    let from = format!("{}/one", source.address());
    let registries = [
        Registry::htpasswd(&host),
        Registry::token(&host, &[]),
        Registry::token(&host, &["--identity"]),
    ];
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        minidocker.ok(&format!("pull {from}"));
        for registry in &registries {
            let address = registry.address();
            let to = format!("{address}/{user:?}").to_lowercase();
            minidocker.ok(&format!("tag {from} {to}"));
            let said = minidocker.fails(&format!("push {to}"));
            let words = [
                "denied",
                "unauthorized",
                "no basic auth credentials",
                "login",
            ];
            assert!(words.iter().any(|word| said.contains(word)), "{said}");
            let mut login = minidocker.feed(&format!("login -u {USER} --password-stdin {address}"));
            login.write(PASSWORD.as_bytes());
            login.wait().ok();
            minidocker.ok(&format!("push {to}"));
            assert_eq!(raw(&host, &to), raw(&host, &from));
        }
    }
    // With an identity token there is no password in what is asked.
    let tokens = registries[2].tokens();
    let push = |line: &&String| line.starts_with("POST tester repository:root:");
    assert!(tokens.iter().any(|line| push(&line)), "{tokens:?}");
}

#[test]
fn what_is_not_here_cannot_be_pushed() {
    let host = host();
    let registry = Registry::open(&host);
    let minidocker = Minidocker::of(&host, User::Root);
    let name = format!("{}/nothing", registry.address());
    let said = minidocker.fails(&format!("push {name}"));
    assert!(said.contains(&name), "{said}");
    assert_eq!(uploads(&registry.requests()), Vec::<&Request>::new());
}

#[test]
fn an_image_from_a_file_is_pushed_and_is_the_same_there() {
    let host = host();
    let images = Images::new(&host);
    skopeo(
        &host,
        "copy --quiet oci:/tmp/layout:simple docker-archive:/tmp/simple.tar:simple:loaded",
    )
    .ok();
    host.shell("chmod 644 /tmp/simple.tar");
    let registry = Registry::open(&host);
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        minidocker.ok("load -i /tmp/simple.tar");
        let to = format!("{}/{user:?}", registry.address()).to_lowercase();
        minidocker.ok(&format!("tag simple:loaded {to}"));
        minidocker.ok(&format!("push {to}"));
        let config = format!("inspect --config --tls-verify=false docker://{to}");
        let config: serde_json::Value =
            serde_json::from_str(&skopeo(&host, &config).ok()).expect("JSON");
        let expected = [&images.first, &images.third].map(|layer| &layer.diff_id);
        assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!(expected));
        let unpack = format!(
            "cd /tmp; rm -rf copy bundle; skopeo --insecure-policy copy --quiet --src-tls-verify=false \
             docker://{to} oci:copy:one; umoci unpack --image copy:one bundle; cat bundle/rootfs/third"
        );
        assert_eq!(host.shell(&unpack), "3");
    }
}
