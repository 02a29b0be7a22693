//! Whoever works on a container's networks is killed at any moment.

use harness::engine::kills::{AT_ONCE, Deed, Target, kills};

use crate::{Bystander, assert_addresses, online};

const CONNECT: Deed = Deed {
    ready: "run -d --name NAME -e VICTIM=NAME --network red host sleep 1000",
    line: "network connect green NAME",
    targets: &[Target::Client, Target::Shim],
    again: "network connect green NAME",
};

const DISCONNECT: Deed = Deed {
    ready: "run -d --name NAME -e VICTIM=NAME --network red --network green host sleep 1000",
    line: "network disconnect green NAME",
    targets: &[Target::Client, Target::Shim],
    again: "network disconnect green NAME",
};

const RUN: Deed = Deed {
    ready: "",
    line: "run -d --name NAME -e VICTIM=NAME --network red -p 80 host sleep 1000",
    targets: &[Target::Client, Target::Shim],
    again: "start NAME",
};

const REMOVE: Deed = Deed {
    ready: "run -d --name NAME -e VICTIM=NAME --network red -p 80 host sleep 1000",
    line: "rm -f NAME",
    targets: &[Target::Client, Target::Shim],
    again: "",
};

/// Kills the client and the shim of a command, at fifty moments each.
fn kill(deed: &Deed) {
    let machine = online();
    // Who answers for names in these networks is a process of the bystander's, and not of a victim's.
    let bystander = Bystander::new(&machine);
    kills(&machine, deed, 100_usize.next_multiple_of(AT_ONCE), || {
        assert_addresses(&machine);
        bystander.is_unharmed();
    });
    bystander.leaves();
}

#[test]
fn a_connect_of_which_somebody_is_killed() {
    kill(&CONNECT);
}

#[test]
fn a_disconnect_of_which_somebody_is_killed() {
    kill(&DISCONNECT);
}

#[test]
fn a_run_of_which_somebody_is_killed() {
    kill(&RUN);
}

#[test]
fn a_removal_of_which_somebody_is_killed() {
    kill(&REMOVE);
}
