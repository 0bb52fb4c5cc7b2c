//! The overview of several tables.

use insta::assert_snapshot;

use super::*;
use crate::schema::Decoder;

/// Two tables of calls: all of them, and how long they take.
fn watch(size: (u16, u16)) -> Watch {
    let mut watch = Watch::new(size);
    let lines = ["20:calls:calls", "10:time:time", "30:latency:latency.p99"];
    let mut tags = Tags::default();
    let texts = lines.map(|line| format!("ktally:overview:{line}"));
    texts.iter().for_each(|text| tags.add(text));
    let tabs = ["calls", "times"].map(|name| {
        let mut table = table();
        table.labels[0].decoder = Some(Decoder::COMM);
        table.overview = match name {
            "calls" => tags.overview[..1].to_vec(),
            _ => tags.overview[1..].to_vec(),
        };
        Tab::new(Feed::new(
            String::new(),
            name.to_owned(),
            String::new(),
            table,
        ))
    });
    let mut tabs = Vec::from(tabs);
    let absent = vec!["locks (this kernel has no tracepoint `x`)".to_owned()];
    let (tab, overview) = Overview::new(&tabs, absent);
    tabs.insert(0, tab);
    let state = State::new(
        watch.state.host.clone(),
        watch.state.own,
        tabs,
        watch.state.every,
    );
    watch.state = state
        .with_overview(Some(overview))
        .on(size, Glyphs::default(), true);
    watch
}

impl Watch {
    /// A second with these rates in all tables.
    fn read_all(&mut self, rows: &[(&str, &str, u64)]) {
        self.seconds += 1;
        self.later(0);
        for tab in [1, 2] {
            let reading = reading(self.seconds, rows);
            self.state.next(Event::Reading(tab, reading), &Plain);
        }
        self.state.next(Event::Round, &Plain);
    }
}

fn after_some_time(size: (u16, u16)) -> Watch {
    let mut watch = watch(size);
    (0..5).for_each(|_| watch.read_all(&BUSY));
    watch
}

#[test]
fn the_overview_at_80x24() {
    assert_snapshot!(after_some_time((80, 24)).lines().join("\n"), @r#"
    ktally top   db1   8 CPUs   6.12.41     every 1s   14:00:05   own 0.6%, 9.10 MiB
    [overview]  calls   times                                                   live
    2 tables   414,678 events/s   absent 1   other 0   dropped 0   missed 0
      WHAT                    NOW  LAST MINUTE   BUSIEST
    > time               207 ms/s             ▇  postgres pread64 91.2 ms/s, nginx e
      calls             207,339/s             ▇  postgres pread64 91,204/s, nginx ep
      latency         p99 1.02 µs             █  nginx epoll_wait p99 1.02 µs, postg

      PROCESS          ▼TIME/s  CALLS/s  LATENCY/s    % 1 MIN
      postgres          127 ms  127,408     127 ms   61                           ██
      nginx            41.0 ms   41,020    41.0 ms   20                           ▅▅
      redis-server     38.9 ms   38,911    38.9 ms   19                           ▅▅
      sum of 3          207 ms  207,339     207 ms  100                           ▇▇









    absent: locks (this kernel has no tracepoint `x`)
    ? help  Enter open  ↑↓ move  Tab next  / filter  s sort  space pause  q quit
    "#);
}

#[test]
fn the_overview_at_40x10() {
    assert_snapshot!(after_some_time((40, 10)).lines().join("\n"), @r#"
    overview 207,339/s           1s 14:00:05
    [overview]  calls   times           live
    2 tables   414,678 events/s   absent 1
      WHAT                    NOW  BUSIEST
    > time               207 ms/s  postgres

      PROCESS  ▼TIME/s CALLS/s LATENCY/s   %
      postgres  127 ms 127,408    127 ms  61
    absent: locks (this kernel has no tracep
    ? help  Enter open  Tab next  q quit
    "#);
}

/// A process has its calls, and its time, once.
#[test]
fn processes_are_joined() {
    let watch = after_some_time((80, 24));
    let rows = watch.state.tab().shown.rows.iter();
    let rows: Vec<_> = rows
        .map(|row| (row.names[0].as_str(), &row.cells[..]))
        .collect();
    let postgres = 91_204 + 36_204;
    let time = |calls: u64| calls * 1000;
    assert_eq!(
        rows,
        [
            ("postgres", &[time(postgres), postgres, time(postgres)][..]),
            ("nginx", &[time(41_020), 41_020, time(41_020)]),
            ("redis-server", &[time(38_911), 38_911, time(38_911)]),
        ]
    );
}

#[test]
fn enter_opens_the_tab_of_a_line_and_esc_comes_back() {
    let mut watch = after_some_time((80, 24));
    watch.key("⏎");
    assert_eq!(watch.state.current, 2);
    watch.key("⎋↓⏎");
    assert_eq!(watch.state.current, 1);
    // Behind the lines there are processes.
    watch.key("⎋⇱↓↓↓");
    let selected = |watch: &Watch| watch.state.tab().selected().map(|row| row.names[0].clone());
    assert_eq!(selected(&watch).as_deref(), Some("postgres"));
    watch.key("⏎");
    assert!(
        watch.lines()[3].starts_with("postgres"),
        "{:#?}",
        watch.lines()
    );
    watch.key("⎋↑");
    assert_eq!(selected(&watch), None);
    watch.key("⏎");
    assert_eq!(watch.state.current, 2);
}

#[test]
fn a_line_of_no_column_is_a_fault() {
    let mut table = table();
    let mut tags = Tags::default();
    tags.add("ktally:overview:1:calls:latency.p99");
    table.overview.clone_from(&tags.overview);
    assert_eq!(table.fault(), None);
    tags.add("ktally:overview:2:calls:call_s");
    table.overview = tags.overview;
    let fault = table.fault().unwrap();
    assert!(fault.starts_with("OVERVIEW(call_s): "), "{fault}");
}
