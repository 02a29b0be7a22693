//! What goes through: bytes and calls, from a container, from the outside and from the host itself.

use crate::wire::PORT;
use anyhow::{Context, Result};
use harness::bench::Goal;
use harness::bench::subjects::{OURS, Subject};
use harness::engine::Machine;
use harness::{Running, quantile};

/// Where the calls come from.
#[derive(Clone, Copy)]
enum From {
    Container,
    Outside,
    Host,
}

const WAYS: [(From, &str); 3] = [
    (From::Container, "container to container"),
    (From::Outside, "from outside through a published port"),
    (From::Host, "from the host, 127.0.0.1"),
];

/// Somebody's two containers, of which one answers.
struct Ends<'a> {
    machine: &'a Machine,
    name: &'static str,
    caller: String,
    address: String,
    /// The port of the host.
    port: usize,
    /// Who answers.
    _server: Running,
}

impl<'a> Ends<'a> {
    fn new(machine: &'a Machine, subject: &Subject<'_>, port: usize) -> Result<Ends<'a>> {
        let inspect = |name: &str, field: &str| {
            let out = subject.shell(&format!("$do inspect --format '{{{{.{field}}}}}' {name}"));
            out.ok()
        };
        subject.time(&format!(
            "$do run -d --name server -p {port}:{PORT} busybox sleep 1000"
        ))?;
        subject.time("$do run -d --name caller busybox sleep 1000")?;
        let pid = inspect("server", "State.Pid");
        let mut server = machine
            .host()
            .spawn(["nsenter", "-n", "-t", &pid, "wire", "serve"]);
        server.expect("listening");
        Ok(Ends {
            machine,
            name: subject.name,
            caller: inspect("caller", "State.Pid"),
            address: inspect("server", "NetworkSettings.IPAddress"),
            port,
            _server: server,
        })
    }

    /// What comes through by one of the ways, in a second.
    fn measure(&self, from: From, what: &str) -> Result<f64> {
        let host = self.machine.host();
        let (here, there) = (
            format!("127.0.0.1:{}", self.port),
            format!("192.0.2.1:{}", self.port),
        );
        let out = match from {
            From::Container => {
                let address = format!("{}:{PORT}", self.address);
                host.run(["nsenter", "-n", "-t", &self.caller, "wire", what, &address])
            }
            From::Outside => host.outside(["wire", what, &there]),
            From::Host => host.run(["wire", what, &here]),
        };
        let told = out.ok();
        told.parse()
            .with_context(|| format!("{}: {told}", self.name))
    }
}

/// Lets everybody's containers talk in turn.
pub fn measure(machine: &Machine, subjects: &[Subject<'_>], rounds: usize) -> Result<Vec<Goal>> {
    let ends = subjects.iter().enumerate();
    let ends = ends.map(|(n, subject)| Ends::new(machine, subject, 8080 + n));
    let ends: Vec<Ends<'_>> = ends.collect::<Result<_>>()?;
    let mut goals = Vec::new();
    for (what, unit, scale) in [("send", "Gbit/s", 8e-9), ("call", "calls/s", 1.0)] {
        for (from, way) in WAYS {
            println!("\n{way}, {rounds} rounds: {unit} (p10 to p90), ours to theirs");
            let mut all: Vec<Vec<f64>> = vec![Vec::new(); ends.len()];
            for round in 0..rounds {
                // Who goes first changes, in case it matters.
                for nth in 0..ends.len() {
                    let nth = (nth + round) % ends.len();
                    all[nth].push(ends[nth].measure(from, what)? * scale);
                }
            }
            goals.extend(tell(&ends, &all, &format!("{unit} {way}")));
        }
    }
    for subject in subjects {
        subject.shell("$do rm -f server caller");
    }
    Ok(goals)
}

fn tell(ends: &[Ends<'_>], all: &[Vec<f64>], what: &str) -> Vec<Goal> {
    let mut goals = Vec::new();
    let ours = ends.iter().zip(all).find(|(end, _)| end.name == OURS);
    for (end, theirs) in ends.iter().zip(all) {
        let [low, middle, high] = [0.1, 0.5, 0.9].map(|part| quantile(theirs, part));
        let mut line = format!("  {:<12} {middle:>9.1} ({low:.1} to {high:.1})", end.name);
        if let Some((_, ours)) = ours.filter(|_| end.name != OURS) {
            let ratios = ours.iter().zip(theirs).map(|(our, their)| our / their);
            let ratio = quantile(&ratios.collect::<Vec<_>>(), 0.5);
            line += &format!("  {ratio:.2}");
            // As much as theirs: no two measurements are the same.
            let what = format!("{what}, {} / {OURS}", end.name);
            goals.push(Goal::new(what, 1.0 / ratio, 1.05));
        }
        println!("{line}");
    }
    goals
}
