//! What lies ready for the book and is shown nowhere.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Fault, Sources};

/// The sessions, pictures and patches that no page shows.
pub fn check(sources: &Sources) -> Vec<Fault> {
    let mut places = vec![
        (PathBuf::from("book/sessions"), "console"),
        (PathBuf::from("book/pictures"), "svg"),
    ];
    let steps = names(&sources.root.join("steps"));
    let steps = steps.iter().map(|step| Path::new("steps").join(step));
    for package in steps.chain([PathBuf::from("final")]) {
        places.push((package.join("sessions"), "console"));
        places.push((package.join("breaks"), "patch"));
    }
    let mut faults = Vec::new();
    for (dir, kind) in places {
        for name in names(&sources.root.join(&dir)) {
            let path = dir.join(name);
            let file = path.to_string_lossy().into_owned();
            let wanted = path.extension().is_some_and(|extension| extension == kind);
            if wanted && !sources.shown.borrow().contains(&file) {
                faults.push(Fault {
                    file,
                    line: 0,
                    message: "no page shows this file".to_owned(),
                });
            }
        }
    }
    faults
}

/// What is in a directory; nothing, where there is none.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
