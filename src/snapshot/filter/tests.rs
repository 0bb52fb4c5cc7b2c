//! Each operator, on labels and on numbers.

#![allow(clippy::unwrap_used)]

use insta::assert_snapshot;

use super::*;
use crate::names::HostNames;
use crate::schema::Type;
use crate::snapshot::Rows;
use crate::snapshot::tests::{ROWS, member, query, show, table, table_of, ty};

/// The processes of the rows that pass, with what they counted.
fn kept(filters: &str) -> String {
    let flags: Vec<String> = filters.split(' ').map(|it| format!("where:{it}")).collect();
    let shown = show(&format!("sort:-calls {}", flags.join(" ")), &ROWS);
    let row = |line: &str| {
        let (labels, numbers) = line.split_once(" | ").unwrap();
        let first = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
        first(labels) + &first(numbers)
    };
    shown.lines().map(row).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_operator_keeps_its_rows() {
    for (filters, rows) in [
        ("comm=a", "a20 a30"),
        ("comm!=a", "c5 b10"),
        ("comm=a,c", "c5 a20 a30"),
        ("comm!=a,c", "b10"),
        ("comm=zzz", ""),
        ("comm!=zzz", "c5 b10 a20 a30"),
        // By names, by numbers, and by the numbers behind names.
        ("error=ENOENT,4000", "c5 b10 a20"),
        ("error=2,EAGAIN", "b10 a20 a30"),
        ("error!=0x2", "c5 a30"),
        ("error<11", "b10 a20"),
        ("error<=EAGAIN", "b10 a20 a30"),
        ("error>EAGAIN", "c5"),
        ("error>=11", "c5 a30"),
        ("nice<0", "b10"),
        ("nice>=-20", "c5 b10 a20 a30"),
        ("depth=5,7", "b10 a20 a30"),
        // As they are shown.
        ("error~E*", "b10 a20 a30"),
        ("error~EN?ENT,40*", "c5 b10 a20"),
        ("error!~E*", "c5"),
        ("comm~?", "c5 b10 a20 a30"),
        ("comm~A", ""),
        // All of them.
        ("comm=a error!=EAGAIN", "a20"),
        ("comm=a comm!=a", ""),
    ] {
        assert_eq!(kept(filters), rows, "{filters}");
    }
}

#[test]
fn numbers_are_compared_after_reading() {
    for (filters, rows) in [
        ("calls=5", "c5"),
        ("calls=5,30", "c5 a30"),
        ("calls!=5,30", "b10 a20"),
        ("calls>10", "a20 a30"),
        ("calls>=10", "b10 a20 a30"),
        ("calls<0x14", "c5 b10"),
        ("level<0", "b10"),
        ("level=-3", "b10"),
        ("level>-3", "c5 a20 a30"),
        ("latency.count>4", "a20"),
        ("latency.sum>=100", "b10 a20"),
        // With the unit of the histogram, or without; what has none is not less.
        ("p99>100ns", "b10"),
        ("latency.mean<1us", "b10 a20 a30"),
        ("mean<=12.5us", "b10 a20 a30"),
        ("mean!=20", "c5 b10 a30"),
        ("comm=a calls>20", "a30"),
    ] {
        assert_eq!(kept(filters), rows, "{filters}");
    }
}

/// What is shown is asked, and a row by itself may count too little.
#[test]
fn numbers_are_those_of_groups() {
    assert_snapshot!(show("by:comm where:calls>=50", &ROWS), @"a | 50 6 8 150 [0:4 4:1 5:1]");
    assert_eq!(show("by:comm where:calls>=50 where:error=2", &ROWS), "");
    // Before `--top` cuts.
    assert_snapshot!(show("by:comm top:1 where:calls<50", &ROWS), @"b | 10 1 -3 900 [0:1 9:1]");
}

#[test]
fn addresses_are_in_networks() {
    let ports = member("port", 128, None, &Type::unsigned(2), "ktally:as:port");
    let (element, len) = (Type::unsigned(1), 16);
    let bytes = ty("__u8[16]", 16, crate::schema::Kind::Array { element, len });
    let key = vec![member("remote", 0, None, &bytes, "ktally:as:ip"), ports];
    let value = member("value", 0, None, &Type::unsigned(8), "");
    let table = table_of((18, key), (8, vec![value]));
    let addresses = ["10.1.2.3", "10.2.0.1", "192.0.2.1", "2001:db8::7"];
    let mut rows = Rows::of(&table);
    for (i, address) in addresses.iter().enumerate() {
        let address: std::net::IpAddr = address.parse().unwrap();
        let mut key = match address {
            std::net::IpAddr::V4(it) => it.to_ipv6_mapped().octets().to_vec(),
            std::net::IpAddr::V6(it) => it.octets().to_vec(),
        };
        key.extend((80u16 << i).to_be_bytes());
        rows.push(&key)[0] = 1;
    }
    let names = HostNames::new();
    let kept = |filter: &str| {
        let query = query(&format!("where:{filter}"));
        query.check(std::slice::from_ref(&table), &names).unwrap();
        let filter = query.filter(&table, &names);
        let kept = (0..rows.len()).filter(|row| filter.keeps_key(rows.key(*row), &names));
        kept.map(|row| row.to_string()).collect::<String>()
    };
    for (filter, rows) in [
        ("remote=10.0.0.0/8", "01"),
        ("remote=10.1.0.0/16,2001:db8::/32", "03"),
        ("remote!=10.0.0.0/8", "23"),
        ("remote=0.0.0.0/0", "012"),
        ("remote=192.0.2.1", "2"),
        ("remote=192.0.2.1/32,10.1.2.3", "02"),
        ("remote~10.*", "01"),
        // Ports are in network order, and shown as numbers.
        ("port<160", "0"),
        ("port>=320", "23"),
    ] {
        assert_eq!(kept(filter), rows, "{filter}");
    }
    let refused = |filter: &str| {
        let query = query(&format!("where:{filter}"));
        let error = query.check(std::slice::from_ref(&table), &names);
        error.unwrap_err().to_string()
    };
    assert_snapshot!(refused("remote=10.0.0.0/33"), @"`--where remote=10.0.0.0/33`: write a network like 10.0.0.0/8 or 2001:db8::/32");
    assert_snapshot!(refused("remote<10.0.0.0/8"), @"`--where remote<10.0.0.0/8`: `<` compares numbers");
    assert_snapshot!(refused("port=10.0.0.0/8"), @"`--where port=10.0.0.0/8`: a port is a number from 0 to 65535");
}

#[test]
fn what_is_wrong_is_named() {
    let parsed = |text: &str| Condition::parse(text).unwrap_err();
    assert_snapshot!(parsed("comm"), @"write it as FIELD=VALUE, or with one of != ~ !~ < <= > >= &");
    assert_snapshot!(parsed("comm==a"), @"no operator named `==`; did you mean `=`?");
    assert_snapshot!(parsed("comm=~a"), @"no operator named `=~`; did you mean `=`?");
    assert_snapshot!(parsed("comm!a"), @"no operator named `!`; did you mean `!=` or `!~`?");
    let table = [table()];
    let refused = |text: &str| {
        let condition = Condition::parse(text).unwrap();
        let error = condition
            .check("where", &table, &HostNames::new())
            .unwrap_err();
        format!("{error:#}")
    };
    assert_snapshot!(refused("cals>5"), @"no field named `cals`; did you mean `calls`?");
    assert_snapshot!(refused("zzz=5"), @"no field named `zzz`; known: `comm`, `error`, `depth`, `nice`, `calls`, `small`, `level`, `latency`");
    assert_snapshot!(refused("comm<b"), @"`<` compares numbers, and `comm` has none");
    assert_snapshot!(refused("comm>=5"), @"`>=` compares numbers, and `comm` has none");
    assert_snapshot!(refused("error=EAGAIN,ENOTHING"), @"no errno named `ENOTHING`; did you mean `ENOTDIR` or `ENOTNAM` or `ENOTUNIQ` or `ENOTCONN` or `ENOTSYNC` or `ENOLINK` or `ENOTTY` or `ENOENT`?");
    assert_snapshot!(refused("error>ENOTHING"), @"no errno named `ENOTHING`; did you mean `ENOTDIR` or `ENOTNAM` or `ENOTUNIQ` or `ENOTCONN` or `ENOTSYNC` or `ENOLINK` or `ENOTTY` or `ENOENT`?");
    assert_snapshot!(refused("nice<64"), @"64 is out of range: -64 to 63");
    assert_snapshot!(refused("calls~1*"), @"`~` compares text, and `calls` is a number");
    assert_snapshot!(refused("calls>many"), @"`many` is not a whole number");
    assert_snapshot!(refused("calls>1,000"), @"`1,000` is not a whole number");
    assert_snapshot!(refused("calls="), @"`` is not a whole number");
    assert_snapshot!(refused("latency>1ms"), @"`latency` is a histogram; write latency.p99, latency.mean, latency.sum or latency.count");
    assert_snapshot!(refused("p99>fast"), @"`fast` is not a time; write one like `10ms` or `1.5s`");
    assert_snapshot!(refused("comm=a,calls>5"), @"it takes one field; write --where comm=a --where calls>5");
    assert_snapshot!(refused("comm=a,b,error!=2,EAGAIN"), @"it takes one field; write --where comm=a,b --where error!=2,EAGAIN");
}

/// An IP address is asked of a table that has one, and another table is left alone.
#[test]
fn a_table_without_the_field_has_all_its_rows() {
    let key = vec![member("error", 0, None, &Type::unsigned(4), "")];
    let value = vec![member("value", 0, None, &Type::unsigned(8), "")];
    let other = table_of((4, key), (8, value));
    let tables = [table(), other];
    let names = HostNames::new();
    let keeps = |text: &str| {
        let query = query(&format!("where:{text}"));
        query.check(&tables, &names).unwrap();
        query
            .filter(&tables[1], &names)
            .keeps_key(&[2, 0, 0, 0], &names)
    };
    assert!(keeps("comm=a") && keeps("error=2") && !keeps("error=3"));
    // A name in one table, which the other does not know.
    assert!(!keeps("error=ENOENT"));
}
