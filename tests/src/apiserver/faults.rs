//! What a test may break while the server runs.

use super::store::Store;
use super::{ApiServer, ApiServerError};

/// What std gives its listeners.
const BACKLOG: i32 = 128;

/// The state of all switches. The default is a server in good health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Whether connections are taken.
    pub(crate) listening: bool,
    /// Counts the closings; connections that are older than one of them end, even if it was opened again at once.
    pub(crate) closings: u64,
    /// Whether requests hang, and watches fall silent.
    pub(crate) stalled: bool,
    /// Counts the cuts; a watch ends with an error when this differs from what it was at its start.
    pub(crate) cuts: u64,
    /// Whether a watch may begin with the list (`sendInitialEvents`), as servers before 1.32 refuse.
    pub(crate) streaming_lists: bool,
    /// The kind that nobody has a right to.
    pub(crate) forbidden: Option<&'static str>,
    /// The HTTP code that everything is answered with.
    pub(crate) failing: Option<u16>,
    /// Whether everything is answered with what is no answer.
    pub(crate) babbling: bool,
    /// Whether watches break off in the middle of the next object.
    pub(crate) halving: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            listening: true,
            closings: 0,
            stalled: false,
            cuts: 0,
            streaming_lists: true,
            failing: None,
            babbling: false,
            halving: false,
            forbidden: None,
        }
    }
}

impl ApiServer {
    /// Refuses connections from now on and drops those that are open.
    ///
    /// # Errors
    /// If the kernel does not close the listener.
    pub fn refuse(&self) -> Result<(), ApiServerError> {
        // A listening socket that is shut down refuses, and keeps its namespace for `listen`.
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Read)
            .map_err(|error| ApiServerError::Listener(error.into()))?;
        self.switch(|faults| {
            faults.listening = false;
            faults.closings += 1;
        });
        let closings = self.shared.faults.borrow().closings;
        self.shared.wait_until_closed(closings);
        Ok(())
    }

    /// Takes connections again, on the same address, after [`ApiServer::refuse`].
    ///
    /// # Errors
    /// If the port was taken by another in the meantime.
    pub fn listen(&self) -> Result<(), ApiServerError> {
        let failed = |error: rustix::io::Errno| ApiServerError::Listener(error.into());
        // The kernel has forgotten a port that it chose itself and kept one that was asked for, which it does not bind twice.
        match rustix::net::bind(&self.listener, &self.bound) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(failed(error)),
        }
        rustix::net::listen(&self.listener, BACKLOG).map_err(failed)?;
        self.switch(|faults| faults.listening = true);
        Ok(())
    }

    /// Takes connections and requests but answers none, until [`ApiServer::resume`]. Watches fall silent.
    pub fn stall(&self) {
        self.switch(|faults| faults.stalled = true);
    }

    /// Answers again, first of all what waits since [`ApiServer::stall`].
    pub fn resume(&self) {
        self.switch(|faults| faults.stalled = false);
    }

    /// Breaks off every running watch in the middle of its stream.
    pub fn cut_watches(&self) {
        self.switch(|faults| faults.cuts += 1);
    }

    /// Forgets the history: lists that continue and watches that resume from before get 410 Gone.
    pub fn compact(&self) {
        self.shared.write(Store::compact);
    }

    /// Answers 403 to everything about a kind, given by its plural; `None` lets all be asked again.
    pub fn forbid(&self, plural: Option<&'static str>) {
        self.switch(|faults| faults.forbidden = plural);
    }

    /// Refuses watches that begin with the list, as servers without `WatchList` do.
    pub fn disable_streaming_lists(&self) {
        self.switch(|faults| faults.streaming_lists = false);
    }

    /// Answers every request with this code, as a server that has lost its etcd does, until [`ApiServer::recover`].
    pub fn fail(&self, code: u16) {
        self.switch(|faults| faults.failing = Some(code));
    }

    /// Answers every request with 200 and a body that is no object, until [`ApiServer::recover`].
    pub fn babble(&self) {
        self.switch(|faults| faults.babbling = true);
    }

    /// Breaks off every watch in the middle of the next object that it sends, until [`ApiServer::recover`].
    pub fn halve(&self) {
        self.switch(|faults| faults.halving = true);
    }

    /// Ends [`ApiServer::fail`], [`ApiServer::babble`] and [`ApiServer::halve`].
    pub fn recover(&self) {
        self.switch(|faults| (faults.failing, faults.babbling, faults.halving) = (None, false, false));
    }

    fn switch(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.faults.send_modify(change);
    }
}
