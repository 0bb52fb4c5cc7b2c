//! The connections that are open. Their number is limited: a new one takes the place of
//! the one that has waited for longest, so slow clients keep no honest one out.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

/// The most that are open at once.
const MOST: usize = 256;

/// For how long a client that is answered keeps its place.
const PROTECTED: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Connections(RefCell<Vec<(Rc<Connection>, AbortHandle)>>);

/// What is known of one.
pub(super) struct Connection {
    /// Of the request that is answered, or else since it waits for one.
    since: Cell<Instant>,
    is_answered: Cell<bool>,
}

/// While a request is answered.
pub(super) struct Answering(Rc<Connection>);

impl Connection {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            since: Cell::new(Instant::now()),
            is_answered: Cell::new(false),
        })
    }

    pub(super) fn answer(self: &Rc<Self>) -> Answering {
        self.turn(true);
        Answering(Rc::clone(self))
    }

    fn turn(&self, is_answered: bool) {
        self.is_answered.set(is_answered);
        self.since.set(Instant::now());
    }

    fn is_protected(&self) -> bool {
        self.is_answered.get() && self.since.get().elapsed() < PROTECTED
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.turn(false);
    }
}

impl Connections {
    /// Makes room for one more.
    pub(super) fn make_room(&self) {
        let mut all = self.0.borrow_mut();
        all.retain(|(_, task)| !task.is_finished());
        if all.len() < MOST {
            return;
        }
        let rank = |(it, _): &(Rc<Connection>, AbortHandle)| (it.is_protected(), it.since.get());
        let oldest = (0..all.len()).min_by_key(|i| rank(&all[*i]));
        if let Some(oldest) = oldest {
            let (_, task) = all.swap_remove(oldest);
            task.abort();
        }
    }

    pub(super) fn add(&self, connection: Rc<Connection>, task: AbortHandle) {
        self.0.borrow_mut().push((connection, task));
    }
}
