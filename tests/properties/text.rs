//! Whatever else is read from text: tags, units, options, names of maps, numbers.

use std::sync::Arc;

use ktally::map::MapRef;
use ktally::names::HostNames;
use ktally::schema::{
    Decoder, LeftOut, Names, OptionSpec, Place, Tags, Type, Unit, Value, parse, parse_number,
};
use ktally::tally::resolve;
use proptest::prelude::*;

use crate::USUAL;
use crate::hold::hold;
use crate::shape::{any_type, declaration};

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        r"-?[0-9.]{0,25}[a-zA-Zµ]{0,4}",
        r"-?0x[0-9a-fA-F+]{0,40}",
        r"[a-z:./_0-9]{0,20}",
    ]
}

fn unit() -> impl Strategy<Value = Unit> {
    prop_oneof!["ns", "us", "ms", "s", "bytes", "hz", ".*"]
        .prop_map(|tag: String| Unit::from_tag(&tag))
}

#[test]
fn tags_are_understood_or_passed_over() {
    let cases = ("(ktally:)?[a-z]{0,9}:?", words());
    hold(USUAL, cases, |(what, text)| {
        let mut tags = Tags::default();
        tags.add(&format!("{what}{text}"));
        tags.add(&text);
        let known = "as unit counter gauge histogram hidden attach option";
        for known in known.split(' ') {
            tags.add(&format!("ktally:{known}:{text}"));
        }
        let decoder: Decoder = tags.decoder.unwrap();
        let mut again = Tags::default();
        again.add(&format!("ktally:as:{}", decoder.tag()));
        prop_assert_eq!(again.decoder, Some(decoder));
        Ok(())
    });
}

#[test]
fn units_are_read_as_they_are_shown() {
    let cases = (unit(), words(), any::<u64>(), any::<f64>());
    hold(USUAL, cases, |(unit, text, number, float)| {
        let _ = unit.parse(&text);
        let _ = unit.scale(float);
        let _ = unit.exact(i128::from(number) - i128::from(u64::MAX / 2));
        let exact = unit.exact(number.into());
        prop_assert_eq!(unit.parse(&exact).ok(), Some(number), "{}", exact);
        Ok(())
    });
}

#[test]
fn numbers_are_read_as_they_are_shown() {
    let cases = (any::<i128>(), words());
    hold(USUAL, cases, |(number, text)| {
        prop_assert_eq!(parse_number(&number.to_string()), Some(number));
        if number >= 0 {
            prop_assert_eq!(parse_number(&format!("{number:#x}")), Some(number));
        }
        let _ = parse_number(&text);
        Ok(())
    });
}

#[test]
fn options_of_any_type_are_read_or_refused() {
    let cases = (any_type(), prop::option::of(unit()), words(), words());
    hold(USUAL, cases, |(ty, unit, tag, text)| {
        let mut tags = Tags::default();
        tags.add(&format!("ktally:as:{tag}"));
        let option = OptionSpec {
            name: "option".into(),
            help: String::new(),
            place: Place::whole(Arc::clone(&ty)),
            unit,
            decoder: tags.decoder,
            short: None,
            given: None,
            is_found: false,
        };
        let options = [option];
        if let Ok(resolved) = resolve(&options, &[("option".to_owned(), text)]) {
            prop_assert_eq!(resolved[0].bytes.len(), ty.size);
            let _ = HostNames::new()
                .option(&options[0], &resolved[0].bytes)
                .to_string();
        }
        Ok(())
    });
}

const DECODERS: &str = "comm pid uid syscall errno softirq cpu bool hex cgroup \
    enum:bpf_map_type ip ipv4 ipv6 port dev ifindex signal nothing";

/// By any decoder, of any number, in both directions.
#[test]
fn labels_have_a_name_or_a_number() {
    let cases = (
        prop::sample::select(DECODERS.split(' ').collect::<Vec<_>>()),
        prop::sample::select(vec![1usize, 2, 4, 8, 16]),
        prop::array::uniform16(any::<u8>()),
        words(),
    );
    hold(USUAL, cases, |(tag, size, bytes, text)| {
        let mut tags = Tags::default();
        tags.add(&format!("ktally:as:{tag}"));
        let place = Place::whole(Type::unsigned(size));
        let labels = LABELS.with(Arc::clone);
        let shown = labels.whole(&place, &tags, &bytes[..size]);
        prop_assert!(serde_json::to_string(&shown).is_ok());
        let _ = shown.to_string();
        let mut read = vec![0; size];
        let refused = LeftOut::Refused;
        let _ = parse(&place, &tags, &text, refused, &*labels, &mut read);
        // A number that was shown as one is read as the same.
        if let Value::Uint(number) = shown {
            prop_assert!(number <= u128::MAX >> (128 - 8 * size));
        }
        Ok(())
    });
}

#[test]
fn any_text_names_a_map_or_none() {
    let cases = words();
    hold(USUAL, cases, |text| {
        prop_assert_eq!(
            MapRef::parse(&text).is_err(),
            text.is_empty()
                || text.bytes().all(|c| c.is_ascii_digit()) && text.parse::<u32>().is_err()
        );
        Ok(())
    });
}

/// Columns, numbers to add to, and the C of maps of any types.
#[test]
fn maps_of_any_type_are_declared() {
    let cases = (
        any_type(),
        any_type(),
        words(),
        prop::collection::vec(any::<u8>(), 64),
    );
    hold(USUAL, cases, |(key, value, text, bytes)| {
        let declaration = declaration(&key, &value);
        let _ = declaration.as_c();
        let table = &declaration.table;
        let paths = table.metrics.iter().map(|it| it.name.as_str());
        for path in paths.chain([text.as_str(), "m1.m2", "m1[0]", "value"]) {
            if let Ok((number, _)) = declaration.number(Some(path)) {
                prop_assert!(number.offset + number.width <= declaration.value.ty.size);
            }
        }
        let _ = declaration.number(None);
        for number in declaration.counts().unwrap_or_default().numbers {
            prop_assert!(number.offset + number.width <= declaration.value.ty.size);
        }
        // Bytes that are too few count as zeroes.
        let mut cells = vec![0; table.cells()];
        table.add_cells(&bytes, &mut cells);
        let labels = LABELS.with(Arc::clone);
        for label in table.labels.iter().chain(&table.details) {
            let _ = labels.of(label, &bytes).to_string();
        }
        Ok(())
    });
}
thread_local! {
    /// Looked up once: the kernel's BTF takes its time.
    #[allow(clippy::arc_with_non_send_sync)]
    static LABELS: Arc<HostNames> = Arc::new(HostNames::new());
}
