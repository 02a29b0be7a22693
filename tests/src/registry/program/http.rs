//! As much of HTTP/1.1 as a registry's server needs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result};

/// A request, all of it.
#[derive(Debug, Default)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    /// By name in small letters.
    headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Where the wanted range begins; a registry's clients ask for the rest of a blob,
    /// with or without the last byte.
    pub fn range(&self) -> Option<u64> {
        let (from, _) = self
            .header("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        from.parse().ok()
    }

    /// The next request of a connection, or none at its end.
    fn read(stream: &mut impl BufRead) -> std::io::Result<Option<Request>> {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_default().to_owned();
        let (method, target) = (word(), word());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut request = Request {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            ..Request::default()
        };
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            let name = name.to_ascii_lowercase();
            request.headers.insert(name, value.trim().to_owned());
        }
        let length = request.header("content-length").map(str::parse);
        request.body = vec![0; length.and_then(Result::ok).unwrap_or(0)];
        stream.read_exact(&mut request.body)?;
        Ok(Some(request))
    }
}

/// An answer without surprises.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn new(status: u16) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn with(mut self, name: &'static str, value: &dyn ToString) -> Answer {
        self.headers.push((name, value.to_string()));
        self
    }

    /// The status line and the headers, with the empty line.
    pub fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} status\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let given = |(name, _): &(&str, String)| *name == "Content-Length";
        if !self.headers.iter().any(given) {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        head + "\r\n"
    }

    /// # Errors
    /// Fails when the client is gone.
    pub fn send(&self, request: &Request, to: &mut TcpStream) -> std::io::Result<()> {
        to.write_all(self.head().as_bytes())?;
        if request.method != "HEAD" {
            to.write_all(&self.body)?;
        }
        to.flush()
    }
}

/// Answers every request at a port of loopback, each connection in a thread of its own,
/// until the process is killed. `answer` says how, and fails to close the connection.
///
/// # Errors
/// Fails where the port is taken.
pub fn serve(
    port: u16,
    answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = listener.with_context(|| format!("listen at port {port}"))?;
    println!("ready");
    let answer = Arc::new(answer);
    for stream in listener.incoming() {
        let answer = Arc::clone(&answer);
        std::thread::spawn(move || -> std::io::Result<()> {
            let mut stream = stream?;
            stream.set_nodelay(true)?;
            let mut reader = BufReader::new(stream.try_clone()?);
            while let Some(request) = Request::read(&mut reader)? {
                answer(&request, &mut stream)?;
            }
            Ok(())
        });
    }
    Ok(())
}

/// Why a connection is closed on purpose.
pub fn hang_up() -> std::io::Error {
    ErrorKind::ConnectionAborted.into()
}
