//! Faults that last: the pull ends with a sentence, and a later one, when all is well
//! again, succeeds.

use harness::Running;
use harness::registry::Hostile;

use crate::{Bystander, image, with_each_user};

/// A registry that stays as it is, and a part of what is said of it.
struct Case {
    options: Vec<String>,
    said: &'static str,
}

/// Where the large blob has `size` bytes, and the registry listens at `port`.
fn cases(size: usize, port: u16) -> Vec<Case> {
    let slow = "next to nothing, came for 2 seconds";
    let index = "manifest-type=application/vnd.oci.image.index.v1+json";
    let cases = [
        ("--fault short=20000", "disconnected"),
        ("--fault cut=0", "disconnected"),
        ("--fault hang-up", "disconnected"),
        ("--fault garbled", "should have the digest sha256:"),
        (&format!("--fault length={}", size + 1), "announces"),
        (&format!("--fault length={}", size - 1), "announces"),
        ("--fault length=99999999999999999", "announces"),
        ("--fault length=99999999999999999999999", "content-length"),
        ("--fault length=-1", "content-length"),
        ("--fault drip", slow),
        ("--fault endless-headers", slow),
        ("--fault huge-header", "header is too big"),
        ("--fault unavailable", "503"),
        ("--fault busy=0", "too many requests"),
        ("--fault busy=100000", "100000 seconds"),
        (&format!("--fault redirect={port}"), "10 redirects"),
        ("--token-uses 0", "unauthorized"),
        ("--fault huge-manifest", "more than 4194304 bytes"),
        ("--fault other-manifest", "should be sha256:"),
        (&format!("--fault {index}"), "the registry that it is"),
    ];
    let case = |(options, said): (&str, &'static str)| Case {
        options: options.split_whitespace().map(str::to_owned).collect(),
        said,
    };
    cases.into_iter().map(case).collect()
}

/// One case at work: its registry, and the pull from it.
struct Trial<'a> {
    case: Case,
    path: String,
    hostile: Hostile<'a>,
    pull: String,
    digest: String,
    running: Running,
}

#[test]
fn a_registry_that_is_no_use_is_told_of_and_forgotten() {
    with_each_user(|host, user| {
        let bystander = Bystander::new(host, user);
        let minidocker = bystander.minidocker.clone();
        let impatient = minidocker.clone().with("MINIDOCKER_REGISTRY_TIMEOUT=2");
        let mut trials = Vec::new();
        // All at once into one store: most of them wait, for another try to do better.
        let count = cases(0x100, 0).len();
        for n in 0..count {
            let path = format!("/tmp/lasting-{n}-{user:?}");
            let seed = 100 + u8::try_from(n).expect("few cases");
            let layer = image(host, &path, seed);
            let port = Hostile::next_port();
            let case = cases(layer.size, port).remove(n);
            let options: Vec<&str> = case.options.iter().map(String::as_str).collect();
            let hostile = Hostile::at(host, port, &path, &options);
            let pull = format!("pull {}:one", hostile.name("x"));
            // Whoever is slow takes time; everybody else may be late on a busy machine.
            let is_slow = case.said.starts_with("next to nothing");
            let caller = if is_slow { &impatient } else { &minidocker };
            let running = caller.spawn(&pull);
            let digest = layer.digest;
            trials.push(Trial {
                case,
                path,
                hostile,
                pull,
                digest,
                running,
            });
        }
        let mut wrong = Vec::new();
        let mut again = Vec::new();
        for trial in trials {
            let out = trial.running.wait();
            let said = out.errors();
            let last = said.lines().last().unwrap_or_default();
            let told = last.contains(trial.case.said);
            if out.code() != 1
                || !last.starts_with("minidocker: ")
                || !told
                || said.contains("panicked")
            {
                wrong.push(format!("{:?}: {out}", trial.case.options));
            }
            println!("{:?}: {last}", trial.case.options);
            again.push((trial.path, trial.hostile, trial.pull, trial.digest));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        bystander.assert_unharmed();
        for (path, hostile, pull, digest) in again {
            let port = hostile.port();
            drop(hostile);
            let healthy = Hostile::at(host, port, &path, &[]);
            minidocker.ok(&pull);
            assert_eq!(
                healthy.downloads(&digest).len(),
                1,
                "{path}: {:?}",
                healthy.seen()
            );
        }
        bystander.assert_unharmed();
    });
}
