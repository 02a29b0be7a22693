//! Many checks against one client, which takes longer to start than any of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use harness::{Host, Snapshot};

/// Makes every check, and in the end tells of all that failed.
#[derive(Default)]
pub struct Checks {
    made: usize,
    failed: Vec<String>,
}

impl Checks {
    pub fn check(&mut self, name: &str, check: impl FnOnce()) {
        self.made += 1;
        let start = Instant::now();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
            let why = panic.downcast_ref::<String>().map(String::as_str);
            let why = why.or_else(|| panic.downcast_ref::<&str>().copied());
            let why = why.unwrap_or("it panicked");
            self.failed.push(format!("== {name}\n{why}"));
        }
        println!("{:5.1} s  {name}", start.elapsed().as_secs_f64());
    }

    /// # Panics
    /// When a check failed, with what each complained of.
    #[track_caller]
    pub fn tell(self, client: &str) {
        assert!(
            self.failed.is_empty(),
            "{} of {} checks failed under {client}:\n{}",
            self.failed.len(),
            self.made,
            self.failed.join("\n")
        );
    }
}

/// Holds a machine against what it was: its processes, its mounts, its cgroups
/// but for those that the client keeps for the next container, and what the
/// runtime wrote down in `places`.
pub fn assert_nothing_left(host: &Host, before: &Snapshot, kept: &[&str], places: &[&str]) {
    let matters = |change: &String| {
        ["processes: ", "mounts: ", "cgroups: ", "netns: "]
            .iter()
            .any(|part| change.starts_with(part))
            && !kept
                .iter()
                .any(|kept| change.ends_with(kept) || change.contains(&format!("{kept} ")))
    };
    // podman clears up in the background.
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let mut left = before.changes(&host.snapshot());
        left.retain(matters);
        if left.is_empty() {
            break;
        }
        assert!(
            Instant::now() < end,
            "the machine is not as it was: {left:#?}"
        );
    }
    for place in places {
        let states = host.shell(&format!("find {place} -mindepth 1 2>/dev/null || true"));
        assert_eq!(states, "", "the runtime left this behind");
    }
}
