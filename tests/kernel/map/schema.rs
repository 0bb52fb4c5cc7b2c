//! Maps and their entries have what `docs/schema/` says.

use libbpf_rs::MapType;

use super::dump::NESTED;
use super::faces::MIXED;
use super::{Maps, map};
use crate::common::schema::assert_documented;
use crate::support::maps::{create, id};

const KEY: &str = "name=a,n=1";
const VALUE: &str = "text=hi,calls=7,mode=ON,word=258,few=[1,2],below=-3";

#[test]
fn maps_have_what_is_documented() {
    let maps = Maps::load(MIXED);
    let untyped = create(MapType::Array, 4, 8, 1);
    assert_documented("map-list", |format| map!("list", "-o", format).good());
    for map in [maps.id("mixed"), id(&untyped)] {
        assert_documented("map-show", |format| map!("show", map, "-o", format).good());
    }
}

#[test]
fn entries_have_what_is_documented() {
    let maps = Maps::load(MIXED);
    for name in ["mixed", "mixed_percpu"] {
        let map = maps.id(name);
        map!("update", map, KEY, VALUE).done();
        for args in ["", "--raw", "--per-cpu", "--by name", "--top 1"] {
            assert_documented("map-dump", |format| {
                let line = format!("dump {map} {args} -o {format}");
                super::run(super::words(&line)).good()
            });
        }
    }
    let nested = Maps::load(NESTED);
    map!("update", nested.id("first"), "a", "reads=1,left=-1").done();
    map!("update", nested.id("outer"), 10, nested.id("first")).done();
    assert_documented("map-dump", |format| {
        map!("dump", nested.id("outer"), "--recurse", "-o", format).good()
    });
}

#[test]
fn edits_have_what_is_documented() {
    let maps = Maps::load(MIXED);
    let mixed = maps.id("mixed");
    assert_documented("map-add", |format| {
        map!("add", mixed, KEY, "calls=2", "--create", "-o", format).good()
    });
    assert_documented("map-dump", |format| {
        map!("update", mixed, KEY, VALUE).done();
        map!("drain", mixed, "-o", format).good()
    });
    assert_documented("map-delete", |format| {
        map!("update", mixed, KEY, VALUE).done();
        map!("delete", mixed, KEY, "-o", format).good()
    });
}
