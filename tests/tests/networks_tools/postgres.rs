//! A database that is killed again and again.

use std::collections::BTreeSet;

use harness::engine::{Machine, shell};
use harness::wait_for;

use crate::online;

/// PostgreSQL as its own user, in a volume that has its owner from the image.
const SERVER: &str = "
    export PATH=$PATH:/usr/lib/postgresql/15/bin
    cd /var/lib/postgresql
    if [ ! -e data ]; then
        initdb -A trust -D new
        echo 'host all all all trust' >>new/pg_hba.conf
        sync
        mv new data
    fi
    exec postgres -D data -c listen_addresses=* -c unix_socket_directories= -c shared_buffers=16MB";

/// Commits row after row, and says of each that it was told so. A connection lasts as long as the server.
const CLIENT: &str = "
    export PGHOST=db PGUSER=postgres PGCONNECT_TIMEOUT=2
    until psql -qc 'create table rows (round int, n int)'; do sleep 0.1; done
    round=0
    while round=$((round + 1)); do
        seq 2000 | sed \"s/.*/insert into rows values ($round, &) returning round, n;/\" | psql -qAt
        sleep 0.05
    done";

/// Starts the server, as a new container with the old one's name.
#[track_caller]
fn serve(machine: &Machine) {
    let words =
        "run -d --name db --network back --user postgres -v rows:/var/lib/postgresql services";
    machine.ok(&shell(words, SERVER));
}

/// The rows that the client knows to be committed.
fn acknowledged(machine: &Machine) -> BTreeSet<String> {
    let log = machine.container("client").log();
    let is_row = |line: &&str| {
        line.split_once('|')
            .is_some_and(|(round, _)| round.parse::<u32>().is_ok())
    };
    log.lines().filter(is_row).map(str::to_owned).collect()
}

#[test]
fn no_committed_row_is_lost_when_the_server_is_killed_ten_times() {
    let machine = online();
    machine.ok("network create back");
    serve(&machine);
    machine.ok(&shell(
        "run -d --name client --network back services",
        CLIENT,
    ));
    for round in 0.. {
        let before = acknowledged(&machine).len();
        wait_for("rows to be committed", 60, || {
            (acknowledged(&machine).len() > before + 100).then_some(())
        });
        let db = machine.container("db");
        match round {
            10 => break,
            // With its shim goes the server: there are never two on one volume.
            5 => {
                let (shim, init) = (db.shim().expect("a shim"), db.init().pid);
                machine.host().shell(&format!("kill -9 {shim}"));
                machine.ok("rm -f db");
                assert!(db.process(init).is_none(), "the server has outlived it");
            }
            _ => {
                machine.ok("kill -s KILL db");
                machine.ok("rm -f db");
            }
        }
        serve(&machine);
    }
    machine.ok("kill client");
    machine.ok("wait client");
    let noted = acknowledged(&machine);
    let query = "select round || '|' || n from rows";
    let rows = machine.ok(&["exec", "db", "psql", "-hlocalhost", "-qAtc", query]);
    let rows: BTreeSet<String> = rows.lines().map(str::to_owned).collect();
    let lost: Vec<&String> = noted.difference(&rows).collect();
    assert!(
        lost.is_empty(),
        "of {} rows are lost: {lost:?}",
        noted.len()
    );
    machine.ok("rm -f db client");
    machine.ok("volume rm rows");
    machine.ok("network rm back");
    machine.nothing_left();
}
