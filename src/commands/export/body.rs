//! What is answered: text that is there, or metrics that are encoded while the client
//! takes them.

use std::cell::RefCell;
use std::io::{self, Write};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::sync::mpsc::Receiver;

use super::connections::Answering;
use crate::render::{Dialect, Encoder, Families, PIECE};

/// In which time a client has to take all of a scrape.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many scrapes can be on their way at once. Clients of an older one are cut, as
/// each takes memory.
const MOST_SCRAPES: usize = 3;

/// A scrape that clients are taking, until they are too slow for it.
type Leased = RefCell<Option<Arc<Families>>>;

#[derive(Default)]
pub(super) struct Leases(RefCell<Vec<Weak<Leased>>>);

impl Leases {
    /// Shared by all who take the same scrape.
    fn lease(&self, scrape: Arc<Families>) -> Rc<Leased> {
        let mut leases = self.0.borrow_mut();
        leases.retain(|lease| lease.strong_count() > 0);
        let is_it = |lease: &Rc<Leased>| {
            let held = lease.borrow();
            held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &scrape))
        };
        let known = leases.iter().filter_map(Weak::upgrade).find(is_it);
        known.unwrap_or_else(|| {
            if leases.len() >= MOST_SCRAPES
                && let Some(oldest) = leases.remove(0).upgrade()
            {
                oldest.take();
            }
            let lease = Rc::new(RefCell::new(Some(scrape)));
            leases.push(Rc::downgrade(&lease));
            lease
        })
    }
}

pub(super) struct Body {
    content: Content,
    _answering: Answering,
}

pub(super) enum Content {
    Whole(Bytes),
    Metrics(Box<Metrics>),
    Events(Receiver<Bytes>),
}

/// Metrics, as far as they were sent.
pub(super) struct Metrics {
    lease: Rc<Leased>,
    encoder: Encoder,
    gzip: Option<GzEncoder<Vec<u8>>>,
    until: Instant,
    is_done: bool,
}

impl Body {
    pub(super) fn new(content: Content, answering: Answering) -> Self {
        Self {
            content,
            _answering: answering,
        }
    }
}

impl Metrics {
    pub(super) fn new(
        leases: &Leases,
        scrape: Arc<Families>,
        dialect: Dialect,
        with_gzip: bool,
    ) -> Self {
        let gzip = || GzEncoder::new(Vec::new(), Compression::fast());
        Self {
            lease: leases.lease(scrape),
            encoder: Encoder::new(dialect),
            gzip: with_gzip.then(gzip),
            until: Instant::now() + PATIENCE,
            is_done: false,
        }
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let scrape = self.lease.borrow();
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the client is too slow");
        let scrape = scrape.as_ref().ok_or_else(late)?;
        if Instant::now() > self.until {
            return Err(late());
        }
        while !self.is_done {
            let mut piece = Vec::with_capacity(PIECE + 1024);
            self.is_done = !self.encoder.fill(scrape, &mut piece, PIECE);
            if let Some(mut gzip) = self.gzip.take() {
                gzip.write_all(&piece)?;
                if self.is_done {
                    piece = gzip.finish()?;
                } else {
                    piece = std::mem::take(gzip.get_mut());
                    self.gzip = Some(gzip);
                }
            }
            if !piece.is_empty() {
                return Ok(Some(piece.into()));
            }
        }
        Ok(None)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.content {
            Content::Whole(text) => Ok(Some(std::mem::take(text)).filter(|text| !text.is_empty())),
            Content::Metrics(metrics) => metrics.next(),
            Content::Events(events) => Ok(ready!(events.poll_recv(context))),
        };
        Poll::Ready(next.transpose().map(|next| next.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(text) => text.is_empty(),
            Content::Metrics(metrics) => metrics.is_done,
            Content::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(text) => SizeHint::with_exact(text.len() as u64),
            Content::Metrics(_) | Content::Events(_) => SizeHint::default(),
        }
    }
}
