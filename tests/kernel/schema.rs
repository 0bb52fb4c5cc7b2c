//! Readings and the status of instances have what `docs/schema/` says.

use crate::common::ktally;
use crate::common::schema::{assert_documented, assert_lines_documented};
use crate::instances::Host;
use crate::support::needs;

/// Counters and histograms, with gaps and without; stacks.
#[test]
fn readings_have_what_is_documented() {
    needs((5, 11), "task storage");
    for tally in ["syscalls", "runqlat", "profile"] {
        assert_documented("reading", |format| {
            ktally(["run", tally, "--for", "200ms", "-o", format]).good()
        });
    }
    let every = ktally("run syscalls --for 200ms --every 50ms -o jsonl").good();
    assert_lines_documented("reading", &every);
}

#[test]
fn instances_have_what_is_documented() {
    needs((5, 11), "task storage");
    let host = Host::new();
    host.good("attach syscalls --uid 0 --comm kt-nobody");
    assert_documented("status", |format| host.good(["status", "-o", format]));
    host.good("attach cputime --by-pid --as gaps");
    assert_documented("status", |format| {
        host.good(["status", "--cost", "-o", format])
    });
    assert_documented("reading", |format| {
        host.good(["read", "gaps", "-o", format])
    });
    assert_lines_documented("reading", &host.good("detach --all -o jsonl"));
}
