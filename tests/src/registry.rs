//! Registries on a machine's loopback: Debian's own, and [one that misbehaves](Hostile).
//!
//! Nobody outside the machine sees them. Their data and logs are below /tmp there.

mod hostile;
mod layout;
mod store;

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

pub use hostile::{Hostile, Seen};
pub use layout::{Kind, Layer, Layout, Packing, noise};
pub use store::Minidocker;

use crate::command::Running;
use crate::host::{Host, Setup};
use crate::step::{build_dir, made};
use crate::wait_for;

/// Who may push to a registry that asks; everybody may pull where there are tokens.
pub const USER: &str = "tester";
/// Their password.
pub const PASSWORD: &str = "open sesame";
/// Their line in a password file, which is PASSWORD as bcrypt has it.
const HTPASSWD: &str = "tester:$2b$04$vOBVijEVWAYY24CBdK256eXERVQQIOZiB9V3Z1oILTk7piJ49CmCu";

/// By which name a registry with a certificate is known.
const TLS_NAME: &str = "registry.test";
/// A registry's files, besides its data: keys and certificates.
const KEYS: &str = r"
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=tests \
        -keyout ca.key -out ca.pem 2>/dev/null
    openssl x509 -in ca.pem -outform der -out ca.der
    printf 'subjectAltName=DNS:registry.test' >names
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=registry.test \
        -keyout key.pem -out request.pem 2>/dev/null
    openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
        -extfile names -out cert.pem 2>/dev/null
    chmod 644 ca.pem
";

/// A machine for registries, with Debian's images at /run/workspace/images. What clients write
/// beside what they are told to, they write to memory.
///
/// # Panics
/// Where the machine cannot be made, or `cargo lab test` has not yet made the rest.
pub fn machine(mut setup: Setup) -> Host {
    for name in ["clients", "images"] {
        setup.shown.push((made(name), name.to_owned()));
    }
    let program = build_dir().join("registry");
    setup.shown.push((program, "registry".to_owned()));
    let host = Host::with(setup);
    // skopeo and podman keep what they have learned in /var/lib/containers.
    host.shell("for dir in /root /var/lib; do mount -t tmpfs -o mode=755 tmpfs $dir; done");
    host
}

/// A port that no other server of this test has.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(5000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Debian's docker-registry at work. Dropped, it is gone.
#[derive(Debug)]
pub struct Registry<'a> {
    host: &'a Host,
    name: &'static str,
    port: u16,
    server: Running,
    /// Held so that it lives as long.
    _tokens: Option<Running>,
}

/// A request that a registry answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// GET, HEAD and so on.
    pub method: String,
    /// With the query.
    pub path: String,
    /// Of the answer: 200 and so on.
    pub status: u16,
}

impl<'a> Registry<'a> {
    /// One for everybody.
    pub fn open(host: &'a Host) -> Registry<'a> {
        Registry::start(host, port(), "", "", None)
    }

    /// One for [`USER`] alone.
    pub fn htpasswd(host: &'a Host) -> Registry<'a> {
        let port = port();
        let dir = dir(port);
        host.shell(&format!("mkdir -p {dir}; echo '{HTPASSWD}' >{dir}/users"));
        let auth = format!("auth: {{htpasswd: {{realm: tests, path: {dir}/users}}}}");
        Registry::start(host, port, "", &auth, None)
    }

    /// One at `registry.test`, whose certificate [its own authority](Registry::authority)
    /// has signed: to loopback by its number many a client speaks without TLS.
    pub fn tls(host: &'a Host) -> Registry<'a> {
        let port = port();
        let dir = dir(port);
        host.shell(&format!("mkdir -p {dir}; cd {dir}; {KEYS}"));
        let tls = format!("tls: {{certificate: {dir}/cert.pem, key: {dir}/key.pem}}");
        host.shell(&format!("echo 127.0.0.1 {TLS_NAME} >>/etc/hosts"));
        let name = TLS_NAME;
        let registry = Registry::start(host, port, &tls, "", None);
        Registry { name, ..registry }
    }

    /// One that wants tokens, of a server that `options` say more about: see
    /// `registry tokens --help`.
    pub fn token(host: &'a Host, options: &[&str]) -> Registry<'a> {
        let (port, tokens) = (port(), port());
        let dir = dir(port);
        host.shell(&format!("mkdir -p {dir}; cd {dir}; {KEYS}"));
        let line = format!(
            "registry tokens --port {tokens} --key {dir}/ca.key --certificate {dir}/ca.der \
             --log {dir}/tokens"
        );
        let user = format!("--user={USER}:{PASSWORD}");
        let words = line.split_whitespace().chain([user.as_str()]);
        let mut server = host.spawn(words.chain(options.iter().copied()));
        server.expect("ready");
        let auth = format!(
            "auth: {{token: {{realm: \"http://127.0.0.1:{tokens}/token\", service: registry, \
             issuer: tests, rootcertbundle: {dir}/ca.pem}}}}"
        );
        Registry::start(host, port, "", &auth, Some(server))
    }

    fn start(
        host: &'a Host,
        port: u16,
        tls: &str,
        auth: &str,
        tokens: Option<Running>,
    ) -> Registry<'a> {
        let dir = dir(port);
        let settings = format!(
            "version: 0.1\nlog: {{level: warn}}\n\
             storage: {{filesystem: {{rootdirectory: {dir}/data}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n  secret: tests\n  {tls}\n{auth}\n"
        );
        host.shell(&format!("mkdir -p {dir}"));
        std::fs::write(host.path(&format!("{dir}/settings")), settings)
            .expect("write to the machine's memory");
        Registry {
            host,
            name: "127.0.0.1",
            port,
            server: serve(host, port),
            _tokens: tokens,
        }
    }

    /// Waits until a blob is on its way into a repository, or the push is over.
    ///
    /// # Panics
    /// When neither is so within a minute.
    pub fn wait_for_upload(&self, repository: &str, push: &mut Running) {
        let uploads = "docker/registry/v2/repositories";
        let uploads = format!("{}/data/{uploads}/{repository}/_uploads", dir(self.port));
        let uploads = self.host.path(&uploads);
        wait_for("an upload", 60, || {
            if !push.is_running() {
                return Some(());
            }
            let upload = std::fs::read_dir(&uploads).ok()?.flatten().next()?;
            let data = std::fs::metadata(upload.path().join("data")).ok()?;
            (data.len() > 0).then_some(())
        });
    }

    /// Takes all images away.
    pub fn forget(&self) {
        self.host
            .shell(&format!("rm -r {}/data/docker", dir(self.port)));
    }

    /// Kills the server, and starts it anew with the same data after `pause`.
    pub fn crash(&mut self, pause: Duration) {
        self.server.signal(Signal::SIGKILL);
        std::thread::sleep(pause);
        self.server = serve(self.host, self.port);
    }

    /// `127.0.0.1:5000`, by which everybody on the machine knows it.
    pub fn address(&self) -> String {
        format!("{}:{}", self.name, self.port)
    }

    /// The certificate, on the machine, of whoever has signed the registry's own.
    pub fn authority(&self) -> String {
        format!("{}/ca.pem", dir(self.port))
    }

    /// Copies what is called `tag` in a layout on the machine, with all that an index has and
    /// digest by digest, to `127.0.0.1:PORT/NAME`; returns that.
    ///
    /// # Panics
    /// When skopeo fails.
    #[track_caller]
    pub fn fill(&self, layout: &str, tag: &str, name: &str) -> String {
        // From a registry, since in a layout skopeo knows no media types of docker's.
        let source = Hostile::start(self.host, layout, &[]);
        let from = format!("docker://{}", source.name(&format!("x:{tag}")));
        let name = format!("{}/{name}", self.address());
        let to = format!("docker://{name}");
        let user = format!("{USER}:{PASSWORD}");
        let line = "skopeo --insecure-policy copy --quiet --all --preserve-digests \
            --src-tls-verify=false --dest-tls-verify=false --dest-creds";
        let words = line.split_whitespace();
        self.host.run(words.chain([user.as_str(), &from, &to])).ok();
        name
    }

    /// The requests so far, in the order in which their answers ended, once there are no more.
    ///
    /// # Panics
    /// Where there is no log.
    pub fn requests(&self) -> Vec<Request> {
        // A line is written a moment after its answer; until then a thread there has something to do.
        let mut rested = None;
        wait_for("the registry to rest", 60, || {
            let now = self.sleeps().then(|| self.answered());
            let before = std::mem::replace(&mut rested, now.clone());
            now.filter(|now| before.as_ref() == Some(now))
        })
    }

    /// Whether all of the server's threads wait for something (proc_pid_stat(5)).
    fn sleeps(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.server.pid()));
        let mut threads = threads.into_iter().flatten().flatten();
        threads.all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat"));
            stat.is_ok_and(|stat| {
                stat.rsplit(") ")
                    .next()
                    .is_some_and(|it| it.starts_with('S'))
            })
        })
    }

    /// The requests that were answered until now, while others may be under way.
    ///
    /// # Panics
    /// Where there is no log.
    pub fn answered(&self) -> Vec<Request> {
        let log = self.host.path(&format!("{}/log", dir(self.port)));
        let log = std::fs::read_to_string(log).expect("the registry's log");
        log.lines().filter_map(Request::parse).collect()
    }

    /// For whom tokens were made, and for what: `GET tester repository:x:pull` or, for
    /// anybody, `GET - repository:x:pull`.
    ///
    /// # Panics
    /// Where there is no such server.
    pub fn tokens(&self) -> Vec<String> {
        let log = self.host.path(&format!("{}/tokens", dir(self.port)));
        let log = std::fs::read_to_string(log).expect("the token server's log");
        log.lines().map(str::to_owned).collect()
    }
}

impl Request {
    /// Reads a line as Apache's servers write them.
    fn parse(line: &str) -> Option<Request> {
        let (_, rest) = line.split_once("] \"")?;
        let (request, rest) = rest.split_once('"')?;
        let mut words = request.split(' ');
        Some(Request {
            method: words.next()?.to_owned(),
            path: words.next()?.to_owned(),
            status: rest.split_whitespace().next()?.parse().ok()?,
        })
    }

    /// Whether it is about a blob of any repository.
    pub fn is_of_blob(&self, method: &str, digest: &str) -> bool {
        self.method == method && self.path.ends_with(&format!("/blobs/{digest}"))
    }
}

/// Starts Debian's program with the settings that are there for a port.
fn serve(host: &Host, port: u16) -> Running {
    let dir = dir(port);
    assert!(
        host.path("/run/workspace/clients/usr/bin/docker-registry")
            .exists(),
        "there is no docker-registry in target/clients: `cargo lab test` puts it there first"
    );
    let line = format!(
        "exec /run/workspace/clients/usr/bin/docker-registry serve {dir}/settings >>{dir}/log 2>&1"
    );
    let server = host.spawn(["sh", "-c", &line]);
    let look = format!("curl -sk -o /dev/null http://127.0.0.1:{port}/v2/");
    wait_for("the registry to answer", 60, || {
        (host.run(look.split_whitespace()).code() == 0).then_some(())
    });
    server
}

fn dir(port: u16) -> String {
    format!("/tmp/registry-{port}")
}
