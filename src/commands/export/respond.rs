//! Requests and what is answered.

use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::sync::Notify;

use super::body::{Body, Content, Leases, Metrics};
use super::connections::Answering;
use super::page::PAGE;
use super::reader::{ENDED, Reader};
use super::stream::Streams;
use super::viewing::{Refusal, Since};
use crate::export::{Route, View, answer, dialect, is_host_of, route, takes_gzip};

/// Answers requests.
pub(super) struct Responder {
    reader: Reader,
    streams: Streams,
    /// What the host may be called, beside its addresses.
    names: Vec<String>,
    leases: Leases,
    has_failed: Notify,
}

/// What is answered, and the headers that say what it is.
type Answer = (Content, Vec<(HeaderName, String)>);

impl Responder {
    pub(super) fn new(reader: Reader, names: Vec<String>) -> Self {
        Self {
            streams: Streams::new(reader.clone()),
            reader,
            names,
            leases: Leases::default(),
            has_failed: Notify::new(),
        }
    }

    /// Returns once nothing can be answered any more.
    pub(super) async fn failed(&self) {
        self.has_failed.notified().await;
    }

    pub(super) async fn answer(
        &self,
        request: &Request<Incoming>,
        is_local: bool,
        answering: Answering,
    ) -> Response<Body> {
        let answer = match self.check(request, is_local) {
            Ok(route) => self.content(route, request).await,
            Err(refusal) => Err(refusal),
        };
        let (status, (content, headers)) = match answer {
            Ok(answer) => (StatusCode::OK, answer),
            Err((status, why)) => {
                if why == ENDED {
                    self.has_failed.notify_one();
                }
                (status, refusal(request, status, &why))
            }
        };
        let mut response = Response::new(Body::new(content, answering));
        *response.status_mut() = status;
        let all = response.headers_mut();
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                all.insert(name, value);
            }
        }
        // Nothing is kept, and no browser takes it for something else.
        all.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        all.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// What is asked for, or why it is not answered.
    fn check(&self, request: &Request<Incoming>, is_local: bool) -> Result<Route, Refusal> {
        let refuse = |status, why: &str| Err((status, why.to_owned()));
        if !is_local {
            let host = request.headers().get(HOST);
            let host = host.map(|host| host.to_str().unwrap_or_default());
            let authority = request.uri().authority().map(Authority::as_str);
            // A browser always names a host.
            let is_named = host.is_some() || request.version() == Version::HTTP_10;
            let mut hosts = host.into_iter().chain(authority);
            if !is_named || !hosts.all(|host| is_host_of(host, &self.names)) {
                let why = "the request names another host; start `ktally export` with --host NAME";
                return refuse(StatusCode::FORBIDDEN, why);
            }
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are answered",
            );
        }
        let nothing = "there is nothing here; see /metrics and /api/v1/tallies";
        route(request.uri().path()).map_or_else(|| refuse(StatusCode::NOT_FOUND, nothing), Ok)
    }

    async fn content(&self, route: Route, request: &Request<Incoming>) -> Result<Answer, Refusal> {
        let view = || {
            let view = View::parse(request.uri().query().unwrap_or_default());
            view.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
        };
        Ok(match route {
            Route::Page => {
                let policy = (CONTENT_SECURITY_POLICY, PAGE.policy.clone());
                let referrer = (REFERRER_POLICY, "no-referrer".to_owned());
                let kind = (CONTENT_TYPE, "text/html; charset=utf-8".to_owned());
                (
                    Content::Whole(PAGE.html.into()),
                    vec![kind, policy, referrer],
                )
            }
            Route::Healthy => text("ktally is alive\n"),
            Route::Ready => text("ktally is ready\n"),
            Route::Metrics => self.metrics(request.headers()).await?,
            Route::Tallies => json(self.reader.tallies().await?),
            Route::Read => json(self.reader.view(view()?, Since::Ever).await?.text),
            // The answer to a HEAD has no body, so it opens no stream.
            Route::Stream if request.method() == Method::HEAD => {
                of_kind(Content::Whole("".into()), EVENTS)
            }
            Route::Stream => of_kind(Content::Events(self.streams.open(view()?).await?), EVENTS),
        })
    }

    async fn metrics(&self, headers: &HeaderMap) -> Result<Answer, Refusal> {
        let scrape = self.reader.scrape().await?;
        let dialect = dialect(&all(headers, ACCEPT));
        let with_gzip = takes_gzip(&all(headers, ACCEPT_ENCODING));
        let metrics = Metrics::new(&self.leases, scrape, dialect, with_gzip);
        let mut answer = of_kind(Content::Metrics(metrics.into()), dialect.content_type());
        answer.1.push((VARY, "accept, accept-encoding".to_owned()));
        if with_gzip {
            answer.1.push((CONTENT_ENCODING, "gzip".to_owned()));
        }
        Ok(answer)
    }
}

const EVENTS: &str = "text/event-stream";

/// The values of a header that may be there several times.
fn all(headers: &HeaderMap, name: HeaderName) -> String {
    let values = headers.get_all(name).into_iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

fn of_kind(content: Content, kind: &str) -> Answer {
    (content, vec![(CONTENT_TYPE, kind.to_owned())])
}

fn text(text: &str) -> Answer {
    let text = text.to_owned().into();
    of_kind(Content::Whole(text), "text/plain; charset=utf-8")
}

fn json(text: String) -> Answer {
    of_kind(Content::Whole((text + "\n").into()), "application/json")
}

/// For programs as JSON, for people as text.
fn refusal(request: &Request<Incoming>, status: StatusCode, why: &str) -> Answer {
    let mut answer = match request.uri().path().starts_with("/api/") {
        true => json(answer::error(why)),
        false => text(&format!("{why}\n")),
    };
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answer.1.push((ALLOW, "GET, HEAD".to_owned()));
    }
    answer
}
