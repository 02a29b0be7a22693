//! Blobs as they arrive in an archive or a layout: written down, hashed, and what looks like a
//! layer is unpacked at the same time. Which are layers only the manifests say, and they may come
//! last; so what cannot be unpacked matters only if somebody asks for it.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, Write};

use anyhow::Result;

use crate::archive::is_tar;
use crate::digest::Digest;
use crate::overlay::Attributes;
use crate::scratch::{Blob, Scratch, Spool};
use crate::unpacking::{Unpacked, Unpacking};

/// Layers that are unpacked side by side. Each has two threads and a few megabytes.
const AT_ONCE: usize = 3;

/// Who wants to know how far a layer has come that is read from a file: by the digest that its name
/// states, how many of its bytes are here, and of how many.
pub type Loading<'a> = &'a dyn Fn(&Digest, u64, u64);

/// What has arrived so far.
pub(crate) struct Arrivals<'a> {
    pub(crate) scratch: &'a Scratch,
    attributes: Attributes,
    /// Told of layers, but not of those that are made here.
    pub(crate) loading: Option<Loading<'a>>,
    /// By blob; the oldest first.
    working: RefCell<VecDeque<(Digest, Unpacking)>>,
    unpacked: RefCell<HashMap<Digest, Result<Unpacked>>>,
}

impl<'a> Arrivals<'a> {
    pub(crate) fn new(scratch: &'a Scratch, attributes: Attributes) -> Self {
        Self {
            scratch,
            attributes,
            loading: None,
            working: RefCell::default(),
            unpacked: RefCell::default(),
        }
    }

    /// Prepares for the next blob, from a file of that name and size.
    pub(crate) fn next(&self, name: &[u8], size: u64) -> Result<Arrival<'_>> {
        Ok(Arrival {
            arrivals: self,
            called: called(name),
            done: 0,
            size,
            start: Vec::with_capacity(START),
            looked: false,
            spool: self.scratch.spool()?,
            unpacking: None,
        })
    }

    /// Writes down all that a file of that name and size holds.
    pub(crate) fn keep(&self, from: &mut impl BufRead, name: &[u8], size: u64) -> Result<Blob> {
        let mut arrival = self.next(name, size)?;
        loop {
            let bytes = from.fill_buf()?;
            if bytes.is_empty() {
                return arrival.finish();
            }
            arrival.write(bytes)?;
            let count = bytes.len();
            from.consume(count);
        }
    }

    /// The layer that was unpacked from a blob, if it looked like one.
    pub(crate) fn take(&self, blob: &Digest) -> Option<Result<Unpacked>> {
        while !self.unpacked.borrow().contains_key(blob) && self.wait() {}
        self.unpacked.borrow_mut().remove(blob)
    }

    /// Takes back a layer that was only looked at.
    pub(crate) fn give_back(&self, blob: Digest, unpacked: Unpacked) {
        self.unpacked.borrow_mut().insert(blob, Ok(unpacked));
    }

    /// Waits for the oldest layer in work; false where there is none.
    fn wait(&self) -> bool {
        let oldest = self.working.borrow_mut().pop_front();
        let Some((blob, unpacking)) = oldest else {
            return false;
        };
        let unpacked = unpacking.finish(&|_| ());
        self.unpacked.borrow_mut().insert(blob, unpacked);
        true
    }
}

/// By so many bytes an archive is recognized: its first header.
const START: usize = 512;

/// A blob that is arriving.
pub(crate) struct Arrival<'a> {
    arrivals: &'a Arrivals<'a>,
    called: Option<Digest>,
    done: u64,
    size: u64,
    start: Vec<u8>,
    looked: bool,
    spool: Spool,
    unpacking: Option<Unpacking>,
}

impl Arrival<'_> {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// The disk is full.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.spool.write_all(bytes)?;
        self.done += bytes.len() as u64;
        if self.looked {
            if let Some(unpacking) = &mut self.unpacking {
                unpacking.write(bytes);
            }
        } else {
            self.start.extend_from_slice(bytes);
            if self.start.len() >= START {
                self.look()?;
            }
        }
        self.tell();
        Ok(())
    }

    /// Only of what looks like a layer.
    fn tell(&self) {
        if self.unpacking.is_some()
            && let (Some(loading), Some(called)) = (self.arrivals.loading, &self.called)
        {
            loading(called, self.done, self.size);
        }
    }

    /// Decides whether it is to be unpacked.
    fn look(&mut self) -> Result<()> {
        self.looked = true;
        if is_tar(&self.start) {
            if self.arrivals.working.borrow().len() == AT_ONCE {
                self.arrivals.wait();
            }
            let Arrivals {
                scratch,
                attributes,
                ..
            } = self.arrivals;
            let mut unpacking = Unpacking::begin(scratch.path(), *attributes)?;
            unpacking.write(&self.start);
            self.unpacking = Some(unpacking);
        }
        self.start = Vec::new();
        Ok(())
    }

    /// That was all of it.
    pub(crate) fn finish(mut self) -> Result<Blob> {
        if !self.looked {
            self.look()?;
            self.tell();
        }
        let blob = self.spool.finish();
        if let Some(unpacking) = self.unpacking {
            let mut working = self.arrivals.working.borrow_mut();
            working.push_back((blob.digest, unpacking));
        }
        Ok(blob)
    }
}

/// The digest in a file's name: `blobs/sha256/HEX`, `HEX.tar`, or the `HEX/layer.tar` of old `docker
/// save`, whose digest is of something else.
fn called(name: &[u8]) -> Option<Digest> {
    let name = std::str::from_utf8(name).ok()?;
    let stem = |part: &str| Digest::from_hex(part.split('.').next()?).ok();
    name.split('/').find_map(stem)
}
