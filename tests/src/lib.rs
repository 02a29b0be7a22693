//! What the black-box suites stand on.
//!
//! A test makes a [`Host`], a private machine of namespaces, runs programs on
//! it as root, as the user `student` or from [the outside](Host::outside), looks
//! at the kernel, and compares [`Snapshot`]s taken before and after. Nothing is
//! shared between tests, so they run side by side, and nothing of the real
//! machine is touched.
//!
//! The suites grade programs, not libraries: `STEP04=/path/to/binary` puts
//! anybody's program in the place of the workspace's own, and so does
//! `MINIRUNC=/usr/bin/crun` for the runtime, and `MINIDOCKER=…` for the engine.

pub mod bench;
mod bundle;
mod busybox;
mod c;
mod command;
mod dockerd;
pub mod engine;
mod host;
mod quantile;
pub mod registry;
mod snapshot;
mod step;
pub mod strace;
mod terminal;
mod tree;

pub use bundle::Bundle;
pub use busybox::busybox;
pub use c::compile_c;
pub use command::{Output, Running, inner};
pub use dockerd::Dockerd;
pub use host::{Host, Setup, User};
pub use quantile::quantile;
pub use snapshot::{Snapshot, assert_same};
pub use step::{Explained, build_dir, explained, lab, made, step};
pub use terminal::Terminal;
pub use tree::{assert_same_tree, tree};

/// Whether this is the virtual machine of `cargo lab vm`, where cgroup
/// controllers are at hand.
pub fn in_the_vm() -> bool {
    std::env::var_os("MINIDOCKER_VM").is_some()
}

/// Tries `look` until it gives something, for at most `seconds`.
///
/// # Panics
/// With `what`, when the time is over.
pub fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            std::time::Instant::now() < end,
            "waited {seconds} s in vain for {what}"
        );
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
