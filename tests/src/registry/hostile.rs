//! A registry that does one thing wrong.

use nix::sys::signal::Signal;

use crate::command::Running;
use crate::host::Host;

use super::port;

/// `registry hostile` at work. Dropped, it is gone.
#[derive(Debug)]
pub struct Hostile<'a> {
    host: &'a Host,
    port: u16,
    server: Running,
}

/// A request as it came, before the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// GET, HEAD and so on.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The first byte of the wanted range.
    pub from: Option<u64>,
    /// Whether there was a credential.
    pub authorized: bool,
}

impl<'a> Hostile<'a> {
    /// Serves the layout at `layout` of the machine; `options` say what is wrong with it,
    /// see `registry hostile --help`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(host: &'a Host, layout: &str, options: &[&str]) -> Hostile<'a> {
        Hostile::at(host, port(), layout, options)
    }

    /// A port for one that is yet to start.
    pub fn next_port() -> u16 {
        port()
    }

    /// The same at the port of one that is gone, or from [`Hostile::next_port`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn at(host: &'a Host, port: u16, layout: &str, options: &[&str]) -> Hostile<'a> {
        let line = format!(
            "registry hostile {layout} --port {port} --log {}",
            log(port)
        );
        let words = line.split_whitespace().chain(options.iter().copied());
        let mut server = host.spawn(words);
        server.expect("ready");
        Hostile { host, port, server }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT/NAME`.
    pub fn name(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Whether it has not killed itself.
    pub fn is_running(&mut self) -> bool {
        self.server.is_running()
    }

    /// Holds it in the midst of what it says, until [it goes on](Hostile::go_on).
    pub fn hold(&self) {
        self.server.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.server.signal(Signal::SIGCONT);
    }

    /// What was asked for so far.
    ///
    /// # Panics
    /// Where there is no log.
    pub fn seen(&self) -> Vec<Seen> {
        let log = std::fs::read_to_string(self.host.path(&log(self.port)));
        let seen = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            Some(Seen {
                method: words.next()?,
                path: words.next()?,
                from: words.next()?.parse().ok(),
                authorized: words.next()? == "authorized",
            })
        };
        log.expect("the registry's log")
            .lines()
            .filter_map(seen)
            .collect()
    }

    /// From which byte on each GET wanted a blob.
    pub fn downloads(&self, digest: &str) -> Vec<u64> {
        let end = format!("/blobs/{digest}");
        let seen = self.seen().into_iter();
        seen.filter(|seen| seen.method == "GET" && seen.path.ends_with(&end))
            .map(|seen| seen.from.unwrap_or(0))
            .collect()
    }
}

fn log(port: u16) -> String {
    format!("/tmp/hostile-{port}")
}
