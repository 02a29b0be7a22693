//! Docker beside minidocker: the same commands with Debian's docker and with ours, on one machine,
//! and what they print, keep and end with held against each other.
//!
//! Debian's docker is of version 20.10. Where later ones say something else, a check is for what all
//! of them say.

mod inspection;
mod leaving;
mod networks;
mod pair;
mod tables;
mod things;
mod volumes;

use pair::Pair;

/// A script at both at the same time; then all differences.
fn both(lines: &[(&str, pair::Look)]) {
    let pair = Pair::new();
    pair.compare(lines);
    pair.end();
}

#[test]
fn each_command_ends_as_dockers_does() {
    both(&tables::MOVES);
    // Which have no state in common, but a machine.
    both(&tables::RUNS);
}

#[test]
fn lists_have_dockers_columns_and_words() {
    both(&tables::LISTS);
}

#[test]
fn networks_are_made_and_connected_as_dockers() {
    let lines = networks::lines();
    let lines: Vec<_> = lines
        .iter()
        .map(|(line, look)| (line.as_str(), *look))
        .collect();
    both(&lines);
}

#[test]
fn an_inspection_has_dockers_keys_and_values() {
    let pair = Pair::new();
    inspection::compare(&pair);
    pair.end();
}

#[test]
fn who_leaves_by_the_keys_hears_what_docker_says() {
    let pair = Pair::new();
    leaving::compare(&pair);
    pair.end();
}

#[test]
fn volumes_are_dockers() {
    both(&volumes::LINES);
    both(&volumes::REFUSED);
}

#[test]
fn files_logs_ports_and_events_are_dockers() {
    let pair = Pair::new();
    things::compare(&pair);
    pair.end();
}
