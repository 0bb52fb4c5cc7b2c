//! What needs no types in BTF: fields of records, registers, what every event has.

use super::check;

#[test]
fn records_and_registers_have_fields_of_their_own() {
    check(
        "tracepoint:group:thing",
        "
        comm => Context+8 String text16
        pid => Context+24 4 0:32 s32 pid
        bytes => Context+32 8 u64
        path => Context+40 RecordString text64
        saddr => Context+44 Bytes bytes28
        saddr as ip => Context+44 Bytes bytes28 ip
        saddr[27] => Context+71 1 u8
        saddr.28 => `saddr.28`: `saddr` has 28 elements, 0 to 27, at position 6
        args[5] => Context+136 8 u64
        args.1 as hex => Context+104 8 u64 hex
        args[0] as text => Context+96>0 String text64
        args => `args`: `args` is `unsigned long[6]`; write one of its 6 elements: args[0]
        args[6] => `args.6`: `args` has 6 elements, 0 to 5, at position 5
        args[0].x => `args.0.x`: `args` has no members, at position 9
        args.x => `args.x`: `args` has no members, at position 6
        pids[1] => Context+148 4 0:32 s32 pid
        port[0] => `port.0`: `port` has no members, at position 5
        label => Context+72>0 String text64
        place => Context+80 8 u64 hex
        place as text => Context+80>0 String text64
        dev => Context+88 4 u32 dev
        port => Context+92 2 0:16 s16
        sport => Context+94 2 u16 port
        common_pid => event `thing`, at position 1: no value named `common_pid`; did you mean `comm`?
        port.x => `port.x`: `port` has no members, at position 6
        uid => Uid u32 uid
        ",
    );
    check(
        "uprobe:/bin/sh:main",
        "
        arg0 => 0 u64
        arg5 as text => 5+0 String text64
        retval => event `main`, at position 1: no value named `retval`; known: `arg0`, `arg1`, `arg2`, `arg3`, `arg4`, `arg5`, `comm`, `pid`, `tid`, `ppid`, `uid`, `cgroup`, `cpu`, `kstack`, `ustack`, `current`
        ",
    );
    check(
        "cpu-clock@99",
        "
        cpu => Cpu u32 cpu
        prev => event `cpu-clock`, at position 1: no value named `prev`; known: `comm`, `pid`, `tid`, `ppid`, `uid`, `cgroup`, `cpu`, `kstack`, `ustack`, `current`
    ",
    );
    check(
        "called",
        "
        thing.comm => 0+0 String text16
        number => 1 0:32 s32
        retval => event `called`, at position 1: no value named `retval`; known: `thing`, `number`, `comm`, `pid`, `tid`, `ppid`, `uid`, `cgroup`, `cpu`, `kstack`, `ustack`, `current`
    ",
    );
}
