//! Two engines on one machine.

use std::sync::Mutex;

use harness::engine::{Machine, Wanted};
use harness::{Dockerd, Output, busybox, made};

/// How two outcomes are held against each other. The exit statuses have to be the same anyway.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// Both print the same, but for ids and times, and have nothing to complain of.
    Same,
    /// Both complain, and use these words.
    Says(&'static str),
    /// The same, but a mistake in an option's value is one of usage (125) with us.
    Usage(&'static str),
    /// What is printed is each one's own affair.
    Status,
}

/// What `docker` and `minidocker` did.
pub struct Outcomes {
    pub line: String,
    pub docker: Output,
    pub minidocker: Output,
}

/// docker and minidocker, each with the image busybox, and what was found to be different.
pub struct Pair {
    pub machine: Machine,
    differences: Mutex<Vec<String>>,
}

impl Pair {
    pub fn new() -> Pair {
        let machine = Machine::with(Wanted {
            shown: vec![(made("clients"), "clients".to_owned())],
            ..Wanted::default()
        });
        let host = machine.host();
        host.shell("for dir in /root /opt; do mount -t tmpfs -o mode=755 tmpfs $dir; done");
        busybox(host);
        machine.ok("load -q -i /tmp/busybox.tar");
        Pair {
            machine,
            differences: Mutex::default(),
        }
    }

    /// Starts docker for as long as `work` takes.
    pub fn with_docker<T>(&self, work: impl FnOnce() -> T) -> T {
        let docker = Dockerd::start(self.machine.host(), "/run/docker/data", "");
        docker.call("load -q -i /tmp/busybox.tar").ok();
        let done = work();
        docker.stop();
        done
    }

    /// Does the same with both at the same time, and answers what came of each line.
    pub fn run<'l>(&self, lines: impl IntoIterator<Item = &'l str>) -> Vec<Outcomes> {
        let lines: Vec<&str> = lines.into_iter().collect();
        let of = |name: &'static str| -> Vec<Output> {
            let call = |line: &&str| self.call(name, line);
            lines.iter().map(call).collect()
        };
        let (docker, minidocker) = std::thread::scope(|scope| {
            let docker = scope.spawn(|| of("docker"));
            let minidocker = of("minidocker");
            let docker = docker
                .join()
                .unwrap_or_else(|e| std::panic::resume_unwind(e));
            (docker, minidocker)
        });
        let all = lines.iter().zip(docker).zip(minidocker);
        all.map(|((line, docker), minidocker)| Outcomes {
            line: (*line).to_owned(),
            docker,
            minidocker,
        })
        .collect()
    }

    /// Runs a line of shell after a program's name; in it, `SELF` is that name.
    pub fn call(&self, name: &str, line: &str) -> Output {
        let script = format!("{name} {}", line.replace("SELF", name));
        self.machine.host().run(["sh", "-c", &script])
    }

    /// Does the same with both, and notes every difference.
    pub fn compare(&self, lines: &[(&str, Look)]) {
        self.with_docker(|| {
            let outcomes = self.run(lines.iter().map(|(line, _)| *line));
            for (outcome, (_, look)) in outcomes.iter().zip(lines) {
                self.judge(outcome, *look);
            }
        });
    }

    /// Notes how two outcomes differ.
    pub fn judge(&self, outcome: &Outcomes, look: Look) {
        let Outcomes {
            line,
            docker,
            minidocker,
        } = outcome;
        let expected = match look {
            Look::Usage(_) => 125,
            _ => docker.code(),
        };
        let complaint = if minidocker.code() != expected {
            Some("ends otherwise")
        } else {
            match look {
                Look::Status => None,
                Look::Same if plain(&docker.text()) != plain(&minidocker.text()) => {
                    Some("prints something else")
                }
                Look::Same => (docker.errors().is_empty() != minidocker.errors().is_empty())
                    .then_some("complains otherwise"),
                Look::Says(words) | Look::Usage(words) => {
                    let says = |out: &Output| out.errors().to_lowercase().contains(words);
                    (!says(docker) || !says(minidocker)).then_some("has other words")
                }
            }
        };
        if let Some(complaint) = complaint {
            self.note(format!("`{line}` {complaint}\n{docker}\n{minidocker}"));
        }
    }

    /// Notes a difference.
    pub fn note(&self, difference: String) {
        if let Ok(mut all) = self.differences.lock() {
            all.push(difference);
        }
    }

    /// Tells of all differences.
    #[track_caller]
    pub fn end(self) {
        let all = self.differences.into_inner().unwrap_or_default();
        assert!(
            all.is_empty(),
            "{} differences\n{}",
            all.len(),
            all.join("\n\n")
        );
    }
}

/// The text without ids, times, and how long ago something was.
pub fn plain(text: &str) -> String {
    text.lines()
        .map(|line| {
            let words = line.split_inclusive(' ').map(|word| {
                let bare = word.trim();
                let is_id = bare.len() >= 12 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
                let is_time = bare.len() > 20 && bare.ends_with('Z') && bare.contains('T');
                if is_id {
                    word.replace(bare, "ID")
                } else if is_time {
                    word.replace(bare, "TIME")
                } else {
                    word.to_owned()
                }
            });
            ago(words.collect::<String>().trim_end())
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// `Up 3 seconds` and `Up Less than a second` as the same.
fn ago(line: &str) -> String {
    let mut line = line.to_owned();
    for n in (1..60).rev() {
        for unit in ["second", "minute"] {
            let ending = if n == 1 { "" } else { "s" };
            line = line.replace(&format!(" {n} {unit}{ending}"), " MOMENT");
            line = line.replace(&format!("\t{n} {unit}{ending}"), "\tMOMENT");
        }
    }
    line.replace("Less than a second", "MOMENT")
        .replace("About a minute", "MOMENT")
}
