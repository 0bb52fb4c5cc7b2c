//! Histograms in tables and as bars.

use insta::assert_snapshot;

use super::*;

#[test]
fn a_single_row_shows_its_histogram_as_bars() {
    assert_snapshot!(text(STYLE, &one_row()), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM      CALL  CALLS/s  ERRORS/s  TIME/s     MEAN      P50      P99
    postgres  read   12,304         0  312 ms  25.4 µs  6.19 µs  12.8 µs

    postgres read, latency: time of one call; 61,520 in all; mean 25.4 µs
       UP TO     COUNT      %  UPTO%
     8.19 µs    60,110   97.7   97.7  |########################################| p50 6.19 µs, p90 7.87 µs
     16.4 µs     1,410    2.3  100.0  |#                                       | p99 12.8 µs
    1 row; 0 dropped, 0 missed
    "#);
}

#[test]
fn bars_on_demand_are_a_block_a_row() {
    let histogram = style(|it| it.histogram = true);
    let mut few = [0; Histogram::CELLS];
    // From 0 up to the last bucket, which has no edge.
    (few[0], few[1], few[3], few[64]) = (9, 1, 1000, 500);
    let rows: [Row<'_>; 2] = [
        ("a", libc::SYS_read, &few),
        ("b", libc::SYS_read, &postgres()[3..]),
    ];
    let mut bars = one(table("t", vec![latency(0)]), &rows);
    let shown = text(histogram, &bars);
    // The empty buckets between 4 and the last.
    let shown: Vec<&str> = shown
        .lines()
        .filter(|line| !line.contains("   0    0.0 "))
        .collect();
    assert_snapshot!(shown.join("\n"), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    a read, latency: time of one call; 1,501 in all
            UP TO     COUNT      %  UPTO%
             1 ns         1    0.1    0.1  |#                                       |
             4 ns     1,000   66.6   66.7  |########################################| p50 3 ns
                ∞       500   33.3  100.0  |####################                    |

    b read, latency: time of one call; 61,520 in all; mean 25.4 µs
       UP TO     COUNT      %  UPTO%
     8.19 µs    60,110   97.7   97.7  |########################################| p50 6.19 µs, p90 7.87 µs
     16.4 µs     1,410    2.3  100.0  |#                                       | p99 12.8 µs
    2 of 312 rows; 0 dropped, 0 missed
    "#);
    // Nothing observed: no block.
    bars.tables[0] = table_snapshot(table("t", vec![latency(0)]), &[("a", 0, &[])]);
    assert_snapshot!(text(histogram, &bars), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    1 of 312 rows; 0 dropped, 0 missed
    "#);
}

/// Each stands apart, and rows with none leave no gap.
#[test]
fn histograms_stand_apart() {
    let mut both = vec![latency(0), latency(8 * Histogram::CELLS)];
    both[1].name = "size".into();
    let two = [&postgres()[3..], &postgres()[3..]].concat();
    let rows: [Row<'_>; 3] = [
        ("a", libc::SYS_read, &two),
        ("b", libc::SYS_read, &[]),
        ("c", libc::SYS_read, &two[..Histogram::CELLS]),
    ];
    let histogram = style(|it| it.histogram = true);
    let shown = text(histogram, &one(table("t", both), &rows));
    let blocks: Vec<&str> = shown.split("\n\n").collect();
    assert_eq!(blocks.len(), 3, "{shown}");
    for (block, head) in blocks
        .iter()
        .zip(["a read, latency", "a read, size", "c read, latency"])
    {
        assert!(block.contains(head), "{head}: {shown}");
        assert!(!block.contains("\n\n"), "{shown}");
    }
}

#[test]
fn where_only_histograms_count_they_say_how_much() {
    let rows: [Row<'_>; 2] = [
        ("a", libc::SYS_read, &postgres()[3..]),
        ("b", libc::SYS_read, &[]),
    ];
    let shown = one(table("t", vec![latency(0)]), &rows);
    assert_snapshot!(text(STYLE, &shown), @r#"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM  CALL  COUNT/s     MEAN      P50      P99
    a     read   12,304  25.4 µs  6.19 µs  12.8 µs
    b     read        0        -        -        -
    2 of 312 rows; 0 dropped, 0 missed
    "#);
    let totals = style(|it| it.totals = true);
    let total = text(totals, &shown);
    assert!(total.contains("COUNT     MEAN"), "{total}");
    assert!(total.contains("61,520  25.4 µs  6.19"), "{total}");
}
