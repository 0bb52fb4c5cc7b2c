//! The dashboard for Grafana is made of what tallies say about themselves.

use std::fs;

use serde_json::{Value, json};

use crate::common::{items, ktally};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/grafana/ktally.json");

/// Three panels stand side by side.
const WIDTH: usize = 8;
const HEIGHT: usize = 8;

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A metric of a tally, as Prometheus knows it.
struct Family<'m> {
    name: String,
    metric: &'m Value,
    labels: Vec<&'m str>,
}

impl<'m> Family<'m> {
    fn new(table: &'m Value, metric: &'m Value) -> Self {
        let unit = match word(&metric["unit"]) {
            "" => String::new(),
            "ns" | "us" | "ms" | "s" => "_seconds".to_owned(),
            other => format!("_{other}"),
        };
        let name = format!("ktally_{}_{}", word(&table["name"]), word(&metric["name"]));
        let name = name.replace('.', "_");
        let is_said = name.ends_with(&unit);
        // Without the options that turn the others on.
        let keys = items(&table["keys"])
            .iter()
            .filter(|key| key["with"].is_null());
        Self {
            name: if is_said { name } else { name + &unit },
            metric,
            labels: keys.map(|key| word(&key["name"])).collect(),
        }
    }

    fn unit(&self) -> &str {
        let is_time = self.name.ends_with("_seconds");
        match (word(&self.metric["kind"]), word(&self.metric["unit"])) {
            ("counter", "") => "ops",
            ("counter", "bytes") => "Bps",
            (_, "bytes") => "bytes",
            _ if is_time => "s",
            _ => "short",
        }
    }

    /// The largest series of an expression, by the labels of the rows.
    fn largest(&self, of: &str) -> String {
        let labels = [&["instance"], &self.labels[..]].concat().join(", ");
        format!("topk(10, sum by ({labels}) ({of}))")
    }

    fn panels(&self) -> Vec<Value> {
        let name = &self.name;
        let instance = "{instance=~\"$instance\"}";
        let title = word(&self.metric["name"]);
        match word(&self.metric["kind"]) {
            "counter" => {
                let rate = format!("rate({name}_total{instance}[$__rate_interval])");
                vec![self.panel(title, "timeseries", &self.largest(&rate))]
            }
            "histogram" => {
                let rate = format!("rate({name}_bucket{instance}[$__rate_interval])");
                let labels = [&["le", "instance"], &self.labels[..]].concat().join(", ");
                let p99 = format!("histogram_quantile(0.99, sum by ({labels}) ({rate}))");
                let p99 = format!("topk(10, {p99} > 0)");
                let all = format!("sum by (le) ({})", rate.replace("rate(", "increase("));
                vec![
                    self.panel(&format!("{title}: p99"), "timeseries", &p99),
                    self.panel(title, "heatmap", &all),
                ]
            }
            _ => {
                let of = format!("{name}{instance}");
                vec![self.panel(title, "timeseries", &self.largest(&of))]
            }
        }
    }

    fn panel(&self, title: &str, kind: &str, expression: &str) -> Value {
        let legend = self.labels.iter().map(|label| format!("{{{{{label}}}}}"));
        let legend = legend.collect::<Vec<_>>().join(" ");
        let mut panel = panel(title, kind, word(&self.metric["help"]), expression, &legend);
        panel["fieldConfig"]["defaults"]["unit"] = self.unit().into();
        if kind == "heatmap" {
            panel["targets"][0]["format"] = "heatmap".into();
            panel["targets"][0]["legendFormat"] = "{{le}}".into();
            panel["options"] = json!({"calculate": false, "yAxis": {"unit": self.unit()}});
        }
        panel
    }
}

fn panel(title: &str, kind: &str, help: &str, expression: &str, legend: &str) -> Value {
    json!({
        "title": title,
        "type": kind,
        "description": help,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": "short", "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "expr": expression, "legendFormat": legend}],
    })
}

/// What is known about the counts themselves.
fn health() -> Vec<Value> {
    let own = [
        ("counts", "ktally_up", "1 while it can be read", "{{tally}}"),
        (
            "missed",
            "rate(ktally_missed_total[$__rate_interval])",
            "runs that the kernel skipped",
            "{{tally}} {{program}}",
        ),
        (
            "dropped",
            "rate(ktally_dropped_total[$__rate_interval])",
            "events whose time is unknown",
            "{{tally}}",
        ),
        (
            "rows used",
            "ktally_table_rows / ktally_table_max_rows",
            "1 is a full table",
            "{{tally}} {{table}}",
        ),
        (
            "rows folded",
            "ktally_table_folded_rows",
            "rows in the series `other`",
            "{{tally}} {{table}}",
        ),
        (
            "time to read",
            "ktally_read_seconds",
            "of the last reading",
            "{{tally}}",
        ),
    ];
    let panels = own.map(|(title, expression, help, legend)| {
        let instance = "{instance=~\"$instance\"}";
        let mut expression = expression.replace("[$", &format!("{instance}[$"));
        if !expression.contains(instance) {
            let names: Vec<String> = expression
                .split(" / ")
                .map(|it| format!("{it}{instance}"))
                .collect();
            expression = names.join(" / ");
        }
        panel(
            title,
            "timeseries",
            help,
            &expression,
            &format!("{{{{instance}}}} {legend}"),
        )
    });
    panels.into()
}

/// Places panels side by side, from a line on.
fn place(panels: &mut [Value], line: usize) -> usize {
    for (i, panel) in panels.iter_mut().enumerate() {
        let (x, y) = (i % 3 * WIDTH, line + i / 3 * HEIGHT);
        panel["gridPos"] = json!({"h": HEIGHT, "w": WIDTH, "x": x, "y": y});
    }
    line + panels.len().div_ceil(3) * HEIGHT
}

fn dashboard() -> Value {
    let mut all = health();
    let first = place(&mut all, 0);
    for (i, tally) in items(&ktally("list -o json").json()).iter().enumerate() {
        let line = first + i;
        let tables = items(&tally["tables"])
            .iter()
            .filter(|table| table["with"].is_null());
        let families = tables.flat_map(|table| {
            let metrics = items(&table["metrics"]).iter();
            metrics.map(move |metric| Family::new(table, metric))
        });
        let mut panels: Vec<Value> = families.flat_map(|family| family.panels()).collect();
        place(&mut panels, line + 1);
        all.push(json!({
            "type": "row",
            "title": format!("{}: {}", word(&tally["name"]), word(&tally["summary"])),
            "collapsed": true,
            "gridPos": {"h": 1, "w": 24, "x": 0, "y": line},
            "panels": panels,
        }));
    }
    json!({
        "title": "ktally",
        "uid": "ktally",
        "tags": ["ktally", "ebpf"],
        "schemaVersion": 38,
        "editable": true,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus"},
            {
                "name": "instance",
                "type": "query",
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "query": {"query": "label_values(ktally_up, instance)", "refId": "A"},
                "refresh": 2,
                "multi": true,
                "includeAll": true,
                "current": {"text": "All", "value": "$__all"},
            },
        ]},
        "panels": all,
    })
}

#[test]
fn the_dashboard_is_current() {
    let now = format!("{:#}\n", dashboard());
    if std::env::var_os("KTALLY_WRITE_DOCS").is_some() {
        fs::write(PATH, &now).unwrap();
    }
    let written = fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        written == now,
        "dist/grafana/ktally.json is not current: run `make docs`"
    );
}
