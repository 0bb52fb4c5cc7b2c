//! Whole screens.

use insta::assert_snapshot;

use super::*;

fn screen(size: (u16, u16), keys: &str) -> String {
    let mut watch = Watch::new(size);
    for second in 0..8 {
        let mut busy = BUSY;
        busy[1].2 += 2_000 * second;
        watch.read(&busy);
    }
    watch.key(keys);
    watch.lines().join("\n")
}

#[test]
fn a_table_at_80x24() {
    assert_snapshot!(screen((80, 24), "↓↓"), @r#"
    ktally top   db1   8 CPUs   6.12.41     every 1s   14:00:08   own 0.6%, 9.10 MiB
    [syscalls]  calls                                                 order held 3 s
    235,339 events/s   4 of 8,192 rows   other 0   dropped 0   missed 0
      COMM            CALL        ▼CALLS/s  TIME/s    MEAN    P50     P99   % 1 MIN
      postgres        pread64       91,204 91.2 ms 1.00 µs 768 ns 1.02 µs  39      ▆
    > nginx           epoll_wait    69,020 69.0 ms 1.00 µs 768 ns 1.02 µs  29      ▇
      redis-server    read          38,911 38.9 ms 1.00 µs 768 ns 1.02 µs  17      ▅
      postgres        lseek         36,204 36.2 ms 1.00 µs 768 ns 1.02 µs  15      ▅
      sum of 4        -            235,339  235 ms 1.00 µs 768 ns 1.02 µs 100      ▇














    ? help  / filter  s sort  b group  t totals  space pause  Enter detail  q quit
    "#);
}

#[test]
fn a_table_at_40x10() {
    assert_snapshot!(screen((40, 10), "↓↓"), @r#"
    syscalls 235,339/s           1s 14:00:08
    [syscalls]  calls         order held 3 s
    other 0 dropped 0 missed 0 4 of 8,192 ro
      COMM        CALL       ▼CALLS/s    P99
      postgres    pread64      91,204 1.02µs
    > nginx       epoll_wait   69,020 1.02µs
      sum of 4    -           235,339 1.02µs


    ? help  Enter open  Tab next  q quit
    "#);
}

#[test]
fn a_table_at_200x60() {
    assert_snapshot!(screen((200, 60), "↓↓h"), @r#"
    ktally top   db1   8 CPUs   6.12.41                                                                                                                             every 1s   14:00:08   own 0.6%, 9.10 MiB
    [syscalls]  calls                                                                                                                                                                         order held 3 s
    235,339 events/s   4 of 8,192 rows   other 0   dropped 0   missed 0
      COMM             CALL             ▼CALLS/s   TIME/s     MEAN     P50      P99    % LAST MINUTE                                                             UP TO   COUNT     % nginx epoll_wait, late
      postgres         pread64            91,204  91.2 ms  1.00 µs  768 ns  1.02 µs   39                                                      ▆▆▆▆▆▆▆          1.02 µs  69,020 100.0 ████████████████ mean p
    > nginx            epoll_wait         69,020  69.0 ms  1.00 µs  768 ns  1.02 µs   29                                                      ▃▃▄▄▄▄▅
      redis-server     read               38,911  38.9 ms  1.00 µs  768 ns  1.02 µs   17                                                      ▅▅▅▅▅▅▅
      postgres         lseek              36,204  36.2 ms  1.00 µs  768 ns  1.02 µs   15                                                      ▅▅▅▅▅▅▅
      sum of 4         -                 235,339   235 ms  1.00 µs  768 ns  1.02 µs  100                                                      ▇▇▇▇▇██





















                                                                                                                                                                       last minute, slowest below
                                                                                                                                                               1.02 µs                           ████

























                                                                                                                                                              shade: share of its column   ░ below 1%   ▒ be

    ? help  / filter  s sort  b group  t totals  h panel  space pause  Enter detail  q quit
    "#);
}

#[test]
fn a_panel() {
    assert_snapshot!(screen((80, 24), "↓h"), @r#"
    ktally top   db1   8 CPUs   6.12.41     every 1s   14:00:08   own 0.6%, 9.10 MiB
    [syscalls]  calls                                                 order held 3 s
    235,339 events/s   4 of 8,192 rows   other 0   dropped 0   missed 0
      COMM            CALL        ▼CALLS/s  TIME/s    MEAN    P50     P99   % 1 MIN
    > postgres        pread64       91,204 91.2 ms 1.00 µs 768 ns 1.02 µs  39      ▆
      nginx           epoll_wait    69,020 69.0 ms 1.00 µs 768 ns 1.02 µs  29      ▇
      redis-server    read          38,911 38.9 ms 1.00 µs 768 ns 1.02 µs  17      ▅
      sum of 4        -            235,339  235 ms 1.00 µs 768 ns 1.02 µs 100      ▇
       UP TO   COUNT     % postgres pread64, latency  last minute, slowest below
     1.02 µs  91,204 100.0 ████████████████ mean p50 p                          ████











    shade: share of its column   ░ below 1%   ▒ below 10%   ▓ below 50%   █ above

    ? help  / filter  s sort  b group  t totals  space pause  Enter detail  q quit
    "#);
}

#[test]
fn a_row_in_full() {
    assert_snapshot!(screen((80, 24), "↓⏎"), @r#"
    ktally top   db1   8 CPUs   6.12.41     every 1s   14:00:08   own 0.6%, 9.10 MiB
    [syscalls]  calls                                                 order held 3 s
    235,339 events/s   4 of 8,192 rows   other 0   dropped 0   missed 0
    postgres pread64   row 1 of 4 by calls
      COLUMN              NOW  MINUTE MEAN   MINUTE MAX       TOTAL, EXACT  UNIT
      calls          91,204/s     91,204/s     91,204/s            729,632
      time          91.2 ms/s    91.2 ms/s    91.2 ms/s        729,632,000  ns
      latency     mean 1.00 µs                                      729,632  events
                  p50 768 ns   p90 973 ns   p99 1.02 µs   p99.9 1.02 µs
    in the readings since 14:00:02
       UP TO   COUNT     % postgres pread64, latency  last minute, slowest below
     1.02 µs  91,204 100.0 ████████████████ mean p50 p                          ████









    shade: share of its column   ░ below 1%   ▒ below 10%   ▓ below 50%   █ above

    Esc back  ↑↓ other row  e export  y copy as command  space pause  ? help  q quit
    "#);
}

#[test]
fn the_help_fits() {
    assert_snapshot!(screen((80, 24), "?"), @r#"
    Keys of ktally top                                                any key closes

    ↑ ↓  k j   row                          /          filter, as --where
    PgUp PgDn  page of rows                 s  S       sort: next, previous column
    Home End   first, last row              r          reverse the order
    ← →        close, open a group          b  B       group by next, last column
    Tab  1-9   next tab, tab by number      t          rates, totals
    Enter      open row, group or tally     c          columns: show, hide
    Esc        close, clear, go back        h          panel of bars and heat map
    space      pause; still counts          f          follow the row as it moves
    , .        paused: reading back, ahead  o          order: live, frozen
    < >        paused: ten readings         e          export what is shown, a file
    +  -       interval, 0.1 s to 60 s      y          copy as a ktally command
    z  Z       baseline: set, drop          ?  F1      this help
    n  N       next, previous warning       Ctrl-L     draw anew
    m          mouse on, off                Ctrl-Z     to the shell; fg returns
                                            q Ctrl-C   quit

    ▼ ▲ sorted by, down or up    % share of the sorted column    · none in that time
    other    events counted without their key     dropped  times that are unknown
    missed   runs that the kernel skipped         gaps     events not reported
    replay   space play  , . step  < > 10 s  [ ] 1 min  { } speed  g go to a time
    mouse    click row, heading, tab; again for detail; wheel scrolls
    "#);
}

#[test]
fn nothing_was_counted() {
    assert_snapshot!(screen((80, 24), "⇥"), @r#"
    ktally top   db1   8 CPUs   6.12.41     every 1s   14:00:08   own 0.6%, 9.10 MiB
     syscalls  [calls]                                                          live
    0 events/s   0 of 8,192 rows   other 0   dropped -   missed -

      first numbers in a moment


















    ? help  / filter  s sort  b group  t totals  space pause  Enter detail  q quit
    "#);
}

/// Nothing is refused for its size, and no line is longer than the screen.
#[test]
fn every_size_is_drawn() {
    for width in [1, 7, 20, 39, 60, 79, 80, 159, 160, 400] {
        for height in [1, 2, 5, 8, 12, 24, 70] {
            for keys in ["", "↓h", "↓⏎", "?", "c", "/comm=x", "b↓→"] {
                let mut watch = Watch::new((width, height));
                (0..3).for_each(|_| _ = watch.read(&BUSY));
                watch.key(keys);
                watch.buffer();
            }
        }
    }
}

/// Text of the kernel is anybody's.
#[test]
fn control_characters_do_not_reach_the_terminal() {
    let mut watch = Watch::new((80, 24));
    let rows = [("a\x1b[31mb", "漢字かな", 5), ("c\u{202e}d", "x", 3)];
    (0..3).for_each(|_| _ = watch.read(&rows));
    let screen = watch.lines().join("\n");
    assert!(!screen.contains(['\x1b', '\u{202e}']));
    assert!(screen.contains("a\\u{1b}[31mb"), "{screen}");
    assert!(screen.contains('漢'));
}

/// ASCII alone where the locale has nothing else.
#[test]
fn a_poor_locale_gets_ascii() {
    let mut watch = Watch::new((80, 24));
    watch.state.glyphs = Glyphs { ascii: true };
    (0..3).for_each(|_| _ = watch.read(&BUSY));
    for keys in ["↓h", "⏎", "⎋?"] {
        watch.key(keys);
        let screen = watch.lines().join("\n");
        assert!(screen.is_ascii(), "{screen}");
    }
}

#[test]
fn a_view_that_costs_much_says_what_helps() {
    let mut watch = Watch::new((80, 24));
    let message = |watch: &mut Watch, cpu: f64| {
        let own = watch.state.own;
        watch.state.next(Event::Tick(Own { cpu, ..own }), &Plain);
        watch.lines()[22].clone()
    };
    assert_eq!(message(&mut watch, 1.0), "");
    let said = "ktally itself takes 1.3% of a CPU: + reads less often";
    assert_eq!(message(&mut watch, 1.34), said);
}
