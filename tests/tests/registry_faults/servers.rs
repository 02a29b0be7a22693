//! Each fault as curl sees it: what the suite relies on does happen.

use harness::registry::{Hostile, machine};
use harness::{Host, Output, Setup};

use crate::image;

/// Where a hostile registry that has `fault` serves the large blob and the manifest.
fn curl(host: &Host, hostile: &Hostile<'_>, path: &str, options: &[&str]) -> Output {
    let url = format!("http://{}", hostile.name(&format!("v2/x/{path}")));
    let words = ["curl", "-s", "-m", "2"].into_iter();
    host.run(words.chain(options.iter().copied()).chain([url.as_str()]))
}

#[test]
fn faults_of_blobs_are_what_they_are_called() {
    let host = machine(Setup::default());
    let layer = image(&host, "/tmp/layout", 0);
    let blob = format!("blobs/{}", layer.digest);
    let whole = layer.size;
    let get = |fault: &str, options: &[&str]| {
        let hostile = Hostile::start(&host, "/tmp/layout", &["--fault", fault]);
        curl(&host, &hostile, &blob, options)
    };
    // 18: the connection was closed with more to come; 28: the time was over.
    for (fault, options, code, size) in [
        ("cut=1000", &[][..], 18, 1000),
        ("cut=1000", &["-r", "500-"], 18, 1000),
        ("short=1000", &[], 18, 1000),
        ("short=1000", &["-r", "900-"], 18, 100),
        ("die=1000", &[], 18, 1000),
        ("garbled", &[], 0, whole),
        ("no-range=1000", &[], 18, 1000),
        ("no-range=1000", &["-r", "500-"], 0, whole),
        ("drip", &[], 28, 2),
        (&format!("length={}", whole + 1), &[], 18, whole),
        (&format!("length={}", whole - 1), &[], 0, whole - 1),
        ("length=99999999999999999999999", &[], 0, whole),
    ] {
        let out = get(fault, options);
        assert_eq!(
            (out.code(), out.stdout.len()),
            (code, size),
            "{fault} {options:?}"
        );
    }
    let path = host.path("/tmp/layout").join(blob.replace(':', "/"));
    let good = std::fs::read(path).expect("the layout has it");
    assert!(get("cut=1000000", &[]).stdout == good);
    assert!(get("garbled", &[]).stdout != good);
    let out = get("redirect=9", &["-D-", "-o", "/dev/null"]).ok();
    assert!(
        out.contains(&format!("Location: http://127.0.0.1:9/v2/x/{blob}")),
        "{out}"
    );
}

#[test]
fn faults_of_manifests_and_of_everything_are_what_they_are_called() {
    let host = machine(Setup::default());
    image(&host, "/tmp/layout", 0);
    let get = |fault: &str, options: &[&str]| {
        let options = ["-D-"].iter().chain(options).copied().collect::<Vec<_>>();
        let hostile = Hostile::start(&host, "/tmp/layout", &["--fault", fault]);
        curl(&host, &hostile, "manifests/one", &options)
    };
    let healthy = get("cut=0", &[]).stdout;
    let other = get("other-manifest", &[]).stdout;
    assert_eq!(other.len(), healthy.len() + 1);
    let head = |fault: &str| get(fault, &["-o", "/dev/null"]).text();
    assert!(head("manifest-type=text/html").contains("Content-Type: text/html"));
    assert!(head("huge-manifest").contains("Content-Length: 104857600"));
    let busy = head("busy=7");
    assert!(
        busy.contains(" 429 ") && busy.contains("Retry-After: 7"),
        "{busy}"
    );
    assert!(head("unavailable").contains(" 503 "));
    assert_eq!(get("hang-up", &[]).code(), 52, "an empty reply");
    let endless = get("endless-headers", &[]);
    assert_eq!(endless.code(), 28, "{endless}");
    assert_ne!(get("huge-header", &[]).code(), 0);
    let hostile = Hostile::start(
        &host,
        "/tmp/layout",
        &["--fault", "unavailable", "--times", "1"],
    );
    for status in ["503", "200"] {
        let out = curl(
            &host,
            &hostile,
            "manifests/one",
            &["-o", "/dev/null", "-w", "%{http_code}"],
        );
        assert_eq!(out.ok(), status);
    }
}
