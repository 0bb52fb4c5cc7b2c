//! HTTP: takes connections, and serves each until it ends or has to give way.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio_io_timeout::TimeoutStream;

use super::connections::{Connection, Connections};
use super::listen::Open;
use super::respond::Responder;

/// For how long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For how long a client may take nothing of what is sent.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// The largest head of a request.
const MOST_HEAD: usize = 16 << 10;
/// After a failure to take a connection.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Server {
    responder: Responder,
    connections: Connections,
}

impl Server {
    pub(super) fn new(responder: Responder) -> Self {
        Self {
            responder,
            connections: Connections::default(),
        }
    }

    /// Returns once it can answer nothing any more.
    pub(super) async fn failed(&self) {
        self.responder.failed().await;
    }

    /// Takes connections for ever.
    pub(super) async fn accept(self: Rc<Self>, listener: Open) {
        loop {
            let taken = match &listener {
                Open::Tcp(listener) => listener.accept().await.map(|(it, _)| {
                    let _ = it.set_nodelay(true);
                    self.serve(it, false);
                }),
                Open::Unix(listener) => {
                    let taken = listener.accept().await;
                    taken.map(|(it, _)| self.serve(it, true))
                }
            };
            if taken.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn serve(self: &Rc<Self>, stream: impl AsyncRead + AsyncWrite + 'static, is_local: bool) {
        self.connections.make_room();
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIME));
        let connection = Connection::new();
        let (server, of) = (Rc::clone(self), Rc::clone(&connection));
        let service = service_fn(move |request| {
            let (server, answering) = (Rc::clone(&server), of.answer());
            async move {
                let responder = &server.responder;
                Ok::<_, Infallible>(responder.answer(&request, is_local, answering).await)
            }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(MOST_HEAD)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        // What a client does wrong is not reported: anyone can do it at any rate.
        let task = spawn_local(async move { _ = serving.await });
        self.connections.add(connection, task.abort_handle());
    }
}
