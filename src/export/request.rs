//! What a request asks for, from its text alone.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::render::Dialect;

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Page,
    Metrics,
    Healthy,
    Ready,
    Tallies,
    Read,
    Stream,
}

/// By the path of a request.
pub(crate) fn route(path: &str) -> Option<Route> {
    match path {
        "/" => Some(Route::Page),
        "/metrics" => Some(Route::Metrics),
        "/-/healthy" => Some(Route::Healthy),
        "/-/ready" => Some(Route::Ready),
        "/api/v1/tallies" => Some(Route::Tallies),
        "/api/v1/read" => Some(Route::Read),
        "/api/v1/stream" => Some(Route::Stream),
        _ => None,
    }
}

/// Whether a `Host` means this server: an address, `localhost`, or one of these names.
/// Another one may come from a page of a hostile site, whose name leads here (DNS
/// rebinding).
pub fn is_host_of(host: &str, names: &[String]) -> bool {
    if let Some((address, port)) = host.strip_prefix('[').and_then(|it| it.split_once(']')) {
        let is_port = port.is_empty() || port.starts_with(':');
        return is_port && address.parse::<Ipv6Addr>().is_ok();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_name = |known: &str| name.eq_ignore_ascii_case(known);
    let is_known = is_name("localhost") || names.iter().any(|it| is_name(it));
    is_known || name.parse::<Ipv4Addr>().is_ok()
}

/// The format that an `Accept` prefers, of those that there are.
pub(crate) fn dialect(accept: &str) -> Dialect {
    let (mut open, mut text) = (0, 0);
    for (range, quality) in ranges(accept) {
        match range {
            "application/openmetrics-text" => open = open.max(quality),
            "text/plain" | "text/*" | "*/*" => text = text.max(quality),
            _ => {}
        }
    }
    if open > 0 && open >= text {
        Dialect::OpenMetrics
    } else {
        Dialect::Prometheus
    }
}

/// Whether an `Accept-Encoding` takes gzip.
pub fn takes_gzip(accept: &str) -> bool {
    let quality = |name| {
        let mut known = ranges(accept).filter(|(range, _)| *range == name);
        known.next().map(|(_, quality)| quality)
    };
    quality("gzip").or_else(|| quality("*")).unwrap_or(0) > 0
}

/// `a;q=0.5,b`: what is accepted, each with its quality in thousandths. Versions of
/// OpenMetrics other than 1.0.0 are left out.
fn ranges(accept: &str) -> impl Iterator<Item = (&str, u32)> {
    accept.split(',').filter_map(|range| {
        let mut words = range.split(';').map(str::trim);
        let name = words.next()?;
        let mut quality = 1000;
        for word in words {
            match word.split_once('=') {
                Some(("q" | "Q", number)) => {
                    let number = number.parse::<f32>().ok().filter(|it| *it >= 0.0);
                    quality = (number? * 1000.0) as u32;
                }
                Some(("version", version)) if name == "application/openmetrics-text" => {
                    let version = version.trim_matches('"');
                    ["1.0.0", "0.0.1"].contains(&version).then_some(())?;
                }
                _ => {}
            }
        }
        Some((name, quality.min(1000)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_not_this_one_are_refused() {
        let names = ["db1".to_owned(), "db1.example.com".to_owned()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:9777",
            "10.1.2.3:9777",
            "[::1]:9777",
            "[fe80::1]",
            "localhost",
            "LOCALHOST:9777",
            "db1:9777",
            "db1.Example.com",
        ] {
            assert!(is_host_of(host, &names), "{host}");
        }
        for host in [
            "",
            ":",
            "evil.example:9777",
            "127.0.0.1.evil.example",
            "db1.evil.example",
            "[::1]evil.example",
            "[::1].evil.example:9777",
            "[evil.example]",
            "localhost.evil.example",
            "a:b:c",
            "[::1",
        ] {
            assert!(!is_host_of(host, &names), "{host}");
        }
    }

    #[test]
    fn the_format_is_what_is_preferred() {
        use Dialect::{OpenMetrics, Prometheus};
        for (accept, dialect) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text; version=2.0.0, text/plain; q=0.1",
                Prometheus,
            ),
            ("text/plain, application/openmetrics-text;q=0.1", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-text;q=x", Prometheus),
        ] {
            assert_eq!(super::dialect(accept), dialect, "{accept}");
        }
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for (accept, takes) in [
            ("gzip", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("*", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("*, gzip;q=0.000", false),
            ("gzip;q=nonsense", false),
        ] {
            assert_eq!(takes_gzip(accept), takes, "{accept}");
        }
    }
}
