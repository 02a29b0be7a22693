//! A server that says what the test wants it to say, and remembers what it was asked.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A request as it was heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut same = self.headers.iter().filter(|(key, _)| key == name);
        same.next().map(|(_, value)| value.as_str())
    }

    /// `METHOD PATH`, to be compared.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What is answered, and how.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    manner: Manner,
}

#[derive(Clone, Copy, Debug)]
enum Manner {
    Whole,
    /// So many bytes of the body, and then the connection is closed.
    Cut(usize),
    /// So many bytes of the body, and then nothing for so long.
    Stall(usize, Duration),
    /// The body a byte at a time, with a pause after each.
    Trickle(Duration),
    /// The connection is closed with the request half read.
    HangUp,
}

pub(crate) fn reply(status: u16, body: impl Into<Vec<u8>>) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: body.into(),
        manner: Manner::Whole,
    }
}

/// Closes the connection instead of an answer.
pub(crate) fn hang_up() -> Reply {
    Reply {
        manner: Manner::HangUp,
        ..reply(0, "")
    }
}

impl Reply {
    /// A `Content-Length` given here is told in the place of the true one.
    pub(crate) fn header(mut self, name: &str, value: impl Display) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Reply {
        self.manner = Manner::Cut(bytes);
        self
    }

    pub(crate) fn stall_after(mut self, bytes: usize, time: Duration) -> Reply {
        self.manner = Manner::Stall(bytes, time);
        self
    }

    pub(crate) fn trickle(mut self, pause: Duration) -> Reply {
        self.manner = Manner::Trickle(pause);
        self
    }

    fn send(&self, to: &mut TcpStream, head_only: bool) -> Result<bool> {
        let mut head = format!("HTTP/1.1 {} As-Scripted\r\n", self.status);
        let lengths = ["content-length", "transfer-encoding"];
        let told = |(name, _): &(String, String)| lengths.contains(&&*name.to_lowercase());
        if !self.headers.iter().any(told) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        to.write_all(format!("{head}\r\n").as_bytes())?;
        if head_only {
            return Ok(true);
        }
        let first = |bytes: usize| self.body.get(..bytes).unwrap_or(&self.body);
        match self.manner {
            Manner::Whole => to.write_all(&self.body).map(|()| true),
            Manner::Cut(bytes) => to.write_all(first(bytes)).map(|()| false),
            Manner::Stall(bytes, time) => {
                to.write_all(first(bytes))?;
                thread::sleep(time);
                Ok(false)
            }
            Manner::Trickle(pause) => {
                for byte in &self.body {
                    to.write_all(&[*byte])?;
                    thread::sleep(pause);
                }
                Ok(true)
            }
            Manner::HangUp => Ok(false),
        }
    }
}

type Script = Mutex<dyn FnMut(&Heard) -> Reply + Send>;

/// A server on a port of its own of 127.0.0.1.
pub(crate) struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Server {
    /// Answers each request with what `script` makes of it.
    pub(crate) fn start(script: impl FnMut(&Heard) -> Reply + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(Mutex::new(script));
        let notes = heard.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (notes, script) = (notes.clone(), script.clone());
                // The client is gone in the middle of many a test.
                thread::spawn(move || drop(serve(client, &notes, &script)));
            }
        });
        Server { port, heard }
    }

    /// Answers with one reply after the other, and with the last one for ever.
    pub(crate) fn in_turn(replies: Vec<Reply>) -> Server {
        let mut replies = replies.into_iter().peekable();
        let mut last = reply(500, "");
        Server::start(move |_| {
            last = replies.next().unwrap_or(last.clone());
            last.clone()
        })
    }

    /// As a registry's name.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.heard().iter().map(Heard::line).collect()
    }
}

fn serve(client: TcpStream, notes: &Mutex<Vec<Heard>>, script: &Script) -> Result<()> {
    let mut from = BufReader::new(client.try_clone()?);
    let mut to = client;
    while let Some(heard) = hear(&mut from)? {
        let reply = {
            let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.push(heard.clone());
            let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
            script(&heard)
        };
        let go_on = match reply.manner {
            Manner::HangUp => false,
            _ => reply.send(&mut to, heard.method == "HEAD")?,
        };
        if !go_on {
            break;
        }
    }
    Ok(())
}

fn hear(from: &mut impl BufRead) -> Result<Option<Heard>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut heard = Heard {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..Heard::default()
    };
    loop {
        line.clear();
        from.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let header = (name.to_lowercase(), value.trim().to_owned());
        heard.headers.push(header);
    }
    let length = heard.header("content-length").unwrap_or("0");
    let length = length.parse().unwrap_or(0);
    from.take(length).read_to_end(&mut heard.body)?;
    Ok(Some(heard))
}
