//! What comes from a registry, and by how many requests.

use std::time::Duration;

use harness::registry::{Hostile, Kind, Layout, Minidocker, Packing, Registry, Request, noise};
use harness::{Host, User};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{BOTH, Images, file, filled, host, skopeo};

/// `one` is what Images says.
#[track_caller]
fn assert_is_one(minidocker: &Minidocker<'_>, image: &str) {
    let files = ["first", "second", "third", "dir/same"];
    let said = files.map(|name| file(minidocker, image, name));
    assert_eq!(said, ["1\n", "2\n", "3\n", "above\n"]);
    minidocker.assert_sound();
}

#[test]
fn an_image_comes_from_a_registry_for_everybody() {
    let host = host();
    let images = Images::new(&host);
    let registry = filled(&host, &["one"]);
    let name = format!("{}/one", registry.address());
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        let said = minidocker.ok(&format!("pull {name}"));
        for line in [
            format!("Digest: {}", images.digest("one")),
            format!("Status: Downloaded newer image for {name}:latest"),
        ] {
            assert!(said.lines().any(|said| said == line), "{line:?}: {said}");
        }
        assert_eq!(said.lines().last(), Some(format!("{name}:latest").as_str()));
        assert_is_one(&minidocker, &name);
        let said = minidocker.ok(&format!("pull {name}:latest"));
        let line = format!("Status: Image is up to date for {name}:latest");
        assert!(said.lines().any(|said| said == line), "{said}");
        let list = minidocker.ok("images --digests");
        let line = list.lines().find(|line| line.starts_with(&name));
        let line = line.unwrap_or_else(|| panic!("{list}"));
        assert!(line.contains(images.digest("one")), "{list}");
        // By localhost it is the same registry, of which nothing is known yet.
        let port = registry.address().replace("127.0.0.1", "localhost");
        assert_eq!(
            minidocker.ok(&format!("pull -q {port}/one")),
            format!("{port}/one:latest")
        );
    }
}

#[test]
fn names_that_a_registry_has_not_are_refused() {
    let host = host();
    Images::new(&host);
    let registry = filled(&host, &["one"]);
    let address = registry.address();
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        for (name, word) in [
            ("nothing", "nothing"),
            ("one:other", "other"),
            (
                "one@sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "sha256:0000",
            ),
        ] {
            let said = minidocker.fails(&format!("pull {address}/{name}"));
            assert!(said.contains(word) && said.contains("not found"), "{said}");
        }
        let said = minidocker.fails("pull 127.0.0.1:1/one");
        assert!(
            said.contains("127.0.0.1:1") && said.contains("refused"),
            "{said}"
        );
        for name in ["UPPER", "one:/", "one@sha256:1", ":x", "one:-x"] {
            let out = minidocker.call(&format!("pull {address}/{name}"));
            assert_ne!(out.code(), 0, "{out}");
            assert!(!out.errors().contains("panicked"), "{out}");
        }
        minidocker.assert_sound();
    }
    let asked = registry.requests();
    let odd = |path: &str| path.contains("UPPER") || path.contains("sha256:1?");
    assert!(!asked.iter().any(|asked| odd(&asked.path)), "{asked:?}");
}

#[test]
fn an_image_comes_over_tls_from_whom_the_user_trusts() {
    let host = host();
    Images::new(&host);
    let registry = Registry::tls(&host);
    let name = registry.fill("/tmp/layout", "one", "one");
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        let said = minidocker.fails(&format!("pull {name}"));
        assert!(said.contains("certificate"), "{said}");
        let trusting = minidocker.with(format!("SSL_CERT_FILE={}", registry.authority()));
        trusting.ok(&format!("pull {name}"));
        assert_is_one(&trusting, &name);
    }
    // One that somebody else has signed for another name.
    let other = name.replace("registry.test", "localhost.");
    let trusting = Minidocker::of(&host, User::Root);
    let trusting = trusting.with(format!("SSL_CERT_FILE={}", registry.authority()));
    host.shell("echo 127.0.0.1 localhost. other.test >>/etc/hosts");
    let other = other.replace("localhost.", "other.test");
    let said = trusting.fails(&format!("pull {other}"));
    assert!(said.contains("certificate"), "{said}");
}

#[test]
fn an_authority_that_is_trusted_for_one_registry_has_its_place() {
    let host = host();
    Images::new(&host);
    let registry = Registry::tls(&host);
    let name = registry.fill("/tmp/layout", "one", "one");
    let dir = format!("/etc/docker/certs.d/{}", registry.address());
    host.shell(&format!(
        "mkdir -p {dir}; cp {} {dir}/ca.crt",
        registry.authority()
    ));
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        minidocker.ok(&format!("pull {name}"));
        assert_is_one(&minidocker, &name);
    }
    host.shell(&format!("rm -r {dir}"));
    let minidocker = Minidocker::of(&host, User::Root);
    let said = minidocker.fails(&format!("pull {name}"));
    assert!(said.contains("certificate"), "{said}");
    // Or nobody is asked to prove anything.
    minidocker.ok(&format!("pull --insecure {name}"));
}

#[test]
fn without_tls_nobody_but_loopback_is_spoken_to_unless_told() {
    let host = host();
    Images::new(&host);
    let registry = filled(&host, &["one"]);
    host.shell("echo 127.0.0.1 plain.test >>/etc/hosts");
    let name = registry.address().replace("127.0.0.1", "plain.test") + "/one";
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        let before = registry.requests().len();
        let said = minidocker.fails(&format!("pull {name}"));
        assert!(said.contains("--insecure"), "{said}");
        let asked = registry.requests().split_off(before);
        assert!(asked.iter().all(|asked| asked.status == 400), "{asked:?}");
        minidocker.ok(&format!("pull --insecure {name}"));
        assert_is_one(&minidocker, &name);
    }
}

#[test]
fn an_image_comes_by_a_proxy_but_from_loopback() {
    let host = host();
    Images::new(&host);
    let registry = Hostile::start(&host, "/tmp/layout", &[]);
    let proxy = Hostile::start(&host, "/tmp/layout", &[]);
    for user in BOTH {
        let url = format!("http://127.0.0.1:{}", proxy.port());
        let minidocker = Minidocker::of(&host, user)
            .with(format!("HTTP_PROXY={url}"))
            .with(format!("HTTPS_PROXY={url}"));
        let before = proxy.seen().len();
        minidocker.ok(&format!("pull {}", registry.name("x:two")));
        assert_eq!(
            proxy.seen().len(),
            before,
            "loopback is not the proxy's business"
        );
        minidocker.ok("pull --insecure far.invalid/x:one");
        assert_is_one(&minidocker, "far.invalid/x:one");
        let seen = proxy.seen().split_off(before);
        let connect = |port: &str| {
            let wanted = format!("far.invalid:{port}");
            seen.iter()
                .any(|seen| seen.method == "CONNECT" && seen.path == wanted)
        };
        assert!(connect("443") && connect("80"), "{seen:?}");
        let direct = minidocker.with("NO_PROXY=.invalid");
        direct.fails("pull --insecure far.invalid/x:two");
        assert_eq!(proxy.seen().len(), before + seen.len());
    }
}

#[test]
fn an_image_comes_with_a_token_that_nobody_had_to_ask_for() {
    let host = host();
    Images::new(&host);
    let registry = Registry::token(&host, &[]);
    let name = registry.fill("/tmp/layout", "one", "some/where/one");
    let before = registry.tokens().len();
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        minidocker.ok(&format!("pull {name}"));
        assert_is_one(&minidocker, &name);
    }
    let tokens = registry.tokens().split_off(before);
    let expected = "GET - repository:some/where/one:pull";
    assert_eq!(tokens, [expected; 2], "one token for all of a pull");
}

#[test]
fn a_token_is_renewed_when_it_has_ended() {
    let host = host();
    let mut layout = Layout::new(&host, "/tmp/layout");
    let parts: Vec<_> = (0..40)
        .map(|n| layout.layer(Packing::Gzip, &[("noise", &noise(n, 200_000))]))
        .collect();
    let all: Vec<_> = parts.iter().collect();
    layout.name("many", &layout.image(Kind::Oci, "amd64", &all));
    let registry = Registry::token(&host, &["--seconds", "2"]);
    let name = registry.fill("/tmp/layout", "many", "many");
    let minidocker = Minidocker::of(&host, User::Root);
    for _ in 0..10 {
        let (before, tokens) = (registry.requests().len(), registry.tokens().len());
        let running = minidocker.spawn(&format!("pull {name}"));
        // The work is done by a process of its own.
        let worker = Pid::from_raw(running.container());
        harness::wait_for("the first layer, of many", 60, || {
            let asked = registry.answered().split_off(before);
            let got = |asked: &Request| asked.path.contains("/blobs/") && asked.status == 200;
            asked.iter().any(got).then_some(())
        });
        kill(worker, Signal::SIGSTOP).ok();
        std::thread::sleep(Duration::from_millis(3100));
        kill(worker, Signal::SIGCONT).ok();
        running.wait().ok();
        minidocker.assert_sound();
        if registry.tokens().len() - tokens >= 2 {
            return;
        }
        minidocker.ok(&format!("rmi {name}"));
    }
    panic!("no pull has lived for longer than a token");
}

#[test]
fn of_an_index_comes_what_fits_the_machine_or_was_asked_for() {
    let host = host();
    let images = Images::new(&host);
    let registry = filled(&host, &["multi", "list"]);
    let address = registry.address();
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        let multi = format!("{address}/multi");
        let said = minidocker.ok(&format!("pull {multi}"));
        assert!(said.contains(images.digest("multi")), "{said}");
        assert_is_one(&minidocker, &multi);
        assert_eq!(
            minidocker.inspect(&multi, "{{.Os}}/{{.Architecture}}"),
            "linux/amd64"
        );
        let list = format!("{address}/list");
        minidocker.ok(&format!("pull {list}"));
        assert_eq!(file(&minidocker, &list, "docker"), "4\n");
        let said = minidocker.fails(&format!("pull --platform linux/s390x {multi}"));
        assert!(said.contains("linux/s390x"), "{said}");
        assert_is_one(&minidocker, &multi);
        for (name, platform) in [(&multi, "arm64"), (&list, "arm64"), (&multi, "arm64/v8")] {
            minidocker.ok(&format!("pull --platform linux/{platform} {name}"));
            assert_eq!(minidocker.inspect(name, "{{.Architecture}}"), "arm64");
            assert_eq!(file(&minidocker, name, "first"), "arm\n");
        }
        minidocker.assert_sound();
        // By digest, one platform's own manifest.
        let digest = format!("{address}/multi@{}", images.digest("one"));
        minidocker.ok(&format!("pull {digest}"));
        assert_is_one(&minidocker, &digest);
    }
}

#[test]
fn all_tags_of_a_repository_come_at_once() {
    let host = host();
    Images::new(&host);
    let registry = filled(&host, &[]);
    for (tag, image) in [("1", "one"), ("2", "two"), ("latest", "multi")] {
        registry.fill("/tmp/layout", image, &format!("many:{tag}"));
    }
    let name = format!("{}/many", registry.address());
    let minidocker = Minidocker::of(&host, User::Root);
    minidocker.ok(&format!("pull -a {name}"));
    for tag in ["1", "2", "latest"] {
        assert_eq!(file(&minidocker, &format!("{name}:{tag}"), "first"), "1\n");
    }
}

#[test]
fn images_that_are_odd_but_right_come_as_well() {
    let host = host();
    let mut layout = Layout::new(&host, "/tmp/layout");
    let long = noise(1, 300_000);
    let files: [(&str, &[u8]); 2] = [("long", &long), ("last", b"end\n")];
    let gzip = layout.layer_in_parts(Packing::Gzip, &files, 50_000);
    let zstd = layout.layer_in_parts(Packing::Zstd, &files, 50_000);
    let text = layout.layer(
        Packing::Gzip,
        &[("text", b"text\n"), ("last", b"not yet\n")],
    );
    let empty = layout.layer(Packing::Gzip, &[]);
    for (name, layers) in [
        ("gzip-members", &[&text, &gzip][..]),
        ("zstd-frames", &[&text, &zstd]),
        ("twice", &[&text, &empty, &gzip, &empty, &text, &gzip]),
    ] {
        layout.name(name, &layout.image(Kind::Oci, "amd64", layers));
    }
    layout.name("nothing", &layout.image(Kind::Oci, "amd64", &[]));
    let hostile = Hostile::start(&host, "/tmp/layout", &[]);
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        // Which makes the image that is always there.
        minidocker.ok("images -q");
        let before = minidocker.blobs();
        for tag in ["gzip-members", "zstd-frames", "twice"] {
            let name = format!("{}:{tag}", hostile.name("x"));
            minidocker.ok(&format!("pull {name}"));
            assert_eq!(file(&minidocker, &name, "text"), "text\n", "{tag}");
            assert_eq!(file(&minidocker, &name, "last"), "end\n", "{tag}");
            let last = minidocker.layers(&name).pop().expect("a layer");
            let there = std::fs::read(last.join("long")).expect("the file");
            assert!(there == long, "{tag}");
            minidocker.assert_sound();
            minidocker.ok(&format!("save -o {}/x {name}", minidocker.home()));
            minidocker.ok(&format!("rmi {name}"));
        }
        let name = format!("{}:nothing", hostile.name("x"));
        minidocker.ok(&format!("pull {name}"));
        assert_eq!(minidocker.layers(&name), Vec::<std::path::PathBuf>::new());
        minidocker.assert_sound();
        minidocker.ok(&format!("rmi {name}"));
        assert_eq!(minidocker.blobs(), before);
    }
}

#[test]
fn a_second_pull_is_one_head() {
    let host = host();
    Images::new(&host);
    let registry = filled(&host, &["one", "multi", "old"]);
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        for image in ["one", "multi", "old"] {
            let name = format!("{}/{image}", registry.address());
            minidocker.ok(&format!("pull {name}"));
            let before = registry.requests().len();
            minidocker.ok(&format!("pull {name}"));
            let asked = registry.requests().split_off(before);
            assert_eq!(asked.len(), 1, "{asked:?}");
            assert_eq!(asked[0].method, "HEAD");
            assert_eq!(asked[0].path, format!("/v2/{image}/manifests/latest"));
        }
    }
}

#[test]
fn a_layer_that_is_there_is_not_downloaded_again() {
    let host = host();
    let images = Images::new(&host);
    let registry = filled(&host, &["one", "two"]);
    let minidocker = Minidocker::of(&host, User::Root);
    minidocker.ok(&format!("pull {}/two", registry.address()));
    let said = minidocker.ok(&format!("pull {}/one", registry.address()));
    assert_eq!(said.matches("Already exists").count(), 2, "{said}");
    let asked = registry.requests();
    let gets = |digest: &str| {
        asked
            .iter()
            .filter(|asked| asked.is_of_blob("GET", digest))
            .count()
    };
    let all = [&images.first, &images.second, &images.third].map(|layer| gets(&layer.digest));
    assert_eq!(all, [1; 3], "{asked:?}");
    // What both need stays until neither is there.
    minidocker.ok(&format!("rmi {}/two", registry.address()));
    assert_is_one(&minidocker, &format!("{}/one", registry.address()));
    minidocker.ok(&format!("rmi {}/one", registry.address()));
    assert!(minidocker.blobs().is_empty(), "{:?}", minidocker.blobs());
}

#[test]
fn two_pulls_at_once_download_each_blob_once() {
    let host = host();
    let mut layout = Layout::new(&host, "/tmp/layout");
    let parts: Vec<_> = (0..3)
        .map(|n| layout.layer(Packing::Gzip, &[("noise", &noise(n, 1_000_000))]))
        .collect();
    let all: Vec<_> = parts.iter().collect();
    layout.name("three", &layout.image(Kind::Oci, "amd64", &all));
    layout.name("two", &layout.image(Kind::Oci, "amd64", &all[..2]));
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        // A layer takes most of a second, so that they meet.
        let registry = Hostile::start(&host, "/tmp/layout", &["--speed", "2000"]);
        let running: Vec<_> = ["three", "three", "two"]
            .map(|tag| minidocker.spawn(&format!("pull {}:{tag}", registry.name("x"))))
            .into();
        for running in running {
            running.wait().ok();
        }
        for layer in &parts {
            let downloads = registry.downloads(&layer.digest);
            assert_eq!(downloads, [0], "{:?}", registry.seen());
        }
        minidocker.assert_sound();
        for tag in ["three", "two"] {
            minidocker.ok(&format!("rmi {}:{tag}", registry.name("x")));
        }
    }
}

#[test]
fn any_tool_reads_the_store_where_it_lies() {
    let host = host();
    let images = Images::new(&host);
    let registry = filled(&host, &["one", "simple", "multi", "old"]);
    for user in BOTH {
        let minidocker = Minidocker::of(&host, user);
        // Of an index the store has what fits the machine.
        for (image, digest) in [("one", "one"), ("simple", "simple"), ("multi", "one")] {
            let name = format!("{}/{image}", registry.address());
            minidocker.ok(&format!("pull {name}"));
            minidocker.ok(&format!("tag {name} {image}:mine"));
            inspect(
                &host,
                &minidocker,
                &format!("{image}:mine"),
                images.digest(digest),
            );
        }
        let list = host.run([
            "umoci",
            "ls",
            "--layout",
            &format!("{}/images", minidocker.dir()),
        ]);
        let list = list.ok();
        assert!(list.lines().any(|line| line == "one:mine"), "{list}");
        let from = format!("oci:{}/images:one:mine", minidocker.dir());
        let copy = format!("copy --quiet {from} oci:/tmp/{user:?}:one");
        skopeo(&host, &copy).ok();
        // umoci knows no zstd.
        let bundle = format!("/tmp/bundle-{user:?}");
        host.shell(&format!(
            "umoci unpack --image {}/images:simple:mine {bundle}",
            minidocker.dir()
        ));
        assert_eq!(host.shell(&format!("cat {bundle}/rootfs/third")), "3");
        // skopeo and umoci know the specification's media types alone: docker's are translated.
        minidocker.ok(&format!("pull {}/old", registry.address()));
        minidocker.ok(&format!("tag {}/old old:mine", registry.address()));
        let old = format!("{}/images:old:mine", minidocker.dir());
        skopeo(&host, &format!("inspect oci:{old}")).ok();
        host.shell(&format!("umoci unpack --image {old} {bundle}-old"));
        assert_eq!(host.shell(&format!("cat {bundle}-old/rootfs/docker")), "4");
        minidocker.assert_sound();
    }
}

/// skopeo finds the image by its name, and it has the digest that it had.
fn inspect(host: &Host, minidocker: &Minidocker<'_>, name: &str, digest: &str) {
    let image = format!("oci:{}/images:{name}", minidocker.dir());
    let out = skopeo(host, &format!("inspect --override-arch amd64 {image}")).ok();
    let shown: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(shown["Digest"], serde_json::json!(digest), "{name}: {out}");
    assert_eq!(shown["Architecture"], "amd64");
}
