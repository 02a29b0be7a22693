//! Step 1: a process that sees a machine of its own.

use super::trial::namespace;
use super::{Check, Found, Step, Trial, ensure, failed, same};

pub const STEP: Step = Step {
    number: 1,
    title: "a process that sees a machine of its own",
    checks: &[
        Check {
            id: "six-namespaces",
            task: Some("01.1"),
            points: 14,
            title: "six namespaces are the container's own",
            hint: "clone(2) and namespaces(7) list the flags; compare /proc/PID/ns",
            needs: &[],
            run: six_namespaces,
        },
        Check {
            id: "hostname",
            task: Some("01.4"),
            points: 8,
            title: "--hostname names the container, not the machine",
            hint: "sethostname(2) changes the name of the uts namespace that one is in",
            needs: &[],
            run: hostname,
        },
    ],
};

/// From outside, where nothing inside can pretend.
fn six_namespaces(t: &Trial) -> Found {
    let (_running, pid) = t.container(&[]).asleep()?;
    for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        let (inside, outside) = (namespace(pid, kind)?, namespace(t.first(), kind)?);
        ensure(
            inside != outside,
            format!("another {kind} namespace than the machine's {outside}"),
            format!("{inside} for the container's command, the same"),
        )?;
    }
    Ok(())
}

/// The name comes back, and the machine keeps its own.
fn hostname(t: &Trial) -> Found {
    let name = t.word();
    t.run(&["--hostname", &name], &["hostname"])?
        .prints(&name)?;
    same(
        "the machine's own hostname",
        "laptop",
        &t.machine("hostname")?,
    )
}
