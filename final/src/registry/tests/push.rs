//! Blobs and manifests on their way out.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;

use anyhow::Result;
use images::Digest;
use rustix::fs::{MemfdFlags, memfd_create};

use super::server::{Heard, Reply, Server, hang_up, reply};
use super::{error_of, open};
use crate::registry::{Blob, Outcome, Registry, Upload};

const MIB: usize = 1 << 20;

/// Two chunks and a half.
fn content() -> Vec<u8> {
    (0..20 * MIB)
        .map(|number| (number * 31 % 251) as u8)
        .collect()
}

fn file(content: &[u8]) -> File {
    let file = memfd_create("blob", MemfdFlags::CLOEXEC).expect("a file");
    let mut file = File::from(file);
    file.write_all(content).expect("write it");
    file
}

fn push(registry: &Registry, content: &[u8], mount_from: Option<&str>) -> Result<Outcome> {
    let upload = Upload {
        blob: Blob {
            digest: Digest::of(content),
            size: content.len() as u64,
        },
        file: &file(content),
        mount_from,
        sent: &|_| {},
        pausing: &|_| {},
    };
    registry.push_blob("a/b", &upload)
}

/// A registry with one upload session, which keeps what arrives.
#[derive(Default)]
struct Store {
    kept: Vec<u8>,
}

impl Store {
    fn answer(&mut self, heard: &Heard) -> Reply {
        let session = |status| reply(status, "").header("Location", "/session/1?state=a%3Db");
        match heard.method.as_str() {
            "HEAD" => reply(404, ""),
            "POST" => {
                self.kept.clear();
                session(202)
            }
            "PATCH" => {
                let range = heard.header("content-range").unwrap_or_default();
                let first = self.kept.len();
                if range != format!("{first}-{}", first + heard.body.len() - 1) {
                    return self.standing(session(416));
                }
                self.kept.extend(&heard.body);
                self.standing(session(202))
            }
            "GET" => self.standing(session(204)),
            _ => reply(201, ""),
        }
    }

    fn standing(&self, reply: Reply) -> Reply {
        reply.header("Range", format!("0-{}", self.kept.len().saturating_sub(1)))
    }
}

#[test]
fn what_is_there_is_not_sent() {
    let server = Server::start(|_| reply(200, ""));
    let outcome = push(&open(&server.name(), None), b"x", Some("c")).unwrap();
    assert_eq!(outcome, Outcome::Present);
    let digest = Digest::of(b"x");
    assert_eq!(server.lines(), [format!("HEAD /v2/a/b/blobs/{digest}")]);
}

#[test]
fn what_another_repository_has_is_mounted() {
    let server = Server::start(|heard| match heard.method.as_str() {
        "HEAD" => reply(404, ""),
        _ => reply(201, "").header("Location", "/v2/a/b/blobs/x"),
    });
    let outcome = push(&open(&server.name(), None), b"x", Some("c/d")).unwrap();
    assert_eq!(outcome, Outcome::Mounted);
    let digest = Digest::of(b"x");
    let expected = format!("POST /v2/a/b/blobs/uploads/?mount={digest}&from=c/d");
    assert_eq!(server.lines()[1], expected);
}

#[test]
fn a_mount_needs_the_right_to_read_the_other_repository() {
    let auth = Server::start(|_| reply(200, r#"{"token":"t"}"#));
    let realm = auth.url("/token");
    let server = Server::start(move |heard| match heard.header("authorization") {
        Some(_) if heard.method == "HEAD" => reply(404, ""),
        Some(_) => reply(201, ""),
        None => reply(401, "").header("WWW-Authenticate", format!(r#"Bearer realm="{realm}""#)),
    });
    push(&open(&server.name(), None), b"x", Some("c")).unwrap();
    let line = auth.lines().pop().unwrap();
    assert!(
        line.ends_with("&scope=repository:a/b:pull,push&scope=repository:c:pull"),
        "{line}"
    );
}

#[test]
fn a_blob_goes_out_in_chunks_and_the_session_keeps_its_state() {
    let mut store = Store::default();
    let server = Server::start(move |heard| store.answer(heard));
    let told = Mutex::new(Vec::new());
    let content = content();
    let upload = Upload {
        blob: Blob {
            digest: Digest::of(&content),
            size: content.len() as u64,
        },
        file: &file(&content),
        mount_from: Some("c"),
        sent: &|bytes| told.lock().unwrap().push(bytes),
        pausing: &|_| {},
    };
    let registry = open(&server.name(), None);
    assert_eq!(registry.push_blob("a/b", &upload).unwrap(), Outcome::Sent);
    let heard = server.heard();
    let ranges: Vec<&str> = heard
        .iter()
        .filter_map(|one| one.header("content-range"))
        .collect();
    assert_eq!(
        ranges,
        ["0-8388607", "8388608-16777215", "16777216-20971519"]
    );
    let sent: Vec<u8> = heard.iter().flat_map(|one| one.body.clone()).collect();
    assert!(sent == content);
    let digest = upload.blob.digest;
    assert_eq!(
        heard.last().unwrap().line(),
        format!("PUT /session/1?state=a%3Db&digest={digest}")
    );
    let told = told.lock().unwrap();
    assert!(told.is_sorted() && told.len() > 3);
    assert_eq!(told.last(), Some(&upload.blob.size));
}

#[test]
fn a_chunk_that_is_broken_off_goes_on_where_it_broke() {
    let mut store = Store::default();
    let mut patches = 0;
    let server = Server::start(move |heard| {
        patches += u32::from(heard.method == "PATCH");
        if heard.method == "PATCH" && patches == 2 {
            store.kept.extend(&heard.body[..3 * MIB]);
            return hang_up();
        }
        store.answer(heard)
    });
    let content = content();
    let outcome = push(&open(&server.name(), None), &content, None).unwrap();
    assert_eq!(outcome, Outcome::Sent);
    let heard = server.heard();
    let lines: Vec<&str> = heard.iter().map(|one| one.method.as_str()).collect();
    assert_eq!(
        lines,
        [
            "HEAD", "POST", "PATCH", "PATCH", "GET", "PATCH", "PATCH", "PUT"
        ]
    );
    let resumed = heard[5].header("content-range").unwrap();
    assert_eq!(resumed, format!("{}-{}", 11 * MIB, 19 * MIB - 1));
}

#[test]
fn a_session_that_the_registry_forgot_is_begun_again() {
    let mut store = Store::default();
    let mut fallen = false;
    let server = Server::start(move |heard| match heard.method.as_str() {
        "PATCH" if !fallen => {
            fallen = true;
            hang_up()
        }
        "GET" => reply(404, ""),
        _ => store.answer(heard),
    });
    let outcome = push(&open(&server.name(), None), b"abc", None).unwrap();
    assert_eq!(outcome, Outcome::Sent);
    let posts = server
        .lines()
        .iter()
        .filter(|line| line.starts_with("POST"))
        .count();
    assert_eq!(posts, 2);
}

#[test]
fn an_answer_that_is_lost_at_the_end_is_no_loss() {
    let mut store = Store::default();
    let mut complete = false;
    let server = Server::start(move |heard| match heard.method.as_str() {
        "PUT" => {
            complete = true;
            hang_up()
        }
        "HEAD" if complete => reply(200, ""),
        _ => store.answer(heard),
    });
    let outcome = push(&open(&server.name(), None), b"abc", None).unwrap();
    assert_eq!(outcome, Outcome::Sent);
}

#[test]
fn a_refused_blob_is_not_sent_again() {
    let mut store = Store::default();
    let body =
        r#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}"#;
    let server = Server::start(move |heard| match heard.method.as_str() {
        "PUT" => reply(400, body),
        _ => store.answer(heard),
    });
    let error = error_of(push(&open(&server.name(), None), b"abc", None));
    assert_eq!(error, "digest invalid: provided digest did not match");
    assert_eq!(server.heard().len(), 4);
}

#[test]
fn an_empty_blob_has_no_chunks() {
    let mut store = Store::default();
    let server = Server::start(move |heard| store.answer(heard));
    assert_eq!(
        push(&open(&server.name(), None), b"", None).unwrap(),
        Outcome::Sent
    );
    assert_eq!(server.heard().len(), 3);
}

#[test]
fn a_manifest_is_put_byte_for_byte() {
    let server = Server::start(|_| reply(201, ""));
    let digest = open(&server.name(), None)
        .put_manifest("a/b", "1", "a/type", b"{ }")
        .unwrap();
    assert_eq!(digest, Digest::of(b"{ }"));
    let heard = &server.heard()[0];
    assert_eq!(heard.line(), "PUT /v2/a/b/manifests/1");
    assert_eq!(heard.header("content-type"), Some("a/type"));
    assert_eq!(heard.body, b"{ }");
    let other = Digest::of(b"other");
    let server = Server::start(move |_| reply(201, "").header("Docker-Content-Digest", other));
    assert!(
        open(&server.name(), None)
            .put_manifest("a/b", "1", "a/type", b"{ }")
            .is_err()
    );
}

#[test]
fn what_is_sent_goes_elsewhere_on_the_same_server_alone() {
    let server = Server::start(|heard| match heard.path.as_str() {
        "/there" => reply(201, ""),
        path if path.ends_with("/1") => reply(307, "").header("Location", "/there"),
        path if path.ends_with("/2") => reply(302, "").header("Location", "/there"),
        _ => reply(307, "").header("Location", "http://localhost:1/there"),
    });
    let registry = open(&server.name(), None);
    assert!(registry.put_manifest("a/b", "1", "a/type", b"{}").is_ok());
    let heard = server.heard().pop().unwrap();
    assert_eq!(
        (heard.line().as_str(), heard.body.as_slice()),
        ("PUT /there", &b"{}"[..])
    );
    let error = error_of(registry.put_manifest("a/b", "2", "a/type", b"{}"));
    assert!(error.contains("302 Found"), "{error}");
    let error = error_of(registry.put_manifest("a/b", "3", "a/type", b"{}"));
    assert!(error.contains("what is meant for itself"), "{error}");
}

#[test]
fn a_registry_that_keeps_nothing_is_not_fed_for_ever() {
    let server = Server::start(|heard| match heard.method.as_str() {
        "HEAD" => reply(404, ""),
        "GET" => reply(204, "").header("Range", "0-0"),
        _ => reply(202, "")
            .header("Location", "/session")
            .header("Range", "0-0"),
    });
    let error = error_of(push(&open(&server.name(), None), b"abc", None));
    assert!(error.contains("the registry has 0 bytes of 3"), "{error}");
}

#[test]
fn a_file_that_is_too_short_is_not_waited_for() {
    let mut store = Store::default();
    let server = Server::start(move |heard| store.answer(heard));
    let upload = Upload {
        blob: Blob {
            digest: Digest::of(b"abcd"),
            size: 4,
        },
        file: &file(b"abc"),
        mount_from: None,
        sent: &|_| {},
        pausing: &|_| panic!("there is nothing to wait for"),
    };
    let error = error_of(open(&server.name(), None).push_blob("a/b", &upload));
    assert!(error.contains("shorter than the blob"), "{error}");
}
