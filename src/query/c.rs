//! A plan as a C file that counts the same: a tally to begin with and to change.

mod program;
mod value;

use std::fmt::Write;

use super::column::{Column, Measure};
use super::plan::Plan;
use value::{HELPERS, IS_TEXT};

impl Plan {
    /// The C file. Its first comment says what each expression leads to.
    pub fn as_c(&self) -> String {
        let mut c = format!(
            "// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause\n/*\n * {}\n *\n",
            self.summary()
        );
        self.understood(&mut c);
        c += " */\n#include \"vmlinux.h\"\n#include \"ktally.bpf.h\"\n";
        if self.has_stacks() {
            c += "#include \"stacks.h\"\n";
        }
        let _ = write!(
            c,
            "\nTALLY(\"{}\");\n\nTASK_FILTERS;\nCPU_FILTER;\n\n",
            self.summary().replace(['"', '\\'], "_")
        );
        self.types(&mut c);
        let program = self.programs_in_c();
        for (helpers, word) in [(HELPERS, "read_"), (IS_TEXT, "is_text(")] {
            if program.contains(word) {
                c += helpers;
            }
        }
        c + &program
    }

    pub(super) fn has_stacks(&self) -> bool {
        self.key.iter().any(|it| it.field.stored.is_stack())
    }

    /// A line for each value: its type, its place in the key or value, and the way to it.
    fn understood(&self, c: &mut String) {
        for (what, columns) in [("key", &self.key), ("value", &self.values)] {
            for Column {
                field,
                name,
                at,
                measure,
                ..
            } in columns
            {
                let size = match measure {
                    Measure::Key => field.stored.size(),
                    measure => measure.size(),
                };
                let _ = writeln!(c, " * {what} {at}..{}: {name}, {}", at + size, field.way());
            }
        }
        for filter in &self.filters {
            let _ = writeln!(c, " * where {}: {}", filter.text, filter.field.way());
        }
        for field in self.end.iter().flat_map(|end| &end.pairs) {
            let _ = writeln!(c, " * per {}: {}", field.name, field.way());
        }
    }

    fn types(&self, c: &mut String) {
        *c += "struct counted_by {\n";
        for column in &self.key {
            let declared = column.field.stored.declare(&c_name(&column.name));
            let _ = match &column.field.decoder {
                Some(decoder) => writeln!(c, "\t{declared} AS({decoder});"),
                None => writeln!(c, "\t{declared};"),
            };
        }
        if self.key.is_empty() {
            *c += "\t__u8 unused HIDDEN;\n";
        }
        *c += "};\n\nstruct counted {\n\t__u64 events COUNTER(\"events\");\n";
        for column in &self.values {
            let (name, help) = (c_name(&column.name), column.help());
            let unit = column.unit.as_ref().map(|unit| format!(" UNIT({unit})"));
            let declared = match column.measure {
                Measure::Max => format!("__u64 {name} MAXIMUM(\"{help}\")"),
                Measure::Min => format!("__u64 {name} MINIMUM(\"{help}\")"),
                Measure::Log2 => {
                    format!("struct tally_histogram {name} HISTOGRAM(\"{help}\")")
                }
                Measure::Linear(step) => {
                    format!("LINEAR_HISTOGRAM(\"{help}\", {step}) {name}")
                }
                Measure::Key | Measure::Sum => format!("__u64 {name} COUNTER(\"{help}\")"),
            };
            let _ = writeln!(c, "\t{declared}{};", unit.unwrap_or_default());
        }
        *c += "};\n\nTABLE(events, struct counted_by, struct counted, 8192, \"events\");\n";
        if self.end.is_some() {
            *c += BEGUN;
        } else if self.has_stacks() {
            *c += "\n/* Too large for the BPF stack. */\nCPU_STATE(scratch, struct counted_by);\n";
        }
    }
}

pub(crate) fn c_name(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// What has begun, until it ends.
const BEGUN: &str = "
/* What has begun, until it ends. */
struct begun {
	__u64 since;
	struct counted_by key;
};
HASH_STATE(starts, __u64, struct begun, 16384);
CPU_STATE(scratch, struct begun);
";
