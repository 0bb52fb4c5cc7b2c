//! A stream of readings for a page: server-sent events.

use std::rc::Rc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use super::reader::Reader;
use super::viewing::{Refusal, Seen, Shown, Since};
use crate::export::{View, answer};

/// The most that are open at once.
const MOST: usize = 64;

/// The streams that are open.
#[derive(Clone)]
pub(super) struct Streams {
    reader: Reader,
    /// All streams of an interval read at the same instants, counted from here.
    start: Instant,
    open: Rc<()>,
}

impl Streams {
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            reader,
            start: Instant::now(),
            open: Rc::new(()),
        }
    }

    /// The events of a view, or why there are none.
    pub(super) async fn open(&self, view: View) -> Result<Receiver<Bytes>, Refusal> {
        if Rc::strong_count(&self.open) > MOST {
            let why = "too many streams are open".to_owned();
            return Err((StatusCode::SERVICE_UNAVAILABLE, why));
        }
        let first = self.reader.view(view.clone(), Since::Start).await?;
        let event = of_reading(&first);
        // A page that is slow gets fewer readings; none wait for it.
        let (events, received) = mpsc::channel(1);
        let streams = self.clone();
        spawn_local(async move {
            if events.send(event).await.is_ok() {
                streams.send(view, first.seen, &events).await;
            }
        });
        Ok(received)
    }

    /// Sends what comes after the first reading, until the page is gone.
    async fn send(&self, view: View, first: Seen, events: &Sender<Bytes>) {
        let mut seen = Some(first);
        loop {
            tokio::select! {
                () = sleep_until(self.next(view.every)) => {}
                () = events.closed() => return,
            }
            let Ok(room) = events.reserve().await else {
                return;
            };
            let since = seen.take();
            let before = since.as_ref().map(|seen| (seen.opened, seen.seq));
            let since = since.map_or(Since::Start, Since::Last);
            match self.reader.view(view.clone(), since).await {
                Ok(shown) => {
                    // Another reading may be due at once.
                    if before != Some((shown.seen.opened, shown.seen.seq)) {
                        room.send(of_reading(&shown));
                    }
                    seen = Some(shown.seen);
                }
                Err((_, why)) => {
                    room.send(format!("event: gone\ndata: {}\n\n", answer::error(&why)).into());
                }
            }
        }
    }

    /// The next instant of an interval.
    fn next(&self, every: Duration) -> Instant {
        let passed = self.start.elapsed().as_nanos() / every.as_nanos();
        self.start + every * (passed as u32 + 1)
    }
}

fn of_reading(shown: &Shown) -> Bytes {
    let Shown { text, seen } = shown;
    format!("id: {}\nevent: reading\ndata: {text}\n\n", seen.seq).into()
}
