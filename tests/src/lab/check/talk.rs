//! Who reaches whom: a listener in one network, somebody who asks in another.
//!
//! Both are programs of the harness that enter a network from outside, so that
//! no container needs to have one, and none can pretend.

use std::process::Command;

use harness::User;

use super::program::Running;
use super::trial::{Found, Problem, Trial, failed, ids_inside};

/// The network that somebody is in.
#[derive(Clone, Copy)]
pub enum Net {
    /// The machine's: 192.0.2.1 and its loopback.
    Machine,
    /// Beyond it: 192.0.2.2.
    Outside,
    /// That of a process, as this process numbers it.
    Of(i32),
}

/// Somebody who listens; until it is dropped.
pub struct Listener {
    _running: Running,
    word: String,
}

impl Trial {
    /// Listens on a port, `80` or `53/udp`, of every address.
    pub fn listen(&self, net: Net, port: &str) -> Found<Listener> {
        let word = self.word();
        let mut running = Running::start(self.talk(net, &["listen", port, &word])?, None)?;
        let listening = running.until("listening");
        listening.map_err(|problem| Problem::Impossible {
            why: format!("nobody could listen on port {port}: {problem:?}"),
            fix: "run it again with another --seed".to_owned(),
        })?;
        Ok(Listener {
            _running: running,
            word,
        })
    }

    /// Asks on a port of an address; it must be this listener that answers.
    /// Returns the address that the question came from, as the listener sees it.
    pub fn reaches(&self, net: Net, to: &str, port: &str, listener: &Listener) -> Found<String> {
        let hello = self.word();
        let answer = Running::start(self.talk(net, &["ask", to, port, &hello])?, None)?.wait()?;
        let text = answer.text();
        let expected = format!("{} {hello} ", listener.word);
        if let Some(from) = text.strip_prefix(&expected) {
            return Ok(from.to_owned());
        }
        let here = match net {
            Net::Machine => "on the machine",
            Net::Outside => "outside",
            Net::Of(_) => "inside",
        };
        failed(
            format!(
                "{here}, who asks on {to}:{port} is answered by: {}",
                listener.word
            ),
            if answer.code() == 0 {
                format!("another answer: {text}")
            } else {
                answer.errors()
            },
        )
    }

    /// Whether nobody answers there.
    pub fn is_silent(&self, net: Net, to: &str, port: &str) -> Found<bool> {
        let hello = self.word();
        let answer = Running::start(self.talk(net, &["ask", to, port, &hello])?, None)?.wait()?;
        Ok(answer.code() != 0)
    }

    fn talk(&self, net: Net, words: &[&str]) -> Found<Command> {
        // The program that enters the machine, once more: wherever it lies, it
        // is known to itself by this name.
        let mut argv = vec!["/proc/self/exe".to_owned(), "talk".to_owned()];
        if let Net::Of(pid) = net {
            argv.extend(["--of".to_owned(), self.number_there(pid)?.to_string()]);
        }
        argv.extend(words.iter().map(|word| (*word).to_owned()));
        Ok(match net {
            Net::Outside => self.host.prepare_outside(argv),
            Net::Machine | Net::Of(_) => self.host.prepare(User::Root, true, argv),
        })
    }

    /// The number of a process on the machine.
    pub fn number_there(&self, pid: i32) -> Found<u32> {
        let numbers = ids_inside(pid)?;
        match numbers.get(1) {
            Some(number) => Ok(*number),
            None => failed("a process on the machine", format!("{numbers:?}")),
        }
    }
}
