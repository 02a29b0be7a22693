//! The programs that carry the packets of those who are not root, and who they could reach.

use super::Machine;
use crate::command::Running;
use crate::wait_for;

/// The programs that carry packets; the first is another name of the second.
const CARRIERS: [&str; 3] = ["pasta", "passt", "slirp4netns"];

/// Hides those that carry packets, but for one.
#[track_caller]
pub fn hide_all_but(machine: &Machine, carrier: Option<&str>) {
    let hidden = match carrier {
        Some("pasta") => &CARRIERS[2..],
        Some(_) => &CARRIERS[..2],
        None => &CARRIERS[..],
    };
    for program in hidden {
        machine.host().shell(&format!(
            "mount --bind /dev/null $(readlink -f /usr/bin/{program})"
        ));
    }
}

/// A carrier that fails for all shims of a machine, each of which sees files of its own, until this is
/// dropped.
pub struct Lame<'a> {
    machine: &'a Machine,
    place: String,
    shims: Vec<i32>,
}

impl<'a> Lame<'a> {
    /// The one of that name.
    #[track_caller]
    pub fn all(machine: &'a Machine, carrier: &str) -> Lame<'a> {
        let place = format!("$(readlink -f /usr/bin/{carrier})");
        let shims = machine.shims().into_iter().map(|(pid, _)| pid);
        let lame = Lame {
            machine,
            place,
            shims: shims.collect(),
        };
        lame.in_each("mount --bind /bin/false");
        lame
    }

    #[track_caller]
    fn in_each(&self, command: &str) {
        for shim in &self.shims {
            let line = format!("nsenter -t {shim} -m {command} {}", self.place);
            self.machine.host().shell(&line);
        }
    }
}

impl Drop for Lame<'_> {
    fn drop(&mut self) {
        self.in_each("umount");
    }
}

/// Shows them again, and looks at what is left.
#[track_caller]
pub fn nothing_left(machine: &Machine) {
    machine.host().shell(
        "for program in pasta passt slirp4netns; do \
         while umount $(readlink -f /usr/bin/$program) 2>/dev/null; do :; done; done; rm -rf /tmp/www",
    );
    machine.nothing_left();
}

/// A server outside, at 192.0.2.2:7000.
#[track_caller]
pub fn server_outside(machine: &Machine) -> Running {
    let host = machine.host();
    host.shell("mkdir -p /tmp/www; echo from-outside >/tmp/www/index.html");
    let words = ["busybox", "httpd", "-f", "-p", "7000", "-h", "/tmp/www"];
    let running = host.spawn_outside(words);
    wait_for("the server outside", 60, || {
        let listening = host.outside(["ss", "-Hltn", "sport = 7000"]).text();
        (!listening.is_empty()).then_some(())
    });
    running
}

/// Those that run, and their parents.
pub fn carriers(machine: &Machine) -> Vec<(i32, i32)> {
    let all = machine.processes().into_iter();
    // pasta goes by the name of the program that fits the processor: passt.avx2.
    let is_carrier = |name: &str| CARRIERS.iter().any(|program| name.starts_with(program));
    all.filter(|one| is_carrier(&one.name))
        .map(|one| (one.pid, one.parent))
        .collect()
}
