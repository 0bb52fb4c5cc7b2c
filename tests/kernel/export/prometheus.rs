//! A real Prometheus server, and its tools.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use super::client::{head, tcp};
use super::{Exporter, Host};
use crate::common::{command, end, end_with_input, items, json};
use crate::network::{in_network, ip};
use crate::run::{Run, rows_of};
use crate::support::{Child, ask_for_parent, wait_until};

/// `make test` installs it; on a distribution that has no package of it these tests
/// pass and say so.
fn is_missing() -> bool {
    let works = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let is_missing = !works("prometheus") || !works("promtool");
    if is_missing {
        eprintln!("skipped: there is no prometheus to ask");
    }
    is_missing
}

/// The dist/ folder that has what a server needs.
fn dist() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/prometheus")
}

/// A server that scrapes these every second, on the loopback of its network.
struct Server {
    _run: Run,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(targets: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = fs::read_to_string(dist().join("prometheus.yml")).unwrap();
        let config = config
            .replace("scrape_interval: 15s", "scrape_interval: 1s")
            .replace("\"127.0.0.1:9777\"", &targets.join(", "))
            .replace(
                "ktally-alerts.yml",
                dist().join("ktally-alerts.yml").to_str().unwrap(),
            );
        let path = folder.path().join("prometheus.yml");
        fs::write(&path, config).unwrap();
        let address: SocketAddr = "127.0.0.1:9090".parse().unwrap();
        let mut server = command("prometheus");
        server
            .arg(format!("--config.file={}", path.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error");
        let run = Run::with_output(&mut server, Stdio::null());
        let ready = head("/-/ready", &[]);
        wait_until("the server is ready", || {
            TcpStream::connect(address).is_ok() && tcp(address, &ready).status == 200
        });
        Self {
            _run: run,
            address,
            _folder: folder,
        }
    }

    /// The values that an expression has now, one for each series.
    fn query(&self, expression: &str) -> Vec<f64> {
        let query: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02x}"))
            .collect();
        let head = head(&format!("/api/v1/query?query={query}"), &[]);
        let answer = json(&tcp(self.address, &head).text());
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = items(&answer["data"]["result"]).iter();
        let value = |series: &Value| series["value"][1].as_str().unwrap().parse().unwrap();
        result.map(value).collect()
    }

    /// Waits until it has these.
    #[track_caller]
    fn wait_for(&self, expression: &str, values: &[f64]) {
        wait_until(&format!("{expression} is {values:?}"), || {
            self.query(expression) == values
        });
    }
}

/// One in this network, one in another that this one reaches.
fn two_exporters(host: &Host) -> [Run; 2] {
    let here = host.start("export @f");
    let mut there = host.program();
    // SAFETY: one system call.
    unsafe {
        there.pre_exec(|| Ok(unshare(CloneFlags::CLONE_NEWNET)?));
    }
    let there = Run::of(there.args(["export", "@f", "--listen", "0.0.0.0:9777"]));
    let pid = there.id();
    let listens = || {
        fs::read_to_string(format!("/proc/{pid}/net/tcp"))
            .unwrap()
            .contains(":2631 ")
    };
    wait_until("the exporter elsewhere listens", listens);
    ip(&format!("link add kt0 type veth peer name kt1 netns {pid}"));
    ip("addr add 10.77.0.1/24 dev kt0");
    ip("link set kt0 up");
    for words in ["addr add 10.77.0.2/24 dev kt1", "link set kt1 up"] {
        let enter = format!("-t {pid} -n ip {words}");
        end(command("nsenter").args(enter.split(' '))).good();
    }
    [here, there]
}

const CALLS: &str = "ktally_syscalls_calls_total{comm=\"kt-prom\",call=\"getppid\"}";

#[test]
fn a_server_has_the_counts_of_the_kernel() {
    if is_missing() {
        return;
    }
    in_network(|_| {
        let host = Host::new();
        let child = Child::new("kt-prom", || ask_for_parent(23));
        host.good(&format!("attach syscalls --as f --pid {}", child.pid()));
        child.work();
        let [here, there] = two_exporters(&host);
        let targets = ["127.0.0.1:9777".to_owned(), "10.77.0.2:9777".to_owned()];
        let server = Server::start(&targets);
        server.wait_for(CALLS, &[23.0, 23.0]);
        server.wait_for("up{job=\"ktally\"}", &[1.0, 1.0]);
        child.work();
        server.wait_for(CALLS, &[46.0, 46.0]);
        let grown = |n: f64| {
            let range = format!("{CALLS}[1m]");
            server.wait_for(
                &format!("max_over_time({range}) - min_over_time({range})"),
                &[n, n],
            );
            // A rate is what the interval has, as far as samples reach.
            let rate = server.query(&format!("rate({range})"));
            assert!(
                rate.iter().all(|it| (n / 120.0..n).contains(it)),
                "{rate:?}"
            );
            server.wait_for(&format!("resets({range})"), &[0.0, 0.0]);
        };
        grown(23.0);
        quantiles(&server, &host);

        // The kernel counts on while nothing is exported.
        for mut exporter in [here, there] {
            exporter.stop().failed(0, &[]);
        }
        child.work();
        let _exporter = host.start("export @f");
        let calls = CALLS.replace('}', ",instance=\"127.0.0.1:9777\"}");
        server.wait_for(&calls, &[69.0]);
        server.wait_for(&format!("resets({calls}[1m])"), &[0.0]);
        // Nothing is wrong but that one of the two is down.
        server.wait_for("up{job=\"ktally\"} == 0", &[0.0]);
        let alerts = "ALERTS{alertname!~\"KtallyExporterDown|KtallyMissed\"}";
        assert_eq!(server.query(alerts), [0.0_f64; 0]);
    });
}

/// A quantile is in the bucket where JSON has it.
fn quantiles(server: &Server, host: &Host) {
    let reading = host.json("read f -o json --where call=getppid");
    let latency = &rows_of(&reading)[0]["latency"];
    assert_eq!(latency["count"], 46);
    for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let buckets = CALLS.replace("calls_total", "latency_seconds_bucket");
        let expression = format!("histogram_quantile({quantile}, {buckets})");
        // ktally knows the longest call, and ends the last bucket there.
        let known = latency[name].as_f64().unwrap().ceil() as u64;
        let edge = known.next_power_of_two() as f64 / 1e9;
        let values = server.query(&expression);
        assert_eq!(values.len(), 2);
        let is_in = |value: &f64| (edge / 2.0..=edge).contains(value);
        assert!(values.iter().all(is_in), "{name}: {values:?} {edge}");
    }
    let sum = server.query(&CALLS.replace("calls_total", "latency_seconds_sum"));
    let known = latency["sum"].as_f64().unwrap() / 1e9;
    assert_eq!(sum, [known, known]);
}

/// Everything that counts here has names, units and help as Prometheus wants them.
#[test]
fn promtool_accepts_every_tally() {
    if is_missing() {
        return;
    }
    let host = Host::new();
    let all = host.json("list -o json");
    let runs_here = items(&all)
        .iter()
        .filter(|tally| tally["runs_here"] == true);
    // Those that need to be told what to count.
    let words = runs_here.map(|tally| match tally["name"].as_str().unwrap() {
        "ufunc" => "ufunc:function=malloc",
        "kfunc" => "kfunc:function=vfs_open",
        name => name,
    });
    let words: Vec<&str> = words.collect();
    assert!(words.len() > 20, "{words:?}");
    let exporter = Exporter::start(&host, &words.join(" "));
    let text = exporter.get("/metrics", &[]).text();
    for word in words {
        let name = word.split(':').next().unwrap();
        assert!(
            text.contains(&format!("ktally_up{{tally=\"{name}\"}} 1\n")),
            "{name}"
        );
    }
    let checked = end_with_input(command("promtool").args(["check", "metrics"]), &text);
    let checked = checked.good();
    assert_eq!((&*checked.stdout, &*checked.stderr), ("", ""));
    assert_dashboard(&text);
}

/// The dashboard asks for metrics that there are, in a language that the server speaks.
fn assert_dashboard(text: &str) {
    let path = dist().join("../grafana/ktally.json");
    let dashboard = json(&fs::read_to_string(path).unwrap());
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    let (mut known, mut unknown) = (0, Vec::new());
    for row in items(&dashboard["panels"]) {
        let panels = row["panels"].as_array();
        for panel in panels.into_iter().flatten().chain([row]) {
            let Some(expression) = panel["targets"][0]["expr"].as_str() else {
                continue;
            };
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let words = expression.split(|c| !is_word(c));
            for word in words.filter(|word| word.starts_with("ktally_")) {
                let name = word.trim_end_matches("_bucket");
                match text.contains(&format!("# TYPE {name} ")) {
                    true => known += 1,
                    false => unknown.push(name.to_owned()),
                }
            }
            let expression = expression.replace("$__rate_interval", "5m");
            rules += &format!(
                "      - record: x\n        expr: {}\n",
                Value::from(expression)
            );
        }
    }
    // Not every tally runs on every kernel.
    assert!(known > 100 && unknown.len() < 20, "{known} {unknown:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules).unwrap();
    let mut promtool = command("promtool");
    end(promtool.args(["check", "rules"]).arg(file.path())).good();
}

#[test]
fn promtool_accepts_what_is_installed() {
    if is_missing() {
        return;
    }
    for line in [
        "check config prometheus.yml",
        "check rules ktally-alerts.yml",
        "test rules ktally-alerts-test.yml",
    ] {
        let mut promtool = command("promtool");
        end(promtool.args(line.split(' ')).current_dir(dist())).good();
    }
}
