//! Stand-in until the engine has it.

/// How far one blob of a pull or a push has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    PullingFsLayer,
    Waiting,
    Retrying { seconds: u64 },
    Downloading { done: u64, total: u64 },
    DownloadComplete,
    Extracting { done: u64, total: u64 },
    PullComplete,
    AlreadyExists,
    Preparing,
    Pushing { done: u64, total: u64 },
    Pushed,
    LayerExists,
    MountedFrom(String),
}
