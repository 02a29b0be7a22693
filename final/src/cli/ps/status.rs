//! The column STATUS: `Up 3 minutes (Paused)`.

use jiff::Timestamp;
use minidocker::state::{Life, Status};

use crate::time::age;

/// Docker's words for where a container is in its life.
pub(crate) fn shown(life: &Life, now: Timestamp) -> String {
    let code = life.exit_code;
    let since = |then: Option<Timestamp>| then.map(|then| age(then, now)).unwrap_or_default();
    match life.status {
        Status::Running => format!("Up {}", since(life.started)),
        Status::Paused => format!("Up {} (Paused)", since(life.started)),
        Status::Restarting => format!("Restarting ({code}) {} ago", since(life.finished)),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Created => "Created".to_owned(),
        Status::Exited => format!("Exited ({code}) {} ago", since(life.finished)),
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_status_is_told_in_dockers_words() {
        let now: Timestamp = "2024-01-31T10:00:00Z".parse().unwrap();
        let minutes = |minutes| Some(now - SignedDuration::from_mins(minutes));
        let mut life = Life {
            exit_code: 3,
            started: minutes(5),
            finished: minutes(2),
            ..Life::default()
        };
        for (status, expected) in [
            (Status::Created, "Created"),
            (Status::Running, "Up 5 minutes"),
            (Status::Paused, "Up 5 minutes (Paused)"),
            (Status::Restarting, "Restarting (3) 2 minutes ago"),
            (Status::Removing, "Removal In Progress"),
            (Status::Exited, "Exited (3) 2 minutes ago"),
            (Status::Dead, "Dead"),
        ] {
            life.status = status;
            assert_eq!(shown(&life, now), expected);
        }
        // The clock was set back.
        life.started = minutes(-5);
        life.status = Status::Running;
        assert_eq!(shown(&life, now), "Up Less than a second");
    }
}
