//! HTTP: takes connections, and answers requests.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio_io_timeout::TimeoutStream;

use super::body::{Body, Leases, Metrics};
use super::connections::{Answering, Connection, Connections};
use super::listen::Open;
use super::reader::Reader;
use crate::export::{Route, dialect, is_host_of, route, takes_gzip};
use crate::render::Dialect;

/// For how long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For how long a client may take nothing of what is sent.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// The largest head of a request.
const MOST_HEAD: usize = 16 << 10;
/// After a failure to take a connection.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Server {
    reader: Reader,
    /// What it may be called, beside its addresses.
    names: Vec<String>,
    connections: Connections,
    leases: Leases,
    has_failed: Notify,
}

/// An answer without its body's guard.
type Reply = (StatusCode, &'static str, String);

impl Server {
    pub(super) fn new(reader: Reader, names: Vec<String>) -> Self {
        Self {
            reader,
            names,
            connections: Connections::default(),
            leases: Leases::default(),
            has_failed: Notify::new(),
        }
    }

    /// Returns once it can answer nothing any more.
    pub(super) async fn failed(&self) {
        self.has_failed.notified().await;
    }

    /// Takes connections for ever.
    pub(super) async fn accept(self: Rc<Self>, listener: Open) {
        loop {
            let taken = match &listener {
                Open::Tcp(listener) => listener.accept().await.map(|(it, _)| {
                    let _ = it.set_nodelay(true);
                    self.add(it, false);
                }),
                Open::Unix(listener) => {
                    let taken = listener.accept().await;
                    taken.map(|(it, _)| self.add(it, true))
                }
            };
            if taken.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn add(self: &Rc<Self>, stream: impl AsyncRead + AsyncWrite + 'static, is_local: bool) {
        self.connections.make_room();
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIME));
        let connection = Connection::new();
        let (server, of) = (Rc::clone(self), Rc::clone(&connection));
        let service = service_fn(move |request| {
            let (server, answering) = (Rc::clone(&server), of.answer());
            async move {
                let answer = server.answer(request, is_local, answering).await;
                Ok::<_, Infallible>(answer)
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

    async fn answer(
        &self,
        request: Request<Incoming>,
        is_local: bool,
        answering: Answering,
    ) -> Response<Body> {
        let route = match self.check(&request, is_local) {
            Ok(route) => route,
            Err(reply) => return whole(reply, answering),
        };
        let text = |text: &str| (StatusCode::OK, PLAIN, text.to_owned());
        match route {
            Route::Healthy => whole(text("ktally is alive\n"), answering),
            Route::Ready => whole(text("ktally is ready\n"), answering),
            Route::Page => whole(text("metrics: /metrics\n"), answering),
            Route::Metrics => match self.reader.scrape().await {
                Some(scrape) => {
                    let headers = request.headers();
                    let dialect = dialect(&all(headers, header::ACCEPT));
                    let with_gzip = takes_gzip(&all(headers, header::ACCEPT_ENCODING));
                    let metrics = Metrics::new(&self.leases, scrape, dialect, with_gzip);
                    of_metrics(metrics, dialect, with_gzip, answering)
                }
                None => {
                    self.has_failed.notify_one();
                    let why = "the thread that reads has ended\n".to_owned();
                    whole((StatusCode::INTERNAL_SERVER_ERROR, PLAIN, why), answering)
                }
            },
        }
    }

    /// What is asked for, or why it is not answered.
    fn check(&self, request: &Request<Incoming>, is_local: bool) -> Result<Route, Reply> {
        let refuse = |status, why: &str| Err((status, PLAIN, format!("{why}\n")));
        if !is_local {
            let host = request.headers().get(header::HOST);
            let host = host.map(|host| host.to_str().unwrap_or_default());
            let authority = request.uri().authority().map(Authority::as_str);
            // A browser always names a host.
            let is_named = host.is_some() || request.version() == Version::HTTP_10;
            let mut hosts = host.into_iter().chain(authority);
            if !is_named || !hosts.all(|host| is_host_of(host, &self.names)) {
                return refuse(
                    StatusCode::FORBIDDEN,
                    "the request names another host; start ktally with --host NAME",
                );
            }
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD alone");
        }
        match route(request.uri().path()) {
            Some(route) => Ok(route),
            None => refuse(StatusCode::NOT_FOUND, "there is nothing here; see /metrics"),
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// The values of a header that may be there several times.
fn all(headers: &HeaderMap, name: HeaderName) -> String {
    let values = headers.get_all(name).into_iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

fn whole((status, kind, text): Reply, answering: Answering) -> Response<Body> {
    let mut response = Response::new(Body::whole(text, answering));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    safe(headers);
    response
}

fn of_metrics(
    metrics: Metrics,
    dialect: Dialect,
    with_gzip: bool,
    answering: Answering,
) -> Response<Body> {
    let mut response = Response::new(Body::metrics(metrics, answering));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static(dialect.content_type());
    headers.insert(header::CONTENT_TYPE, kind);
    let vary = HeaderValue::from_static("accept, accept-encoding");
    headers.insert(header::VARY, vary);
    if with_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    safe(headers);
    response
}

/// Nothing is kept, and no browser takes it for something else.
fn safe(headers: &mut HeaderMap) {
    let no_store = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, no_store);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
}
