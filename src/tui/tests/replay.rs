//! A recording shows the screens that were recorded.

use std::io::Write;

use super::*;
use crate::recording::Recording;

/// What stands in the place of a part of a recording.
const DAMAGE: [&str; 8] = [
    "18446744073709551615",
    "-1",
    "\"",
    "[[[[",
    "null",
    "\\u001b[2J",
    "\n",
    "1e308",
];

#[test]
fn no_damage_is_fatal() {
    use proptest::prelude::*;
    let (_, text) = recorded_text();
    let lines: Vec<&str> = text.lines().take(4).collect();
    let text = lines.join("\n") + "\n";
    assert!(lines.len() == 4 && text.is_ascii());
    let cases = prop::collection::vec((0..text.len(), 0usize..9, 0..DAMAGE.len()), 1..4);
    proptest!(ProptestConfig::with_cases(300), |(cases in cases)| {
        let mut text = text.clone();
        for (at, length, what) in cases {
            let at = at.min(text.len() - 1);
            let end = (at + length).min(text.len());
            text.replace_range(at..end, DAMAGE[what]);
        }
        if let Ok(mut recording) = open(&text) {
            let mut watch = replayed(&recording);
            let last = recording.frames.len() - 1;
            let names = std::rc::Rc::clone(&recording.names);
            let read = recording.read(last, HISTORY, |tab, interval| {
                watch.state.next(Event::Interval(tab, interval), &*names);
            });
            if read.is_ok() {
                watch.state.next(Event::Frame(last, false), &*names);
                key(&mut watch, &recording, "bth\u{2193}");
                watch.buffer();
            }
        }
    });
}

/// Recorded at 80x24, with one line more for the line of time: what is shown of it is
/// the same.
fn recorded() -> (Watch, Recording) {
    let (watch, text) = recorded_text();
    (watch, open(&text).unwrap())
}

fn open(text: &str) -> anyhow::Result<Recording> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Recording::open(file.path())
}

fn recorded_text() -> (Watch, String) {
    let mut watch = Watch::new((80, 24));
    let mut text = watch.state.record();
    for second in 1..=70 {
        let mut busy = BUSY;
        busy[second % 4].2 = 1000 * second as u64;
        let rows = if second > 30 { &busy[..] } else { &busy[1..] };
        watch.seconds += 1;
        let now = start() + Duration::from_secs(watch.seconds);
        watch.state.set_time(now);
        let reading = reading(watch.seconds, rows);
        if let Effect::Record(line) = watch.state.next(Event::Reading(0, reading), &Plain) {
            text += &line;
        }
    }
    (watch, text)
}

/// The recording in a view of its own.
fn replayed(recording: &Recording) -> Watch {
    let mut watch = Watch::new((80, 25));
    let stamp = |time| {
        let text = humantime::format_rfc3339(time).to_string();
        text[..19].replace('T', " ")
    };
    let host = watch.state.host.clone();
    let state = State::new(
        host,
        watch.state.own,
        Tab::all_of(recording),
        watch.state.every,
    );
    let replay = Replay::new("db1.jsonl", recording.frames.clone(), stamp);
    watch.state = state
        .replaying(replay)
        .on((80, 25), Glyphs::default(), true);
    watch
}

fn go(watch: &mut Watch, recording: &mut Recording, frame: usize) {
    let names = std::rc::Rc::clone(&recording.names);
    let is_next = recording.follows(frame, HISTORY);
    if !is_next {
        watch.state.next(Event::Rewind, &*names);
    }
    recording
        .read(frame, HISTORY, |tab, interval| {
            watch.state.next(Event::Interval(tab, interval), &*names);
        })
        .unwrap();
    watch.state.next(Event::Frame(frame, is_next), &*names);
}

/// The cells from line 3 to the rows' last line, as text and looks.
fn cells(watch: &Watch) -> Vec<ratatui::buffer::Cell> {
    watch.buffer().content[2 * 80..22 * 80].to_vec()
}

/// Types keys, with the names of the recording.
fn key(watch: &mut Watch, recording: &Recording, keys: &str) -> Effect {
    let mut effect = Effect::None;
    for c in keys.chars() {
        let code = match c {
            '⏎' => KeyCode::Enter,
            '↓' => KeyCode::Down,
            c => KeyCode::Char(c),
        };
        let event = Event::Key(KeyEvent::new(code, KeyModifiers::NONE));
        effect = watch.state.next(event, &*recording.names);
    }
    effect
}

#[test]
fn a_replay_shows_what_was_recorded() {
    let (mut live, mut recording) = recorded();
    assert_eq!(recording.frames.len(), 69);
    let mut replay = replayed(&recording);
    for frame in 0..69 {
        go(&mut replay, &mut recording, frame);
    }
    assert_eq!(cells(&replay), cells(&live));
    for keys in [
        "t",
        "t",
        "b",
        "b",
        "b",
        "s",
        "r",
        "s",
        "h",
        "↓",
        "/calls>9000⏎",
        "⏎",
    ] {
        live.key(keys);
        key(&mut replay, &recording, keys);
        assert_eq!(
            cells(&replay),
            cells(&live),
            "{keys}\n{:#?}",
            replay.lines()
        );
    }
    // The same from a seek, by the numbers.
    let mut sought = replayed(&recording);
    go(&mut sought, &mut recording, 1);
    go(&mut sought, &mut recording, 68);
    let mut fresh = replayed(&recording);
    for frame in 0..69 {
        go(&mut fresh, &mut recording, frame);
    }
    key(&mut fresh, &recording, "ss");
    key(&mut sought, &recording, "ss");
    assert_eq!(cells(&sought), cells(&fresh));
}

#[test]
fn keys_go_through_a_recording() {
    let (_, mut recording) = recorded();
    let mut replay = replayed(&recording);
    go(&mut replay, &mut recording, 0);
    let mut press = |keys: &str| {
        let effect = key(&mut replay, &recording, keys);
        (effect, replay.lines()[1].trim_start().to_owned())
    };
    assert!(press("").1.ends_with("REPLAY ×1"));
    assert!(press("}}").1.ends_with("REPLAY ×4"));
    assert!(press("}}}}}}}").1.ends_with("REPLAY ×64"));
    assert!(press("{{{{{{{{{").1.ends_with("REPLAY ×1/4"));
    assert!(press(" ").1.ends_with("REPLAY ×1/4 paused"));
    assert!(press(" }}").1.ends_with("REPLAY ×1"));
    assert_eq!(press(">").0, Effect::Seek(10));
    assert_eq!(press("]").0, Effect::Seek(60));
    assert_eq!(press("[").0, Effect::Seek(0));
    assert_eq!(press("g+30⏎").0, Effect::Seek(30));
    assert_eq!(press("g14:00:12⏎").0, Effect::Seek(10));
    assert_eq!(press("g2026-11-27 14:01⏎").0, Effect::Seek(58));
    assert_eq!(press("gnoon⏎").0, Effect::None);
    assert_eq!(press(".").0, Effect::Seek(1));
    assert!(press("").1.ends_with("paused"));
    assert_eq!(replay.state.replay().and_then(Replay::next), None);
    // Twice as fast, in 2.6 seconds.
    key(&mut replay, &recording, " }");
    let state = replay.state.replay().unwrap();
    assert_eq!(state.next(), Some(Duration::from_millis(500)));
    let reached = state.reached(Duration::from_millis(2600));
    assert_eq!(reached, (5, Duration::from_millis(2500)));
    assert_eq!(state.reached(Duration::from_secs(3600)).0, 68);
}

#[test]
fn a_line_of_time_says_where_one_is() {
    let (_, mut recording) = recorded();
    let mut replay = replayed(&recording);
    go(&mut replay, &mut recording, 34);
    let lines = replay.lines();
    insta::assert_snapshot!(lines[0], @"ktally top --replay db1.jsonl   db1   8 CPUs      every 1s   2026-11-27 14:00:36");
    insta::assert_snapshot!(lines[22..].join("\n"), @r#"
    14:00:02 ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▂▁▁▂▄▂▄▂▂▄▁▁▃▃▁▃▄▃▃▄▃▃▃▅▃▄▆▃▄▄▆▄▄▅▇▅▅▇▄▅ 14:01:10
                                            ^ 14:00:36
    space play  , . step  < > 10 s  [ ] 1 min  { } speed  g go to  ? help  q quit
    "#);
}
