//! What is kept of former readings.

use super::*;

/// A table without the columns of options that are off.
#[test]
fn rows_of_former_readings_keep_the_hidden_parts_of_their_keys() {
    let mut table = table();
    table.labels.truncate(1);
    table.hides_key = true;
    let mut feed = Feed::new("run x".to_owned(), "x".to_owned(), String::new(), table);

    let comms: Vec<String> = (1..=300).map(|i| format!("task{i}")).collect();
    let rates = comms.iter().zip(1..);
    let rows: Vec<_> = rates.map(|(comm, rate)| (&**comm, "read", rate)).collect();
    for second in 1..=3 {
        let interval = feed.interval(reading(second, &rows));
        interval.into_iter().for_each(|it| feed.take(it));
    }

    let newest: Vec<_> = feed.moment(0).unwrap().rows.iter().collect();
    let mut former: Vec<_> = feed.moment(1).unwrap().rows.iter().collect();
    former.sort_by_key(|(_, cells)| cells[0]);
    assert_eq!(newest.len(), 300);
    assert_eq!(former, newest[100..]);
}

/// What is hidden is read rarely: a reading stands for its whole interval.
#[test]
fn a_long_interval_fills_its_part_of_the_minute() {
    let mut watch = Watch::new((80, 24));
    watch.read(&[("a", "read", 10)]).read(&[("a", "read", 10)]);
    watch.seconds += 9;
    watch.read(&[("a", "read", 10)]).read(&[("a", "read", 10)]);
    let shown = &watch.state.tab().shown;
    let past = shown.history(&shown.rows[0]).minute;
    let counted = past.iter().filter(|it| **it == Some(10.0)).count();
    assert_eq!((past.len(), counted), (60, 12), "{past:?}");
    assert_eq!(past[47], None);
}
