//! What keys do to the state.

use super::*;

fn watch() -> Watch {
    let mut watch = Watch::new((80, 24));
    (0..3).for_each(|_| _ = watch.read(&BUSY));
    watch
}

fn selected(watch: &Watch) -> String {
    let row = watch.state.tab().selected();
    row.map_or_else(String::new, |row| row.names.join(" "))
}

#[test]
fn rows_are_selected_by_their_key() {
    let mut watch = watch();
    assert_eq!(selected(&watch), "");
    watch.key("↓");
    assert_eq!(selected(&watch), "postgres pread64");
    watch.key("j↓↓↓↓");
    assert_eq!(selected(&watch), "postgres lseek");
    watch.key("k");
    assert_eq!(selected(&watch), "redis-server read");
    watch.key("⇱");
    assert_eq!(selected(&watch), "postgres pread64");
    watch.key("⇲");
    assert_eq!(selected(&watch), "postgres lseek");
    // It moves, and stays selected.
    let mut busy = BUSY;
    busy[3].2 = 1_000_000;
    (0..3).for_each(|_| _ = watch.later(4).read(&busy));
    assert_eq!(selected(&watch), "postgres lseek");
}

#[test]
fn an_order_is_held_after_a_key() {
    let mut watch = watch();
    let mut busy = BUSY;
    busy[1].2 = 1_000_000;
    watch.key("↓");
    watch.read(&busy).read(&busy);
    assert_eq!(watch.first_labels()[0], "postgres");
    assert!(watch.lines()[1].ends_with("order held 1 s"));
    watch.read(&busy).read(&busy).read(&busy);
    assert_eq!(watch.first_labels()[0], "nginx");
    assert!(watch.lines()[1].ends_with("live"));
}

#[test]
fn a_frozen_order_stays() {
    let mut watch = watch();
    watch.key("o");
    let mut busy = BUSY;
    busy[2].2 = 1_000_000;
    (0..8).for_each(|_| _ = watch.read(&busy));
    assert_eq!(watch.first_labels()[0], "postgres");
    assert!(watch.lines()[1].ends_with("order frozen"));
    watch.key("o");
    assert_eq!(watch.first_labels()[0], "redis-server");
}

#[test]
fn sorting_reversing_and_totals() {
    let mut watch = watch();
    assert_eq!(watch.state.tab().sort(), "calls");
    watch.key("r");
    assert_eq!(
        watch.first_labels(),
        ["postgres", "redis-server", "nginx", "postgres"]
    );
    watch.key("rs");
    assert_eq!(watch.state.tab().sort(), "time");
    watch.key("S");
    assert_eq!(watch.state.tab().sort(), "calls");
    watch.key("t");
    // Since counting began, three seconds ago.
    assert!(
        watch.lines().iter().any(|line| line.contains("273,612")),
        "{:#?}",
        watch.lines()
    );
}

#[test]
fn groups_open_and_close() {
    let mut watch = watch();
    watch.key("b");
    assert_eq!(watch.first_labels(), ["postgres", "nginx", "redis-server"]);
    watch.key("↓→");
    assert_eq!(
        watch.first_labels(),
        ["postgres", "pread64", "lseek", "nginx", "redis-server"]
    );
    watch.key("←");
    assert_eq!(watch.first_labels().len(), 3);
    watch.key("⏎");
    assert_eq!(watch.first_labels().len(), 5);
    watch.key("↓⏎");
    assert!(watch.state.tab().view.is_detail);
    watch.key("⎋↑←");
    assert_eq!(watch.first_labels().len(), 3);
    watch.key("b");
    assert_eq!(watch.first_labels()[0], "pread64");
    watch.key("b");
    assert_eq!(watch.first_labels().len(), 4);
}

#[test]
fn a_filter_follows_what_is_typed() {
    let mut watch = watch();
    watch.key("/comm=postgres");
    assert_eq!(watch.first_labels(), ["postgres", "postgres"]);
    // A mistake leaves the last one that was right.
    watch.key(" cll=x");
    assert_eq!(watch.first_labels(), ["postgres", "postgres"]);
    let lines = watch.lines();
    assert!(
        lines[21].contains("no field") || lines[21].contains("cll"),
        "{lines:#?}"
    );
    watch.key("⌫⌫⌫⌫⌫⌫⏎");
    assert_eq!(watch.first_labels().len(), 2);
    assert!(watch.lines()[22].contains("filter: comm=postgres"));
    // Escape clears it, and an earlier one comes back.
    watch.key("⎋");
    assert_eq!(watch.first_labels().len(), 4);
    watch.key("/↑⏎");
    assert_eq!(watch.first_labels().len(), 2);
    watch.key("/⎋/com⇥");
    assert!(watch.lines()[22].contains("filter: comm_"));
}

#[test]
fn numbers_are_asked_for_too() {
    let mut watch = watch();
    watch.key("/calls>40000⏎");
    assert_eq!(watch.first_labels(), ["postgres", "nginx"]);
}

#[test]
fn a_pause_shows_what_was() {
    let mut watch = watch();
    watch.key(" ");
    let mut busy = BUSY;
    busy[0].2 = 500_000;
    watch.read(&busy);
    let lines = watch.lines();
    assert!(lines[1].ends_with("PAUSED 1 back"), "{lines:#?}");
    assert!(lines[4].contains("91,204"), "{lines:#?}");
    watch.key(".");
    assert!(watch.lines()[1].ends_with("PAUSED"));
    watch.key(",,,,,,");
    assert!(watch.lines()[1].ends_with("PAUSED 2 back"));
    watch.key(" ");
    assert!(watch.lines()[1].ends_with("live"));
}

#[test]
fn tabs_keep_their_views() {
    let mut watch = watch();
    watch.key("b⇥");
    assert!(watch.lines()[1].starts_with(" syscalls  [calls]"));
    assert_eq!(watch.state.tab().view.by, None);
    watch.key("1");
    assert_eq!(watch.state.tab().view.by.as_deref(), Some("comm"));
    watch.key("9");
    assert_eq!(watch.state.current, 0);
}

#[test]
fn intervals_have_steps() {
    let mut watch = watch();
    assert_eq!(watch.key("+"), Effect::Interval(Duration::from_secs(2)));
    assert_eq!(
        watch.key("--"),
        Effect::Interval(Duration::from_millis(500))
    );
    watch.key("------");
    assert_eq!(watch.key("-"), Effect::Interval(Duration::from_millis(100)));
}

#[test]
fn what_is_shown_is_a_command() {
    let mut watch = watch();
    watch.key("b/call~p*⏎s");
    let command = "ktally run syscalls --every 1000ms --sort time --by comm --where 'call~p*'";
    assert_eq!(watch.key("y"), Effect::Copy(command.to_owned()));
}

#[test]
fn escape_goes_back_and_never_quits() {
    let mut watch = watch();
    watch.key("↓⏎");
    assert!(watch.state.tab().view.is_detail);
    watch.key("⎋");
    assert!(!watch.state.tab().view.is_detail);
    assert_eq!(watch.key("⎋⎋"), Effect::None);
    assert_eq!(watch.key("q"), Effect::Quit);
}

#[test]
fn columns_are_hidden_and_shown() {
    let mut watch = watch();
    watch.key("c↓↓↓ ⏎");
    assert!(!watch.lines()[3].contains("TIME"), "{:#?}", watch.lines());
    watch.key("c↓↓↓ ⏎");
    assert!(watch.lines()[3].contains("TIME"));
}

#[test]
fn what_is_lost_is_said() {
    let mut watch = watch();
    let mut lost = reading(4, &BUSY);
    lost.missed = Some(4);
    watch.state.next(Event::Reading(0, lost), &Plain);
    let lines = watch.lines();
    assert!(lines[1].ends_with("LOST EVENTS"));
    assert!(lines[2].starts_with("! "), "{lines:#?}");
    assert!(lines[22].contains("the kernel skipped 4 runs of programs"));
}

#[test]
fn a_tab_whose_instance_is_gone_keeps_its_last_reading() {
    let mut watch = watch();
    watch
        .state
        .next(Event::Ended(0, "instance `x` is gone".to_owned()), &Plain);
    let lines = watch.lines();
    assert!(lines[1].contains("DETACHED"), "{lines:#?}");
    assert!(lines[22].contains("instance `x` is gone"));
    assert_eq!(watch.first_labels().len(), 4);
}

#[test]
fn a_baseline_is_compared_with() {
    let mut more = Watch::new((100, 24));
    (0..3).for_each(|_| _ = more.read(&BUSY));
    more.key("z");
    // Twice as many in all of four seconds are five times as many in the last one.
    more.read(&[
        ("postgres", "pread64", 2 * 91_204),
        BUSY[1],
        BUSY[2],
        ("sh", "clone", 7),
    ]);
    let lines = more.lines();
    let line = |name: &str| {
        lines
            .iter()
            .find(|line| line.contains(name))
            .cloned()
            .unwrap_or_default()
    };
    assert!(line("pread64").ends_with("91,204    ×5.0"), "{lines:#?}");
    assert!(line("epoll_wait").ends_with("41,020     +0%"), "{lines:#?}");
    assert!(line("lseek").ends_with("36,204    gone"), "{lines:#?}");
    assert!(line("clone").ends_with("0     new"), "{lines:#?}");
    assert!(lines[22].starts_with("baseline: the minute before 14:00:03"));
    // Totals are those since the baseline.
    more.key("t");
    assert!(more.lines()[4].contains("456,020"), "{:#?}", more.lines());
    more.key("tZ");
    assert!(!more.lines()[22].starts_with("baseline"));
}

#[test]
fn what_was_lost_is_gone_through() {
    let mut watch = watch();
    watch.key("n");
    assert!(watch.lines()[22].contains("nothing was lost"));
    let mut lost = reading(4, &BUSY);
    (lost.missed, lost.tables[0].dropped) = (Some(4), Some(2));
    watch.state.next(Event::Reading(0, lost), &Plain);
    watch.key("n");
    assert!(
        watch.lines()[22].starts_with("! 1 of 2: 2 events"),
        "{:#?}",
        watch.lines()
    );
    watch.key("n");
    assert!(watch.lines()[22].starts_with("! 2 of 2: the kernel skipped 4 runs"));
    watch.key("n");
    assert!(watch.lines()[22].starts_with("! 1 of 2"));
}

#[test]
fn an_export_is_json() {
    let mut watch = watch();
    watch.key("/comm=nginx⏎");
    let Effect::Export(name, text) = watch.key("e") else {
        panic!("nothing is exported");
    };
    assert_eq!(name, "ktally-syscalls-20261127T140003Z.json");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows = json["tables"][0]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["calls"], 41_020);
}
