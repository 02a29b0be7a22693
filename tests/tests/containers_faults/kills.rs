//! Whoever works on a container is killed at any moment.

use harness::engine::kills::{AT_ONCE, Deed, Target, kills};
use harness::engine::{Machine, Who};

use crate::Bystander;

const CREATE: Deed = Deed {
    ready: "",
    line: "create --name NAME -e VICTIM=NAME --network NET host sleep 1000",
    targets: &[Target::Client],
    again: "",
};

const START: Deed = Deed {
    ready: "create --name NAME -e VICTIM=NAME --network NET host sleep 1000",
    line: "start NAME",
    targets: &[Target::Client, Target::Shim, Target::Process],
    again: "start NAME",
};

const EXEC: Deed = Deed {
    ready: "run -d --name NAME -e VICTIM=NAME --network NET host sleep 1000",
    line: "exec NAME sh -c :;:;:",
    targets: &[Target::Client, Target::Shim, Target::Process],
    again: "",
};

const STOP: Deed = Deed {
    ready: "run -d --name NAME -e VICTIM=NAME --network NET --stop-signal KILL host sleep 1000",
    line: "stop NAME",
    targets: &[Target::Client, Target::Shim, Target::Process],
    again: "stop NAME",
};

const COMMIT: Deed = Deed {
    ready: "run -d --name NAME -e VICTIM=NAME --network NET host sh -c echo>/made;exec${IFS}sleep${IFS}1000",
    line: "commit NAME NAME",
    targets: &[Target::Client, Target::Shim, Target::Process],
    again: "",
};

const REMOVE: Deed = Deed {
    ready: "run -d --name NAME -e VICTIM=NAME --network NET host sleep 1000",
    line: "rm -f NAME",
    targets: &[Target::Client, Target::Shim, Target::Process],
    again: "",
};

/// Kills in `times` of the commands, beside a bystander.
fn kill(who: Who, deed: &Deed, times: usize) {
    let machine = &Machine::of(who);
    let bystander = Bystander::new(machine);
    kills(machine, deed, times, || bystander.lives());
    bystander.is_unharmed();
    // What commands have made of it is not what this is about.
    if deed.line.starts_with("commit") {
        machine.script("minidocker images -q | xargs -r minidocker rmi -f");
    }
    machine.nothing_left();
}

#[test]
fn a_create_whose_client_is_killed() {
    kill(Who::Root, &CREATE, 104);
    kill(Who::Student, &CREATE, AT_ONCE);
}

#[test]
fn a_start_of_which_somebody_is_killed() {
    kill(Who::Root, &START, 104);
    kill(Who::Student, &START, AT_ONCE);
}

#[test]
fn an_exec_of_which_somebody_is_killed() {
    kill(Who::Root, &EXEC, 104);
    kill(Who::Student, &EXEC, AT_ONCE);
}

#[test]
fn a_stop_of_which_somebody_is_killed() {
    kill(Who::Root, &STOP, 104);
    kill(Who::Student, &STOP, AT_ONCE);
}

#[test]
fn a_commit_of_which_somebody_is_killed() {
    kill(Who::Root, &COMMIT, 104);
    kill(Who::Student, &COMMIT, AT_ONCE);
}

#[test]
fn a_removal_of_which_somebody_is_killed() {
    kill(Who::Root, &REMOVE, 104);
    kill(Who::Student, &REMOVE, AT_ONCE);
}
