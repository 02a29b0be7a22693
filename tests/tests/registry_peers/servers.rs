//! The servers of these suites, as others than minidocker see them.

use harness::Setup;
use harness::registry::{Hostile, Kind, Layout, PASSWORD, Packing, Registry, USER, machine, noise};

#[test]
fn registries_admit_whom_they_should() {
    let host = machine(Setup::default());
    let mut layout = Layout::new(&host, "/tmp/layout");
    let layer = layout.layer(Packing::Gzip, &[("hello", b"hello\n")]);
    let image = layout.image(Kind::Oci, "amd64", &[&layer]);
    layout.name("one", &image);
    let curl = |line: &str| {
        let words = "curl -s -o /dev/null -w %{http_code}".split(' ');
        host.run(words.chain(line.split(' '))).text()
    };
    let open = Registry::open(&host);
    open.fill("/tmp/layout", "one", "one");
    let asked = open.requests();
    let put = asked.iter().filter(|asked| asked.method == "PUT");
    assert!(put.count() >= 2, "{asked:?}");
    let htpasswd = Registry::htpasswd(&host);
    let url = format!("http://{}/v2/", htpasswd.address());
    assert_eq!(curl(&url), "401");
    let user = format!("{USER}:{PASSWORD}");
    let out = host.run(["curl", "-s", "-u", &user, &url]);
    assert_eq!(out.ok(), "{}");
    htpasswd.fill("/tmp/layout", "one", "one");
    let tls = Registry::tls(&host);
    let url = format!("https://{}/v2/", tls.address());
    assert_eq!(
        host.run(["curl", "-s", &url]).code(),
        60,
        "nobody trusts it"
    );
    assert_eq!(curl(&format!("--cacert {} {url}", tls.authority())), "200");
    let token = Registry::token(&host, &[]);
    let name = token.fill("/tmp/layout", "one", "one");
    assert!(
        token
            .tokens()
            .iter()
            .any(|line| line.contains("tester repository:one:"))
    );
    let words = format!(
        "skopeo --insecure-policy copy --dest-tls-verify=false --src-tls-verify=false docker://{name} docker://{name}2"
    );
    let out = host.run(words.split(' '));
    assert_ne!(out.code(), 0, "anybody may pull, and not push: {out}");
    let words = format!(
        "skopeo --insecure-policy copy --src-tls-verify=false docker://{name} dir:/tmp/there"
    );
    host.run(words.split(' ')).ok();
}

#[test]
fn a_hostile_registry_serves_what_it_is_not_told_to_spoil() {
    let host = machine(Setup::default());
    let mut layout = Layout::new(&host, "/tmp/layout");
    let layer = layout.layer(Packing::Zstd, &[("noise", &noise(1, 100_000))]);
    let image = layout.image(Kind::Oci, "amd64", &[&layer]);
    layout.name("one", &image);
    let hostile = Hostile::start(&host, "/tmp/layout", &["--token-uses", "9"]);
    let url = format!("http://{}", hostile.name("v2/"));
    let out = host.run(["curl", "-sD-", &url]).ok();
    assert!(
        out.contains("HTTP/1.1 401") && out.contains("Bearer realm="),
        "{out}"
    );
    let line = format!(
        "skopeo --insecure-policy copy --src-tls-verify=false docker://{} oci:/tmp/copy:one",
        hostile.name("x:one")
    );
    host.run(line.split(' ')).ok();
    assert_eq!(hostile.downloads(&layer.digest), [0]);
    let url = format!(
        "http://{}",
        hostile.name(&format!("v2/x/blobs/{}", layer.digest))
    );
    let token = format!("http://{}", hostile.name("token"));
    let token = host.run(["curl", "-s", &token]).ok();
    let token: serde_json::Value = serde_json::from_str(&token).expect("a token");
    let token = format!(
        "Authorization: Bearer {}",
        token["token"].as_str().expect("one")
    );
    let rest = host.run(["curl", "-s", "-r", "100-", "-H", &token, &url]);
    let whole = std::fs::read(host.path(&format!(
        "/tmp/layout/blobs/{}",
        layer.digest.replace(':', "/")
    )));
    assert!(rest.stdout == whole.expect("the layout has it")[100..]);
    let last = hostile.seen().pop().expect("it was seen");
    assert_eq!((last.from, last.authorized), (Some(100), true));
}
