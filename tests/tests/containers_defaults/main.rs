//! What docker gives to every container and keeps from it, and the options that change that: seen
//! from inside, with what the kernel says.

mod files;
mod init;
mod namespaces;
mod privileges;
mod runtimes;

use harness::engine::{Machine, Wanted, Who, for_each};

/// A machine that has an image with users and groups, too.
fn with_debian(who: Who) -> Machine {
    Machine::with(Wanted {
        who,
        debian: true,
        ..Wanted::default()
    })
}

/// The words of `run` for a script in a container of `image` that is gone afterwards.
fn words<'a>(options: &'a str, image: &'a str, script: &'a str) -> Vec<&'a str> {
    let mut words = vec!["run", "--rm", "--network", "none"];
    words.extend(options.split_whitespace());
    words.extend([image, "sh", "-c", script]);
    words
}

/// What such a script prints.
#[track_caller]
fn inside(machine: &Machine, options: &str, script: &str) -> String {
    machine.ok(&words(options, "host", script))
}

/// How it fails before the script has begun.
#[track_caller]
fn refused(machine: &Machine, options: &str) -> String {
    machine.fails(125, &words(options, "host", "echo began"))
}
