//! Bundles as others write them, and the runtime alone.

use harness::{Host, Setup, User};

use crate::checks::{Checks, assert_nothing_left};
use crate::machine;

/// Runs `script` as `user` in the bundle `dir`, with a command in place of its shell.
fn run_in(host: &Host, user: User, dir: &str, script: &str) -> harness::Output {
    let words = format!(
        "cd {dir} && jq --arg script '{script}' \
         '.process.terminal = false | .process.args = [\"sh\", \"-c\", $script]' config.json >next &&
         mv next config.json && exec minirunc run bundle"
    );
    host.run_as(user, ["sh", "-c", &words])
}

#[test]
fn bundles_of_others_run() {
    let host = machine(Setup {
        delegated: true,
        ..Setup::default()
    });
    let before = host.snapshot();
    let mut checks = Checks::default();
    for (user, option) in [(User::Root, ""), (User::Student, "--rootless")] {
        checks.check(&format!("runc spec {option}"), || {
            runc_spec(&host, user, option);
        });
        checks.check(&format!("umoci unpack {option}"), || {
            umoci_unpack(&host, user, option);
        });
    }
    checks.check("nothing is left", || {
        let places = ["/run/minirunc", "/run/user/1000/minirunc"];
        assert_nothing_left(&host, &before, &[], &places);
    });
    checks.tell("nobody but the runtime");
}

fn runc_spec(host: &Host, user: User, option: &str) {
    let dir = format!("/tmp/spec{option}");
    let words =
        format!("mkdir {dir} && cd {dir} && cp -a /tmp/image/root rootfs && runc spec {option}");
    host.run_as(user, ["sh", "-euc", &words]).ok();
    let out = run_in(
        host,
        user,
        &dir,
        "id -u; hostname; cat /proc/1/comm; touch /x || exit 7",
    );
    out.exits(7);
    assert_eq!(out.text(), "0\nrunc\nsh");
    // The bundle as it was written, which wants a terminal.
    let words = format!(
        "cd {dir} && runc spec --bundle . {option} 2>/dev/null; rm config.json; runc spec {option}; exec minirunc run typed"
    );
    let mut terminal = host.terminal(user, ["sh", "-c", &words]);
    terminal.expect("# ");
    terminal.send("tty\n");
    terminal.expect("/dev/pts/0");
    terminal.send("exit 5\n");
    assert_eq!(terminal.wait(), 5);
}

fn umoci_unpack(host: &Host, user: User, option: &str) {
    let dir = format!("/tmp/umoci{option}");
    let words = format!(
        "mkdir {dir} && cd {dir} && umoci init --layout layout && umoci new --image layout:one && \
         umoci raw add-layer --image layout:one /tmp/image/saved/layer.tar && \
         umoci config --image layout:one --config.env A=b --config.workingdir /etc && \
         umoci unpack {option} --image layout:one bundle"
    );
    host.run_as(user, ["sh", "-euc", &words]).ok();
    let out = run_in(
        host,
        user,
        &format!("{dir}/bundle"),
        "id -u; echo $A; pwd; touch /x && exit 6",
    );
    out.exits(6);
    assert_eq!(out.text(), "0\nb\n/etc");
}
