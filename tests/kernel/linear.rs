//! `LINEAR_HISTOGRAM`: buckets of the same width, up to exact edges.

use serde_json::json;

use crate::common::assert_has;
use crate::instances::Host;
use crate::run::rows_of;
use crate::support::{Child, Source, count, event};

/// Events of every number are observed with steps of 1 and of 5.
const TABLE: &str = r#"
TALLY("small numbers");
struct seen {
	LINEAR_HISTOGRAM("each number by itself", 1) ones;
	LINEAR_HISTOGRAM("five numbers together", 5) fives UNIT(bytes);
	__u64 max MAXIMUM("the greatest") UNIT(bytes);
};
PERCPU_TABLE(small, __u64, struct seen, 16, "one row");
EVENT(enter, number)
{
	__u64 key = 7;
	struct seen *seen = tally_entry(small, &key);

	/* The call's argument is all of 64 bits. */
	tally_observe_linear(&seen->ones, number);
	tally_observe_linear(&seen->fives, number);
	tally_maximum(&seen->max, number);
}
"#;

#[test]
fn each_number_is_in_the_bucket_of_its_edge() {
    // Every edge, what is around it, and what is beyond all of them.
    let numbers = || (0..320).chain([1000, u64::MAX - 1000]);
    let source = Source::new(TABLE);
    let child = Child::new("kt-linear", || numbers().for_each(event));
    let counted = count(source.path(), &child, &[]);
    let row = counted.only_row(&["7"]);
    let sum = numbers().fold(0u64, u64::wrapping_add);
    for (name, step) in [("ones", 1), ("fives", 5)] {
        let mut expected = [0; 64];
        for number in numbers() {
            expected[(number.div_ceil(step) as usize).min(63)] += 1;
        }
        assert_eq!(row.buckets(name), expected, "{name}");
        assert_eq!(row.histogram(name), (322, sum), "{name}");
    }
    // 0; 1 to 62, each by itself; 63 and all that is more.
    assert_eq!(row.buckets("ones")[62..], [1, 322 - 63]);
    // 0; 1 to 5, and so on to 306 to 310; 311 and all that is more.
    assert_eq!(row.buckets("fives")[..2], [1, 5]);
    assert_eq!(row.buckets("fives")[62..], [5, 322 - 311]);
}

/// Edges are exact in every output, and what is shown can be typed.
#[test]
fn outputs_have_exact_edges() {
    let (host, source) = (Host::new(), Source::new(TABLE));
    let child = Child::new("kt-linear", || {
        [0, 1, 1, 4, 7, 7, 7, 12].into_iter().for_each(event);
    });
    let (path, pid) = (source.arg(), child.pid());
    host.good(["attach", &path, "--as", "kt", "--pid", &pid]);
    child.work();
    let reading = host.json("read kt -o json");
    let row = &rows_of(&reading)[0];
    let ones = json!({
        "count": 8, "sum": 39, "mean": 4.875, "p50": 4.0, "p90": 11.2, "p99": 11.92,
        "buckets": [[0, 1], [1, 2], [4, 1], [7, 3], [12, 1]],
    });
    assert_eq!(row["ones"], ones);
    assert_eq!(
        row["fives"]["buckets"],
        json!([[0, 1], [5, 3], [10, 3], [15, 1]])
    );
    let csv = host.good("read kt -o csv").stdout;
    assert_has(&csv, &["\"[[0,1],[5,3],[10,3],[15,1]]\""]);
    let sorted = host.json("read kt -o json --sort fives.p50");
    assert_eq!(rows_of(&sorted).len(), 1);
    // The commands on maps know it by its type alone.
    let pin = "/sys/fs/bpf/ktally/kt/maps/small";
    let dumped = host.json(&format!("map dump {pin} -o json"));
    assert_eq!(dumped[0]["value"]["ones"], ones);
    let declared = &host.json(&format!("map show {pin} -o json"))["declaration"];
    assert_has(
        declared.as_str().unwrap(),
        &["char step[0][5];", "buckets[64];"],
    );
    host.good("detach kt");
}

/// A replacement with another step would mix two scales.
#[test]
fn a_replacement_has_the_same_step() {
    let (host, source) = (Host::new(), Source::new(TABLE));
    let wider = Source::new(&TABLE.replace(", 5)", ", 6)"));
    host.good(["attach", &source.arg(), "--as", "kt"]);
    host.good(["attach", &source.arg(), "--as", "kt", "--replace"]);
    let replace = ["attach", &wider.arg(), "--as", "kt", "--replace"];
    host.ktally(replace).failed(1, &["small"]);
    host.good("detach kt");
}
