//! Two ends of a conversation, for checks that ask who reaches whom. They need
//! no program that a machine may lack, and they speak from any network of it.
//!
//! ```text
//! ask:    HELLO\n                     a word of whoever asks
//! answer: WORD HELLO 192.0.2.1\n      the listener's word, that one, and who seemed to ask
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use nix::sched::{CloneFlags, setns};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A word has no more bytes than this.
const LONGEST: u64 = 256;

#[derive(Args)]
pub struct Talk {
    /// In the network of this process
    #[arg(long, value_name = "PID")]
    of: Option<i32>,
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Answer everybody with WORD; says `listening` when it does
    Listen { port: Port, word: String },
    /// Ask once, and print the answer
    Ask {
        to: IpAddr,
        port: Port,
        hello: String,
    },
    /// Say back all that somebody says, after its end; says `listening` when it does
    Echo { port: Port },
    /// Say so many megabytes to an echo, end, and compare what comes back
    Pour {
        to: IpAddr,
        port: Port,
        megabytes: usize,
    },
    /// Ask by so many connections that are open at once, and count the answers
    Crowd {
        to: IpAddr,
        port: Port,
        callers: usize,
    },
}

/// A port of TCP, `80`, or of UDP, `53/udp`.
#[derive(Clone, Copy)]
struct Port {
    number: u16,
    udp: bool,
}

impl FromStr for Port {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_suffix("/udp");
        Ok(Port {
            number: digits.unwrap_or(text).parse()?,
            udp: digits.is_some(),
        })
    }
}

impl Talk {
    pub fn run(&self) -> Result<ExitCode> {
        if let Some(pid) = self.of {
            let path = format!("/proc/{pid}/ns/net");
            let net = std::fs::File::open(&path).with_context(|| format!("open {path}"))?;
            setns(net, CloneFlags::CLONE_NEWNET).context("join the network")?;
        }
        match &self.part {
            Part::Listen { port, word } if port.udp => listen_udp(port.number, word),
            Part::Listen { port, word } => listen_tcp(port.number, word),
            Part::Ask { to, port, hello } => {
                let to = SocketAddr::from((*to, port.number));
                tell(if port.udp { ask_udp } else { ask_tcp }(to, hello))
            }
            Part::Echo { port } => echo(port.number),
            Part::Pour {
                to,
                port,
                megabytes,
            } => tell(pour((*to, port.number).into(), *megabytes)),
            Part::Crowd { to, port, callers } => tell(crowd((*to, port.number).into(), *callers)),
        }
    }
}

fn tell(answer: Result<String>) -> Result<ExitCode> {
    match answer {
        Ok(answer) => println!("{}", answer.trim_end()),
        Err(error) => {
            eprintln!("{error:#}");
            return Ok(ExitCode::from(1));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn listen_tcp(port: u16, word: &str) -> Result<ExitCode> {
    let socket = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("bind a TCP port")?;
    println!("listening");
    loop {
        let (stream, from) = socket.accept().context("accept")?;
        // One who asks for nothing, or goes away, is no reason to end.
        answer_tcp(stream, from.ip(), word).ok();
    }
}

fn answer_tcp(mut stream: TcpStream, from: IpAddr, word: &str) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut hello = String::new();
    BufReader::new((&stream).take(LONGEST)).read_line(&mut hello)?;
    stream.write_all(format!("{word} {} {from}\n", hello.trim_end()).as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    Ok(())
}

fn listen_udp(port: u16, word: &str) -> Result<ExitCode> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("bind a UDP port")?;
    println!("listening");
    let mut hello = [0; LONGEST as usize];
    loop {
        let (length, from) = socket.recv_from(&mut hello).context("receive")?;
        let hello = String::from_utf8_lossy(&hello[..length]);
        let answer = format!("{word} {} {}\n", hello.trim_end(), from.ip());
        socket.send_to(answer.as_bytes(), from).ok();
    }
}

fn ask_tcp(to: SocketAddr, hello: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{hello}\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks again and again, for a datagram may be lost.
fn ask_udp(to: SocketAddr, hello: &str) -> Result<String> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_millis(250)))?;
    let end = Instant::now() + PATIENCE;
    let mut answer = [0; LONGEST as usize];
    loop {
        let heard = socket.send(hello.as_bytes());
        match heard.and_then(|_| socket.recv(&mut answer)) {
            Ok(length) => return Ok(String::from_utf8_lossy(&answer[..length]).into_owned()),
            Err(error) if Instant::now() > end => return Err(error).context("no answer"),
            // Nobody there (ECONNREFUSED) may be there in a moment.
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn echo(port: u16) -> Result<ExitCode> {
    let socket = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("bind a TCP port")?;
    println!("listening");
    loop {
        let (mut stream, _) = socket.accept().context("accept")?;
        std::thread::spawn(move || {
            let mut said = Vec::new();
            // Without an end there is no answer.
            if stream.read_to_end(&mut said).is_ok() {
                stream.write_all(&said).ok();
            }
        });
    }
}

/// Fails where one byte is another, or one is missing.
fn pour(to: SocketAddr, megabytes: usize) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    // Each begins with its number, so that none can stand for another.
    let mut said = vec![0; megabytes << 20];
    for (n, megabyte) in said.chunks_exact_mut(1 << 20).enumerate() {
        megabyte.fill(n as u8);
        megabyte[..8].copy_from_slice(&n.to_be_bytes());
    }
    stream.write_all(&said)?;
    stream.shutdown(Shutdown::Write)?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    anyhow::ensure!(
        heard == said,
        "{} bytes came back of {}",
        heard.len(),
        said.len()
    );
    Ok(format!("{} bytes", heard.len()))
}

fn crowd(to: SocketAddr, callers: usize) -> Result<String> {
    let mut all = Vec::new();
    for _ in 0..callers {
        all.push(TcpStream::connect_timeout(&to, PATIENCE)?);
    }
    for (n, stream) in all.iter_mut().enumerate() {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{n}").as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
    }
    for (n, stream) in all.into_iter().enumerate() {
        let mut heard = String::new();
        stream.take(LONGEST).read_to_string(&mut heard)?;
        anyhow::ensure!(heard == n.to_string(), "caller {n} heard {heard:?}");
    }
    Ok(format!("{callers} answers"))
}
