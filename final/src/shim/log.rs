//! stub
use std::path::Path;

use anyhow::Result;

use super::protocol::Stream;
use crate::state::LogConfig;

pub(super) struct Log;

impl Log {
    pub(super) fn open(_path: &Path, _config: &LogConfig) -> Result<Log> {
        Ok(Log)
    }
    pub(super) fn write(&mut self, _stream: Stream, _bytes: &[u8]) {}
    pub(super) fn end(&mut self) {}
}
