//! Step 2: files of its own.

use super::{Check, Found, Step, Trial, failed};

pub const STEP: Step = Step {
    number: 2,
    title: "files of its own",
    checks: &[Check {
        id: "rootfs",
        task: Some("02.2"),
        points: 10,
        title: "--rootfs DIR is the container's root",
        hint: "pivot_root(2): the new root must be a mount point",
        needs: &[super::Need::RootfsOption],
        run: rootfs,
    }],
};

fn rootfs(t: &Trial) -> Found {
    let (dir, secret) = (format!("/tmp/{}", t.word()), t.word());
    t.root_file_system(&dir)?;
    t.machine(&format!("echo {secret} >{dir}/etc/marker"))?;
    let run = t.run(&["--rootfs", &dir], &["cat", "/etc/marker"])?;
    run.prints(&secret)?;
    Ok(())
}
