//! Connections, copied both ways.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{consume_budget, spawn_local};
use tokio::time::sleep;

use super::Buffer;

/// Answers everybody who calls.
pub async fn serve(listener: TcpListener, to: SocketAddr, shared: Buffer) {
    loop {
        match listener.accept().await {
            Ok((caller, _)) => {
                let shared = shared.clone();
                spawn_local(async move { carry(caller, to, &shared).await });
            }
            // No descriptor is free, or no memory: callers wait in the queue until somebody goes.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// One connection's life.
async fn carry(caller: TcpStream, to: SocketAddr, shared: &Buffer) {
    let Ok(container) = TcpStream::connect(to).await else {
        return reset(&caller);
    };
    // Who wants small segments gathered has done so already.
    for end in [&caller, &container] {
        let _ = end.set_nodelay(true);
    }
    let there = pump(&caller, &container, shared);
    let back = pump(&container, &caller, shared);
    if tokio::try_join!(there, back).is_err() {
        reset(&caller);
        reset(&container);
    }
}

/// Has the other end told, when this is closed, that something went wrong: a reset and not an end.
fn reset(stream: &TcpStream) {
    // Refused only where the connection is gone.
    let _ = stream.set_zero_linger();
}

/// Copies one way, to the end of what there is, and passes the end on.
async fn pump(from: &TcpStream, to: &TcpStream, shared: &Buffer) -> io::Result<()> {
    loop {
        tokio::select! {
            ready = from.readable() => ready?,
            // Whoever is gone for good is nobody to wait for.
            _ = to.ready(Interest::ERROR) => return Err(ErrorKind::ConnectionReset.into()),
        }
        let rest = match pass_on(from, to, &mut shared.borrow_mut()) {
            Ok(None) => break,
            Ok(Some(rest)) => rest,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        write_all(to, &rest).await?;
        consume_budget().await;
    }
    shutdown(to.as_raw_fd(), Shutdown::Write)?;
    Ok(())
}

/// Copies what is there, and returns what could not be written; `None` at the end.
fn pass_on(from: &TcpStream, to: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
    let length = from.try_read(buffer)?;
    let read = buffer.get(..length).unwrap_or_default();
    if read.is_empty() {
        return Ok(None);
    }
    let written = match to.try_write(read) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        written => written?,
    };
    Ok(Some(read.get(written..).unwrap_or_default().to_vec()))
}

async fn write_all(to: &TcpStream, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        to.writable().await?;
        match to.try_write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
