//! A connection that gives up on a peer who does not keep up.
//!
//! A time limit for a whole body is of no use where bodies are of any size. What is limited is the
//! time that is spent waiting for each KiB: it ends with a peer that falls silent, and with one that
//! sends a byte now and then to keep us waiting (the "slow loris"), be it in the headers, in the
//! body or between the chunks. The time that we take to work on what came is not counted.

use std::time::{Duration, Instant};

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, Transport, time,
};

/// So much must come in the time given.
pub(crate) const LEAST: usize = 1024;

/// Makes each connection of ureq's a [`Paced`] one.
#[derive(Debug)]
pub(crate) struct Pacing(pub(crate) Duration);

impl<In: Transport> Connector<In> for Pacing {
    type Out = Paced<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Paced<In>>, Error> {
        Ok(chained.map(|inner| Paced {
            inner,
            limit: self.0,
            waited: Duration::ZERO,
            received: 0,
        }))
    }
}

#[derive(Debug)]
pub(crate) struct Paced<T> {
    inner: T,
    limit: Duration,
    /// How long we have waited for the bytes `received`.
    waited: Duration,
    received: usize,
}

impl<T: Transport> Transport for Paced<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.waited = Duration::ZERO;
        self.received = 0;
        self.inner
            .transmit_output(amount, at_most(timeout, self.limit))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let begun = Instant::now();
        let before = self.inner.buffers().input().len();
        let left = self.limit.saturating_sub(self.waited);
        let more = self.inner.await_input(at_most(timeout, left))?;
        let after = self.inner.buffers().input().len();
        self.received += after.saturating_sub(before);
        self.waited += begun.elapsed();
        if self.received >= LEAST {
            self.waited = Duration::ZERO;
            self.received = 0;
        }
        Ok(more)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn at_most(mut timeout: NextTimeout, limit: Duration) -> NextTimeout {
    if *timeout.after > limit {
        timeout.after = time::Duration::Exact(limit);
    }
    timeout
}
