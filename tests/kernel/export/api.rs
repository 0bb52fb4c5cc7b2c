//! `/api/v1/`: the objects of `-o json`, once and at an interval.

use serde_json::{Value, json};

use super::client::Events;
use super::{Exporter, Host};
use crate::common::{items, schema::assert_valid};
use crate::support::{Child, fail_to_open};

/// An instance that counts what this child does.
fn attached(host: &Host, child: &Child) -> Exporter {
    host.good(&format!("attach failures --as f --pid {}", child.pid()));
    Exporter::start(host, "@f")
}

fn calls(reading: &Value) -> Vec<u64> {
    let rows = items(&reading["tables"][0]["rows"]).iter();
    rows.map(|row| row["calls"].as_u64().unwrap()).collect()
}

#[test]
fn a_reading_is_that_of_json() {
    let host = Host::new();
    let child = Child::new("kt-api", || fail_to_open(23));
    let exporter = attached(&host, &child);
    child.work();
    let reply = exporter.get("/api/v1/read?tally=f", &[]);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let reading = crate::common::json(&reply.text());
    assert_valid("export.json#/$defs/reading", &reading);
    let known = host.json("read f -o json");
    assert_eq!(reading["tables"][0]["rows"], known["tables"][0]["rows"]);
    assert_eq!(calls(&reading), [23]);
    assert_eq!(reading["tables"][0]["rest"], json!({"rows": 0, "calls": 0}));

    let tallies = crate::common::json(&exporter.get("/api/v1/tallies", &[]).text());
    assert_valid("export.json#/$defs/tallies", &tallies);
    assert_eq!(tallies["tallies"][0]["name"], "f");
    assert_eq!(tallies["tallies"][0]["tally"], "failures");
    for (path, status, why) in [
        ("/api/v1/read?tally=x", 404, "no tally named `x`"),
        ("/api/v1/read?by=coom", 400, "did you mean `comm`?"),
        ("/api/v1/read?b=comm", 400, "no parameter named `b`"),
        ("/api/v1/stream?sort=x", 400, "no column named `x`"),
        ("/api/v1/", 404, "there is nothing here"),
    ] {
        let reply = exporter.get(path, &[]);
        assert_eq!(reply.status, status, "{path}");
        let error = crate::common::json(&reply.text());
        assert!(error["error"].as_str().unwrap().contains(why), "{error}");
    }
}

#[test]
fn a_stream_has_what_each_interval_has() {
    let host = Host::new();
    let child = Child::new("kt-stream", || fail_to_open(37));
    let exporter = attached(&host, &child);
    child.work();
    let mut events = Events::open(&exporter.socket, "/api/v1/stream?tally=f&every=1s");
    let (kind, first) = events.next();
    assert_valid("export.json#/$defs/reading", &first);
    assert_eq!((&*kind, &first["gap"]), ("reading", &json!("start")));
    assert_eq!(calls(&first), [37]);
    child.work();
    let (_, second) = events.next();
    assert_valid("export.json#/$defs/reading", &second);
    assert_eq!(second["gap"], json!(null));
    assert!(second["seq"].as_u64() > first["seq"].as_u64());
    assert_eq!(calls(&second), [37]);
    let (_, third) = events.next();
    assert_eq!(calls(&third), [0_u64; 0]);

    host.good("detach f");
    let gone = (0..5)
        .map(|_| events.next())
        .find(|(kind, _)| kind == "gone");
    let (_, error) = gone.unwrap();
    assert_eq!(error, json!({"error": "`f` is not attached any more"}));
    host.good(&format!("attach failures --as f --pid {}", child.pid()));
    child.work();
    let back = (0..5)
        .map(|_| events.next())
        .find(|(kind, _)| kind == "reading");
    assert_eq!(calls(&back.unwrap().1), [37]);
}
