//! What is wrong with an expression, and where.

use super::{check, find};

#[test]
fn what_is_wrong_is_named() {
    check(
        "event",
        "
        thin => event `event`, at position 1: no value named `thin`; did you mean `thing`?
        thing.com => `thing.com`: no member of `struct thing` named `com`; did you mean `comm`? (at position 7)
        thing.parent.zzz => `thing.parent.zzz`: no member of `struct parent` named `zzz`; known: `pad`, `up`, `comm`, `name` (at position 14)
        thing.number.x => `thing.number.x`: `number` (`int`) has no members, at position 14
        thing.comm.x => `thing.comm.x`: `comm` has elements; write comm[0].x, at position 12
        thing.parents.comm => `thing.parents.comm`: `parents` has elements; write parents[0].comm, at position 15
        thing.parents[3].comm => `thing.parents.3.comm`: `parents` has 3 elements, 0 to 2, at position 14
        thing.parents => `thing.parents`: `parents` is `struct parent[3]`; write one of its 3 elements: parents[0]
        thing.mac => `thing.mac`: `mac` is `u8[6]`; write one of its 6 elements: mac[0]
        thing.parents[0] => `thing.parents.0`: `parents[0]` is `struct parent`; write one of its members: pad, up, comm, name
        thing.real => `thing.real`: BPF has no floating point
        thing.huge => `thing.huge`: `__int128` is not a type that can be read
        thing.opaque.x => `thing.opaque.x`: `opaque` points to `struct unknown`, whose members are not in this kernel's BTF, at position 14
        thing.opaque[0] => `thing.opaque.0`: the elements of `opaque` have no size, at position 13
        thing.anything.x => `thing.anything.x`: `anything` points to anything, whose members are not known, at position 16
        thing.anything[1] => `thing.anything.1`: the elements of `anything` have no size, at position 15
        thing.labels.x => `thing.labels.x`: `labels` points to pointers; write labels[0].x, at position 14
        thing.one.x => `thing.one.x`: `one` (`unsigned int`) has no members, at position 11
        thing.one[1] => `thing.one.1`: `one` (`unsigned int`) has no elements, at position 10
        thing.number[1] => `thing.number.1`: `number` (`int`) has no elements, at position 13
        comm.x => `comm.x`: `comm` has no members, at position 6
        comm[1] => `comm.1`: `comm` has no members, at position 5
        current => `current`: `current` is `struct task_struct`; write one of its members: real_parent, comm
        thing.function.x => `thing.function.x`: `function` (`function`) has no members, at position 16
        thing..comm => `thing..comm`: there is `.` in place of a name at position 7
        thing. => `thing.`: a name is missing at position 7
        .comm => `.comm`: there is `.` in place of a name at position 1
        thing.9a => `thing.9a`: there is `a` in place of `.MEMBER` or `[NUMBER]` at position 8
        thing comm => `thing comm`: there is ` ` in place of `.MEMBER` or `[NUMBER]` at position 6
        thing[ => `thing[`: there is no `]` for the `[` at position 6
        thing[x] => `thing[x]`: write the number of an element in place of `x` at position 6
        thing[-1] => `thing[-1]`: write the number of an element in place of `-1` at position 6
        9 => `9`: a name begins with a letter or `_`, not with a digit, at position 1
        a+b => `a+b`: there is `+` in place of `.MEMBER` or `[NUMBER]` at position 2
        thing.parent.up.up.up.up.up.up.up.comm => `thing.parent.up.up.up.up.up.up.up.comm`: there are more than 6 pointers on the way
        ",
    );
    let empty = find("event", "", None).unwrap_err().to_string();
    assert_eq!(empty, "``: a name is missing at position 1");
    let error = find("evnt", "x", None).unwrap_err().to_string();
    assert_eq!(error, "no event named `evnt`; did you mean `event`?");
}
