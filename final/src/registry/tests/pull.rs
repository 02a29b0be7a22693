//! Manifests and blobs.

use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use images::Digest;

use super::server::{Heard, Reply, Server, hang_up, reply};
use super::{error_of, me, open};
use crate::registry::{Blob, Registry};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;

/// 100,000 bytes of which no two neighbours are alike.
fn content() -> Vec<u8> {
    (0..100_000u32)
        .map(|number| (number * 31 % 251) as u8)
        .collect()
}

fn blob() -> Blob {
    let content = content();
    Blob {
        digest: Digest::of(&content),
        size: content.len() as u64,
    }
}

fn fetch(registry: &Registry, from: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut download = registry.blob("a/b", blob(), from, &|_| {})?;
    download.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where a request's Range begins.
fn asked_from(heard: &Heard) -> usize {
    let range = heard
        .header("range")
        .and_then(|range| range.strip_prefix("bytes="));
    let first = range.and_then(|range| range.strip_suffix('-'));
    first.map_or(0, |first| first.parse().expect("a number"))
}

/// What a registry answers that knows ranges.
fn ranged(heard: &Heard) -> Reply {
    let (content, from) = (content(), asked_from(heard));
    match from {
        0 => reply(200, content),
        _ => reply(206, &content[from..])
            .header("Content-Range", format!("bytes {from}-99999/100000")),
    }
}

#[test]
fn an_unchanged_image_costs_one_head() {
    let digest = Digest::of(b"x");
    let server = Server::start(move |_| reply(200, "").header("Docker-Content-Digest", digest));
    let registry = open(&server.name(), me());
    assert_eq!(registry.head("a/b", "1").unwrap(), Some(digest));
    assert_eq!(server.lines(), ["HEAD /v2/a/b/manifests/1"]);
    let heard = &server.heard()[0];
    let accept = heard.header("accept").unwrap();
    for kind in [
        OCI_MANIFEST,
        OCI_INDEX,
        DOCKER_MANIFEST,
        "manifest.list.v2+json",
    ] {
        assert!(accept.contains(kind), "{accept}");
    }
    assert!(
        heard
            .header("user-agent")
            .unwrap()
            .starts_with("minidocker/")
    );
    assert_eq!(heard.header("authorization"), None);
}

#[test]
fn a_name_that_stands_for_nothing_has_no_digest() {
    let server = Server::start(|_| reply(404, ""));
    assert_eq!(open(&server.name(), None).head("a/b", "1").unwrap(), None);
}

#[test]
fn a_manifest_comes_with_its_type_and_digest() {
    let server = Server::start(|_| {
        reply(200, MANIFEST).header("Content-Type", format!("{OCI_MANIFEST}; charset=utf-8"))
    });
    let registry = open(&server.name(), None);
    let fetched = registry.manifest("a/b", "1").unwrap();
    assert_eq!(fetched.media_type, OCI_MANIFEST);
    assert_eq!(fetched.digest, Digest::of(MANIFEST.as_bytes()));
    assert_eq!(fetched.bytes, MANIFEST.as_bytes());
    let digest = fetched.digest.to_string();
    assert!(registry.manifest("a/b", &digest).is_ok());
}

#[test]
fn a_manifest_that_is_cut_short_is_fetched_again() {
    let whole = reply(200, MANIFEST).header("Content-Type", OCI_MANIFEST);
    let server = Server::in_turn(vec![whole.clone().cut_after(9), hang_up(), whole]);
    assert!(open(&server.name(), None).manifest("a/b", "1").is_ok());
    assert_eq!(server.heard().len(), 3);
}

#[test]
fn a_document_that_is_not_what_it_claims_to_be_is_refused() {
    let with_type = |kind: &str| {
        format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{}},"layers":[]}}"#)
    };
    let both = r#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#;
    let neither = r#"{"schemaVersion":2}"#;
    let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
    for (kind, body, expected) in [
        (OCI_INDEX, MANIFEST.to_owned(), "something else"),
        (
            OCI_MANIFEST,
            with_type(DOCKER_MANIFEST),
            "the registry that it is",
        ),
        (
            "text/html",
            with_type("text/html"),
            "neither an image nor an index",
        ),
        (OCI_MANIFEST, both.to_owned(), "something else"),
        (OCI_INDEX, neither.to_owned(), "something else"),
        ("", old.to_owned(), "schema 1"),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            neither.to_owned(),
            "schema 1",
        ),
        (OCI_MANIFEST, "<html>".to_owned(), "not a manifest"),
        (
            OCI_MANIFEST,
            " ".repeat((4 << 20) + 1),
            "more than 4194304 bytes",
        ),
    ] {
        let server = Server::start(move |_| reply(200, &*body).header("Content-Type", kind));
        let error = error_of(open(&server.name(), None).manifest("a/b", "1"));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_document_of_another_digest_is_refused() {
    let other = Digest::of(b"other");
    let server = Server::start(move |_| {
        reply(200, MANIFEST)
            .header("Content-Type", OCI_MANIFEST)
            .header("Docker-Content-Digest", other)
    });
    let registry = open(&server.name(), None);
    let announced = error_of(registry.manifest("a/b", "1"));
    assert!(
        announced.contains(&format!("it should be {other}")),
        "{announced}"
    );
    assert!(registry.manifest("a/b", &other.to_string()).is_err());
}

#[test]
fn refusals_are_told_as_docker_tells_them() {
    let error = |code: &str, message: &str| {
        format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":{{}}}}]}}"#)
    };
    for (status, body, expected) in [
        (
            404,
            error("MANIFEST_UNKNOWN", "manifest unknown"),
            "manifest for NAME/a/b:1 not found: manifest unknown: manifest unknown",
        ),
        (
            404,
            error("NAME_UNKNOWN", "no such name"),
            "repository NAME/a/b not found: name unknown: no such name",
        ),
        (
            403,
            error("DENIED", "requested access to the resource is denied"),
            "pull access denied for NAME/a/b, repository does not exist or may require 'docker login': \
             denied: requested access to the resource is denied",
        ),
        (401, String::new(), "unauthorized: authentication required"),
        (
            418,
            error("TEAPOT", r"short\u001b[31m and\nstout"),
            r"teapot: short\u{1b}[31m and stout",
        ),
        (400, "<html>".to_owned(), "400 Bad Request"),
    ] {
        let server = Server::start(move |_| reply(status, &*body));
        let told = error_of(open(&server.name(), None).manifest("a/b", "1"));
        let expected = expected.replace("NAME", &server.name());
        assert!(told.ends_with(&expected), "{told}");
    }
}

#[test]
fn a_blob_goes_on_where_it_broke() {
    let server = Server::start(|heard| match asked_from(heard) {
        90_000.. => ranged(heard),
        _ => ranged(heard).cut_after(40_000),
    });
    let bytes = fetch(&open(&server.name(), None), 0).unwrap();
    assert_eq!(bytes, content());
    let asked: Vec<usize> = server.heard().iter().map(asked_from).collect();
    assert_eq!(asked, [0, 40_000, 80_000]);
}

#[test]
fn a_blob_is_fetched_from_where_the_caller_has_it() {
    let server = Server::start(ranged);
    let registry = open(&server.name(), None);
    assert_eq!(fetch(&registry, 12_345).unwrap(), &content()[12_345..]);
    assert!(fetch(&registry, 100_000).unwrap().is_empty());
    assert_eq!(server.heard().len(), 1);
}

#[test]
fn a_registry_without_ranges_sends_all_of_it_again() {
    let server = Server::in_turn(vec![
        reply(200, content()).cut_after(30_000),
        reply(200, content()).cut_after(10_000),
        reply(200, content()),
    ]);
    let registry = open(&server.name(), None);
    assert_eq!(fetch(&registry, 0).unwrap(), content());
    assert_eq!(fetch(&registry, 99_000).unwrap(), &content()[99_000..]);
}

#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    for range in [
        "bytes 9-99999/100000",
        "bytes 5-99999/100001",
        "bytes 5-9/*",
        "",
    ] {
        let server =
            Server::start(move |_| reply(206, &content()[5..]).header("Content-Range", range));
        let error = error_of(fetch(&open(&server.name(), None), 5));
        assert!(error.contains("were asked for"), "{error}");
    }
}

#[test]
fn a_length_that_is_not_the_blobs_is_refused() {
    for length in [99_999, 100_001] {
        let server = Server::start(move |_| reply(200, content()).header("Content-Length", length));
        let error = error_of(fetch(&open(&server.name(), None), 0));
        assert!(
            error.contains(&format!("announces {length} bytes")),
            "{error}"
        );
    }
    let server = Server::start(|_| {
        let mut chunked = b"186a1\r\n".to_vec();
        chunked.extend(content());
        chunked.extend(b"!\r\n0\r\n\r\n");
        reply(200, chunked).header("Transfer-Encoding", "chunked")
    });
    let error = error_of(fetch(&open(&server.name(), None), 0));
    assert!(error.contains("more than the 100000 bytes"), "{error}");
}

#[test]
fn five_failures_in_a_row_are_enough() {
    let server = Server::start(|_| reply(200, content()).cut_after(10));
    let error = error_of(fetch(&open(&server.name(), None), 0));
    assert!(error.contains("the answer of http://127.0.0.1"), "{error}");
    assert_eq!(server.heard().len(), 5);
}

#[test]
fn who_falls_silent_is_asked_again() {
    let server = Server::start(|heard| match asked_from(heard) {
        0 => ranged(heard).stall_after(50_000, Duration::from_secs(20)),
        _ => ranged(heard),
    });
    let begun = Instant::now();
    let bytes = fetch(&open(&server.name(), None), 0).unwrap();
    assert_eq!(bytes, content());
    assert!(begun.elapsed() < Duration::from_secs(10));
    let asked: Vec<usize> = server.heard().iter().map(asked_from).collect();
    assert_eq!(asked, [0, 50_000]);
}

#[test]
fn who_sends_a_byte_now_and_then_is_not_waited_for() {
    let server = Server::start(|_| reply(200, [7; 200]).trickle(Duration::from_millis(50)));
    let blob = Blob {
        digest: Digest::of(&[7; 200]),
        size: 200,
    };
    let registry = open(&server.name(), None);
    let mut download = registry.blob("a/b", blob, 0, &|_| {}).unwrap();
    let error = download.read_to_end(&mut Vec::new()).unwrap_err();
    let error = format!("{:#}", anyhow::Error::new(error));
    assert!(error.contains("next to nothing"), "{error}");
    assert_eq!(server.heard().len(), 5);
}

#[test]
fn a_redirect_is_followed_without_the_credential_and_anew_for_each_try() {
    let storage = Server::start(|heard| match asked_from(heard) {
        0 => ranged(heard).cut_after(60_000),
        _ => ranged(heard),
    });
    let place = storage.url("/signed?key=");
    let mut count = 0;
    let server = Server::start(move |heard| {
        if heard.header("authorization").is_none() {
            return reply(401, "").header("WWW-Authenticate", r#"Basic realm="x""#);
        }
        count += 1;
        reply(307, "elsewhere").header("Location", format!("{place}{count}"))
    });
    let bytes = fetch(&open(&server.name(), me()), 0).unwrap();
    assert_eq!(bytes, content());
    assert_eq!(storage.lines(), ["GET /signed?key=1", "GET /signed?key=2"]);
    for heard in storage.heard() {
        assert_eq!(heard.header("authorization"), None);
    }
}

#[test]
fn a_redirect_on_the_same_server_keeps_the_credential() {
    let server = Server::start(|heard| match heard.header("authorization") {
        None => reply(401, "").header("WWW-Authenticate", "Basic"),
        Some(_) if heard.path == "/there" => ranged(heard),
        Some(_) => reply(302, "").header("Location", "/there"),
    });
    assert_eq!(fetch(&open(&server.name(), me()), 0).unwrap(), content());
}

#[test]
fn a_redirect_loop_is_left() {
    let server = Server::start(|_| reply(307, "").header("Location", "/round?and=round"));
    let error = error_of(fetch(&open(&server.name(), None), 0));
    assert!(error.contains("after 10 redirects"), "{error}");
    assert_eq!(server.heard().len(), 11);
}

#[test]
fn a_busy_registry_is_asked_again_when_it_says() {
    let pauses = Mutex::new(Vec::new());
    let server = Server::in_turn(vec![
        reply(429, "").header("Retry-After", "0"),
        reply(503, ""),
        reply(429, "").header("Retry-After", "1"),
        reply(200, content()),
    ]);
    let registry = open(&server.name(), None);
    let note = |pause| pauses.lock().unwrap().push(pause);
    let mut download = registry.blob("a/b", blob(), 0, &note).unwrap();
    let mut bytes = Vec::new();
    download.read_to_end(&mut bytes).unwrap();
    let pauses = pauses.lock().unwrap();
    assert_eq!(pauses[0], Duration::ZERO);
    assert_eq!(pauses[2], Duration::from_secs(1));
    assert_eq!(pauses.len(), 3);
}

#[test]
fn what_a_busy_registry_says_is_told_in_the_end() {
    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your limit"}]}"#;
    let server = Server::start(move |_| reply(429, body));
    let error = error_of(open(&server.name(), None).manifest("a/b", "1"));
    assert!(
        error.ends_with("toomanyrequests: You have reached your limit"),
        "{error}"
    );
    assert_eq!(server.heard().len(), 5);
}

#[test]
fn a_registry_that_is_not_there_is_not_waited_for() {
    let begun = Instant::now();
    let mut registry = open("127.0.0.1:1", None);
    registry.http = crate::registry::http::Http::new(
        crate::registry::endpoint::Endpoint::new("127.0.0.1:1", false).unwrap(),
        crate::registry::patience::Patience::from_environment().unwrap(),
    );
    let error = error_of(registry.manifest("a/b", "1"));
    assert!(error.contains("Connection refused"), "{error}");
    assert!(begun.elapsed() < Duration::from_millis(900));
}

#[test]
fn tags_are_listed_page_by_page() {
    let server = Server::start(|heard| match heard.path.as_str() {
        "/v2/a/b/tags/list" => reply(200, r#"{"name":"a/b","tags":["1","2"]}"#)
            .header("Link", r#"</v2/a/b/tags/list?last=2&n=2>; rel="next""#),
        _ => reply(200, r#"{"name":"a/b","tags":null}"#)
            .header("Link", r#"</v2/a/b/tags/list?last=2&n=2>; rel="next""#),
    });
    let tags = open(&server.name(), None).tags("a/b").unwrap();
    assert_eq!(tags, ["1", "2"]);
    assert_eq!(server.lines()[1], "GET /v2/a/b/tags/list?last=2&n=2");
}
