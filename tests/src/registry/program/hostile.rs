//! A registry that reads from an OCI layout, and does one thing wrong.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::http::{self, Answer, Request, hang_up};

/// What is to be served, and how badly.
#[derive(Args, Debug)]
pub struct Hostile {
    /// The layout: every repository has all of it, and its names as tags
    layout: PathBuf,
    #[arg(long)]
    port: u16,
    /// The file with a line for each request, written before the answer
    #[arg(long)]
    log: PathBuf,
    /// What is wrong
    #[arg(long)]
    fault: Option<Fault>,
    /// How often, before all goes well
    #[arg(long, default_value_t = usize::MAX)]
    times: usize,
    /// Ask for tokens, each of which is good for so many requests
    #[arg(long)]
    token_uses: Option<usize>,
    /// Bytes of a blob per millisecond
    #[arg(long)]
    speed: Option<usize>,
}

/// A hostile registry at work.
struct Server {
    about: Hostile,
    log: Mutex<fs::File>,
    /// How often the fault has struck.
    struck: AtomicUsize,
    /// The last token, and how often it was used.
    token: Mutex<(usize, usize)>,
}

type Done = std::io::Result<()>;

impl Hostile {
    /// # Errors
    /// Fails where the port is taken, or the log cannot be made.
    pub fn run(self) -> Result<()> {
        let log = fs::File::create(&self.log);
        let log = log.with_context(|| format!("create {}", self.log.display()))?;
        let port = self.port;
        let server = Server {
            about: self,
            log: Mutex::new(log),
            struck: AtomicUsize::new(0),
            token: Mutex::new((0, 0)),
        };
        http::serve(port, move |request, to| server.answer(request, to))
    }
}

impl Server {
    fn answer(&self, request: &Request, to: &mut TcpStream) -> Done {
        self.note(request)?;
        match (&*request.method, &*request.path) {
            // As a proxy, which pretends to be whoever was asked for.
            ("CONNECT", _) => return to.write_all(b"HTTP/1.1 200 status\r\n\r\n"),
            (_, "/token") => return self.give_token().send(request, to),
            _ => {}
        }
        if let Some(fault) = &self.about.fault
            && !fault.is_of_blobs()
            && !fault.is_of_manifests()
            && self.strikes()
        {
            return disturb(fault, request, to);
        }
        if !self.admits(request) {
            return self.challenge().send(request, to);
        }
        let mut parts = request.path.rsplitn(3, '/');
        let (Some(last), Some(kind)) = (parts.next(), parts.next()) else {
            return Answer::new(404).send(request, to);
        };
        match kind {
            "manifests" => self.manifest(last, request, to),
            "blobs" => self.blob(last, request, to),
            _ if request.path == "/v2/" => Answer::new(200).send(request, to),
            _ => Answer::new(404).send(request, to),
        }
    }

    /// `GET /v2/x/blobs/sha256:… 1000 authorized`, with `-` for what is not.
    fn note(&self, request: &Request) -> Done {
        let range = request
            .range()
            .map_or("-".to_owned(), |from| from.to_string());
        let authorized = match request.header("authorization") {
            Some(_) => "authorized",
            None => "-",
        };
        let Request { method, path, .. } = request;
        let mut log = self.log.lock().map_err(|_| hang_up())?;
        writeln!(log, "{method} {path} {range} {authorized}")
    }

    fn strikes(&self) -> bool {
        self.struck.fetch_add(1, Ordering::SeqCst) < self.about.times
    }

    fn give_token(&self) -> Answer {
        let Ok(mut token) = self.token.lock() else {
            return Answer::new(500);
        };
        *token = (token.0 + 1, 0);
        let mut answer = Answer::new(200).with("Content-Type", &"application/json");
        answer.body = json!({"token": format!("token-{}", token.0)})
            .to_string()
            .into();
        answer
    }

    /// Whether no token is asked for, or the last one came, and not too often.
    fn admits(&self, request: &Request) -> bool {
        let Some(uses) = self.about.token_uses else {
            return true;
        };
        let Ok(mut token) = self.token.lock() else {
            return false;
        };
        let wanted = format!("Bearer token-{}", token.0);
        if request.header("authorization") != Some(&wanted) {
            return false;
        }
        token.1 += 1;
        token.1 <= uses
    }

    fn challenge(&self) -> Answer {
        let realm = format!("http://127.0.0.1:{}/token", self.about.port);
        Answer::new(401).with(
            "WWW-Authenticate",
            &format!("Bearer realm=\"{realm}\",service=\"hostile\",scope=\"repository:x:pull\""),
        )
    }

    fn manifest(&self, reference: &str, request: &Request, to: &mut TcpStream) -> Done {
        let Some((digest, media_type)) = self.about.find(reference) else {
            return Answer::new(404).send(request, to);
        };
        let mut answer = Answer::new(200)
            .with("Content-Type", &media_type)
            .with("Docker-Content-Digest", &digest);
        answer.body = fs::read(self.about.blob_path(&digest))?;
        match &self.about.fault {
            Some(fault) if fault.is_of_manifests() && request.method == "GET" && self.strikes() => {
                distort(fault, answer, request, to)
            }
            _ => answer.send(request, to),
        }
    }

    fn blob(&self, digest: &str, request: &Request, to: &mut TcpStream) -> Done {
        let path = self.about.blob_path(digest);
        let Ok(mut bytes) = fs::read(&path) else {
            return Answer::new(404).send(request, to);
        };
        let is_target = self.about.fault.as_ref().is_some_and(Fault::is_of_blobs)
            && request.method == "GET"
            && self.about.largest()?.as_deref() == Some(digest);
        let fault = self.about.fault.clone();
        let mut fault = fault.filter(|_| is_target && self.strikes());
        let mut range = request.range();
        if let Some(Fault::NoRange(count)) = fault {
            fault = range.is_none().then_some(Fault::Cut(count));
            range = None;
        }
        let whole = bytes.len();
        let from = usize::try_from(range.unwrap_or(0)).map_err(|_| hang_up())?;
        if from > whole {
            return Answer::new(416).send(request, to);
        }
        let mut answer = Answer::new(if range.is_some() { 206 } else { 200 });
        answer = match &fault {
            Some(Fault::Redirect(port)) => {
                let to_there = format!("http://127.0.0.1:{port}{}", request.path);
                return Answer::new(307)
                    .with("Location", &to_there)
                    .send(request, to);
            }
            Some(Fault::Length(length)) => answer.with("Content-Length", length),
            _ => answer.with("Content-Length", &(whole - from)),
        };
        if range.is_some() {
            let last = whole.saturating_sub(1);
            answer = answer.with("Content-Range", &format!("bytes {from}-{last}/{whole}"));
        }
        to.write_all(answer.head().as_bytes())?;
        if request.method == "HEAD" {
            return Ok(());
        }
        if fault == Some(Fault::Garbled)
            && let Some(last) = bytes.last_mut()
        {
            *last ^= 1;
        }
        let rest = bytes.get(from..).unwrap_or_default();
        self.send(rest, from, fault.as_ref(), to)
    }

    /// Sends what begins at byte `from` of a blob.
    fn send(&self, bytes: &[u8], from: usize, fault: Option<&Fault>, to: &mut TcpStream) -> Done {
        let first = |count: u64| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            bytes.get(..count).unwrap_or(bytes)
        };
        let from = u64::try_from(from).unwrap_or(u64::MAX);
        match fault {
            Some(Fault::Cut(count)) => self.pass(first(*count), to)?,
            Some(Fault::Short(count)) => self.pass(first(count.saturating_sub(from)), to)?,
            Some(Fault::Die(count)) => {
                self.pass(first(*count), to)?;
                std::process::abort();
            }
            Some(Fault::Drip) => {
                for byte in bytes {
                    to.write_all(&[*byte])?;
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
            Some(Fault::Length(_)) => self.pass(bytes, to)?,
            _ => return self.pass(bytes, to),
        }
        Err(hang_up())
    }

    fn pass(&self, bytes: &[u8], to: &mut TcpStream) -> Done {
        let Some(speed) = self.about.speed else {
            return to.write_all(bytes);
        };
        for some in bytes.chunks(speed.max(1)) {
            to.write_all(some)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Answers as one who disturbs everything does.
fn disturb(fault: &Fault, request: &Request, to: &mut TcpStream) -> Done {
    match fault {
        Fault::Busy(after) => Answer::new(429)
            .with("Retry-After", after)
            .send(request, to),
        Fault::Unavailable => Answer::new(503).send(request, to),
        Fault::EndlessHeaders => {
            to.write_all(b"HTTP/1.1 200 status\r\n")?;
            loop {
                to.write_all(b"X-More: to come\r\n")?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Fault::HugeHeader => {
            let answer = Answer::new(200).with("X-Much", &"m".repeat(1 << 20));
            answer.send(request, to)
        }
        _ => Err(hang_up()),
    }
}

/// Answers with a manifest that is not what it should be.
fn distort(fault: &Fault, mut answer: Answer, request: &Request, to: &mut TcpStream) -> Done {
    match fault {
        Fault::ManifestType(other) => {
            let kind = answer
                .headers
                .iter_mut()
                .find(|(name, _)| *name == "Content-Type");
            if let Some((_, value)) = kind {
                value.clone_from(other);
            }
        }
        Fault::OtherManifest => answer.body.push(b' '),
        _ => {
            let size = 100 << 20;
            answer = answer.with("Content-Length", &size);
            answer.send(request, to)?;
            let blanks = [b' '; 65536];
            for _ in 0..size / blanks.len() {
                to.write_all(&blanks)?;
            }
            return Err(hang_up());
        }
    }
    answer.send(request, to)
}

impl Hostile {
    fn blob_path(&self, digest: &str) -> PathBuf {
        self.layout.join("blobs").join(digest.replace(':', "/"))
    }

    /// The digest and media type of a tag or digest.
    fn find(&self, reference: &str) -> Option<(String, String)> {
        let index = fs::read(self.layout.join("index.json")).ok()?;
        let index: Value = serde_json::from_slice(&index).ok()?;
        let named = |entry: &&Value| {
            let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
            [name, &entry["digest"]].contains(&&json!(reference))
        };
        if let Some(entry) = index["manifests"].as_array()?.iter().find(named) {
            let text = |name: &str| entry[name].as_str().map(str::to_owned);
            return Some((text("digest")?, text("mediaType")?));
        }
        let bytes = fs::read(self.blob_path(reference)).ok()?;
        let manifest: Value = serde_json::from_slice(&bytes).ok()?;
        Some((
            reference.to_owned(),
            manifest["mediaType"].as_str()?.to_owned(),
        ))
    }

    /// The digest of the largest blob.
    fn largest(&self) -> std::io::Result<Option<String>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(self.layout.join("blobs/sha256"))? {
            let entry = entry?;
            all.push((entry.metadata()?.len(), entry.file_name()));
        }
        let (_, name) = all.into_iter().max().unwrap_or_default();
        Ok(name.to_str().map(|hex| format!("sha256:{hex}")))
    }
}
