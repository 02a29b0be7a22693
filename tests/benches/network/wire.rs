//! The two ends of a wire: this very program, in the network of a container.
//!
//! ```text
//! call: one byte, which comes back        send: 128 KiB after the other, none of which does
//! ```

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

/// Where the server listens.
pub const PORT: u16 = 7000;

/// How long is measured.
const LENGTH: Duration = Duration::from_millis(500);

/// Who call at once.
const CALLERS: usize = 4;

const BLOCK: usize = 128 << 10;

/// What this program is to do.
pub enum Part {
    Serve,
    Send(SocketAddr),
    Call(SocketAddr),
}

impl Part {
    /// What the arguments say, if it is one of these.
    pub fn of(args: &[String]) -> Result<Option<Part>> {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Ok(match args[..] {
            ["serve"] => Some(Part::Serve),
            ["send", to] => Some(Part::Send(to.parse()?)),
            ["call", to] => Some(Part::Call(to.parse()?)),
            _ => None,
        })
    }

    pub fn play(self) -> Result<()> {
        match self {
            Part::Serve => serve(),
            Part::Send(to) => send(to),
            Part::Call(to) => call(to),
        }
    }
}

fn serve() -> Result<()> {
    let socket = TcpListener::bind(("0.0.0.0", PORT)).context("bind the port")?;
    println!("listening");
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                for stream in socket.incoming().flatten() {
                    // One who goes away is no reason to end.
                    answer(stream).ok();
                }
            });
        }
    });
    Ok(())
}

/// Gives the first byte back, and swallows whatever else comes.
fn answer(mut stream: TcpStream) -> Result<()> {
    let mut block = vec![0; BLOCK];
    let mut first = [0];
    stream.read_exact(&mut first)?;
    stream.write_all(&first)?;
    while stream.read(&mut block)? > 0 {}
    Ok(())
}

/// Connects, or gives up.
fn connect(to: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect_timeout(&to, Duration::from_secs(5))
        .with_context(|| format!("connect to {to}"))
}

/// Prints how many bytes go through, in a second.
fn send(to: SocketAddr) -> Result<()> {
    let mut stream = connect(to)?;
    let block = vec![0; BLOCK];
    let begin = Instant::now();
    let mut sent = 0.0;
    while begin.elapsed() < LENGTH {
        stream.write_all(&block)?;
        sent += BLOCK as f64;
    }
    println!("{}", sent / begin.elapsed().as_secs_f64());
    Ok(())
}

/// Prints how many calls are answered in a second.
fn call(to: SocketAddr) -> Result<()> {
    let begin = Instant::now();
    let calls = thread::scope(|scope| {
        let all: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| -> Result<f64> {
                    let mut calls = 0.0;
                    while begin.elapsed() < LENGTH {
                        one_call(to)?;
                        calls += 1.0;
                    }
                    Ok(calls)
                })
            })
            .collect();
        let all = all.into_iter().map(|one| one.join().unwrap_or(Ok(0.0)));
        all.sum::<Result<f64>>()
    })?;
    println!("{}", calls / begin.elapsed().as_secs_f64());
    Ok(())
}

fn one_call(to: SocketAddr) -> Result<()> {
    let mut stream = connect(to)?;
    // Otherwise each call would keep its port for a minute (TIME_WAIT), and there are 28,000 of them.
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &at_once)?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])?;
    Ok(())
}
